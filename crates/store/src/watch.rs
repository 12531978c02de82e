//! Rings of recent events, and those who follow them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use gantry_object::Revision;
use tokio::sync::Notify;

use crate::store::Limits;
use crate::{Event, Gone, Snapshot, State};

/// How many events a watcher takes from the ring at a time.
const CHUNK: usize = 64;

/// The recent events of one resource.
pub(crate) struct Channel {
    ring: Mutex<Ring>,
    notify: Notify,
    max_events: usize,
    max_bytes: usize,
}

struct Ring {
    events: VecDeque<Arc<Event>>,
    /// The number of the event at the front. Numbers grow by one and are never used again.
    first: u64,
    bytes: usize,
    /// Every event after this revision is in the ring.
    floor: Revision,
}

impl Channel {
    pub(crate) fn new(floor: Revision, limits: &Limits) -> Self {
        let ring = Ring { events: VecDeque::new(), first: 0, bytes: 0, floor };
        Self { ring: Mutex::new(ring), notify: Notify::new(), max_events: limits.ring_events, max_bytes: limits.ring_bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().expect("no one panics while holding a ring")
    }

    pub(crate) fn push(&self, event: Arc<Event>) {
        let mut ring = self.lock();
        ring.bytes += event.weight();
        ring.events.push_back(event);
        // The newest event stays whatever its size, so that a watcher that keeps up always sees it.
        while ring.events.len() > 1 && (ring.events.len() > self.max_events || ring.bytes > self.max_bytes) {
            let Some(old) = ring.events.pop_front() else { break };
            ring.bytes -= old.weight();
            ring.first += 1;
            ring.floor = old.revision();
        }
    }

    pub(crate) fn wake(&self) {
        self.notify.notify_waiters();
    }

    /// Whether an event of this number or a later one has come.
    fn has(&self, number: u64) -> bool {
        let ring = self.lock();
        number < ring.first + ring.events.len() as u64
    }

    pub(crate) fn floor(&self) -> Revision {
        self.lock().floor
    }

    pub(crate) fn rewind(&self, snapshot: &mut Snapshot, to: Revision) {
        for event in self.lock().events.iter().rev().take_while(|e| e.revision() > to) {
            snapshot.undo(event);
        }
    }
}

/// Follows one resource: every event once, in order.
pub struct Watcher {
    state: Arc<State>,
    channel: Arc<Channel>,
    namespace: Option<Box<str>>,
    from: Revision,
    next: u64,
    taken: VecDeque<Arc<Event>>,
}

impl Watcher {
    pub(crate) fn start(state: Arc<State>, channel: Arc<Channel>, namespace: Option<&str>, from: Revision) -> Result<Self, Gone> {
        let ring = channel.lock();
        if from < ring.floor {
            return Err(Gone { asked: from, oldest: ring.floor });
        }
        let next = ring.first + ring.events.partition_point(|e| e.revision() <= from) as u64;
        drop(ring);
        Ok(Self { state, channel, namespace: namespace.map(Into::into), from, next, taken: VecDeque::new() })
    }

    /// The next event, waiting for it. Safe to cancel.
    ///
    /// # Errors
    /// When this watcher was so slow that events it has not seen were dropped. It is of no use afterwards.
    pub async fn next(&mut self) -> Result<Arc<Event>, Gone> {
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(event);
            }
            self.ready().await;
        }
    }

    /// Waits until there may be something to take. Safe to cancel.
    pub async fn ready(&self) {
        let mut notified = std::pin::pin!(self.channel.notify.notified());
        // Registered before looking, so that an event between looking and waiting wakes us.
        notified.as_mut().enable();
        if self.taken.is_empty() && !self.channel.has(self.next) {
            notified.await;
        }
    }

    /// The next event if it is there already.
    ///
    /// # Errors
    /// As [`Watcher::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, Gone> {
        while self.taken.is_empty() {
            if !self.take_chunk()? {
                return Ok(None);
            }
        }
        Ok(self.taken.pop_front())
    }

    /// Moves events from the ring. `false` when there was none.
    fn take_chunk(&mut self) -> Result<bool, Gone> {
        let ring = self.channel.lock();
        let Some(skip) = self.next.checked_sub(ring.first) else {
            return Err(Gone { asked: self.from, oldest: ring.floor });
        };
        let mut any = false;
        for event in ring.events.iter().skip(skip as usize).take(CHUNK) {
            any = true;
            self.next += 1;
            let wanted = self.namespace.as_deref().is_none_or(|ns| event.key.namespace() == ns) && event.revision() > self.from;
            if wanted {
                self.taken.push_back(event.clone());
            }
        }
        Ok(any)
    }

    /// Up to which revision every event has been handed out; what a bookmark may say. `None` while events wait to be taken.
    pub fn progress(&self) -> Option<Revision> {
        // Read first: all events up to it are in the ring by now.
        let durable = self.state.durable_revision();
        let ring = self.channel.lock();
        let drained = self.taken.is_empty() && self.next == ring.first + ring.events.len() as u64;
        drained.then_some(durable.max(self.from))
    }
}
