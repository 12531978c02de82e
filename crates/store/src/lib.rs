//! Revisions, conditional commits, snapshots and watch over immutable encoded objects.
//!
//! Writers validate against *staged* state ([`Store::staged`]); readers and watchers see only *durable* state. A [`Backend`] makes
//! changes durable and hands them to the [`State`] in order; [`log`] is our own, over the `Disk` port. Nothing here knows a kind,
//! decodes an object, or talks to the network.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod error;
mod event;
mod key;
pub mod log;
mod snapshot;
mod state;
#[cfg(test)]
mod state_tests;
mod store;
mod txn;
mod watch;

pub use error::{CommitError, Gone, OpenError};
pub use event::{EncodedCache, Event, EventKind, Facts};
pub use key::Key;
pub use snapshot::{ListItem, Snapshot};
pub use state::{Change, State};
pub use store::{Backend, BoxFuture, Limits, Store};
pub use txn::{Action, Op, Precondition, Txn};
pub use watch::Watcher;
