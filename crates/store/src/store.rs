//! The store as the API server sees it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use gantry_object::{Encoded, Revision, Timestamp};

use crate::{CommitError, Gone, Key, Snapshot, State, Txn, Watcher};

/// A future that owns all it needs.
pub type BoxFuture<T> = gantry_ports::BoxFuture<'static, T>;

/// How much history is kept.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Events kept for each resource.
    pub ring_events: usize,
    /// Bytes of events kept for each resource, objects included (most of them are shared with the current state).
    pub ring_bytes: usize,
    /// Snapshots kept for continue tokens.
    pub retained_snapshots: usize,
    /// How long such a snapshot is kept.
    pub retained_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { ring_events: 8192, ring_bytes: 8 << 20, retained_snapshots: 64, retained_for: Duration::from_secs(300) }
    }
}

/// What makes changes durable and orders them. It feeds a [`State`] with every change that happens, its own or another writer's.
pub trait Backend: Send + Sync + 'static {
    /// Begins a conditional change at once; the future says how it ended. An `Ok` means durable and visible to readers.
    fn commit(&self, txn: Txn) -> BoxFuture<Result<Revision, CommitError>>;

    /// What is not yet durable about a key: `None` nothing, `Some(None)` a deletion, `Some(Some(object))` a write.
    fn staged(&self, key: &Key) -> Option<Option<Encoded>>;

    /// Ends when everything that is staged now is durable.
    fn settled(&self) -> BoxFuture<Result<(), CommitError>>;

    /// Deletes objects whose time has come; says how many.
    fn expire(&self, now: Timestamp) -> BoxFuture<usize>;

    /// Why nothing can be written any more, if so.
    fn failure(&self) -> Option<Arc<io::Error>>;
}

/// Revisions, conditional commits, snapshots and watch. Cloning shares the store.
#[derive(Clone)]
pub struct Store {
    state: Arc<State>,
    backend: Arc<dyn Backend>,
}

impl Store {
    /// Joins a state and the backend that feeds it.
    pub fn new(state: Arc<State>, backend: Arc<dyn Backend>) -> Self {
        Self { state, backend }
    }

    /// Stages a conditional change at once, before the future is first polled; the future ends when it is durable and visible to
    /// readers, with its revision. Dropping the future does not undo the change.
    ///
    /// # Errors
    /// See [`CommitError`]; a `Conflict` carries the current object.
    pub fn commit(&self, txn: Txn) -> BoxFuture<Result<Revision, CommitError>> {
        self.backend.commit(txn)
    }

    /// The object as the next writer must see it: with changes that are not durable yet.
    pub fn staged(&self, key: &Key) -> Option<Encoded> {
        // The backend forgets a staged change only after the state has it, so nothing is missed between the two looks.
        self.backend.staged(key).unwrap_or_else(|| self.state.get(key))
    }

    /// Ends when everything that is staged now is durable: for answers that tell of staged objects and change nothing themselves.
    ///
    /// # Errors
    /// When it did not become durable: what was seen staged may be gone.
    pub fn settled(&self) -> BoxFuture<Result<(), CommitError>> {
        self.backend.settled()
    }

    /// The durable object.
    pub fn get(&self, key: &Key) -> Option<Encoded> {
        self.state.get(key)
    }

    /// All durable objects now.
    pub fn snapshot(&self) -> Snapshot {
        self.state.snapshot()
    }

    /// Keeps a snapshot for a continue token that names its revision.
    pub fn retain(&self, snapshot: &Snapshot, now: Timestamp) {
        self.state.retain(snapshot, now);
    }

    /// One resource as it was at a revision: for continue tokens and exact lists.
    ///
    /// # Errors
    /// When it is no longer kept or not yet reached.
    pub fn snapshot_at(&self, resource: &str, revision: Revision, now: Timestamp) -> Result<Snapshot, Gone> {
        self.state.snapshot_at(resource, revision, now)
    }

    /// The revision of the durable state, which bookmarks and lists say.
    pub fn durable_revision(&self) -> Revision {
        self.state.durable_revision()
    }

    /// Waits until the durable revision is at least this; the caller adds the time limit.
    pub async fn at_least(&self, revision: Revision) {
        self.state.at_least(revision).await;
    }

    /// Follows a resource, in one namespace or in all, from after a revision.
    ///
    /// # Errors
    /// When events after it are no longer all known.
    pub fn watch(&self, resource: &str, namespace: Option<&str>, from: Revision) -> Result<Watcher, Gone> {
        self.state.watch(resource, namespace, from)
    }

    /// Deletes objects whose time has come; says how many. Call it every few seconds.
    pub async fn expire(&self, now: Timestamp) -> usize {
        self.backend.expire(now).await
    }

    /// Why nothing can be written until a restart has recovered the store, if so.
    pub fn failure(&self) -> Option<Arc<io::Error>> {
        self.backend.failure()
    }
}
