//! What watchers are told.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use gantry_object::{Encoded, Revision};

use crate::Key;

/// A change to one object, shared by all watchers.
#[derive(Debug)]
pub struct Event {
    /// The object.
    pub key: Key,
    /// What happened.
    pub kind: EventKind,
    /// Encodings made once and shared by all watchers.
    pub cache: EncodedCache,
    /// What watchers choose by, made once and shared by all.
    pub facts: Facts,
}

impl Event {
    pub(crate) fn new(key: Key, kind: EventKind) -> Arc<Self> {
        Arc::new(Self { key, kind, cache: EncodedCache::default(), facts: Facts::default() })
    }

    /// The revision at which it happened.
    pub fn revision(&self) -> Revision {
        match &self.kind {
            EventKind::Put { new, .. } => new.revision,
            EventKind::Delete { revision, .. } => *revision,
        }
    }

    /// The object after the event; `None` after a deletion.
    pub fn new_object(&self) -> Option<&Encoded> {
        match &self.kind {
            EventKind::Put { new, .. } => Some(new),
            EventKind::Delete { .. } => None,
        }
    }

    /// The object before the event; `None` before a creation.
    pub fn previous(&self) -> Option<&Encoded> {
        match &self.kind {
            EventKind::Put { prev, .. } => prev.as_ref(),
            EventKind::Delete { prev, .. } => Some(prev),
        }
    }

    /// About how many bytes keeping this event costs. A replaced object mostly is what an earlier event wrote, and counted there.
    pub(crate) fn weight(&self) -> usize {
        let object = self.new_object().or(self.previous());
        160 + self.key.path().len() + object.map_or(0, |o| o.body.len())
    }
}

/// What happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was written.
    Put {
        /// The object as written.
        new: Encoded,
        /// The object it replaced; `None` when it was created.
        prev: Option<Encoded>,
    },
    /// It was deleted.
    Delete {
        /// The last version.
        prev: Encoded,
        /// The revision of the deletion.
        revision: Revision,
    },
}

/// How many different encodings an event can hold.
const SLOTS: usize = 16;

/// Encodings of one event, each made by the first who needs it. What a slot means is the caller's affair.
#[derive(Debug, Default)]
pub struct EncodedCache(OnceLock<Box<[OnceLock<Bytes>; SLOTS]>>);

impl EncodedCache {
    /// The bytes in a slot, made by `make` if this is the first call for it. Slots from 16 up are never kept.
    pub fn get_or_init(&self, slot: u8, make: impl FnOnce() -> Bytes) -> Bytes {
        match self.0.get_or_init(Box::default).get(usize::from(slot)) {
            Some(cell) => cell.get_or_init(make).clone(),
            None => make(),
        }
    }
}

/// What was found out about an event, by the first who asked. What that is, is the caller's affair.
#[derive(Debug, Default)]
pub struct Facts(OnceLock<Box<dyn Any + Send + Sync>>);

impl Facts {
    /// The facts, made by `make` if this is the first call. `None` when somebody keeps another type here.
    pub fn get_or_init<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Option<&T> {
        self.0.get_or_init(|| Box::new(make())).downcast_ref()
    }
}
