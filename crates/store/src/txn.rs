//! What a writer asks for.

use gantry_object::{Encoded, Revision, Timestamp};

use crate::Key;

/// What must hold of a key's staged state for a transaction to go ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Anything goes.
    Any,
    /// There must be no object.
    MustNotExist,
    /// The object must be the one that this revision wrote.
    Revision(Revision),
}

/// What to do to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the object. Its `revision` is ignored: the commit says it.
    Put {
        /// The object; body and splice are kept.
        object: Encoded,
        /// When [`crate::Store::expire`] shall delete it, unless it is written again before.
        expires: Option<Timestamp>,
    },
    /// Delete the object. Without an object to delete the precondition fails, whatever it is.
    Delete,
}

/// One conditional change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    /// The object.
    pub key: Key,
    /// What must hold.
    pub precondition: Precondition,
    /// What to do.
    pub action: Action,
}

/// Changes that happen together, at one revision, or not at all. No key may occur twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// The changes, in order.
    pub ops: Vec<Op>,
}

impl Txn {
    /// Writes an object that must not exist yet.
    pub fn create(key: Key, object: Encoded) -> Self {
        Self::one(key, Precondition::MustNotExist, Action::Put { object, expires: None })
    }

    /// Writes an object over the version that `revision` wrote.
    pub fn update(key: Key, revision: Revision, object: Encoded) -> Self {
        Self::one(key, Precondition::Revision(revision), Action::Put { object, expires: None })
    }

    /// Deletes the version of an object that `revision` wrote.
    pub fn delete(key: Key, revision: Revision) -> Self {
        Self::one(key, Precondition::Revision(revision), Action::Delete)
    }

    /// A transaction of one change.
    pub fn one(key: Key, precondition: Precondition, action: Action) -> Self {
        Self { ops: vec![Op { key, precondition, action }] }
    }

    /// Lets every object this writes expire at a time.
    pub fn expiring(mut self, at: Timestamp) -> Self {
        for op in &mut self.ops {
            if let Action::Put { expires, .. } = &mut op.action {
                *expires = Some(at);
            }
        }
        self
    }
}
