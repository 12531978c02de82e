//! Informers: a resource's objects kept at hand by a watch, each with a small projection of what its user needs.
//!
//! The machine is synchronous: watch events in, changes out. [`follow`] is the shell that keeps it fed.

mod follow;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gantry_object::{Encoded, ObjectName, Revision};

use crate::WatchEvent;

pub use follow::{Feed, follow};

/// Makes the projection of an object; the name of an object is read from its metadata.
pub type Project<P> = fn(&Encoded) -> Result<P, serde_json::Error>;

/// An object and its projection.
#[derive(Debug)]
pub struct Item<P> {
    /// The object's namespace and name.
    pub name: ObjectName,
    /// Its bytes, shared with whoever sent them.
    pub object: Encoded,
    /// What its user made of it.
    pub projection: P,
}

/// What an event did to one object of an informer.
#[derive(Debug)]
pub struct Change<P> {
    /// The object before, if it was known.
    pub old: Option<Arc<Item<P>>>,
    /// The object now; `None` when it is gone.
    pub new: Option<Arc<Item<P>>>,
}

impl<P> Change<P> {
    /// The object's name.
    pub fn name(&self) -> &ObjectName {
        let item = self.new.as_ref().or(self.old.as_ref());
        &item.expect("a change has at least one side").name
    }
}

/// Where the next watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With everything that exists.
    Initial,
    /// After a revision.
    After(Revision),
}

/// The objects of one resource, as far as the watch has told.
#[derive(Debug)]
pub struct Informer<P> {
    project: Project<P>,
    items: BTreeMap<ObjectName, Arc<Item<P>>>,
    revision: Option<Revision>,
    synced: bool,
    /// During a listing: the objects told so far.
    listing: Option<BTreeSet<ObjectName>>,
}

impl<P> Informer<P> {
    /// An informer that knows nothing yet.
    pub fn new(project: Project<P>) -> Self {
        Self { project, items: BTreeMap::new(), revision: None, synced: false, listing: None }
    }

    /// Whether everything that existed at some point has been told.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Up to which revision everything has been told. Meaningless before [`Informer::is_synced`].
    pub fn revision(&self) -> Revision {
        self.revision.unwrap_or_default()
    }

    /// One object.
    pub fn get(&self, name: &ObjectName) -> Option<&Arc<Item<P>>> {
        self.items.get(name)
    }

    /// All objects, by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Item<P>>> {
        self.items.values()
    }

    /// The objects of one namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Arc<Item<P>>> {
        let from = ObjectName::new(namespace, "");
        self.items.range(from..).take_while(move |(name, _)| name.namespace == namespace).map(|(_, item)| item)
    }

    /// How many objects are known.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no object is known.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Begins a watch: says from where, and forgets an unfinished listing.
    pub fn start(&mut self) -> Start {
        match self.revision.filter(|_| self.synced) {
            Some(revision) => Start::After(revision),
            None => {
                self.listing = Some(BTreeSet::new());
                Start::Initial
            }
        }
    }

    /// The watch could not go on where it was: the next one begins with everything. What is known stays until then.
    pub fn expire(&mut self) {
        self.revision = None;
        self.synced = false;
    }

    /// Takes in an event and says what changed; most events change one object, the end of a listing may change many.
    pub fn take(&mut self, event: WatchEvent) -> Vec<Change<P>> {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => self.put(object).into_iter().collect(),
            WatchEvent::Deleted(object) => self.remove(&object).into_iter().collect(),
            WatchEvent::Bookmark { revision, initial_events_end } => {
                self.seen(revision);
                match self.listing.take_if(|_| initial_events_end) {
                    Some(told) => self.end_listing(&told, revision),
                    None => Vec::new(),
                }
            }
            WatchEvent::Error(status) => {
                if status.is_expired() {
                    self.expire();
                }
                Vec::new()
            }
        }
    }

    fn seen(&mut self, revision: Revision) {
        if self.synced {
            self.revision = self.revision.max(Some(revision));
        }
    }

    fn end_listing(&mut self, told: &BTreeSet<ObjectName>, revision: Revision) -> Vec<Change<P>> {
        let gone: Vec<ObjectName> = self.items.keys().filter(|name| !told.contains(*name)).cloned().collect();
        self.synced = true;
        self.revision = Some(revision);
        gone.iter().filter_map(|name| Some(Change { old: Some(self.items.remove(name)?), new: None })).collect()
    }

    fn put(&mut self, object: Encoded) -> Option<Change<P>> {
        self.seen(object.revision);
        let made = name_of(&object).and_then(|name| Ok((name, (self.project)(&object)?)));
        let (name, projection) = match made {
            Ok(made) => made,
            Err(error) => {
                tracing::warn!(%error, ?object, "an object that cannot be read is left out");
                return None;
            }
        };
        if let Some(told) = &mut self.listing {
            told.insert(name.clone());
        }
        let old = self.items.get(&name).cloned();
        if old.as_ref().is_some_and(|old| old.object == object) {
            return None;
        }
        let new = Arc::new(Item { name: name.clone(), object, projection });
        self.items.insert(name, new.clone());
        Some(Change { old, new: Some(new) })
    }

    fn remove(&mut self, object: &Encoded) -> Option<Change<P>> {
        self.seen(object.revision);
        let name = name_of(object).ok()?;
        Some(Change { old: Some(self.items.remove(&name)?), new: None })
    }
}

/// Reads no more of an object than its name.
fn name_of(object: &Encoded) -> Result<ObjectName, serde_json::Error> {
    #[derive(serde::Deserialize)]
    struct ObjectMeta {
        name: String,
        #[serde(default)]
        namespace: String,
    }
    let metadata: ObjectMeta = object.decode_metadata()?;
    Ok(ObjectName { namespace: metadata.namespace, name: metadata.name })
}

#[cfg(test)]
mod tests {
    use gantry_object::Status;
    use serde_json::json;

    use super::*;

    fn object(name: &str, revision: u64) -> Encoded {
        Encoded::from_value(json!({"metadata": {"namespace": "a", "name": name}}), Revision(revision))
    }

    fn end(revision: u64) -> WatchEvent {
        WatchEvent::Bookmark { revision: Revision(revision), initial_events_end: true }
    }

    fn names(informer: &Informer<()>) -> Vec<&str> {
        informer.in_namespace("a").map(|i| i.name.name.as_str()).collect()
    }

    fn informer() -> Informer<()> {
        Informer::new(|_| Ok(()))
    }

    #[test]
    fn a_listing_then_events() {
        let mut informer = informer();
        assert_eq!(informer.start(), Start::Initial);
        assert_eq!(informer.take(WatchEvent::Added(object("1", 3))).len(), 1);
        assert!(!informer.is_synced());
        informer.take(end(5));
        assert!(informer.is_synced());
        assert_eq!(informer.start(), Start::After(Revision(5)));
        let change = &informer.take(WatchEvent::Modified(object("1", 6)))[0];
        assert_eq!(change.old.as_ref().map(|o| o.object.revision), Some(Revision(3)));
        let change = &informer.take(WatchEvent::Deleted(object("1", 8)))[0];
        assert!(change.new.is_none());
        assert_eq!((informer.revision(), informer.len()), (Revision(8), 0));
        informer.take(WatchEvent::Bookmark { revision: Revision(20), initial_events_end: false });
        assert_eq!(informer.start(), Start::After(Revision(20)));
    }

    #[test]
    fn after_expiry_what_is_no_longer_listed_is_gone_and_the_same_is_no_news() {
        let mut informer = informer();
        informer.start();
        for (name, revision) in [("1", 1), ("2", 2), ("3", 3)] {
            informer.take(WatchEvent::Added(object(name, revision)));
        }
        informer.take(end(3));
        informer.take(WatchEvent::Error(Box::new(Status::expired("too old"))));
        assert_eq!(names(&informer), ["1", "2", "3"], "known until the new listing says otherwise");
        assert_eq!(informer.start(), Start::Initial);
        assert!(informer.take(WatchEvent::Added(object("1", 1))).is_empty());
        // Cut off in the middle: the listing begins again and nothing is lost.
        assert_eq!(informer.start(), Start::Initial);
        assert!(informer.take(WatchEvent::Added(object("1", 1))).is_empty());
        assert_eq!(informer.take(WatchEvent::Added(object("3", 9))).len(), 1);
        let gone = informer.take(end(9));
        assert_eq!(gone.iter().map(|c| c.name().name.as_str()).collect::<Vec<_>>(), ["2"]);
        assert_eq!(names(&informer), ["1", "3"]);
    }
}
