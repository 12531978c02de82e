//! Deletes pods that nobody else can or will: of nodes that are gone, ended ones beyond a number, and deleted ones that never ran.

use gantry_object::{ObjectName, Timestamp};
use gantry_reconcile::{Action, Controller, Decision, DeleteOptions, Entry, Item, Key, Kind, Object, PatchType, Preconditions, Read, View};
use serde_json::json;

use crate::kinds::{Node, Pod};

/// The pod garbage collector.
pub struct PodGc {
    keep_finished: usize,
}

impl PodGc {
    /// Keeps so many pods that have ended (upstream: 12,500).
    pub fn new(keep_finished: usize) -> Self {
        Self { keep_finished }
    }
}

impl Controller for PodGc {
    fn name(&self) -> &'static str {
        "pod-garbage-collector"
    }

    fn reads(&self) -> Vec<Read> {
        vec![Read::of::<Pod>(concerns), Read::of::<Node>(gantry_reconcile::itself)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["pods of nodes that are gone", "pods that have ended", "deleted pods without a node"]
    }

    fn decide(&self, key: &Key, view: &View, now: Timestamp) -> Decision {
        let actions = match key.resource {
            Node::RESOURCE => orphans(&key.name.name, view, now),
            _ if key.name.name.is_empty() => self.finished(view),
            _ => view.get::<Pod>(&key.name.namespace, &key.name.name).filter(never_ran).iter().map(delete).collect(),
        };
        Decision { actions, ..Decision::default() }
    }
}

/// A pod concerns its node if that is gone, the number of ended ones if it has ended, and itself if it was deleted before it ran.
fn concerns(view: &View, this: &Key, _: &Item<Entry>, keys: &mut Vec<Key>) {
    let Some(pod) = view.get::<Pod>(&this.name.namespace, &this.name.name) else { return };
    let node = &pod.spec.node_name;
    if !node.is_empty() && view.get::<Node>("", node).is_none() {
        keys.push(Key::of::<Node>(ObjectName::cluster(node)));
    }
    if pod.is_finished() {
        keys.push(Key::of::<Pod>(ObjectName::default()));
    }
    if never_ran(&pod) {
        keys.push(this.clone());
    }
}

fn never_ran(pod: &Object<Pod>) -> bool {
    pod.meta().is_deleting() && pod.spec.node_name.is_empty()
}

fn orphans(node: &str, view: &View, now: Timestamp) -> Vec<Action> {
    if node.is_empty() || view.get::<Node>("", node).is_some() {
        return Vec::new();
    }
    let mut pods = view.indexed::<Pod>(node).peekable();
    if pods.peek().is_none() {
        return Vec::new();
    }
    // The view may be behind: the server says whether the node is gone.
    let mut actions = vec![Action::RequireGone { resource: Node::RESOURCE, name: ObjectName::cluster(node), uid: String::new() }];
    for pod in pods {
        actions.extend((!pod.is_finished()).then(|| fail(&pod, now)));
        actions.push(delete(&pod));
    }
    actions
}

fn fail(pod: &Object<Pod>, now: Timestamp) -> Action {
    let condition = json!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists", "lastTransitionTime": now.rfc3339(),
    });
    let patch = json!({"metadata": {"uid": pod.meta().uid}, "status": {"phase": "Failed", "conditions": [condition]}});
    Action::Patch { resource: Pod::RESOURCE, name: pod.name().clone(), subresource: Some("status"), kind: PatchType::Strategic, patch }
}

fn delete(pod: &Object<Pod>) -> Action {
    let preconditions = Some(Preconditions { uid: Some(pod.meta().uid.clone()), ..Preconditions::default() });
    let options = DeleteOptions { grace_period_seconds: Some(0), preconditions, ..DeleteOptions::default() };
    Action::Delete { resource: Pod::RESOURCE, name: pod.name().clone(), options }
}

impl PodGc {
    fn finished(&self, view: &View) -> Vec<Action> {
        let mut finished: Vec<Object<Pod>> = view.all::<Pod>().filter(|p| p.is_finished()).collect();
        let excess = finished.len().saturating_sub(self.keep_finished);
        finished.sort_by(|a, b| (a.meta().creation_timestamp, a.name()).cmp(&(b.meta().creation_timestamp, b.name())));
        finished.iter().take(excess).map(delete).collect()
    }
}
