//! Notices nodes that fall silent, taints those in trouble, and moves pods off them.

mod eviction;

use std::time::Duration;

use gantry_object::{ObjectName, Timestamp, Value};
use gantry_reconcile::{
    Action, Controller, Decision, Entry, EventKind, Item, Key, Kind, Object, PatchType, Read, View, itself, merge_diff,
};
use serde_json::json;

use crate::kinds::{Lease, Node, Pod, Taint};

pub use eviction::TaintEvictions;

const LEASES: &str = "kube-node-lease";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// The node life cycle controller.
pub struct NodeLifecycle {
    grace: Duration,
    since: Timestamp,
}

impl NodeLifecycle {
    /// A node that was silent for `grace` (upstream: 50 s) counts as unreachable. Silence before `since`, when nobody could have listened,
    /// doesn't count: it is the time of the server's start.
    pub fn new(grace: Duration, since: Timestamp) -> Self {
        Self { grace, since }
    }
}

impl Controller for NodeLifecycle {
    fn name(&self) -> &'static str {
        "node-controller"
    }

    fn reads(&self) -> Vec<Read> {
        // A renewed lease only moves the time of the next look, which comes anyway; what matters is a lease that comes after silence.
        vec![Read::of::<Node>(itself), Read::of::<Lease>(silent_node), Read::of::<Pod>(|_, _, _, _| {})]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["nodes/status conditions of silent nodes", "nodes taints of the node life cycle", "pods/status Ready on silent nodes"]
    }

    fn decide(&self, key: &Key, view: &View, now: Timestamp) -> Decision {
        let Some(node) = view.get::<Node>("", &key.name.name) else { return Decision::none() };
        let mut decision = Decision::none();
        let silence = now.since(last_heard(&node, view).max(self.since));
        match self.grace.checked_sub(silence).filter(|left| !left.is_zero()) {
            Some(left) => decision.recheck(left + Duration::from_millis(10)),
            None => {
                decision.recheck(self.grace);
                decision.actions = report_silence(&node, view, now);
            }
        }
        if decision.actions.is_empty() {
            decision.actions.extend(taint(&node, now));
        }
        decision
    }
}

/// The node of a lease, if the node is believed silent.
fn silent_node(view: &View, this: &Key, _: &Item<Entry>, keys: &mut Vec<Key>) {
    if this.name.namespace == LEASES
        && let Some(node) = view.get::<Node>("", &this.name.name)
        && ready(&node) == "Unknown"
    {
        keys.push(Key::of::<Node>(node.name().clone()));
    }
}

fn ready(node: &Node) -> &str {
    node.status.conditions.iter().find(|c| c.kind == "Ready").map_or("", |c| c.status.as_str())
}

/// When the node last gave a sign of life: a lease or a status.
fn last_heard(node: &Object<Node>, view: &View) -> Timestamp {
    let lease = view.get::<Lease>(LEASES, &node.meta().name).and_then(|l| l.spec.renew_time);
    let beat = node.status.conditions.iter().filter(|c| c.kind == "Ready").filter_map(|c| c.last_heartbeat_time).max();
    lease.max(beat).or(node.meta().creation_timestamp).unwrap_or_default()
}

/// Sets what the node can no longer say to Unknown, and its pods to not ready.
fn report_silence(node: &Object<Node>, view: &View, now: Timestamp) -> Vec<Action> {
    let value = node.value();
    let old = value["status"].get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut new = old.clone();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let unknown = |reason: &str, message: &str, beat: Value| {
            json!({"type": kind, "status": "Unknown", "reason": reason, "message": message,
                "lastHeartbeatTime": beat, "lastTransitionTime": now.rfc3339()})
        };
        match new.iter_mut().find(|c| c["type"] == kind) {
            Some(condition) if condition["status"] == "Unknown" => {}
            Some(condition) => {
                let beat = condition.get("lastHeartbeatTime").cloned().unwrap_or_default();
                *condition = unknown("NodeStatusUnknown", "Kubelet stopped posting node status.", beat);
            }
            None => {
                let beat = json!(node.meta().creation_timestamp.unwrap_or(now).rfc3339());
                new.push(unknown("NodeStatusNeverUpdated", "Kubelet never posted node status.", beat));
            }
        }
    }
    if new == old {
        return Vec::new();
    }
    let change = json!({"status": {"conditions": new}});
    let mut actions = vec![Action::Update { resource: Node::RESOURCE, subresource: Some("status"), base: node.encoded().clone(), change }];
    let name = &node.meta().name;
    actions.push(Action::Event {
        resource: Node::RESOURCE,
        name: ObjectName::cluster(name),
        uid: node.meta().uid.clone(),
        kind: EventKind::Normal,
        reason: "NodeNotReady",
        message: format!("Node {name} status is now: NodeNotReady"),
    });
    actions.extend(view.indexed::<Pod>(name).filter(|p| p.is_ready()).map(|pod| not_ready(&pod, now)));
    actions
}

/// Services stop sending to the pods of a silent node.
fn not_ready(pod: &Object<Pod>, now: Timestamp) -> Action {
    let condition = json!({"type": "Ready", "status": "False", "lastTransitionTime": now.rfc3339()});
    let patch = json!({"metadata": {"uid": pod.meta().uid}, "status": {"conditions": [condition]}});
    Action::Patch { resource: Pod::RESOURCE, name: pod.name().clone(), subresource: Some("status"), kind: PatchType::Strategic, patch }
}

/// Brings the taints that follow from conditions up to date; others stay.
fn taint(node: &Object<Node>, now: Timestamp) -> Option<Action> {
    const OURS: [&str; 7] = [
        NOT_READY,
        UNREACHABLE,
        "node.kubernetes.io/memory-pressure",
        "node.kubernetes.io/disk-pressure",
        "node.kubernetes.io/pid-pressure",
        "node.kubernetes.io/network-unavailable",
        "node.kubernetes.io/unschedulable",
    ];
    let is = |kind: &str| node.status.conditions.iter().any(|c| c.kind == kind && c.status == "True");
    let ready = ready(node);
    let troubles = [
        (ready == "False", OURS[0], true),
        // A node that has said nothing yet is left to its own taint.
        (ready == "Unknown", OURS[1], true),
        (is("MemoryPressure"), OURS[2], false),
        (is("DiskPressure"), OURS[3], false),
        (is("PIDPressure"), OURS[4], false),
        (is("NetworkUnavailable"), OURS[5], false),
        (node.spec.unschedulable, OURS[6], false),
    ];
    let mut wanted: Vec<Taint> = Vec::new();
    for (_, key, evicts) in troubles.into_iter().filter(|(is, _, _)| *is) {
        let taint = |effect: &str| Taint { key: key.into(), value: String::new(), effect: effect.into(), time_added: Some(now) };
        wanted.push(taint("NoSchedule"));
        wanted.extend(evicts.then(|| taint("NoExecute")));
    }
    let is_ours =
        |t: &Taint| OURS.contains(&t.key.as_str()) && matches!(t.effect.as_str(), "NoSchedule" | "NoExecute") && !ready.is_empty();
    let same = |a: &Taint, b: &Taint| a.key == b.key && a.effect == b.effect;
    let have: Vec<&Taint> = node.spec.taints.iter().filter(|t| is_ours(t)).collect();
    let as_wanted = have.len() == wanted.len() && wanted.iter().all(|w| have.iter().any(|h| same(h, w)));
    if as_wanted || ready.is_empty() {
        return None;
    }
    let value = node.value();
    let old = value["spec"].get("taints").and_then(Value::as_array).cloned().unwrap_or_default();
    let kept = old.into_iter().zip(&node.spec.taints).filter(|(_, t)| !is_ours(t) || wanted.iter().any(|w| same(w, t)));
    let mut new: Vec<Value> = kept.map(|(value, _)| value).collect();
    let added = wanted.iter().filter(|w| !node.spec.taints.iter().any(|t| same(t, w)));
    new.extend(added.map(|t| json!({"key": t.key, "effect": t.effect, "timeAdded": now.rfc3339()})));
    let taints = if new.is_empty() { Value::Null } else { Value::Array(new) };
    let change = json!({"spec": {"taints": taints}});
    debug_assert!(merge_diff(&value, &change).is_some());
    Some(Action::Update { resource: Node::RESOURCE, subresource: None, base: node.encoded().clone(), change })
}

#[cfg(test)]
mod tests;
