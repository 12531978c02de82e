//! Durable state as readers and watchers see it: the objects, the rings of recent events, and the snapshots kept for lists' pages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use gantry_object::{Encoded, Revision, Timestamp};
use tokio::sync::watch;

use crate::snapshot::Resources;
use crate::store::Limits;
use crate::watch::Channel;
use crate::{Event, EventKind, Gone, Key, Snapshot, Watcher};

/// One durable change, as a backend feeds it in.
#[derive(Clone, Debug)]
pub struct Change {
    /// The object.
    pub key: Key,
    /// The revision of the change.
    pub revision: Revision,
    /// The object as written, its `revision` equal to the one above; `None` for a deletion.
    pub object: Option<Encoded>,
}

/// The state a backend feeds and everyone else reads.
pub struct State {
    inner: Mutex<Inner>,
    revision: watch::Sender<Revision>,
    limits: Limits,
}

struct Inner {
    snapshot: Snapshot,
    channels: BTreeMap<Arc<str>, Arc<Channel>>,
    /// No event at or before this revision is known.
    floor: Revision,
    retained: BTreeMap<Revision, (Timestamp, Snapshot)>,
    /// Snapshots up to this revision were kept for as long as the limits allow: what was read then is not to be found again.
    outdated: Revision,
}

impl State {
    /// An empty state.
    pub fn new(limits: Limits) -> Self {
        let snapshot = Snapshot { revision: Revision(0), resources: Resources::new_sync() };
        let inner = Inner { snapshot, channels: BTreeMap::new(), floor: Revision(0), retained: BTreeMap::new(), outdated: Revision(0) };
        Self { inner: Mutex::new(inner), revision: watch::Sender::new(Revision(0)), limits }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no one panics while holding the state")
    }

    /// Takes in objects without events: what a backend found when it opened. Watches from before `revision` are told [`Gone`].
    pub fn load(&self, objects: impl IntoIterator<Item = (Key, Encoded)>, revision: Revision) {
        let mut inner = self.lock();
        for (key, object) in objects {
            inner.snapshot.put(&key, Some(object));
        }
        inner.snapshot.revision = revision;
        inner.floor = revision;
        inner.channels.clear();
        self.revision.send_replace(revision);
    }

    /// Takes in durable changes, oldest first, and tells watchers. Readers see all of them at once.
    pub fn apply(&self, changes: Vec<Change>) {
        let Some(last) = changes.last().map(|c| c.revision) else { return };
        let mut inner = self.lock();
        let mut touched: Vec<Arc<Channel>> = Vec::new();
        for Change { key, revision, object } in changes {
            let previous = inner.snapshot.put(&key, object.clone());
            let kind = match (object, previous) {
                (Some(new), prev) => EventKind::Put { new, prev },
                (None, Some(prev)) => EventKind::Delete { prev, revision },
                (None, None) => continue,
            };
            let channel = inner.channel(key.resource_arc(), &self.limits);
            channel.push(Event::new(key, kind));
            if !touched.iter().any(|t| Arc::ptr_eq(t, &channel)) {
                touched.push(channel);
            }
        }
        inner.snapshot.revision = last;
        // Published after the rings hold the events and before anyone is woken: see Watcher::progress.
        self.revision.send_replace(last);
        drop(inner);
        for channel in touched {
            channel.wake();
        }
    }

    /// The revision that readers and watchers are at.
    pub fn durable_revision(&self) -> Revision {
        *self.revision.borrow()
    }

    /// Waits until the durable revision is at least this.
    pub async fn at_least(&self, revision: Revision) {
        let mut seen = self.revision.subscribe();
        // The sender lives as long as `self`, so waiting cannot fail.
        let _ = seen.wait_for(|now| *now >= revision).await;
    }

    /// Everything, now.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().snapshot.clone()
    }

    /// One durable object.
    pub fn get(&self, key: &Key) -> Option<Encoded> {
        self.lock().snapshot.get(key).cloned()
    }

    /// Keeps a snapshot for [`State::snapshot_at`], for as long as the limits allow, counted from the first time.
    pub fn retain(&self, snapshot: &Snapshot, now: Timestamp) {
        let mut inner = self.lock();
        inner.drop_old(now, &self.limits);
        inner.retained.entry(snapshot.revision).or_insert_with(|| (now, snapshot.clone()));
        while inner.retained.len() > self.limits.retained_snapshots {
            inner.retained.pop_first();
        }
    }

    /// The state of one resource at an earlier revision: from a retained snapshot, or by taking recent events back. In the second case
    /// other resources in it are not as they were then.
    ///
    /// # Errors
    /// When neither is kept, or the revision has not been reached.
    pub fn snapshot_at(&self, resource: &str, revision: Revision, now: Timestamp) -> Result<Snapshot, Gone> {
        let mut inner = self.lock();
        inner.drop_old(now, &self.limits);
        if let Some((_, snapshot)) = inner.retained.get(&revision) {
            return Ok(snapshot.clone());
        }
        let mut snapshot = inner.snapshot.clone();
        let channel = inner.channel(&resource.into(), &self.limits);
        let young = Revision(inner.outdated.0 + 1).min(snapshot.revision);
        let oldest = channel.floor().max(young);
        if revision > snapshot.revision || revision < oldest {
            return Err(Gone { asked: revision, oldest });
        }
        channel.rewind(&mut snapshot, revision);
        snapshot.revision = revision;
        Ok(snapshot)
    }

    /// Watches a resource, in one namespace or in all, for events after `from`. A `from` that lies ahead is waited for.
    ///
    /// # Errors
    /// When events after `from` are no longer all known.
    pub fn watch(self: &Arc<Self>, resource: &str, namespace: Option<&str>, from: Revision) -> Result<Watcher, Gone> {
        let channel = self.lock().channel(&resource.into(), &self.limits);
        Watcher::start(self.clone(), channel, namespace, from)
    }
}

impl Inner {
    fn channel(&mut self, resource: &Arc<str>, limits: &Limits) -> Arc<Channel> {
        if let Some(channel) = self.channels.get(resource) {
            return channel.clone();
        }
        let channel = Arc::new(Channel::new(self.floor, limits));
        self.channels.insert(resource.clone(), channel.clone());
        channel
    }

    fn drop_old(&mut self, now: Timestamp, limits: &Limits) {
        let Self { retained, outdated, .. } = self;
        retained.retain(|revision, (kept, _)| {
            let keep = now.since(*kept) < limits.retained_for;
            if !keep {
                *outdated = revision.max(outdated).to_owned();
            }
            keep
        });
    }
}
