//! What a controller is.

use std::fmt;

use gantry_client::informer::{Item, Project};
use gantry_object::{ObjectName, Resource, Timestamp};

use crate::view::{project, project_meta};
use crate::{Decision, Entry, Kind, View};

/// What a controller decides on: one object of one resource, which may be gone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The resource.
    pub resource: Resource,
    /// The object.
    pub name: ObjectName,
}

impl Key {
    /// Names an object of a kind.
    pub fn of<K: Kind>(name: ObjectName) -> Self {
        Self { resource: K::RESOURCE, name }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource.plural, self.name)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which keys an object concerns. Called with each object that appears, and with both versions of one that changes.
pub type MapKeys = fn(&View, &Key, &Item<Entry>, &mut Vec<Key>);

/// A resource that a controller reads.
#[derive(Clone, Copy)]
pub struct Read {
    pub(crate) resource: Resource,
    pub(crate) project: Project<Entry>,
    pub(crate) typed: bool,
    pub(crate) keys: MapKeys,
}

impl Read {
    /// Reads a kind; `keys` says which keys an object concerns.
    pub fn of<K: Kind>(keys: MapKeys) -> Self {
        Self { resource: K::RESOURCE, project: project::<K>, typed: true, keys }
    }

    /// Reads no more of a resource's objects than their metadata.
    pub fn meta(resource: Resource, keys: MapKeys) -> Self {
        Self { resource, project: project_meta, typed: false, keys }
    }
}

/// The object itself is the key.
pub fn itself(_: &View, this: &Key, _: &Item<Entry>, keys: &mut Vec<Key>) {
    keys.push(this.clone());
}

/// The key is the owner that manages the object, if it is of this kind.
pub fn controller_of<K: Kind>(_: &View, this: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    let of_kind = |owner: &&crate::Owner| owner.kind == K::RESOURCE.kind && owner.group() == K::RESOURCE.group;
    if let Some(owner) = item.projection.meta.controller().filter(of_kind) {
        let namespace = if K::RESOURCE.namespaced { this.name.namespace.as_str() } else { "" };
        keys.push(Key::of::<K>(ObjectName::new(namespace, &owner.name)));
    }
}

/// A controller: what it reads, what it alone writes, and how it decides.
pub trait Controller: Send + Sync + 'static {
    /// Its name, which is also its service account's in `kube-system`.
    fn name(&self) -> &'static str;

    /// What it reads.
    fn reads(&self) -> Vec<Read>;

    /// Also reads the metadata of every resource that definitions describe, as those come and go: which keys their objects concern.
    fn reads_custom(&self) -> Option<MapKeys> {
        None
    }

    /// What it alone writes, in words like `deployments/status` or `replicasets of deployments`. No two controllers may name the same.
    fn owns(&self) -> &'static [&'static str];

    /// What should be done about a key now. Pure: the same view and time give the same decision.
    fn decide(&self, key: &Key, view: &View, now: Timestamp) -> Decision;
}
