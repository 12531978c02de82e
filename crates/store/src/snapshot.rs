//! The state at one revision, which nobody can change.

use std::ops::Bound;
use std::sync::Arc;

use gantry_object::{Encoded, Revision};
use rpds::RedBlackTreeMapSync;

use crate::key::split;
use crate::{Event, EventKind, Key};

pub(crate) type Objects = RedBlackTreeMapSync<Arc<str>, Encoded>;
pub(crate) type Resources = RedBlackTreeMapSync<Arc<str>, Objects>;

/// Every durable object at one revision. Cloning and holding it is cheap: versions share their nodes.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) revision: Revision,
    pub(crate) resources: Resources,
}

/// One object of a list.
#[derive(Clone, Copy, Debug)]
pub struct ListItem<'a> {
    /// `namespace/name`, or the name alone.
    pub path: &'a str,
    /// The object.
    pub object: &'a Encoded,
}

impl<'a> ListItem<'a> {
    /// The namespace, empty for cluster-wide objects.
    pub fn namespace(&self) -> &'a str {
        split(self.path).0
    }

    /// The name.
    pub fn name(&self) -> &'a str {
        split(self.path).1
    }
}

impl Snapshot {
    /// The revision whose state this is.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<&Encoded> {
        self.resources.get(key.resource())?.get(key.path())
    }

    /// The objects of a resource in the order of their paths, in one namespace or in all, beginning after the path `after`
    /// (the last path of the page before; need not exist any more).
    pub fn list<'a>(
        &'a self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<&str>,
    ) -> impl Iterator<Item = ListItem<'a>> + use<'a> {
        let (prefix, end) = match namespace {
            // '0' follows '/', so the two bound the namespace's paths.
            Some(ns) => (Some(format!("{ns}/")), Bound::Excluded(Arc::from(format!("{ns}0")))),
            None => (None, Bound::Unbounded),
        };
        let start: Bound<Arc<str>> = match (after, prefix) {
            (Some(after), Some(prefix)) if after < prefix.as_str() => Bound::Included(prefix.into()),
            (Some(after), _) => Bound::Excluded(after.into()),
            (None, Some(prefix)) => Bound::Included(prefix.into()),
            (None, None) => Bound::Unbounded,
        };
        let empty = is_empty(&start, &end);
        let objects = self.resources.get(resource).filter(|_| !empty);
        objects
            .into_iter()
            .flat_map(move |o| o.range::<Arc<str>, _>((start.clone(), end.clone())))
            .map(|(path, object)| ListItem { path, object })
    }

    /// How many objects [`Snapshot::list`] would yield. Linear in the answer, except for a whole resource.
    pub fn count(&self, resource: &str, namespace: Option<&str>, after: Option<&str>) -> usize {
        match (namespace, after) {
            (None, None) => self.resources.get(resource).map_or(0, RedBlackTreeMapSync::size),
            _ => self.list(resource, namespace, after).count(),
        }
    }

    /// The resources that have objects, in order.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().filter(|(_, objects)| !objects.is_empty()).map(|(name, _)| &**name)
    }

    pub(crate) fn put(&mut self, key: &Key, object: Option<Encoded>) -> Option<Encoded> {
        if self.resources.get(key.resource()).is_none() {
            self.resources.insert_mut(key.resource_arc().clone(), Objects::new_sync());
        }
        let objects = self.resources.get_mut(key.resource()).expect("inserted just above when it was missing");
        let previous = objects.get(key.path()).cloned();
        match object {
            Some(object) => objects.insert_mut(key.path_arc().clone(), object),
            None => {
                objects.remove_mut(key.path());
            }
        }
        previous
    }

    /// Takes an event back, which must be the last one that this snapshot has seen of its object.
    pub(crate) fn undo(&mut self, event: &Event) {
        let before = match &event.kind {
            EventKind::Put { prev, .. } => prev.clone(),
            EventKind::Delete { prev, .. } => Some(prev.clone()),
        };
        self.put(&event.key, before);
    }
}

/// Whether a range holds nothing; the map's own range panics on those that end before they start.
fn is_empty(start: &Bound<Arc<str>>, end: &Bound<Arc<str>>) -> bool {
    match (start, end) {
        (Bound::Included(a) | Bound::Excluded(a), Bound::Excluded(b)) => a >= b,
        _ => false,
    }
}
