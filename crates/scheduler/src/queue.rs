//! Pods that wait for a node: ready to be tried, backing off, or waiting for something to change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gantry_object::ObjectName;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// After this a pod is tried again even if nothing changed.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The queue. Higher priorities first, then first come, first served.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    active: BTreeSet<(Reverse<i32>, u64, ObjectName)>,
    later: BTreeSet<(Duration, ObjectName)>,
    pods: BTreeMap<ObjectName, Entry>,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    priority: i32,
    arrival: u64,
    attempts: u32,
    place: Place,
    /// Something changed while it was being tried.
    stirred: bool,
    last_try: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Active,
    Trying,
    /// Comes back at a time, whatever happens.
    BackingOff(Duration),
    /// Comes back when something changes, or at a time.
    Waiting(Duration),
}

impl Queue {
    /// Adds a pod, or wakes one whose own object changed.
    pub(crate) fn add(&mut self, name: &ObjectName, priority: i32) {
        match self.pods.get_mut(name) {
            Some(entry) => {
                entry.priority = priority;
                entry.stirred |= entry.place == Place::Trying;
                if let Place::Waiting(at) = entry.place {
                    self.later.remove(&(at, name.clone()));
                    self.activate(name);
                }
            }
            None => {
                self.arrivals += 1;
                let arrival = self.arrivals;
                let entry = Entry { priority, arrival, attempts: 0, place: Place::Active, stirred: false, last_try: Duration::ZERO };
                self.pods.insert(name.clone(), entry);
                self.activate(name);
            }
        }
    }

    fn activate(&mut self, name: &ObjectName) {
        if let Some(entry) = self.pods.get_mut(name) {
            entry.place = Place::Active;
            self.active.insert((Reverse(entry.priority), entry.arrival, name.clone()));
        }
    }

    /// Forgets a pod.
    pub(crate) fn remove(&mut self, name: &ObjectName) {
        let Some(entry) = self.pods.remove(name) else { return };
        match entry.place {
            Place::Active => {
                self.active.remove(&(Reverse(entry.priority), entry.arrival, name.clone()));
            }
            Place::BackingOff(at) | Place::Waiting(at) => {
                self.later.remove(&(at, name.clone()));
            }
            Place::Trying => {}
        }
    }

    /// The next pod to try.
    pub(crate) fn next(&mut self, now: Duration) -> Option<ObjectName> {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            let (_, name) = self.later.pop_first()?;
            self.activate(&name);
        }
        let (_, _, name) = self.active.pop_first()?;
        if let Some(entry) = self.pods.get_mut(&name) {
            entry.place = Place::Trying;
            entry.stirred = false;
            entry.attempts += 1;
            entry.last_try = now;
        }
        Some(name)
    }

    /// No node would do: the pod waits for a change. If one came while it was tried, it only backs off.
    pub(crate) fn wait(&mut self, name: &ObjectName, now: Duration) {
        let Some(entry) = self.pods.get_mut(name) else { return };
        if entry.stirred {
            return self.back_off(name);
        }
        let at = now + LONGEST_WAIT;
        entry.place = Place::Waiting(at);
        self.later.insert((at, name.clone()));
    }

    /// The pod comes back after its back-off.
    pub(crate) fn back_off(&mut self, name: &ObjectName) {
        let Some(entry) = self.pods.get_mut(name) else { return };
        let wait = FIRST_BACKOFF.saturating_mul(1 << entry.attempts.saturating_sub(1).min(10)).min(LONGEST_BACKOFF);
        let at = entry.last_try + wait;
        entry.place = Place::BackingOff(at);
        self.later.insert((at, name.clone()));
    }

    /// Something changed that may help: pods that wait come back as their back-off allows.
    pub(crate) fn stir(&mut self) {
        let mut waiting = Vec::new();
        for (name, entry) in &mut self.pods {
            match entry.place {
                Place::Waiting(at) => waiting.push((name.clone(), at)),
                Place::Trying => entry.stirred = true,
                _ => {}
            }
        }
        for (name, at) in waiting {
            self.later.remove(&(at, name.clone()));
            self.back_off(&name);
        }
    }

    /// When the next pod comes back by itself; zero when one is there.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        if self.active.is_empty() { self.later.first().map(|(at, _)| *at) } else { Some(Duration::ZERO) }
    }
}
