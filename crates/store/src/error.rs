//! What can fail, named after the act.

use std::io;
use std::sync::Arc;

use gantry_object::{Encoded, Revision};
use thiserror::Error;

use crate::Key;

/// Why a commit did not happen.
#[derive(Debug, Error, Clone)]
pub enum CommitError {
    /// A precondition did not hold against staged state. The caller looks at `current` and answers AlreadyExists, NotFound or Conflict.
    #[error("{key}: precondition failed")]
    Conflict {
        /// The key whose precondition failed.
        key: Key,
        /// The object as staged when the precondition was checked; `None` when there is none.
        current: Option<Encoded>,
    },
    /// The change could not be made durable; whether it survives a restart is unknown. The disk may be full: try again later.
    #[error("writing the store's log")]
    Flush(#[source] Arc<io::Error>),
    /// An earlier flush failed in a way that leaves the log's end unknown: nothing is written until a restart has recovered it.
    #[error("the store is read-only since an earlier flush failed")]
    ReadOnly(#[source] Arc<io::Error>),
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl CommitError {
    /// Whether the disk had no room, so that nothing was written: the same change may succeed once there is.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Flush(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// The asked-for history is no longer kept: list again (HTTP 410, `Expired`).
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("revision {asked} is gone; the oldest kept is {oldest}")]
pub struct Gone {
    /// The revision asked for.
    pub asked: Revision,
    /// The oldest revision that could have been served.
    pub oldest: Revision,
}

/// Why a store could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The disk failed.
    #[error("{act} {file}")]
    Io {
        /// What was being done.
        act: &'static str,
        /// The file it was done to.
        file: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Bytes that were once flushed are not what was written. Nothing was changed: restore from a backup, or open with
    /// [`Options::salvage`](crate::log::Options::salvage) to go on with what is sound before them.
    #[error("{file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// The damaged file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What was found.
        what: &'static str,
    },
    /// Another process has this store open.
    #[error("the store is in use by another process")]
    InUse,
}
