//! How priority levels share the seats of a server: each has its own, lends what it does not need, and borrows what others do not need.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::queues::{Full, Queues, Shape, Taken, Ticket};
use super::schema::Metadata;

/// A priority level as it is stored, as far as it matters here. Members as in `flowcontrol.apiserver.k8s.io/v1`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PriorityLevel {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Spec {
    #[serde(rename = "type")]
    kind: String,
    limited: Limited,
    exempt: Exempt,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limited {
    nominal_concurrency_shares: Option<u32>,
    lendable_percent: u32,
    borrowing_limit_percent: Option<u32>,
    limit_response: LimitResponse,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Exempt {
    nominal_concurrency_shares: u32,
    lendable_percent: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct LimitResponse {
    queuing: Option<Queuing>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Queuing {
    queues: usize,
    hand_size: usize,
    queue_length_limit: usize,
}

/// The shares of a level that says nothing of them.
const DEFAULT_SHARES: u32 = 30;

impl Spec {
    fn is_exempt(&self) -> bool {
        self.kind == "Exempt"
    }

    fn shares(&self) -> u32 {
        match self.is_exempt() {
            true => self.exempt.nominal_concurrency_shares,
            false => self.limited.nominal_concurrency_shares.unwrap_or(DEFAULT_SHARES),
        }
    }

    fn lendable_percent(&self) -> u32 {
        if self.is_exempt() { self.exempt.lendable_percent } else { self.limited.lendable_percent }
    }

    fn shape(&self) -> Option<Shape> {
        let Queuing { queues, hand_size, queue_length_limit } = self.limited.limit_response.queuing.as_ref()?;
        Some(Shape { queues: (*queues).max(1), hand: *hand_size, length: *queue_length_limit })
    }
}

/// How many seats a level has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seats {
    /// By its shares.
    pub(super) nominal: u32,
    /// What it keeps whatever others need.
    pub(super) lower: u32,
    /// What it may have when others need nothing.
    pub(super) upper: u32,
}

#[derive(Debug, Default)]
struct Level {
    spec: Spec,
    seats: Seats,
    queues: Queues,
    /// It is no more, but for those who still execute or wait.
    gone: bool,
}

impl Level {
    /// The seats it needs now of its own: those it lends are not among them.
    fn claims(&self) -> u32 {
        let wanted = self.queues.in_use() + self.queues.waiting_seats();
        wanted.max(self.seats.lower).min(self.seats.nominal).max(self.queues.in_use())
    }
}

/// A seat that a request executes on. Give it back to [`Levels::finish`].
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) level: Arc<str>,
    taken: Taken,
}

impl Seat {
    /// How many seats it is.
    pub(super) fn width(&self) -> u32 {
        self.taken.seats
    }
}

/// All levels of a server.
#[derive(Debug)]
pub(super) struct Levels {
    /// How many requests the server executes at once.
    total: u32,
    levels: BTreeMap<Arc<str>, Level>,
    waiting: usize,
}

impl Levels {
    pub(super) fn new(total: u32) -> Self {
        Self { total, levels: BTreeMap::new(), waiting: 0 }
    }

    /// Takes up the levels there are now. One that is no more stays until its requests have ended.
    pub(super) fn configure<'a>(&mut self, specs: impl Iterator<Item = &'a PriorityLevel>) {
        self.levels.values_mut().for_each(|l| l.gone = true);
        for level in specs {
            let known = self.levels.entry(level.metadata.name.clone()).or_default();
            known.gone = false;
            known.spec = level.spec.clone();
            known.queues.reshape(level.spec.shape());
        }
        self.levels.retain(|_, l| !l.gone || l.queues.in_use() > 0 || l.queues.waiting() > 0);
        let shares: u32 = self.levels.values().filter(|l| !l.gone).map(|l| l.spec.shares()).sum();
        for level in self.levels.values_mut().filter(|l| !l.gone) {
            let part = f64::from(level.spec.shares()) / f64::from(shares.max(1));
            let nominal = (f64::from(self.total) * part).ceil() as u32;
            let percent = |of: u32| (f64::from(nominal) * f64::from(of) / 100.0).round() as u32;
            let upper = level.spec.limited.borrowing_limit_percent.map_or(self.total, |p| (nominal + percent(p)).min(self.total));
            let lower = nominal - percent(level.spec.lendable_percent()).min(nominal);
            level.seats = Seats { nominal, lower, upper: upper.max(nominal) };
        }
    }

    /// How many seats a level may use now: what others claim is theirs.
    fn limit(&self, name: &str) -> u32 {
        let Some(level) = self.levels.get(name) else { return 0 };
        if level.spec.is_exempt() {
            return u32::MAX;
        }
        // Rounding up gives out a few seats more than there are.
        let nominal: u32 = self.levels.values().map(|l| l.seats.nominal).sum();
        let others = self.levels.iter().filter(|(other, l)| &***other != name && !l.spec.is_exempt()).map(|(_, l)| l.claims());
        self.total.max(nominal).saturating_sub(others.sum()).clamp(level.seats.lower, level.seats.upper)
    }

    /// The levels by name, with their seats and what each may use now; an exempt one has no limit.
    pub(super) fn seats(&self) -> impl Iterator<Item = (&str, Seats, u32)> {
        self.levels.iter().map(|(name, l)| {
            let limit = if l.spec.is_exempt() { l.seats.nominal } else { self.limit(name) };
            (&**name, l.seats, limit)
        })
    }

    /// The widest that a request of a level may be.
    pub(super) fn widest(&self, level: &str) -> u32 {
        self.levels.get(level).map_or(1, |l| l.seats.nominal.max(1))
    }

    /// Takes a request in: it gets its seat at once, or waits under its ticket.
    ///
    /// # Errors
    /// When it can do neither.
    pub(super) fn arrive(&mut self, name: &Arc<str>, ticket: Ticket, flow: u64, seats: u32) -> Result<Option<Seat>, Full> {
        let Some(level) = self.levels.get(name) else { return Err(Full::ConcurrencyLimit) };
        // Most of the time a level has what it keeps for itself, and need not look at the others.
        let at_hand = level.queues.waiting() == 0 && level.queues.in_use() + seats <= level.seats.lower;
        let limit = if at_hand { level.seats.lower } else { self.limit(name) };
        let Some(level) = self.levels.get_mut(name) else { return Err(Full::ConcurrencyLimit) };
        let taken = level.queues.arrive(ticket, flow, seats, limit)?;
        self.waiting += usize::from(taken.is_none());
        Ok(taken.map(|taken| Seat { level: name.clone(), taken }))
    }

    /// Takes note that a request has ended, and of how long it took.
    pub(super) fn finish(&mut self, seat: &Seat, took: Duration) {
        let Some(level) = self.levels.get_mut(&seat.level) else { return };
        level.queues.finish(seat.taken, took);
        if level.gone && level.queues.in_use() == 0 && level.queues.waiting() == 0 {
            self.levels.remove(&seat.level);
        }
    }

    /// Forgets a request that waits.
    pub(super) fn abandon(&mut self, level: &str, ticket: Ticket) {
        if self.levels.get_mut(level).is_some_and(|l| l.queues.abandon(ticket)) {
            self.waiting -= 1;
        }
    }

    /// Those who waited and may execute now.
    pub(super) fn next(&mut self) -> Vec<(Ticket, Seat)> {
        let mut started = Vec::new();
        if self.waiting == 0 {
            return started;
        }
        let names: Vec<Arc<str>> = self.levels.iter().filter(|(_, l)| l.queues.waiting() > 0).map(|(n, _)| n.clone()).collect();
        for name in names {
            loop {
                let limit = self.limit(&name);
                let Some((ticket, taken)) = self.levels.get_mut(&name).and_then(|l| l.queues.next(limit)) else { break };
                self.waiting -= 1;
                started.push((ticket, Seat { level: name.clone(), taken }));
            }
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn level(name: &str, limited: Value) -> PriorityLevel {
        let mut spec = json!({"type": "Limited", "limited": limited});
        if limited.is_null() {
            spec = json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}});
        }
        serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).unwrap()
    }

    fn queued(shares: u32, lendable: u32, borrowing: Option<u32>) -> Value {
        let mut limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": 2, "queueLengthLimit": 100}}});
        if let Some(percent) = borrowing {
            limited["borrowingLimitPercent"] = json!(percent);
        }
        limited
    }

    fn levels(total: u32, specs: &[PriorityLevel]) -> Levels {
        let mut levels = Levels::new(total);
        levels.configure(specs.iter());
        levels
    }

    /// Sends so many requests of one seat; gives the seats of those that execute at once.
    fn send(levels: &mut Levels, name: &str, from: u64, count: u64) -> Vec<Seat> {
        let name: Arc<str> = name.into();
        (from..from + count).filter_map(|t| levels.arrive(&name, t, t, 1).unwrap()).collect()
    }

    #[test]
    fn seats_follow_shares() {
        let levels = levels(600, &[level("a", queued(100, 90, None)), level("b", queued(20, 50, Some(10))), level("e", Value::Null)]);
        let seats: Vec<_> = levels.seats().map(|(name, s, _)| (name, s.nominal, s.lower, s.upper)).collect();
        assert_eq!(seats, [("a", 500, 50, 600), ("b", 100, 50, 110), ("e", 0, 0, 600)]);
    }

    #[test]
    fn what_is_lent_comes_back_when_it_is_needed() {
        let mut levels = levels(20, &[level("a", queued(10, 50, None)), level("b", queued(10, 0, None))]);
        // b borrows the five seats that a lends while it needs nothing.
        let borrowed = send(&mut levels, "b", 0, 30);
        assert_eq!(borrowed.len(), 15);
        assert!(levels.next().is_empty());
        // a has the five it keeps at once, the others when b has given them back.
        assert_eq!(send(&mut levels, "a", 100, 10).len(), 5);
        for seat in &borrowed[..5] {
            levels.finish(seat, Duration::ZERO);
            let started = levels.next();
            assert!(started.iter().all(|(_, seat)| &*seat.level == "a"), "{started:?}");
        }
        let in_use: Vec<u32> = levels.levels.values().map(|l| l.queues.in_use()).collect();
        assert_eq!(in_use, [10, 10]);
    }

    #[test]
    fn the_exempt_never_wait_and_levels_that_are_gone_serve_who_waits() {
        let mut levels = levels(2, &[level("a", queued(10, 0, None)), level("e", Value::Null)]);
        assert_eq!(send(&mut levels, "e", 0, 50).len(), 50);
        let seats = send(&mut levels, "a", 100, 3);
        assert_eq!(seats.len(), 2);
        levels.configure([level("e", Value::Null)].iter());
        levels.finish(&seats[0], Duration::ZERO);
        let started = levels.next();
        assert_eq!(started.len(), 1);
        levels.finish(&seats[1], Duration::ZERO);
        levels.finish(&started[0].1, Duration::ZERO);
        assert_eq!(levels.seats().count(), 1);
    }

    proptest! {
        /// Whoever comes and goes: a level is within its bounds, all together within the server's (but for rounding), and nobody waits
        /// for a seat that is free.
        #[test]
        fn seats_are_neither_exceeded_nor_left_empty(steps in prop::collection::vec((0usize..3, 0u8..3), 1..300)) {
            let specs = [level("a", queued(10, 50, None)), level("b", queued(20, 100, Some(50))), level("c", queued(5, 0, Some(0)))];
            let mut levels = levels(14, &specs);
            let mut executing: Vec<Seat> = Vec::new();
            for (ticket, (which, step)) in steps.into_iter().enumerate() {
                let name = &specs[which].metadata.name;
                if step < 2 {
                    executing.extend(levels.arrive(name, ticket as u64, ticket as u64, 1).unwrap());
                } else if let Some(at) = executing.iter().position(|s| s.level == *name) {
                    levels.finish(&executing.remove(at), Duration::from_millis(1));
                    executing.extend(levels.next().into_iter().map(|(_, seat)| seat));
                }
                let in_use: Vec<u32> = levels.levels.values().map(|l| l.queues.in_use()).collect();
                let nominal: u32 = levels.levels.values().map(|l| l.seats.nominal).sum();
                for (name, level) in &levels.levels {
                    prop_assert!(level.queues.in_use() <= level.seats.upper.max(1));
                    let free = level.queues.in_use() < levels.limit(name);
                    prop_assert!(level.queues.waiting() == 0 || !free, "{name} waits beside a free seat");
                }
                // A level whose seats are lent out has those it keeps all the same.
                let kept: u32 = levels.levels.values().map(|l| l.seats.lower).sum();
                prop_assert!(in_use.iter().sum::<u32>() <= nominal + kept);
            }
        }
    }
}
