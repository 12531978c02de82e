//! The scheduler without I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_object::{ObjectName, Resource, Timestamp};
use gantry_reconcile::informer::{Informer, Item, Start};
use gantry_reconcile::{Action, EventKind, Outcome, PatchType, WatchEvent, Work};
use serde_json::json;

use crate::filter::{Reasons, reasons};
use crate::node::{Node, Offer};
use crate::pod::{Choice, Pod};
use crate::queue::Queue;
use crate::score::{Candidate, best};

/// The default scheduler's name, which its events bear.
pub(crate) const NAME: &str = "default-scheduler";
/// What is scheduled.
pub const PODS: Resource = Resource::namespaced("", "v1", "pods", "Pod");
/// Where to.
pub const NODES: Resource = Resource::cluster("", "v1", "nodes", "Node");
/// With more nodes than this not all are looked at for each pod.
const ENOUGH: usize = 100;

/// What to do about one pod.
#[derive(Debug)]
pub struct Job {
    /// The pod.
    pub pod: ObjectName,
    /// Its uid.
    uid: String,
    /// The node it is to be bound to; `None` when no node will do.
    pub node: Option<String>,
    /// The writes.
    pub actions: Vec<Action>,
}

/// Everything the scheduler knows.
pub struct Machine {
    pods: Informer<Pod>,
    nodes: Informer<Offer>,
    by_name: BTreeMap<String, usize>,
    /// Nodes in no particular order; a removed one leaves a hole without an offer.
    view: Vec<Node>,
    queue: Queue,
    /// Whether pods, and nodes, were ever listed to the end.
    ready: (bool, bool),
    /// Pods on the node chosen for them, until the watch shows them there.
    assumed: BTreeMap<ObjectName, (Arc<Item<Pod>>, usize)>,
    /// Where to begin looking at nodes, so that all get their turn.
    turn: usize,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Machine {
    /// A scheduler that knows nothing yet.
    pub fn new() -> Self {
        Self {
            pods: Informer::new(Pod::read),
            nodes: Informer::new(Offer::read),
            by_name: BTreeMap::new(),
            view: Vec::new(),
            queue: Queue::default(),
            ready: (false, false),
            assumed: BTreeMap::new(),
            turn: 0,
        }
    }

    fn node_index(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        self.view.push(Node { name: name.into(), ..Node::default() });
        self.by_name.insert(name.into(), self.view.len() - 1);
        self.view.len() - 1
    }

    fn node_changed(&mut self, name: &str, offer: Option<Offer>) {
        let index = self.node_index(name);
        let helps = offer.is_some() && self.view[index].offer != offer;
        self.view[index].offer = offer;
        if helps {
            self.queue.stir();
        }
    }

    fn pod_changed(&mut self, old: Option<&Item<Pod>>, new: Option<&Arc<Item<Pod>>>) {
        let Some(name) = new.map(|n| &n.name).or(old.map(|o| &o.name)) else { return };
        let same = |uid: &str| new.is_some_and(|n| n.projection.uid == uid);
        // What was assumed holds until the watch says where the pod is, or that it is gone.
        let decided = |n: &&Arc<Item<Pod>>| !n.projection.node.is_empty() || n.projection.choice.is_none();
        if self.assumed.get(name).is_some_and(|(item, _)| !same(&item.projection.uid) || new.is_none_or(|n| decided(&n))) {
            self.forget(&name.clone());
        }
        if let Some(old) = old.filter(|o| o.projection.is_placed) {
            let index = self.node_index(&old.projection.node);
            self.view[index].remove(&old.projection);
            if new.is_none_or(|n| !n.projection.is_placed) {
                self.queue.stir();
            }
        }
        if let Some(new) = new.filter(|n| n.projection.is_placed) {
            let index = self.node_index(&new.projection.node);
            self.view[index].place(&new.projection);
        }
        if old.is_some_and(|o| !same(&o.projection.uid)) {
            self.queue.remove(name);
        }
        match new.filter(|n| n.projection.choice.is_some()) {
            Some(_) if self.assumed.contains_key(name) => {}
            // Its own condition, written by us, is no reason to try again.
            Some(new) if old.is_some_and(|o| only_told(&o.projection, &new.projection)) => {}
            Some(new) => self.queue.add(&new.name, new.projection.priority),
            None => self.queue.remove(name),
        }
    }

    fn forget(&mut self, name: &ObjectName) {
        if let Some((item, index)) = self.assumed.remove(name) {
            self.view[index].remove(&item.projection);
        }
    }

    /// Whether nodes and pods have been listed.
    pub fn is_ready(&self) -> bool {
        self.ready == (true, true)
    }

    fn choose(&mut self, pod: &Pod, choice: &Choice) -> Result<usize, String> {
        let count = self.view.len();
        let enough = enough(count);
        let mut candidates = Vec::new();
        let mut hindrances: BTreeMap<std::borrow::Cow<'static, str>, usize> = BTreeMap::new();
        let mut nodes = 0;
        let mut looked = 0;
        for i in 0..count {
            let index = (self.turn + i) % count;
            let node = &self.view[index];
            looked += 1;
            let Some(offer) = &node.offer else { continue };
            nodes += 1;
            let reasons: Reasons = reasons(pod, choice, node, offer);
            if reasons.is_empty() {
                candidates.push(Candidate { index, node, offer });
                if candidates.len() >= enough {
                    break;
                }
            }
            for reason in reasons {
                *hindrances.entry(reason).or_default() += 1;
            }
        }
        let chosen = best(pod, choice, &candidates);
        self.turn = if count == 0 { 0 } else { (self.turn + looked) % count };
        chosen.ok_or_else(|| message(nodes, &hindrances))
    }
}

impl Work for Machine {
    type Job = Job;

    fn start(&mut self, resource: &Resource) -> Start {
        if *resource == NODES { self.nodes.start() } else { self.pods.start() }
    }

    fn take(&mut self, resource: &Resource, event: WatchEvent) {
        if *resource == NODES {
            let changes = self.nodes.take(event);
            self.ready.1 |= self.nodes.is_synced();
            for change in changes {
                let name = change.name().name.clone();
                self.node_changed(&name, change.new.map(|i| i.projection.clone()));
            }
        } else {
            let changes = self.pods.take(event);
            self.ready.0 |= self.pods.is_synced();
            for change in changes {
                self.pod_changed(change.old.as_deref(), change.new.as_ref());
            }
        }
    }

    fn expire(&mut self, resource: &Resource) {
        if *resource == NODES { self.nodes.expire() } else { self.pods.expire() }
    }

    fn next(&mut self, monotonic: Duration, now: Timestamp) -> Option<Job> {
        if !self.is_ready() {
            return None;
        }
        loop {
            let name = self.queue.next(monotonic)?;
            let Some(item) = self.pods.get(&name).cloned() else {
                self.queue.remove(&name);
                continue;
            };
            let Some(choice) = &item.projection.choice else {
                self.queue.remove(&name);
                continue;
            };
            let job = match self.choose(&item.projection, choice) {
                Ok(index) => {
                    self.view[index].place(&item.projection);
                    let job = bind(&item.projection, &self.view[index].name);
                    self.assumed.insert(name, (item, index));
                    job
                }
                Err(message) => {
                    let job = report(&item.projection, choice, &message, now);
                    self.queue.wait(&name, monotonic);
                    job
                }
            };
            return Some(job);
        }
    }

    fn next_due(&self) -> Option<Duration> {
        self.queue.next_due().filter(|_| self.is_ready())
    }

    fn actions(job: &Job) -> (&'static str, &[Action]) {
        (NAME, &job.actions)
    }

    /// A pod that could not be bound is tried again after its back-off.
    fn finish(&mut self, job: &Job, outcome: Outcome, _monotonic: Duration) {
        let Some(status) = &outcome.failed else { return };
        tracing::debug!(pod = %job.pod, message = %status.message, "scheduling a pod failed");
        if job.node.is_none() {
            return;
        }
        if self.assumed.get(&job.pod).is_some_and(|(item, _)| item.projection.uid == job.uid) {
            self.forget(&job.pod);
            self.queue.back_off(&job.pod);
            self.queue.stir();
        }
    }
}

/// Whether nothing about a pod changed that matters for scheduling but what was said about it.
fn only_told(old: &Pod, new: &Pod) -> bool {
    let (Some(before), Some(after)) = (&old.choice, &new.choice) else { return false };
    old.uid == new.uid && before.last_message != after.last_message
}

/// How many candidates are enough to choose from: fewer, in proportion, the more nodes there are.
fn enough(nodes: usize) -> usize {
    let percent = 50_usize.saturating_sub(nodes / 125).max(5);
    (nodes * percent / 100).max(ENOUGH)
}

fn message(nodes: usize, hindrances: &BTreeMap<std::borrow::Cow<'static, str>, usize>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".into();
    }
    let mut reasons: Vec<String> = hindrances.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    reasons.sort();
    format!("0/{nodes} nodes are available: {}.", reasons.join(", "))
}

fn event(pod: &Pod, kind: EventKind, reason: &'static str, message: String) -> Action {
    Action::Event { resource: PODS, name: pod.name.clone(), uid: pod.uid.clone(), kind, reason, message }
}

fn bind(pod: &Pod, node: &str) -> Job {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": pod.name.name, "namespace": pod.name.namespace, "uid": pod.uid},
        "target": {"apiVersion": "v1", "kind": "Node", "name": node},
    });
    let create = Action::Create { resource: PODS, name: pod.name.clone(), subresource: Some("binding"), object: binding };
    let told = event(pod, EventKind::Normal, "Scheduled", format!("Successfully assigned {} to {node}", pod.name));
    Job { pod: pod.name.clone(), uid: pod.uid.clone(), node: Some(node.into()), actions: vec![create, told] }
}

fn report(pod: &Pod, choice: &Choice, message: &str, now: Timestamp) -> Job {
    let mut actions = vec![event(pod, EventKind::Warning, "FailedScheduling", message.to_owned())];
    if choice.last_message != message {
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message, "lastTransitionTime": now.rfc3339(),
        });
        let patch = json!({"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}});
        let name = pod.name.clone();
        actions.push(Action::Patch { resource: PODS, name, subresource: Some("status"), kind: PatchType::Strategic, patch });
    }
    Job { pod: pod.name.clone(), uid: pod.uid.clone(), node: None, actions }
}
