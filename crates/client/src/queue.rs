//! A work queue as a machine: each key once, never two workers on one key, back-off for each key that fails.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// The wait after the first failure of a key; doubled with each one that follows.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
/// The longest wait after a failure.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// Keys to work on. Times are points on the monotonic clock.
///
/// A key that is added while it is worked on comes back after [`Queue::done`]; nothing is ever worked on twice at once.
#[derive(Debug)]
pub struct Queue<K> {
    ready: VecDeque<K>,
    queued: BTreeSet<K>,
    active: BTreeSet<K>,
    /// Keys added again while active.
    again: BTreeSet<K>,
    later: BTreeSet<(Duration, K)>,
    later_at: BTreeMap<K, Duration>,
    failures: BTreeMap<K, u32>,
}

impl<K: Ord + Clone> Default for Queue<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            active: BTreeSet::new(),
            again: BTreeSet::new(),
            later: BTreeSet::new(),
            later_at: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Queue<K> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a key to be worked on now.
    pub fn add(&mut self, key: K) {
        if self.active.contains(&key) {
            self.again.insert(key);
        } else if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// Adds a key to be worked on at a time; the earliest time asked for counts.
    pub fn add_at(&mut self, key: K, at: Duration) {
        match self.later_at.get(&key).copied() {
            Some(earlier) if earlier <= at => return,
            Some(later) => {
                self.later.remove(&(later, key.clone()));
            }
            None => {}
        }
        self.later_at.insert(key.clone(), at);
        self.later.insert((at, key));
    }

    /// The next key to work on, if any is due; [`Queue::done`] or [`Queue::failed`] gives it back.
    pub fn next(&mut self, now: Duration) -> Option<K> {
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            let (_, key) = self.later.pop_first()?;
            self.later_at.remove(&key);
            self.add(key);
        }
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.active.insert(key.clone());
        Some(key)
    }

    /// Work on a key went well.
    pub fn done(&mut self, key: &K) {
        self.failures.remove(key);
        self.release(key);
    }

    /// Work on a key failed: it comes back after its back-off, which is returned.
    pub fn failed(&mut self, key: &K, now: Duration) -> Duration {
        let failures = self.failures.entry(key.clone()).or_default();
        let wait = FIRST_BACKOFF.saturating_mul(1 << (*failures).min(20)).min(MAX_BACKOFF);
        *failures += 1;
        // News that came in the meantime do not shorten the wait: they could be the failure's own echo.
        self.again.remove(key);
        self.active.remove(key);
        self.add_at(key.clone(), now + wait);
        wait
    }

    fn release(&mut self, key: &K) {
        self.active.remove(key);
        if self.again.remove(key) {
            self.add(key.clone());
        }
    }

    /// When a key that waits is due, if one waits and none is ready.
    pub fn next_due(&self) -> Option<Duration> {
        if self.ready.is_empty() { self.later.first().map(|(at, _)| *at) } else { Some(Duration::ZERO) }
    }

    /// Whether nothing is ready, worked on, or waits.
    pub fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.active.is_empty() && self.later.is_empty()
    }

    /// How many keys are ready to be worked on.
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Whether no key is ready to be worked on.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_key_is_queued_once_and_comes_back_when_added_during_work() {
        let mut queue = Queue::new();
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(queue.next(ms(0)), Some("a"));
        queue.add("a");
        assert_eq!(queue.next(ms(0)), Some("b"));
        assert_eq!(queue.next(ms(0)), None, "a is being worked on");
        queue.done(&"a");
        assert_eq!(queue.next(ms(0)), Some("a"));
        queue.done(&"a");
        queue.done(&"b");
        assert!(queue.is_idle());
    }

    #[test]
    fn failures_back_off_and_success_forgets_them() {
        let mut queue = Queue::new();
        queue.add("a");
        let mut now = ms(0);
        for expected in [5, 10, 20, 40] {
            assert_eq!(queue.next(now), Some("a"));
            assert_eq!(queue.failed(&"a", now), ms(expected));
            assert_eq!(queue.next_due(), Some(now + ms(expected)));
            assert_eq!(queue.next(now), None);
            now += ms(expected);
        }
        queue.next(now);
        queue.done(&"a");
        queue.add("a");
        queue.next(now);
        assert_eq!(queue.failed(&"a", now), ms(5));
    }

    #[test]
    fn the_earliest_time_counts() {
        let mut queue = Queue::new();
        queue.add_at("a", ms(20));
        queue.add_at("a", ms(10));
        queue.add_at("a", ms(30));
        assert_eq!(queue.next(ms(9)), None);
        assert_eq!(queue.next(ms(10)), Some("a"));
        queue.done(&"a");
        assert_eq!(queue.next(ms(100)), None);
    }
}
