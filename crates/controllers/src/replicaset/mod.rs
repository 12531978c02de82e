//! Keeps as many pods as a replica set asks for.

mod victims;

use std::time::Duration;

use gantry_object::{Timestamp, Value};
use gantry_reconcile::{
    Action, Controller, Decision, DeleteOptions, Entry, EventKind, Key, Kind, Object, Preconditions, Read, View, controller_of, itself,
    merge_diff,
};
use serde_json::{Map, json};

use crate::adoption::claim;
use crate::kinds::{LabelSelector, Pod, ReplicaSet, ReplicationController};

/// How many pods one decision makes or deletes at most.
const BURST: usize = 500;

/// A kind that keeps a number of pods.
trait Replicated: Kind {
    /// Its controller's name.
    const CONTROLLER: &'static str;

    /// How many pods are wanted.
    fn replicas(&self) -> i32;
    /// How long a pod must be ready to count as available, in seconds.
    fn min_ready_seconds(&self) -> i32;
    /// Which pods are its own.
    fn selector(&self) -> &LabelSelector;
    /// What its pods are made from.
    fn template(&self) -> &Value;

    /// How many pods are wanted, as a count.
    fn wanted(&self) -> usize {
        usize::try_from(self.replicas()).unwrap_or(0)
    }
}

macro_rules! replicated {
    ($kind:ident, $controller:literal) => {
        impl Replicated for $kind {
            const CONTROLLER: &'static str = $controller;

            fn replicas(&self) -> i32 {
                self.spec.replicas.unwrap_or(1)
            }

            fn min_ready_seconds(&self) -> i32 {
                self.spec.min_ready_seconds
            }

            fn selector(&self) -> &LabelSelector {
                self.spec.selector.as_ref()
            }

            fn template(&self) -> &Value {
                &self.spec.template
            }
        }
    };
}

replicated!(ReplicaSet, "replicaset-controller");
replicated!(ReplicationController, "replication-controller");

/// The replica set controller.
pub struct ReplicaSets;

impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        ReplicaSet::CONTROLLER
    }

    fn reads(&self) -> Vec<Read> {
        vec![Read::of::<ReplicaSet>(itself), Read::of::<Pod>(sets_of_pod::<ReplicaSet>)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["pods of replicasets", "replicasets/status"]
    }

    fn decide(&self, key: &Key, view: &View, now: Timestamp) -> Decision {
        look_at::<ReplicaSet>(key, view, now)
    }
}

/// The replication manager: the same for the older kind, which selects by labels alone.
pub struct ReplicationControllers;

impl Controller for ReplicationControllers {
    fn name(&self) -> &'static str {
        ReplicationController::CONTROLLER
    }

    fn reads(&self) -> Vec<Read> {
        vec![Read::of::<ReplicationController>(itself), Read::of::<Pod>(sets_of_pod::<ReplicationController>)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["pods of replicationcontrollers", "replicationcontrollers/status"]
    }

    fn decide(&self, key: &Key, view: &View, now: Timestamp) -> Decision {
        look_at::<ReplicationController>(key, view, now)
    }
}

fn look_at<S: Replicated>(key: &Key, view: &View, now: Timestamp) -> Decision {
    match view.get::<S>(&key.name.namespace, &key.name.name) {
        Some(set) => decide(&set, view, now),
        None => Decision::none(),
    }
}

/// The set that manages a pod, or every set that would adopt it.
fn sets_of_pod<S: Replicated>(view: &View, this: &Key, item: &gantry_reconcile::Item<Entry>, keys: &mut Vec<Key>) {
    let meta = &item.projection.meta;
    if meta.controller().is_some() {
        return controller_of::<S>(view, this, item, keys);
    }
    let selecting = view.in_namespace::<S>(&meta.namespace).filter(|s| s.selector().selects(&meta.labels));
    keys.extend(selecting.map(|s| Key::of::<S>(s.name().clone())));
}

fn decide<S: Replicated>(set: &Object<S>, view: &View, now: Timestamp) -> Decision {
    let mut decision = Decision::none();
    let claimed = claim::<Pod>(view, set.meta(), (&api_version::<S>(), S::RESOURCE.kind), set.selector(), |pod| !pod.is_finished());
    if !claimed.actions.is_empty() {
        // What is adopted counts once it is seen to be.
        decision.actions = claimed.actions;
        return decision;
    }
    let mut pods: Vec<Object<Pod>> = claimed.kept.into_iter().filter(|p| !p.is_finished() && !p.meta().is_deleting()).collect();
    if !set.meta().is_deleting() {
        decision.actions = scale(set, &mut pods, view, now);
    }
    let failure = view.failure(S::CONTROLLER, &Key::of::<S>(set.name().clone())).filter(|_| pods.len() < set.wanted());
    if let Some(status) = update_status(set, &pods, failure, now, &mut decision) {
        // What fails ends the decision: a failure is told before it is tried again.
        let at = if failure.is_some() { 0 } else { decision.actions.len() };
        decision.actions.insert(at, status);
    }
    decision
}

fn api_version<S: Kind>() -> String {
    S::RESOURCE.api_version()
}

/// Makes what is missing, or deletes what is too much, and takes that out of `pods`: the status, written after, must not tell of it.
fn scale<S: Replicated>(set: &Object<S>, pods: &mut Vec<Object<Pod>>, view: &View, now: Timestamp) -> Vec<Action> {
    let wanted = set.wanted();
    if pods.len() <= wanted {
        let missing = (wanted - pods.len()).min(BURST);
        return vec![new_pod(set); missing];
    }
    let excess = (pods.len() - wanted).min(BURST);
    let victims = victims::choose(set, pods, excess, view, now);
    pods.retain(|p| !victims.iter().any(|v| v.name() == p.name()));
    let names = victims.iter().map(|p| p.name().name.clone());
    let events = names.map(|name| event(set, EventKind::Normal, "SuccessfulDelete", format!("Deleted pod: {name}")));
    victims.iter().map(delete_pod).chain(events).collect()
}

fn new_pod<S: Replicated>(set: &Object<S>) -> Action {
    let meta = set.meta();
    let template = set.template().get("metadata");
    let mut metadata = Map::new();
    metadata.insert("generateName".into(), json!(pod_prefix(&meta.name)));
    metadata.insert("namespace".into(), json!(meta.namespace));
    for member in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template.and_then(|t| t.get(member)) {
            metadata.insert(member.into(), value.clone());
        }
    }
    metadata.insert("ownerReferences".into(), json!([meta.as_controller(&api_version::<S>(), S::RESOURCE.kind)]));
    let spec = set.template().get("spec").cloned().unwrap_or_else(|| json!({}));
    let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    Action::CreateFor { owner: S::RESOURCE, owner_name: set.name().clone(), owner_uid: meta.uid.clone(), resource: Pod::RESOURCE, object }
}

/// `name-`, which a suffix of five characters completes; the server cuts what is too long.
fn pod_prefix(name: &str) -> String {
    format!("{name}-")
}

fn delete_pod(pod: &Object<Pod>) -> Action {
    let preconditions = Some(Preconditions { uid: Some(pod.meta().uid.clone()), ..Preconditions::default() });
    let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
    Action::Delete { resource: Pod::RESOURCE, name: pod.name().clone(), options }
}

fn event<S: Replicated>(set: &Object<S>, kind: EventKind, reason: &'static str, message: String) -> Action {
    Action::Event { resource: S::RESOURCE, name: set.name().clone(), uid: set.meta().uid.clone(), kind, reason, message }
}

fn update_status<S: Replicated>(
    set: &Object<S>,
    pods: &[Object<Pod>],
    failure: Option<&str>,
    now: Timestamp,
    decision: &mut Decision,
) -> Option<Action> {
    let min_ready = Duration::from_secs(u64::try_from(set.min_ready_seconds()).unwrap_or(0));
    let labels = set.template().pointer("/metadata/labels").and_then(Value::as_object);
    let (mut labelled, mut ready, mut available) = (0, 0, 0);
    for pod in pods {
        let has = |(key, value): (&String, &Value)| pod.meta().labels.get(key).map(String::as_str) == value.as_str();
        labelled += i32::from(labels.is_none_or(|l| l.iter().all(has)));
        let Some(since) = pod.ready_since() else { continue };
        ready += 1;
        match min_ready.checked_sub(now.since(since)).filter(|left| !left.is_zero()) {
            Some(left) => decision.recheck(left + Duration::from_millis(50)),
            None => available += 1,
        }
    }
    let old = set.value().get("status").cloned().unwrap_or_else(|| json!({}));
    let mut new = old.clone();
    // The API writes no zeros here, but for `replicas`.
    new["replicas"] = json!(pods.len());
    let numbers = [("fullyLabeledReplicas", labelled), ("readyReplicas", ready), ("availableReplicas", available)];
    for (member, number) in numbers {
        set_number(&mut new, member, i64::from(number));
    }
    set_number(&mut new, "observedGeneration", set.meta().generation);
    set_failure(&mut new, failure, now);
    if ready < set.replicas() {
        decision.waiting_on.push(format!("{} of {} pods are ready", ready, set.replicas()));
    }
    let change = json!({"status": merge_diff(&old, &new)?});
    Some(Action::Update { resource: S::RESOURCE, subresource: Some("status"), base: set.encoded().clone(), change })
}

/// Says, or no longer says, that pods cannot be made.
fn set_failure(status: &mut Value, failure: Option<&str>, now: Timestamp) {
    let mut conditions = status.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let before = conditions.iter().position(|c| c["type"] == "ReplicaFailure").map(|i| conditions.remove(i));
    if let Some(message) = failure {
        let since = before.and_then(|c| c["lastTransitionTime"].as_str().map(str::to_owned)).unwrap_or_else(|| now.rfc3339());
        conditions.push(json!({
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message, "lastTransitionTime": since,
        }));
    }
    if !conditions.is_empty() {
        status["conditions"] = Value::Array(conditions);
    } else if let Some(members) = status.as_object_mut() {
        members.remove("conditions");
    }
}

/// Sets a number that the API leaves out when it is zero.
pub(crate) fn set_number(status: &mut Value, member: &str, number: i64) {
    if number != 0 {
        status[member] = json!(number);
    } else if let Some(members) = status.as_object_mut() {
        members.remove(member);
    }
}

#[cfg(test)]
mod tests;
