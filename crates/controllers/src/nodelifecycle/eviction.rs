//! Moves pods off nodes with `NoExecute` taints once their toleration runs out.

use std::time::Duration;

use gantry_object::{ObjectName, Timestamp};
use gantry_reconcile::{
    Action, Controller, Decision, DeleteOptions, Entry, EventKind, Item, Key, Kind, Object, PatchType, Preconditions, Read, View, itself,
};
use serde_json::json;

use crate::kinds::{Node, Pod, Taint, Toleration};

/// The taint eviction controller. It acts under the node controller's account, as upstream's does.
pub struct TaintEvictions;

impl Controller for TaintEvictions {
    fn name(&self) -> &'static str {
        "node-controller"
    }

    fn reads(&self) -> Vec<Read> {
        vec![Read::of::<Node>(itself), Read::of::<Pod>(tainted_node)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["pods on nodes with NoExecute taints"]
    }

    fn decide(&self, key: &Key, view: &View, now: Timestamp) -> Decision {
        let mut decision = Decision::none();
        let Some(node) = view.get::<Node>("", &key.name.name) else { return decision };
        let taints: Vec<&Taint> = node.spec.taints.iter().filter(|t| t.effect == "NoExecute").collect();
        if taints.is_empty() {
            return decision;
        }
        for pod in view.indexed::<Pod>(&node.meta().name).filter(|p| !p.meta().is_deleting() && !p.is_finished()) {
            match stays(&pod, &taints, now) {
                Stay::Forever => {}
                Stay::For(left) => decision.recheck(left + Duration::from_millis(10)),
                Stay::NoLonger => decision.actions.extend(evict(&pod, now)),
            }
        }
        decision
    }
}

/// The node of a pod, if it has a taint that may drive the pod away.
fn tainted_node(view: &View, _: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    let Some(pod) = view.get::<Pod>(&item.name.namespace, &item.name.name) else { return };
    let node = view.get::<Node>("", &pod.spec.node_name);
    keys.extend(node.filter(|n| n.spec.taints.iter().any(|t| t.effect == "NoExecute")).map(|n| Key::of::<Node>(n.name().clone())));
}

enum Stay {
    Forever,
    For(Duration),
    NoLonger,
}

fn stays(pod: &Pod, taints: &[&Taint], now: Timestamp) -> Stay {
    let mut until: Option<Timestamp> = None;
    for taint in taints {
        let mut matching = pod.spec.tolerations.iter().filter(|t| tolerates(t, taint)).peekable();
        if matching.peek().is_none() {
            return Stay::NoLonger;
        }
        let since = taint.time_added.unwrap_or(now);
        for seconds in matching.filter_map(|t| t.toleration_seconds) {
            let end = since.plus(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
            until = Some(until.map_or(end, |u| u.min(end)));
        }
    }
    match until {
        None => Stay::Forever,
        Some(end) if end <= now => Stay::NoLonger,
        Some(end) => Stay::For(end.since(now)),
    }
}

/// Whether a toleration lets a pod stand a taint.
pub(crate) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.is_empty() || toleration.effect == taint.effect;
    let key = toleration.key.is_empty() || toleration.key == taint.key;
    effect && key && (toleration.operator == "Exists" || (!toleration.key.is_empty() && toleration.value == taint.value))
}

fn evict(pod: &Object<Pod>, now: Timestamp) -> [Action; 3] {
    let ObjectName { namespace, name } = pod.name();
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": now.rfc3339(),
    });
    let uid = &pod.meta().uid;
    let preconditions = Some(Preconditions { uid: Some(uid.clone()), ..Preconditions::default() });
    let event = Action::Event {
        resource: Pod::RESOURCE,
        name: pod.name().clone(),
        uid: uid.clone(),
        kind: EventKind::Normal,
        reason: "TaintManagerEviction",
        message: format!("Marking for deletion Pod {namespace}/{name}"),
    };
    let patch = json!({"metadata": {"uid": uid}, "status": {"conditions": [condition]}});
    let mark =
        Action::Patch { resource: Pod::RESOURCE, name: pod.name().clone(), subresource: Some("status"), kind: PatchType::Strategic, patch };
    let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
    [event, mark, Action::Delete { resource: Pod::RESOURCE, name: pod.name().clone(), options }]
}
