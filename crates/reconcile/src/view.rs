//! What controllers see: the objects of every resource that one of them reads, each projected once for all.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use gantry_client::WatchEvent;
use gantry_client::informer::{Change, Informer, Item, Project, Start};
use gantry_object::{Encoded, ObjectName, Resource, Value};
use serde::de::DeserializeOwned;

use crate::{Key, Meta, Owner};

/// What controllers need of a resource's objects: small, and read-only.
pub trait Kind: DeserializeOwned + Send + Sync + 'static {
    /// The resource.
    const RESOURCE: Resource;

    /// A text by which [`View::indexed`] finds the object, for example the node of a pod.
    fn index(&self) -> Option<&str> {
        None
    }
}

/// An object as the caches hold it.
pub struct Entry {
    /// Its metadata.
    pub meta: Meta,
    kind: Box<dyn Any + Send + Sync>,
    index: Option<Box<str>>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.meta.fmt(f)
    }
}

pub(crate) fn project<K: Kind>(object: &Encoded) -> Result<Entry, serde_json::Error> {
    let kind: K = serde_json::from_slice(&object.body)?;
    let index = kind.index().map(Into::into);
    Ok(Entry { meta: object.decode_metadata()?, kind: Box::new(kind), index })
}

pub(crate) fn project_meta(object: &Encoded) -> Result<Entry, serde_json::Error> {
    Ok(Entry { meta: object.decode_metadata()?, kind: Box::new(()), index: None })
}

/// An object of a known kind. Cloning shares it.
pub struct Object<K> {
    item: Arc<Item<Entry>>,
    kind: PhantomData<fn() -> K>,
}

impl<K> Clone for Object<K> {
    fn clone(&self) -> Self {
        Self { item: self.item.clone(), kind: PhantomData }
    }
}

impl<K: Kind> Deref for Object<K> {
    type Target = K;

    fn deref(&self) -> &K {
        self.item.projection.kind.downcast_ref().expect("only View::typed makes these, from the kind's own cache")
    }
}

impl<K> Object<K> {
    /// Its metadata.
    pub fn meta(&self) -> &Meta {
        &self.item.projection.meta
    }

    /// Its namespace and name.
    pub fn name(&self) -> &ObjectName {
        &self.item.name
    }

    /// Its bytes.
    pub fn encoded(&self) -> &Encoded {
        &self.item.object
    }

    /// The whole object as a tree.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.item.object.body).expect("its projection was read from these bytes")
    }
}

struct Cache {
    informer: Informer<Entry>,
    /// Whether it was ever in step with the server.
    ready: bool,
    /// Whether the server refused to tell about it.
    refused: bool,
    /// Whether it is served no more: then nothing of it is left.
    ended: bool,
    /// Objects by the uid of each owner, and under the empty uid those that no controller manages.
    by_owner: BTreeMap<String, BTreeSet<ObjectName>>,
    by_index: BTreeMap<Box<str>, BTreeSet<ObjectName>>,
}

/// The caches. Objects of a resource that nobody reads are never there.
#[derive(Default)]
pub struct View {
    caches: BTreeMap<Resource, Cache>,
    /// Why the last decision about a key could not be carried out, by controller.
    failures: BTreeMap<(&'static str, Key), String>,
}

impl View {
    /// Makes room for a resource. The projection of the first who asks counts, unless that was for metadata alone.
    pub(crate) fn add(&mut self, resource: Resource, project: Project<Entry>, typed: bool) {
        if typed || !self.caches.contains_key(&resource) {
            self.caches.insert(resource, Cache::new(project));
        }
    }

    /// Makes room for a resource that is served from now on, of which metadata is read.
    pub(crate) fn begin(&mut self, resource: Resource) {
        self.caches.insert(resource, Cache::new(project_meta));
    }

    /// Notes that a resource is served no more; gives back what was left of it.
    pub(crate) fn end(&mut self, resource: &Resource) -> Vec<Change<Entry>> {
        let Some(cache) = self.caches.get_mut(resource) else { return Vec::new() };
        let left = cache.informer.iter().cloned().map(|item| Change { old: Some(item), new: None }).collect();
        *cache = Cache { ready: true, ended: true, ..Cache::new(project_meta) };
        left
    }

    pub(crate) fn refused(&mut self, resource: &Resource) {
        if let Some(cache) = self.caches.get_mut(resource) {
            cache.refused = true;
        }
    }

    /// The resources that somebody reads and that are still served.
    pub fn served(&self) -> impl Iterator<Item = Resource> + '_ {
        self.caches.iter().filter(|(_, c)| !c.ended).map(|(r, _)| *r)
    }

    /// A resource of which it is not known yet what there is, although the server has not refused to tell.
    pub fn unknown(&self) -> Option<Resource> {
        self.caches.iter().find(|(_, c)| !c.ready && !c.refused).map(|(r, _)| *r)
    }

    /// The resources that somebody reads, or did while they were served.
    pub fn resources(&self) -> impl Iterator<Item = Resource> + '_ {
        self.caches.keys().copied()
    }

    pub(crate) fn is_ready(&self, resource: &Resource) -> bool {
        self.caches.get(resource).is_some_and(|c| c.ready)
    }

    pub(crate) fn start(&mut self, resource: &Resource) -> Start {
        self.caches.get_mut(resource).map_or(Start::Initial, |c| c.informer.start())
    }

    pub(crate) fn expire(&mut self, resource: &Resource) {
        if let Some(cache) = self.caches.get_mut(resource) {
            cache.informer.expire();
        }
    }

    pub(crate) fn take(&mut self, resource: &Resource, event: WatchEvent) -> Vec<Change<Entry>> {
        let Some(cache) = self.caches.get_mut(resource).filter(|c| !c.ended) else { return Vec::new() };
        let changes = cache.informer.take(event);
        for change in &changes {
            if let Some(old) = &change.old {
                cache.unindex(old);
            }
            if let Some(new) = &change.new {
                cache.index(new);
            }
        }
        cache.ready |= cache.informer.is_synced();
        changes
    }

    /// Whether everything up to a revision of a resource's history has been seen.
    pub(crate) fn has_seen(&self, resource: &Resource, revision: gantry_object::Revision) -> bool {
        self.caches.get(resource).is_some_and(|c| c.informer.is_synced() && c.informer.revision() >= revision)
    }

    pub(crate) fn note_failure(&mut self, controller: &'static str, key: &Key, failure: Option<String>) {
        match failure {
            Some(message) => {
                self.failures.insert((controller, key.clone()), message);
            }
            None => {
                self.failures.remove(&(controller, key.clone()));
            }
        }
    }

    pub(crate) fn forget_failures(&mut self, gone: &Key) {
        self.failures.retain(|(_, key), _| key != gone);
    }

    /// Why a controller's last decision about a key could not be carried out; `None` when it could.
    pub fn failure(&self, controller: &'static str, key: &Key) -> Option<&str> {
        self.failures.get(&(controller, key.clone())).map(String::as_str)
    }

    /// Whether anybody reads a resource.
    pub fn reads(&self, resource: &Resource) -> bool {
        self.caches.contains_key(resource)
    }

    fn typed<K: Kind>(item: &Arc<Item<Entry>>) -> Option<Object<K>> {
        item.projection.kind.is::<K>().then(|| Object { item: item.clone(), kind: PhantomData })
    }

    /// One object.
    pub fn get<K: Kind>(&self, namespace: &str, name: &str) -> Option<Object<K>> {
        Self::typed(self.caches.get(&K::RESOURCE)?.informer.get(&ObjectName::new(namespace, name))?)
    }

    /// All objects, by namespace and name.
    pub fn all<K: Kind>(&self) -> impl Iterator<Item = Object<K>> {
        self.caches.get(&K::RESOURCE).into_iter().flat_map(|c| c.informer.iter()).filter_map(Self::typed)
    }

    /// The objects of a namespace, by name.
    pub fn in_namespace<'a, K: Kind>(&'a self, namespace: &'a str) -> impl Iterator<Item = Object<K>> + 'a {
        self.caches.get(&K::RESOURCE).into_iter().flat_map(move |c| c.informer.in_namespace(namespace)).filter_map(Self::typed)
    }

    /// The objects that name an owner by its uid.
    pub fn owned_by<'a, K: Kind>(&'a self, uid: &'a str) -> impl Iterator<Item = Object<K>> + 'a {
        self.dependents(&K::RESOURCE, uid).filter_map(Self::typed)
    }

    /// The objects of a namespace that no controller manages.
    pub fn unmanaged<'a, K: Kind>(&'a self, namespace: &'a str) -> impl Iterator<Item = Object<K>> + 'a {
        let cache = self.caches.get(&K::RESOURCE);
        let from = ObjectName::new(namespace, "");
        let names = cache.and_then(|c| c.by_owner.get("")).into_iter().flat_map(move |names| names.range(from.clone()..));
        let names = names.take_while(move |name| name.namespace == namespace);
        names.filter_map(move |name| Self::typed(cache?.informer.get(name)?))
    }

    /// The objects with an index text.
    pub fn indexed<'a, K: Kind>(&'a self, index: &str) -> impl Iterator<Item = Object<K>> + 'a {
        let cache = self.caches.get(&K::RESOURCE);
        let names = cache.and_then(|c| c.by_index.get(index)).into_iter().flatten();
        names.filter_map(move |name| Self::typed(cache?.informer.get(name)?))
    }

    /// Any object of any resource that is read.
    pub fn item(&self, resource: &Resource, name: &ObjectName) -> Option<&Arc<Item<Entry>>> {
        self.caches.get(resource)?.informer.get(name)
    }

    /// The objects of any resource that name an owner by its uid.
    pub fn dependents<'a>(&'a self, resource: &Resource, uid: &'a str) -> impl Iterator<Item = &'a Arc<Item<Entry>>> + use<'a> {
        let cache = self.caches.get(resource);
        let names = cache.and_then(|c| c.by_owner.get(uid)).into_iter().flatten();
        names.filter_map(move |name| cache?.informer.get(name))
    }

    /// The objects of any resource in a namespace.
    pub fn items_in<'a>(&'a self, resource: &Resource, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Item<Entry>>> + use<'a> {
        self.caches.get(resource).into_iter().flat_map(move |c| c.informer.in_namespace(namespace))
    }
}

impl Cache {
    fn new(project: Project<Entry>) -> Self {
        let informer = Informer::new(project);
        Self { informer, ready: false, refused: false, ended: false, by_owner: BTreeMap::new(), by_index: BTreeMap::new() }
    }

    fn index(&mut self, item: &Item<Entry>) {
        for owner in owner_keys(&item.projection.meta) {
            self.by_owner.entry(owner.to_owned()).or_default().insert(item.name.clone());
        }
        if let Some(index) = &item.projection.index {
            self.by_index.entry(index.clone()).or_default().insert(item.name.clone());
        }
    }

    fn unindex(&mut self, item: &Item<Entry>) {
        for owner in owner_keys(&item.projection.meta) {
            remove(&mut self.by_owner, owner, &item.name);
        }
        if let Some(index) = &item.projection.index {
            remove(&mut self.by_index, index, &item.name);
        }
    }
}

fn remove<K: Ord + std::borrow::Borrow<str>>(index: &mut BTreeMap<K, BTreeSet<ObjectName>>, key: &str, name: &ObjectName) {
    if let Some(names) = index.get_mut(key) {
        names.remove(name);
        if names.is_empty() {
            index.remove(key);
        }
    }
}

fn owner_keys(meta: &Meta) -> impl Iterator<Item = &str> {
    let unmanaged = meta.controller().is_none().then_some("");
    meta.owner_references.iter().map(|o: &Owner| o.uid.as_str()).filter(|uid| !uid.is_empty()).chain(unmanaged)
}
