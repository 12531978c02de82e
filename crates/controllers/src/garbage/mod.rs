//! Deletes what no owner is left to want, and carries out foreground and orphaning deletions.

use std::collections::BTreeSet;
use std::time::Duration;

use gantry_object::{ObjectName, Resource, Timestamp, Value};
use gantry_reconcile::{
    Action, Controller, Decision, DeleteOptions, Entry, Item, Key, Meta, Owner, PatchType, Preconditions, Propagation, Read, View,
};
use serde_json::json;

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";
/// How soon to look again when it is not known yet what a new resource has.
const RECHECK: Duration = Duration::from_millis(200);
/// How soon to look again at an object with an owner of a kind that is not served.
const UNKNOWN_KIND: Duration = Duration::from_secs(30);

/// The garbage collector.
pub struct Garbage {
    resources: Vec<Resource>,
    with_customs: bool,
}

impl Garbage {
    /// Collects among these resources, and those that definitions describe. Owners of other resources count as alive.
    pub fn new(resources: &[Resource]) -> Self {
        // Events come and go by themselves and own nothing.
        Self { resources: resources.iter().copied().filter(|r| r.plural != "events").collect(), with_customs: true }
    }

    /// Collects among these resources alone.
    pub fn among(resources: &[Resource]) -> Self {
        Self { with_customs: false, ..Self::new(resources) }
    }
}

impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "generic-garbage-collector"
    }

    fn reads(&self) -> Vec<Read> {
        self.resources.iter().map(|r| Read::meta(*r, touched)).collect()
    }

    fn reads_custom(&self) -> Option<gantry_reconcile::MapKeys> {
        self.with_customs.then_some(touched as gantry_reconcile::MapKeys)
    }

    fn owns(&self) -> &'static [&'static str] {
        &["finalizers foregroundDeletion and orphan", "objects whose owners are gone"]
    }

    fn decide(&self, key: &Key, view: &View, _now: Timestamp) -> Decision {
        let Some(item) = view.item(&key.resource, &key.name) else { return Decision::none() };
        let meta = &item.projection.meta;
        if let Some(resource) = view.unknown() {
            let mut decision = Decision::none();
            decision.waiting_on.push(format!("what there is of {}", resource.group_resource()));
            decision.recheck(RECHECK);
            return decision;
        }
        if meta.is_deleting() {
            return finalize(key, item, view);
        }
        collect(key, item, view)
    }
}

/// The object itself; its owners, of which one may wait for it; and when it goes, everything that depends on it.
fn touched(view: &View, this: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    let meta = &item.projection.meta;
    if !meta.owner_references.is_empty() || !meta.finalizers.is_empty() {
        keys.push(this.clone());
    }
    for owner in meta.owner_references.iter().filter(|o| o.block_owner_deletion) {
        keys.extend(key_of(view, owner, &meta.namespace));
    }
    let now = view.item(&this.resource, &this.name).map(|i| &i.projection.meta);
    if now.is_none_or(|m| m.uid != meta.uid || m.is_deleting()) {
        keys.extend(dependents(view, &meta.uid).map(|(resource, item)| Key { resource, name: item.name.clone() }));
    }
}

fn dependents<'a>(view: &'a View, uid: &'a str) -> impl Iterator<Item = (Resource, &'a Item<Entry>)> + 'a {
    view.resources().flat_map(move |r| view.dependents(&r, uid).map(move |item| (r, &**item)))
}

/// Where an owner is. `None` when its kind is not among those that are watched.
fn key_of(view: &View, owner: &Owner, namespace: &str) -> Option<Key> {
    let resource = view.resources().find(|r| r.kind == owner.kind && r.group == owner.group())?;
    let namespace = if resource.namespaced { namespace } else { "" };
    Some(Key { resource, name: ObjectName::new(namespace, &owner.name) })
}

enum State {
    /// It is there, or cannot be looked for.
    Solid,
    /// Nothing is known of its kind yet.
    Unknown,
    /// It is not there.
    Dangling(Key),
    /// It is being deleted and waits for its dependents to go first.
    Waiting,
}

fn state_of(view: &View, owner: &Owner, namespace: &str) -> State {
    let Some(key) = key_of(view, owner, namespace) else { return State::Unknown };
    // An object of no namespace cannot have an owner in one: there is no telling in which.
    if key.resource.namespaced && namespace.is_empty() {
        return State::Solid;
    }
    match view.item(&key.resource, &key.name).map(|i| &i.projection.meta) {
        Some(meta) if meta.uid == owner.uid => {
            if meta.is_deleting() && meta.has_finalizer(FOREGROUND) {
                State::Waiting
            } else {
                State::Solid
            }
        }
        _ => State::Dangling(key),
    }
}

/// Deletes an object that no owner keeps, or drops references to those that don't keep it any more.
fn collect(key: &Key, item: &Item<Entry>, view: &View) -> Decision {
    let meta = &item.projection.meta;
    let mut decision = Decision::none();
    let (mut solid, mut gone, mut waiting) = (0, BTreeSet::new(), false);
    for owner in &meta.owner_references {
        match state_of(view, owner, &meta.namespace) {
            State::Solid => solid += 1,
            State::Unknown => {
                solid += 1;
                decision.recheck(UNKNOWN_KIND);
            }
            State::Dangling(at) => {
                gone.insert(owner.uid.clone());
                // This view may be behind: the server has the last word.
                decision.actions.push(Action::RequireGone { resource: at.resource, name: at.name, uid: owner.uid.clone() });
            }
            State::Waiting => {
                gone.insert(owner.uid.clone());
                waiting = true;
            }
        }
    }
    if gone.is_empty() {
        return decision;
    }
    if solid > 0 {
        decision.actions.push(drop_owners(key, item, |uid| gone.contains(uid)));
        return decision;
    }
    let has_dependents = dependents(view, &meta.uid).next().is_some();
    let propagation = match () {
        () if meta.has_finalizer(ORPHAN) => Propagation::Orphan,
        () if meta.has_finalizer(FOREGROUND) || (waiting && has_dependents) => Propagation::Foreground,
        () => Propagation::Background,
    };
    let preconditions = Preconditions { uid: Some(meta.uid.clone()), resource_version: Some(item.object.revision.to_string()) };
    let options = DeleteOptions { preconditions: Some(preconditions), propagation_policy: Some(propagation), ..DeleteOptions::default() };
    decision.actions.push(Action::Delete { resource: key.resource, name: key.name.clone(), options });
    decision
}

/// Does what a finalizer stands for, and takes it away when that is done.
fn finalize(key: &Key, item: &Item<Entry>, view: &View) -> Decision {
    let meta = &item.projection.meta;
    let mut decision = Decision::none();
    let dependents: Vec<_> = dependents(view, &meta.uid).collect();
    if meta.has_finalizer(ORPHAN) {
        let drops = dependents.iter().map(|(resource, dependent)| {
            let key = Key { resource: *resource, name: dependent.name.clone() };
            drop_owners(&key, dependent, |uid| uid == meta.uid)
        });
        decision.actions = drops.collect();
        if decision.actions.is_empty() {
            decision.actions.push(drop_finalizer(key, item, meta, ORPHAN));
        }
    } else if meta.has_finalizer(FOREGROUND) {
        let blocks = |dependent: &&Item<Entry>| {
            dependent.projection.meta.owner_references.iter().any(|o| o.uid == meta.uid && o.block_owner_deletion)
        };
        let blocking = dependents.iter().map(|(_, d)| *d).filter(blocks).count();
        if blocking == 0 {
            decision.actions.push(drop_finalizer(key, item, meta, FOREGROUND));
        } else {
            // The dependents are keys of their own and are deleted as such.
            decision.waiting_on.push(format!("{blocking} dependents that have to be deleted first"));
        }
    }
    decision
}

/// The references that stay, written over the version they were read from.
fn drop_owners(key: &Key, item: &Item<Entry>, is_dropped: impl Fn(&str) -> bool) -> Action {
    let value: Value = serde_json::from_slice(&item.object.body).expect("its metadata was read from these bytes");
    let kept = gantry_object::meta::owner_references(&value).iter().filter(|o| !o["uid"].as_str().is_some_and(&is_dropped));
    patch(key, item, json!({"ownerReferences": kept.collect::<Vec<_>>()}))
}

fn drop_finalizer(key: &Key, item: &Item<Entry>, meta: &Meta, finalizer: &str) -> Action {
    let kept: Vec<&String> = meta.finalizers.iter().filter(|f| *f != finalizer).collect();
    patch(key, item, json!({"finalizers": kept}))
}

fn patch(key: &Key, item: &Item<Entry>, mut metadata: Value) -> Action {
    metadata["uid"] = json!(item.projection.meta.uid);
    metadata["resourceVersion"] = json!(item.object.revision.to_string());
    let patch = json!({"metadata": metadata});
    Action::Patch { resource: key.resource, name: key.name.clone(), subresource: None, kind: PatchType::Merge, patch }
}

#[cfg(test)]
mod tests;
