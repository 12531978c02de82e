//! A deployment's status and conditions.

use std::time::Duration;

use gantry_object::{Timestamp, Value};
use gantry_reconcile::{Action, Decision, Kind, Object, merge_diff};
use serde_json::json;

use super::Rollout;
use crate::kinds::Deployment;
use crate::replicaset::set_number;

/// A number of the status as it was last written.
pub(super) fn number(deployment: &Object<Deployment>, member: &str) -> i32 {
    deployment.status.get(member).and_then(Value::as_i64).and_then(|n| i32::try_from(n).ok()).unwrap_or(0)
}

/// How often a set's name was found taken.
pub(super) fn collisions(deployment: &Object<Deployment>) -> Option<i64> {
    deployment.status.get("collisionCount").and_then(Value::as_i64)
}

struct Counts {
    replicas: i32,
    updated: i32,
    ready: i32,
    available: i32,
    unavailable: i32,
}

fn count(rollout: &Rollout<'_>) -> Counts {
    let sum = |of: fn(&crate::kinds::ReplicaSet) -> i32| rollout.all().map(|s| of(s)).sum::<i32>();
    let available = sum(|s| s.status.available_replicas);
    Counts {
        replicas: sum(|s| s.status.replicas),
        updated: rollout.new.as_ref().map_or(0, |s| s.status.replicas),
        ready: sum(|s| s.status.ready_replicas),
        available,
        unavailable: (sum(|s| s.replicas()) - available).max(0),
    }
}

impl Counts {
    fn is_complete(&self, wanted: i32) -> bool {
        self.updated == wanted && self.replicas == wanted && self.available == wanted
    }

    /// Whether there is more of the new or less of the old than the last status said.
    fn is_progress(&self, deployment: &Object<Deployment>) -> bool {
        let before = |member| number(deployment, member);
        self.updated > before("updatedReplicas")
            || self.replicas - self.updated < before("replicas") - before("updatedReplicas")
            || self.ready > before("readyReplicas")
            || self.available > before("availableReplicas")
    }
}

/// Whether all pods are of the current template and available.
pub(super) fn is_complete(rollout: &Rollout<'_>) -> bool {
    rollout.new.is_some() && count(rollout).is_complete(rollout.deployment.replicas())
}

/// Writes the status when it changed.
pub(super) fn update(rollout: &Rollout<'_>, now: Timestamp, decision: &mut Decision) {
    let deployment = rollout.deployment;
    let old = if deployment.status.is_object() { deployment.status.clone() } else { json!({}) };
    let mut new = old.clone();
    let counts = count(rollout);
    set_number(&mut new, "observedGeneration", deployment.meta().generation);
    let numbers = [
        ("replicas", counts.replicas),
        ("updatedReplicas", counts.updated),
        ("readyReplicas", counts.ready),
        ("availableReplicas", counts.available),
        ("unavailableReplicas", counts.unavailable),
    ];
    for (member, value) in numbers {
        set_number(&mut new, member, i64::from(value));
    }
    let mut conditions = Conditions { list: old.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default(), now };
    set_available(&mut conditions, &counts, rollout);
    set_progressing(&mut conditions, &counts, rollout, decision);
    set_failure(&mut conditions, rollout);
    if conditions.list.is_empty() {
        new.as_object_mut().map(|m| m.remove("conditions"));
    } else {
        new["conditions"] = Value::Array(conditions.list);
    }
    if let Some(change) = merge_diff(&old, &new) {
        let change = json!({"status": change});
        let base = deployment.encoded().clone();
        decision.actions.push(Action::Update { resource: Deployment::RESOURCE, subresource: Some("status"), base, change });
    }
    let wanted = deployment.replicas();
    if !counts.is_complete(wanted) {
        decision.waiting_on.push(format!("{} of {wanted} updated pods, {} available", counts.updated, counts.available));
    }
}

/// Counts a collision, so that the next name differs.
pub(super) fn count_collision(deployment: &Object<Deployment>) -> Action {
    let change = json!({"status": {"collisionCount": collisions(deployment).unwrap_or(0) + 1}});
    Action::Update { resource: Deployment::RESOURCE, subresource: Some("status"), base: deployment.encoded().clone(), change }
}

fn set_available(conditions: &mut Conditions, counts: &Counts, rollout: &Rollout<'_>) {
    if counts.available >= rollout.deployment.replicas() - rollout.max_unavailable {
        conditions.set("Available", "True", "MinimumReplicasAvailable", "Deployment has minimum availability.");
    } else {
        conditions.set("Available", "False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.");
    }
}

fn set_progressing(conditions: &mut Conditions, counts: &Counts, rollout: &Rollout<'_>, decision: &mut Decision) {
    let deployment = rollout.deployment;
    let Some(deadline) = deployment.spec.progress_deadline_seconds.filter(|d| *d != i32::MAX) else {
        conditions.remove("Progressing");
        return;
    };
    let reason = conditions.text("Progressing", "reason");
    let timed_out = reason == "ProgressDeadlineExceeded";
    if deployment.spec.paused {
        if reason != "DeploymentPaused" && !timed_out {
            conditions.set("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused");
        }
        return;
    }
    if reason == "DeploymentPaused" {
        conditions.set("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed");
    }
    let subject = match &rollout.new {
        Some(new) => format!("ReplicaSet {:?}", new.name().name),
        None => format!("Deployment {:?}", deployment.meta().name),
    };
    let since = conditions.time("Progressing", "lastUpdateTime");
    if let Some(new) = &rollout.new
        && since.is_none_or(|s| new.meta().creation_timestamp.is_some_and(|made| made > s))
    {
        let message = format!("Created new replica set {:?}", new.name().name);
        conditions.renew("Progressing", "NewReplicaSetCreated", &message);
    }
    let wanted = deployment.replicas();
    let reason = conditions.text("Progressing", "reason");
    if reason == "NewReplicaSetAvailable" && counts.replicas == counts.updated {
        return;
    }
    if counts.is_complete(wanted) {
        conditions.set("Progressing", "True", "NewReplicaSetAvailable", &format!("{subject} has successfully progressed."));
    } else if counts.is_progress(deployment) {
        conditions.renew("Progressing", "ReplicaSetUpdated", &format!("{subject} is progressing."));
    } else if let Some(since) = conditions.time("Progressing", "lastUpdateTime")
        && reason != "NewReplicaSetAvailable"
    {
        let deadline = Duration::from_secs(u64::try_from(deadline).unwrap_or(0));
        let waited = conditions.now.since(since);
        if timed_out || waited > deadline {
            conditions.set("Progressing", "False", "ProgressDeadlineExceeded", &format!("{subject} has timed out progressing."));
        } else {
            decision.recheck(deadline - waited + Duration::from_secs(1));
        }
    }
}

/// A set that cannot make its pods says so; the deployment repeats it.
fn set_failure(conditions: &mut Conditions, rollout: &Rollout<'_>) {
    let failure = rollout.new.iter().chain(&rollout.old).flat_map(|s| &s.status.conditions).find(|c| c.kind == "ReplicaFailure");
    match failure {
        Some(failure) => conditions.set("ReplicaFailure", &failure.status, &failure.reason, &failure.message),
        None => conditions.remove("ReplicaFailure"),
    }
}

struct Conditions {
    list: Vec<Value>,
    now: Timestamp,
}

impl Conditions {
    fn find(&self, kind: &str) -> Option<&Value> {
        self.list.iter().find(|c| c["type"] == kind)
    }

    fn text(&self, kind: &str, member: &str) -> String {
        self.find(kind).and_then(|c| c[member].as_str()).unwrap_or("").to_owned()
    }

    fn time(&self, kind: &str, member: &str) -> Option<Timestamp> {
        self.find(kind).and_then(|c| Timestamp::parse(c[member].as_str()?))
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|c| c["type"] != kind);
    }

    /// Sets a condition; one of the same status and reason stays as it is, its times included.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        if self.find(kind).is_some_and(|c| c["status"] == status && c["reason"] == reason) {
            return;
        }
        self.write(kind, status, reason, message);
    }

    /// Sets a condition to true with a new update time.
    fn renew(&mut self, kind: &str, reason: &str, message: &str) {
        self.write(kind, "True", reason, message);
    }

    fn write(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = self.now.rfc3339();
        let kept = self.find(kind).filter(|c| c["status"] == status).and_then(|c| c["lastTransitionTime"].as_str());
        let transition = kept.unwrap_or(&now).to_owned();
        self.remove(kind);
        self.list.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastUpdateTime": now, "lastTransitionTime": transition,
        }));
    }
}
