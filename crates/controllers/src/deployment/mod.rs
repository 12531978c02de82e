//! Rolls a deployment's pods from one template to the next through replica sets.
//!
//! Annotations, names of conditions and events, and the arithmetic of surge and unavailability are upstream's, so that
//! `kubectl rollout` and other clients read and undo what this did.

mod history;
mod scale;
mod status;

use std::collections::BTreeMap;

use gantry_object::{ObjectName, Timestamp, Value};
use gantry_reconcile::{
    Action, Controller, Decision, DeleteOptions, Entry, EventKind, Item, Key, Kind, Object, Preconditions, Read, View, controller_of,
    itself,
};
use serde_json::{Map, json};

use crate::adoption::claim;
use crate::kinds::{Annotations, Deployment, Pod, ReplicaSet};

pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";
/// Annotations of a deployment that its replica sets don't get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];

/// The deployment controller.
pub struct Deployments;

impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn reads(&self) -> Vec<Read> {
        vec![Read::of::<Deployment>(itself), Read::of::<ReplicaSet>(deployments_of_set), Read::of::<Pod>(deployment_of_pod)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["replicasets of deployments", "deployments/status", "deployments revision annotation"]
    }

    fn decide(&self, key: &Key, view: &View, now: Timestamp) -> Decision {
        match view.get::<Deployment>(&key.name.namespace, &key.name.name) {
            Some(deployment) => decide(&deployment, view, now),
            None => Decision::none(),
        }
    }
}

/// The deployment that manages a set, or every one that would adopt it.
fn deployments_of_set(view: &View, this: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    let meta = &item.projection.meta;
    if meta.controller().is_some() {
        return controller_of::<Deployment>(view, this, item, keys);
    }
    let selecting = view.in_namespace::<Deployment>(&meta.namespace).filter(|d| d.spec.selector.selects(&meta.labels));
    keys.extend(selecting.map(|d| Key::of::<Deployment>(d.name().clone())));
}

/// Pods count only where a rollout waits for old ones to be gone.
fn deployment_of_pod(view: &View, _: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    let meta = &item.projection.meta;
    let Some(owner) = meta.controller().filter(|o| o.kind == "ReplicaSet") else { return };
    let Some(set) = view.get::<ReplicaSet>(&meta.namespace, &owner.name) else { return };
    let Some(owner) = set.meta().controller().filter(|o| o.kind == "Deployment") else { return };
    if view.get::<Deployment>(&meta.namespace, &owner.name).is_some_and(|d| d.spec.strategy.kind == "Recreate") {
        keys.push(Key::of::<Deployment>(ObjectName::new(&meta.namespace, &owner.name)));
    }
}

/// A deployment with its sets, and what is wanted of them so far.
struct Rollout<'a> {
    deployment: &'a Object<Deployment>,
    /// The set of the current template.
    new: Option<Object<ReplicaSet>>,
    /// The others, oldest first.
    old: Vec<Object<ReplicaSet>>,
    /// Sizes to be set, by name.
    sizes: BTreeMap<String, i32>,
    max_surge: i32,
    max_unavailable: i32,
}

fn decide(deployment: &Object<Deployment>, view: &View, now: Timestamp) -> Decision {
    let mut decision = Decision::none();
    if deployment.spec.selector.is_empty() {
        let message = "This deployment is selecting all pods. A non-empty selector is required.".to_owned();
        decision.actions.push(event(deployment, EventKind::Warning, "SelectingAll", message));
        return decision;
    }
    let claimed = claim::<ReplicaSet>(view, deployment.meta(), ("apps/v1", "Deployment"), &deployment.spec.selector, |_| true);
    if !claimed.actions.is_empty() {
        decision.actions = claimed.actions;
        return decision;
    }
    let mut rollout = Rollout::new(deployment, claimed.kept);
    if !deployment.meta().is_deleting() {
        let before = rollout.history_actions();
        if !before.is_empty() {
            decision.actions = before;
            return decision;
        }
        rollout.advance(view, &mut decision);
        decision.actions.extend(rollout.resize_actions());
    }
    let writes_itself = |a: &Action| matches!(a, Action::Create { .. } | Action::Update { resource: Deployment::RESOURCE, .. });
    if !decision.actions.iter().any(writes_itself) {
        status::update(&rollout, now, &mut decision);
    }
    decision
}

impl<'a> Rollout<'a> {
    fn new(deployment: &'a Object<Deployment>, mut sets: Vec<Object<ReplicaSet>>) -> Self {
        sets.sort_by(|a, b| (a.meta().creation_timestamp, a.name()).cmp(&(b.meta().creation_timestamp, b.name())));
        // Should several have the template, the oldest is the one to keep using.
        let at = sets.iter().position(|s| same_template(&s.spec.template, &deployment.spec.template));
        let new = at.map(|i| sets.remove(i));
        let (max_surge, max_unavailable) = scale::fenceposts(deployment);
        Self { deployment, new, old: sets, sizes: BTreeMap::new(), max_surge, max_unavailable }
    }

    fn all(&self) -> impl Iterator<Item = &Object<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    /// The size a set has or is about to get.
    fn size(&self, set: &Object<ReplicaSet>) -> i32 {
        self.sizes.get(&set.name().name).copied().unwrap_or_else(|| set.replicas())
    }

    fn resize(&mut self, set: &Object<ReplicaSet>, size: i32) {
        self.sizes.insert(set.name().name.clone(), size.max(0));
    }

    fn total_size(&self) -> i32 {
        self.all().map(|s| self.size(s)).sum()
    }

    /// One step: towards the size when that was changed, else towards the template.
    fn advance(&mut self, view: &View, decision: &mut Decision) {
        let deployment = self.deployment;
        let recreates = deployment.spec.strategy.kind == "Recreate";
        // Where old pods go first there is nothing to share out: the new set gets the size when its turn comes.
        if deployment.spec.paused || (self.is_scaling() && !recreates) {
            self.scale();
            self.hold_growth();
            if deployment.spec.paused {
                decision.actions.extend(self.cleanup());
            }
            return;
        }
        if recreates {
            self.recreate(view, decision);
        } else if self.new.is_none() {
            decision.actions.extend(self.create_set(view, scale::new_set_size(self)));
        } else {
            self.roll();
        }
        if self.sizes.is_empty() && status::is_complete(self) {
            decision.actions.extend(self.cleanup());
        }
    }

    /// All old pods go before the first new one comes.
    fn recreate(&mut self, view: &View, decision: &mut Decision) {
        let active: Vec<_> = self.old.iter().filter(|s| s.replicas() > 0).cloned().collect();
        if !active.is_empty() {
            active.iter().for_each(|s| self.resize(s, 0));
            return;
        }
        let running = |set: &Object<ReplicaSet>| view.owned_by::<Pod>(&set.meta().uid).filter(|p| !p.is_finished()).count();
        let left: usize = self.old.iter().map(running).sum();
        if left > 0 {
            decision.waiting_on.push(format!("{left} pods of earlier revisions are still there"));
            return;
        }
        match self.new.clone() {
            None => decision.actions.extend(self.create_set(view, self.deployment.replicas())),
            Some(new) if new.replicas() != self.deployment.replicas() => self.resize(&new, self.deployment.replicas()),
            Some(_) => {}
        }
    }

    /// Makes the set of the current template, or counts a collision when its name is taken.
    fn create_set(&self, view: &View, size: i32) -> Vec<Action> {
        let (deployment, meta) = (self.deployment, self.deployment.meta());
        let hash = template_hash(&deployment.spec.template, status::collisions(deployment));
        let name = format!("{}-{hash}", meta.name);
        if view.get::<ReplicaSet>(&meta.namespace, &name).is_some() {
            return vec![status::count_collision(deployment)];
        }
        let mut template = deployment.spec.template.clone();
        label(&mut template, &hash);
        let mut selector = deployment.value()["spec"]["selector"].clone();
        if let Some(members) = selector.as_object_mut() {
            let labels = members.entry("matchLabels").or_insert_with(|| json!({}));
            labels[HASH] = json!(hash);
        }
        let labels = template.pointer("/metadata/labels").cloned().unwrap_or_default();
        let annotations = self.set_annotations(None, self.next_revision());
        let object = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": name, "namespace": meta.namespace, "labels": labels, "annotations": annotations,
                "ownerReferences": [meta.as_controller("apps/v1", "Deployment")],
            },
            "spec": {"replicas": size, "minReadySeconds": deployment.spec.min_ready_seconds, "selector": selector, "template": template},
        });
        let create =
            Action::Create { resource: ReplicaSet::RESOURCE, name: ObjectName::new(&meta.namespace, &name), subresource: None, object };
        let mut actions = vec![create];
        if size > 0 {
            actions.push(scaled_event(deployment, &name, 0, size));
        }
        actions
    }

    /// Writes changed sizes, with the annotations by which a later change of size is shared out.
    fn resize_actions(&self) -> Vec<Action> {
        let mut actions = Vec::new();
        for set in self.all() {
            let Some(size) = self.sizes.get(&set.name().name).copied() else { continue };
            let annotations = self.size_annotations();
            let stale = annotations.iter().any(|(k, v)| set.metadata.annotations.get(k) != Some(v));
            let from = set.replicas();
            if from == size && !stale {
                continue;
            }
            let change = json!({"metadata": {"annotations": annotations}, "spec": {"replicas": size}});
            actions.push(Action::Update { resource: ReplicaSet::RESOURCE, subresource: None, base: set.encoded().clone(), change });
            if from != size {
                actions.push(scaled_event(self.deployment, &set.name().name, from, size));
            }
        }
        actions
    }

    fn size_annotations(&self) -> Annotations {
        let wanted = self.deployment.replicas();
        let most = if wanted > 0 { wanted + self.max_surge } else { 0 };
        Annotations::from([(DESIRED_REPLICAS.into(), wanted.to_string()), (MAX_REPLICAS.into(), most.to_string())])
    }
}

fn event(deployment: &Object<Deployment>, kind: EventKind, reason: &'static str, message: String) -> Action {
    Action::Event {
        resource: Deployment::RESOURCE,
        name: deployment.name().clone(),
        uid: deployment.meta().uid.clone(),
        kind,
        reason,
        message,
    }
}

fn scaled_event(deployment: &Object<Deployment>, set: &str, from: i32, to: i32) -> Action {
    let way = if to > from { "up" } else { "down" };
    event(deployment, EventKind::Normal, "ScalingReplicaSet", format!("Scaled {way} replica set {set} from {from} to {to}"))
}

fn delete_set(set: &Object<ReplicaSet>) -> Action {
    let preconditions = Preconditions { uid: Some(set.meta().uid.clone()), resource_version: Some(set.encoded().revision.to_string()) };
    let options = DeleteOptions { preconditions: Some(preconditions), ..DeleteOptions::default() };
    Action::Delete { resource: ReplicaSet::RESOURCE, name: set.name().clone(), options }
}

fn label(template: &mut Value, hash: &str) {
    if !template["metadata"].is_object() {
        template["metadata"] = Value::Object(Map::new());
    }
    template["metadata"]["labels"][HASH] = json!(hash);
}

/// Whether two pod templates are the same but for the label that tells sets apart.
fn same_template(set: &Value, deployment: &Value) -> bool {
    let mut set = set.clone();
    if let Some(labels) = set.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.remove(HASH);
    }
    &set == deployment
}

/// A short hash of a template in the alphabet of generated names. A set keeps the name it was made with.
fn template_hash(template: &Value, collisions: Option<i64>) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut text = template.to_string().into_bytes();
    text.extend(collisions.into_iter().flat_map(i64::to_le_bytes));
    let hash = text.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests;
