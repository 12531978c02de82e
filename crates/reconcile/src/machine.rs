//! Caches, queues and expectations of all controllers, without I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use gantry_client::WatchEvent;
use gantry_client::informer::{Change, Start};
use gantry_client::queue::Queue;
use gantry_object::{ObjectName, Resource, Timestamp};

use crate::controller::MapKeys;
use crate::customs::{Customs, DEFINITIONS, Definition};
use crate::perform::{Expect, Outcome};
use crate::view::project;
use crate::{Action, Controller, Decision, Entry, Following, Key, View, Work};

/// How long a key waits for its own last write to show up in the caches, in case its event can no longer be told apart.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A decision to carry out.
#[derive(Debug)]
pub struct Job {
    /// Which controller's, as an index.
    pub controller: usize,
    /// The controller's name.
    pub name: &'static str,
    /// The key.
    pub key: Key,
    /// What to do.
    pub decision: Decision,
}

/// Everything the runner knows.
pub struct Machine {
    view: View,
    slots: Vec<Slot>,
    /// Which controllers read a resource, and how.
    readers: BTreeMap<Resource, Vec<(usize, MapKeys)>>,
    /// Who reads every resource that definitions describe, and how.
    custom_readers: Vec<(usize, MapKeys)>,
    customs: Customs,
    /// Where to begin looking for work, so that no controller starves.
    turn: usize,
}

struct Slot {
    controller: Arc<dyn Controller>,
    reads: Vec<Resource>,
    reads_custom: bool,
    queue: Queue<Key>,
    expected: BTreeMap<Key, Expected>,
    /// Which keys wait for an object.
    awaited: BTreeMap<(Resource, ObjectName), BTreeSet<Key>>,
    waiting_on: BTreeMap<Key, Vec<String>>,
}

struct Expected {
    writes: Vec<Expect>,
    until: Duration,
}

impl Machine {
    /// A machine for some controllers, with empty caches.
    pub fn new(controllers: Vec<Arc<dyn Controller>>) -> Self {
        let mut machine = Self {
            view: View::default(),
            slots: Vec::new(),
            readers: BTreeMap::new(),
            custom_readers: Vec::new(),
            customs: Customs::default(),
            turn: 0,
        };
        for (i, controller) in controllers.into_iter().enumerate() {
            let reads = controller.reads();
            for read in &reads {
                machine.view.add(read.resource, read.project, read.typed);
                machine.readers.entry(read.resource).or_default().push((i, read.keys));
            }
            if let Some(keys) = controller.reads_custom() {
                machine.view.add(DEFINITIONS, project::<Definition>, true);
                machine.custom_readers.push((i, keys));
            }
            machine.slots.push(Slot {
                reads_custom: controller.reads_custom().is_some(),
                controller,
                reads: reads.iter().map(|r| r.resource).collect(),
                queue: Queue::new(),
                expected: BTreeMap::new(),
                awaited: BTreeMap::new(),
                waiting_on: BTreeMap::new(),
            });
        }
        machine
    }

    /// The resources to watch.
    pub fn resources(&self) -> Vec<Resource> {
        self.view.resources().collect()
    }

    /// What the caches hold.
    pub fn view(&self) -> &View {
        &self.view
    }

    fn on_change(&mut self, resource: &Resource, change: &Change<Entry>) {
        let this = Key { resource: *resource, name: change.name().clone() };
        if change.new.is_none() {
            self.view.forget_failures(&this);
        }
        let mut keys = Vec::new();
        let custom = if self.customs.follows(resource) { self.custom_readers.as_slice() } else { &[] };
        for (slot, map) in self.readers.get(resource).into_iter().flatten().chain(custom) {
            for item in [&change.old, &change.new].into_iter().flatten() {
                map(&self.view, &this, item, &mut keys);
            }
            let slot = &mut self.slots[*slot];
            keys.extend(slot.awaited.remove(&(*resource, this.name.clone())).into_iter().flatten());
            keys.drain(..).for_each(|key| slot.queue.add(key));
        }
    }

    /// Brings what is followed into step with a definition.
    fn follow_definition(&mut self, name: &ObjectName) {
        let definition = self.view.get::<Definition>("", &name.name);
        for change in self.customs.look_at(&name.name, definition.as_deref()) {
            match change {
                Following::Begins(resource) => self.view.begin(resource),
                Following::Ends(resource) => {
                    for change in self.view.end(&resource) {
                        self.on_change(&resource, &change);
                    }
                }
            }
        }
    }

    /// Asks a controller to look at a key again.
    pub fn nudge(&mut self, controller: &str, key: Key) {
        for slot in self.slots.iter_mut().filter(|s| s.controller.name() == controller) {
            slot.queue.add(key.clone());
        }
    }

    /// What keys are waiting for, in words: controller, key, reasons.
    pub fn waiting_on(&self) -> impl Iterator<Item = (&'static str, &Key, &[String])> {
        self.slots.iter().flat_map(|s| s.waiting_on.iter().map(|(key, why)| (s.controller.name(), key, why.as_slice())))
    }

    /// Whether every cache has been in step with the server at least once.
    pub fn is_ready(&self) -> bool {
        self.slots.iter().all(|s| s.is_ready(&self.view))
    }
}

impl Work for Machine {
    type Job = Job;

    fn start(&mut self, resource: &Resource) -> Start {
        self.view.start(resource)
    }

    fn take(&mut self, resource: &Resource, event: WatchEvent) {
        for change in self.view.take(resource, event) {
            self.on_change(resource, &change);
            if *resource == DEFINITIONS && !self.custom_readers.is_empty() {
                self.follow_definition(change.name());
            }
        }
    }

    fn following(&mut self) -> Vec<Following> {
        self.customs.take_news()
    }

    fn refused(&mut self, resource: &Resource) {
        self.view.refused(resource);
    }

    fn expire(&mut self, resource: &Resource) {
        self.view.expire(resource);
    }

    fn next(&mut self, monotonic: Duration, now: Timestamp) -> Option<Job> {
        for i in 0..self.slots.len() {
            let index = (self.turn + i) % self.slots.len();
            if let Some((key, decision)) = self.slots[index].next(&self.view, monotonic, now) {
                self.turn = index + 1;
                return Some(Job { controller: index, name: self.slots[index].controller.name(), key, decision });
            }
        }
        None
    }

    fn next_due(&self) -> Option<Duration> {
        let ready = self.slots.iter().filter(|s| s.is_ready(&self.view));
        ready.filter_map(|s| s.queue.next_due()).min()
    }

    fn actions(job: &Job) -> (&'static str, &[Action]) {
        (job.name, &job.decision.actions)
    }

    fn finish(&mut self, job: &Job, outcome: Outcome, monotonic: Duration) {
        // A lost race says nothing about the decision.
        let failure = outcome.failed.as_ref().filter(|status| !status.is_conflict()).map(|status| status.message.clone());
        self.view.note_failure(job.name, &job.key, failure);
        let slot = &mut self.slots[job.controller];
        let (reads, customs) = (&slot.reads, &self.customs);
        let is_read = |resource: &Resource| reads.contains(resource) || (slot.reads_custom && customs.follows(resource));
        let writes: Vec<Expect> = outcome.wrote.into_iter().filter(|w| is_read(w.resource())).collect();
        if !writes.is_empty() {
            slot.expected.insert(job.key.clone(), Expected { writes, until: monotonic + LONGEST_WAIT });
        }
        match outcome.failed {
            None => {
                slot.queue.done(&job.key);
                if let Some(after) = job.decision.recheck_after {
                    slot.queue.add_at(job.key.clone(), monotonic + after);
                }
            }
            Some(status) => {
                let wait = slot.queue.failed(&job.key, monotonic);
                tracing::debug!(controller = job.name, key = %job.key, message = %status.message, ?wait, "an action failed");
            }
        }
    }
}

impl Slot {
    fn is_ready(&self, view: &View) -> bool {
        self.reads.iter().all(|r| view.is_ready(r))
    }

    fn next(&mut self, view: &View, monotonic: Duration, now: Timestamp) -> Option<(Key, Decision)> {
        if !self.is_ready(view) {
            return None;
        }
        while let Some(key) = self.queue.next(monotonic) {
            if self.is_blind(&key, view, monotonic) {
                self.queue.done(&key);
                continue;
            }
            let mut decision = self.controller.decide(&key, view, now);
            if decision.waiting_on.is_empty() {
                self.waiting_on.remove(&key);
            } else {
                self.waiting_on.insert(key.clone(), std::mem::take(&mut decision.waiting_on));
            }
            if !decision.actions.is_empty() {
                return Some((key, decision));
            }
            self.queue.done(&key);
            if let Some(after) = decision.recheck_after {
                self.queue.add_at(key, monotonic + after);
            }
        }
        None
    }

    /// Whether the caches have not yet seen what was last written for a key. If so, the key comes back when they have.
    fn is_blind(&mut self, key: &Key, view: &View, monotonic: Duration) -> bool {
        let Some(expected) = self.expected.get_mut(key) else { return false };
        expected.writes.retain(|write| !write.is_met(view));
        if expected.writes.is_empty() || monotonic >= expected.until {
            self.expected.remove(key);
            return false;
        }
        for write in &expected.writes {
            self.awaited.entry((*write.resource(), write.name().clone())).or_default().insert(key.clone());
        }
        self.queue.add_at(key.clone(), expected.until);
        true
    }
}
