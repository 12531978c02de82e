//! Staging, group commit and checkpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use bytes::Bytes;
use gantry_object::{Encoded, Revision, Timestamp};
use gantry_ports::Tasks;
use gantry_ports::disk::{Disk, DiskLock};
use tokio::sync::oneshot;

use super::checkpoint::{self, Expiries, Image};
use super::frame::FrameBuilder;
use super::record::{self, Record};
use super::recover::{self, Names, Recovered, covered};
use super::salvage::{self, GivenUp};
use super::segment::{AppendError, Appender, segment_name};
use crate::store::{Backend, BoxFuture, Limits, Store};
use crate::{Action, Change, CommitError, Key, OpenError, Precondition, State, Txn};

/// How many expired objects one call deletes.
const EXPIRE_AT_ONCE: usize = 1000;

/// How the log behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes set aside for each segment.
    pub segment_size: u64,
    /// Bytes of log after which a checkpoint is due; at least as many as the last checkpoint has.
    pub checkpoint_after: u64,
    /// Bytes after which a batch is closed.
    pub batch_size: usize,
    /// A random number, kept by a new store: it keeps users from making objects that look like log frames.
    pub salt: u64,
    /// Each commit flushes before it returns, without threads: for the simulator.
    pub inline: bool,
    /// Opens a damaged log with what is sound before the damage, instead of refusing. What comes after is lost, and put aside; revisions
    /// go on above all that were ever given.
    pub salvage: bool,
    /// How much history is kept in memory.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        let limits = Limits::default();
        Self { segment_size: 16 << 20, checkpoint_after: 64 << 20, batch_size: 4 << 20, salt: 0, inline: false, salvage: false, limits }
    }
}

/// The log behind a store: its writer and checkpoints. Cloning shares it.
#[derive(Clone)]
pub struct LogStore(Arc<Shared>);

struct Shared {
    core: Mutex<Core>,
    /// The writer waits here: told when something is staged where nothing was, and on close.
    staged: Condvar,
    /// Checkpoints wait here, apart from the writer, so that no commit wakes them: told when one is due, and on close.
    due: Condvar,
    appender: Mutex<Appender>,
    checkpointing: Mutex<()>,
    state: Arc<State>,
    disk: Arc<dyn Disk>,
    options: Options,
    _lock: DiskLock,
}

struct Core {
    staged: BTreeMap<Key, Staged>,
    queue: Vec<Pending>,
    next: Revision,
    broken: Option<Arc<io::Error>>,
    closed: bool,
    /// The last durable frame, and the last one that a checkpoint holds.
    sequence: u64,
    checkpointed: u64,
    log_bytes: u64,
    checkpoint_bytes: u64,
    expiries: Expiries,
    by_time: BTreeSet<(Timestamp, Key)>,
}

struct Staged {
    revision: Revision,
    object: Option<Encoded>,
}

struct Pending {
    records: Vec<Record>,
    revision: Revision,
    done: oneshot::Sender<Result<Revision, CommitError>>,
}

/// Opens the store in a directory, recovering what was flushed. Unless `options.inline`, commits end only
/// once [`LogStore::start`] was called.
///
/// # Errors
/// When the disk fails, its contents are damaged, or another process has it open.
pub fn open(disk: Arc<dyn Disk>, options: Options) -> Result<(Store, LogStore), OpenError> {
    let lock = disk.lock().map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse,
        _ => OpenError::Io { act: "locking", file: "the store's directory".into(), source },
    })?;
    let names = Names::read(&disk)?;
    let mut found = recover::read(&disk, &names)?;
    let given_up = if options.salvage { salvage::give_up(&disk, &names, &mut found, options.segment_size)? } else { None };
    let mut found = recover::recover(&disk, &names, found)?;
    let state = Arc::new(State::new(options.limits.clone()));
    let (salt, open) = (found.salt.unwrap_or(options.salt), found.open.take());
    let mut core = Core::load(found, &state);
    if let Some(given_up) = given_up {
        core.go_on_after(&given_up, &disk, &state)?;
    }
    let appender = Appender::new(disk.clone(), salt, options.segment_size, core.sequence + 1, open);
    let log = LogStore(Arc::new(Shared {
        core: Mutex::new(core),
        staged: Condvar::new(),
        due: Condvar::new(),
        appender: Mutex::new(appender),
        checkpointing: Mutex::new(()),
        state: state.clone(),
        disk,
        options,
        _lock: lock,
    }));
    Ok((Store::new(state, Arc::new(log.clone())), log))
}

impl Core {
    fn load(found: Recovered, state: &State) -> Self {
        let mut core = Self {
            staged: BTreeMap::new(),
            queue: Vec::new(),
            next: Revision(1),
            broken: None,
            closed: false,
            sequence: found.next - 1,
            checkpointed: found.next - 1 - found.batches.len() as u64,
            log_bytes: found.log_bytes,
            checkpoint_bytes: found.base_bytes,
            expiries: Expiries::new_sync(),
            by_time: BTreeSet::new(),
        };
        found.base.iter().for_each(|r| core.note_expiry(r));
        let objects = found.base.into_iter().filter_map(|r| Some((r.change.key, r.change.object?)));
        state.load(objects, found.base_revision);
        for batch in found.batches {
            batch.iter().for_each(|r| core.note_expiry(r));
            state.apply(batch.into_iter().map(|r| r.change).collect());
        }
        core.next = Revision(state.durable_revision().0 + 1);
        core
    }

    /// Makes what was salvaged the whole store, durably, before the damaged files are put aside.
    fn go_on_after(&mut self, given_up: &GivenUp, disk: &Arc<dyn Disk>, state: &State) -> Result<(), OpenError> {
        state.load([], given_up.revision);
        self.next = Revision(given_up.revision.0 + 1);
        self.sequence = given_up.sequence;
        self.checkpointed = given_up.sequence;
        self.log_bytes = 0;
        let image = Image { sequence: self.sequence, snapshot: state.snapshot(), expiries: self.expiries.clone() };
        let file = checkpoint::name(self.sequence);
        self.checkpoint_bytes = checkpoint::write(disk, &image).map_err(|source| OpenError::Io { act: "writing", file, source })?;
        given_up.files.iter().try_for_each(|file| recover::put_aside(disk, file).map(drop))
    }

    fn note_expiry(&mut self, record: &Record) {
        let key = &record.change.key;
        if let Some(old) = self.expiries.get(key).copied() {
            self.by_time.remove(&(old, key.clone()));
            self.expiries.remove_mut(key);
        }
        if let Some(at) = record.expires {
            self.expiries.insert_mut(key.clone(), at);
            self.by_time.insert((at, key.clone()));
        }
    }

    fn checkpoint_due(&self, after: u64) -> bool {
        self.broken.is_none() && self.sequence > self.checkpointed && self.log_bytes > after.max(self.checkpoint_bytes)
    }

    fn current(&self, key: &Key, state: &State) -> Option<Encoded> {
        match self.staged.get(key) {
            Some(staged) => staged.object.clone(),
            None => state.get(key),
        }
    }

    /// Checks a transaction against staged state and stages it.
    fn stage(&mut self, txn: Txn, state: &State) -> Result<oneshot::Receiver<Result<Revision, CommitError>>, CommitError> {
        if self.closed {
            return Err(CommitError::Closed);
        }
        if let Some(error) = &self.broken {
            return Err(CommitError::ReadOnly(error.clone()));
        }
        for op in &txn.ops {
            let current = self.current(&op.key, state);
            let exists = current.is_some();
            let holds = match op.precondition {
                Precondition::Any => true,
                Precondition::MustNotExist => !exists,
                Precondition::Revision(revision) => current.as_ref().is_some_and(|c| c.revision == revision),
            };
            if !holds || (op.action == Action::Delete && !exists) {
                return Err(CommitError::Conflict { key: op.key.clone(), current });
            }
        }
        let revision = self.next;
        self.next = Revision(revision.0 + 1);
        let records: Vec<Record> = txn.ops.into_iter().map(|op| to_record(op.key, op.action, revision)).collect();
        for Record { change, .. } in &records {
            self.staged.insert(change.key.clone(), Staged { revision, object: change.object.clone() });
        }
        let (done, ended) = oneshot::channel();
        self.queue.push(Pending { records, revision, done });
        Ok(ended)
    }

    /// Takes the oldest staged transactions, as many as a batch may hold.
    fn take_batch(&mut self, limit: usize) -> Vec<Pending> {
        let mut bytes = 0;
        let mut count = 0;
        for pending in &self.queue {
            bytes += pending.records.iter().map(|r| r.change.object.as_ref().map_or(0, |o| o.body.len()) + 128).sum::<usize>();
            if count > 0 && bytes > limit {
                break;
            }
            count += 1;
        }
        self.queue.drain(..count).collect()
    }

    fn forget_staged(&mut self, records: &[Record]) {
        for Record { change, .. } in records {
            if self.staged.get(&change.key).is_some_and(|s| s.revision == change.revision) {
                self.staged.remove(&change.key);
            }
        }
    }
}

fn to_record(key: Key, action: Action, revision: Revision) -> Record {
    match action {
        Action::Put { object, expires } => {
            // Copied to its exact size: the caller's buffer may be larger, or part of a request.
            let object = Encoded { body: Bytes::copy_from_slice(&object.body), splice: object.splice, revision };
            Record { change: Change { key, revision, object: Some(object) }, expires }
        }
        Action::Delete => Record { change: Change { key, revision, object: None }, expires: None },
    }
}

impl LogStore {
    fn core(&self) -> MutexGuard<'_, Core> {
        self.0.core.lock().expect("no one panics while holding the core")
    }

    /// Writes and flushes one batch of what is staged. `false` when nothing was.
    pub fn flush(&self) -> bool {
        let mut appender = self.0.appender.lock().expect("no one panics while appending");
        let batch = self.core().take_batch(self.0.options.batch_size);
        if batch.is_empty() {
            return false;
        }
        if batch.iter().all(|p| p.records.is_empty()) {
            batch.into_iter().for_each(|p| drop(p.done.send(Ok(p.revision))));
            return true;
        }
        let mut frame = FrameBuilder::new();
        for Record { change, expires } in batch.iter().flat_map(|p| &p.records) {
            record::write(frame.payload(), &change.key, change.revision, change.object.as_ref(), *expires);
        }
        match appender.append(frame) {
            Ok((sequence, length)) => self.succeed(batch, sequence, length as u64),
            Err(error) => self.fail(batch, error),
        }
        true
    }

    fn succeed(&self, batch: Vec<Pending>, sequence: u64, length: u64) {
        let mut core = self.core();
        self.0.state.apply(batch.iter().flat_map(|p| &p.records).map(|r| r.change.clone()).collect());
        for pending in &batch {
            core.forget_staged(&pending.records);
            pending.records.iter().for_each(|r| core.note_expiry(r));
        }
        core.sequence = sequence;
        core.log_bytes += length;
        if core.checkpoint_due(self.0.options.checkpoint_after) {
            self.0.due.notify_one();
        }
        drop(core);
        for Pending { revision, done, .. } in batch {
            // A caller that went away does not care.
            let _ = done.send(Ok(revision));
        }
    }

    /// Fails a batch and everything staged after it, which may have been checked against it.
    fn fail(&self, batch: Vec<Pending>, error: AppendError) {
        let (error, broken) = match error {
            AppendError::Full(error) => (Arc::new(error), false),
            AppendError::Unknown(error) => (Arc::new(error), true),
        };
        tracing::error!(error = %error, read_only = broken, "writing the store's log failed");
        let mut core = self.core();
        if broken {
            core.broken = Some(error.clone());
        }
        core.staged.clear();
        let after = std::mem::take(&mut core.queue);
        drop(core);
        for Pending { done, .. } in batch.into_iter().chain(after) {
            let _ = done.send(Err(CommitError::Flush(error.clone())));
        }
    }

    /// Flushes batch after batch until the store is closed; blocks its thread.
    pub fn run_writer(&self) {
        loop {
            if self.flush() {
                continue;
            }
            let core = self.core();
            if core.queue.is_empty() && core.closed {
                return;
            }
            let idle = self.0.staged.wait_while(core, |c| c.queue.is_empty() && !c.closed);
            drop(idle.expect("no one panics while holding the core"));
        }
    }

    /// Writes checkpoints when they are due, until the store is closed; blocks its thread.
    pub fn run_checkpoints(&self) {
        let after = self.0.options.checkpoint_after;
        loop {
            let core = self.0.due.wait_while(self.core(), |c| !c.checkpoint_due(after) && !c.closed);
            if core.expect("no one panics while holding the core").closed {
                return;
            }
            if let Err(error) = self.checkpoint() {
                tracing::warn!(%error, "writing a checkpoint failed; the log is kept and grows");
                // Tried again when as much log again has been written.
                let mut core = self.core();
                core.checkpoint_bytes = core.log_bytes.saturating_mul(2);
            }
        }
    }

    /// Writes a checkpoint of the durable state and removes the segments it makes needless. Writers are not held up.
    ///
    /// # Errors
    /// When the disk failed or is full; the log is kept.
    pub fn checkpoint(&self) -> io::Result<()> {
        let _one_at_a_time = self.0.checkpointing.lock().expect("no one panics while writing a checkpoint");
        let (image, log_bytes) = {
            let core = self.core();
            if core.sequence == core.checkpointed {
                return Ok(());
            }
            let image = Image { sequence: core.sequence, snapshot: self.0.state.snapshot(), expiries: core.expiries.clone() };
            (image, core.log_bytes)
        };
        let bytes = checkpoint::write(&self.0.disk, &image)?;
        let mut core = self.core();
        core.checkpointed = image.sequence;
        core.log_bytes -= log_bytes;
        core.checkpoint_bytes = bytes;
        drop(core);
        // The log since the oldest checkpoint stays, and all of it while there is but one.
        let names = Names::read(&self.0.disk).map_err(io::Error::other)?;
        let oldest = if names.checkpoints.len() > 1 { names.checkpoints.last().copied() } else { None };
        for first in covered(&names.segments, oldest.unwrap_or(0)) {
            self.0.disk.remove(&segment_name(first))?;
        }
        Ok(())
    }

    /// Runs the writer and the checkpoints on threads of their own, until [`LogStore::close`].
    ///
    /// # Errors
    /// When the kernel has no thread to give.
    pub fn start(&self, tasks: &Tasks) -> io::Result<()> {
        let (writer, checkpoints) = (self.clone(), self.clone());
        tasks.thread("store-writer", move || writer.run_writer())?;
        tasks.thread("store-checkpoint", move || checkpoints.run_checkpoints())
    }

    /// Refuses new commits; what is staged is still flushed, then the loops end.
    pub fn close(&self) {
        self.core().closed = true;
        self.0.staged.notify_all();
        self.0.due.notify_all();
    }
}

impl Backend for LogStore {
    fn commit(&self, txn: Txn) -> BoxFuture<Result<Revision, CommitError>> {
        let (staged, is_first) = {
            let mut core = self.core();
            (core.stage(txn, &self.0.state), core.queue.len() == 1)
        };
        let ended = match staged {
            Ok(ended) => ended,
            Err(error) => return Box::pin(std::future::ready(Err(error))),
        };
        if self.0.options.inline {
            self.flush();
            if self.core().checkpoint_due(self.0.options.checkpoint_after)
                && let Err(error) = self.checkpoint()
            {
                tracing::warn!(%error, "writing a checkpoint failed; the log is kept and grows");
            }
        } else if is_first {
            // Behind another, it goes with that one: the writer has been told, or will look when it is done.
            self.0.staged.notify_one();
        }
        // The sender is dropped unsent only with the whole store.
        Box::pin(async { ended.await.unwrap_or(Err(CommitError::Closed)) })
    }

    fn staged(&self, key: &Key) -> Option<Option<Encoded>> {
        self.core().staged.get(key).map(|s| s.object.clone())
    }

    fn settled(&self) -> BoxFuture<Result<(), CommitError>> {
        let known = {
            let core = self.core();
            match &core.broken {
                // Whether the last batch is on the disk only the next start will tell.
                Some(error) => Some(Err(CommitError::ReadOnly(error.clone()))),
                None => core.staged.is_empty().then_some(Ok(())),
            }
        };
        if let Some(known) = known {
            return Box::pin(std::future::ready(known));
        }
        // Batches become durable in the order of staging, and a failure fails all that were staged after it: so a change of nothing
        // ends as everything before it did.
        let nothing = self.commit(Txn { ops: Vec::new() });
        Box::pin(async move { nothing.await.map(drop) })
    }

    fn expire(&self, now: Timestamp) -> BoxFuture<usize> {
        let due: Vec<(Key, Revision)> = {
            let core = self.core();
            let due = core.by_time.iter().take_while(|(at, _)| *at <= now).map(|(_, key)| key);
            // What is being written just now will say anew when it expires.
            let due = due.filter(|key| !core.staged.contains_key(*key)).take(EXPIRE_AT_ONCE);
            due.filter_map(|key| Some((key.clone(), self.0.state.get(key)?.revision))).collect()
        };
        let deletions: Vec<_> = due.into_iter().map(|(key, revision)| self.commit(Txn::delete(key, revision))).collect();
        Box::pin(async move {
            let mut count = 0;
            for deletion in deletions {
                count += usize::from(deletion.await.is_ok());
            }
            count
        })
    }

    fn failure(&self) -> Option<Arc<io::Error>> {
        self.core().broken.clone()
    }
}
