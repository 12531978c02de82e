//! The waiting room of one priority level: flows are dealt to queues by shuffle sharding, and queues take turns by the work they got.
//!
//! Turns follow start-time fair queuing: a queue's tag is the work (seats times seconds) it got so far, a dispatch is expected to cost
//! [`EXPECTED`] and corrected when it ends, and the queue with the lowest tag is next. A queue that was empty starts where the others are,
//! so that nobody saves up turns.

use std::collections::VecDeque;
use std::time::Duration;

/// Names a request that waits.
pub(super) type Ticket = u64;

/// How long a request is expected to take, in seconds, until it is known better.
const EXPECTED: f64 = 0.003;

/// How requests of a level wait, as `QueuingConfiguration` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) queues: usize,
    /// How many queues a flow may use.
    pub(super) hand: usize,
    /// How many requests may wait in a queue.
    pub(super) length: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    ticket: Ticket,
    seats: u32,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Seats of its requests, waiting and executing.
    seats: u32,
    /// The work it was given, in seat-seconds.
    tag: f64,
}

/// Requests of one level that wait, and how many seats those that execute take.
#[derive(Debug, Default)]
pub(super) struct Queues {
    shape: Option<Shape>,
    queues: Vec<Queue>,
    waiting: usize,
    waiting_seats: u32,
    in_use: u32,
    /// The tag of the queue that was served last; the highest of all while the level is idle.
    turn: f64,
    highest: f64,
    /// The queue that was served last: among equals the next one after it comes first.
    last: usize,
}

/// What executes: the queue it came from, and its seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) queue: usize,
    pub(super) seats: u32,
}

/// Why a request is not even queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The level's requests don't wait.
    ConcurrencyLimit,
    /// The queue is full.
    QueueFull,
}

/// The queues of a flow: `hand` different ones out of `deck`.
fn deal(mut flow: u64, deck: usize, hand: usize) -> Vec<usize> {
    let mut cards: Vec<usize> = Vec::with_capacity(hand);
    for dealt in 0..hand.min(deck) {
        let left = (deck - dealt) as u64;
        let mut card = (flow % left) as usize;
        flow /= left;
        // The card-th of those that are left: `cards` is sorted.
        let mut at = 0;
        while at < cards.len() && cards[at] <= card {
            card += 1;
            at += 1;
        }
        cards.insert(at, card);
    }
    cards
}

impl Queues {
    /// Takes up another shape. Nobody who waits is sent away.
    pub(super) fn reshape(&mut self, shape: Option<Shape>) {
        if self.shape == shape {
            return;
        }
        self.shape = shape;
        let count = shape.map_or(0, |s| s.queues).max(1);
        let waiting: Vec<Waiting> = self.queues.iter_mut().skip(count).flat_map(|q| q.waiting.drain(..)).collect();
        self.queues.resize_with(count, Queue::default);
        for (i, request) in waiting.into_iter().enumerate() {
            let queue = &mut self.queues[i % count];
            queue.tag = queue.tag.max(self.turn);
            queue.seats += request.seats;
            queue.waiting.push_back(request);
        }
    }

    pub(super) fn in_use(&self) -> u32 {
        self.in_use
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Seats of those who wait.
    pub(super) fn waiting_seats(&self) -> u32 {
        self.waiting_seats
    }

    /// How many wait in the longest queue.
    #[cfg(test)]
    fn longest(&self) -> usize {
        self.queues.iter().map(|q| q.waiting.len()).max().unwrap_or(0)
    }

    /// Whether so many more seats fit. The first always fits: a level never comes to a halt.
    fn fits(&self, seats: u32, limit: u32) -> bool {
        self.in_use == 0 || self.in_use + seats <= limit
    }

    /// Takes a request in: it executes at once, or waits under its ticket.
    ///
    /// # Errors
    /// When it can do neither.
    pub(super) fn arrive(&mut self, ticket: Ticket, flow: u64, seats: u32, limit: u32) -> Result<Option<Taken>, Full> {
        let at_once = self.waiting == 0 && self.fits(seats, limit);
        let Some(shape) = self.shape else {
            return if at_once { Ok(Some(self.start(0, seats))) } else { Err(Full::ConcurrencyLimit) };
        };
        let hand = deal(flow, self.queues.len(), shape.hand);
        let chosen = hand.into_iter().min_by_key(|i| self.queues[*i].seats).unwrap_or(0);
        let queue = &mut self.queues[chosen];
        if queue.seats == 0 {
            queue.tag = queue.tag.max(self.turn);
        }
        if at_once {
            queue.seats += seats;
            return Ok(Some(self.start(chosen, seats)));
        }
        if queue.waiting.len() >= shape.length {
            return Err(Full::QueueFull);
        }
        queue.seats += seats;
        queue.waiting.push_back(Waiting { ticket, seats });
        self.waiting += 1;
        self.waiting_seats += seats;
        Ok(None)
    }

    fn start(&mut self, chosen: usize, seats: u32) -> Taken {
        self.in_use += seats;
        if let Some(queue) = self.queues.get_mut(chosen) {
            self.turn = queue.tag;
            queue.tag += EXPECTED * f64::from(seats);
            self.last = chosen;
        }
        Taken { queue: chosen, seats }
    }

    /// The next who waits and may now execute. One that doesn't fit yet holds the others up: else wide requests would never fit.
    pub(super) fn next(&mut self, limit: u32) -> Option<(Ticket, Taken)> {
        let count = self.queues.len();
        let order = (1..=count).map(|i| (self.last + i) % count);
        let mut best: Option<(f64, usize)> = None;
        for i in order {
            let Some(first) = self.queues[i].waiting.front() else { continue };
            let tag = self.queues[i].tag + EXPECTED * f64::from(first.seats);
            if best.is_none_or(|(lowest, _)| tag < lowest) {
                best = Some((tag, i));
            }
        }
        let (_, chosen) = best?;
        let Waiting { ticket, seats } = *self.queues[chosen].waiting.front()?;
        if !self.fits(seats, limit) {
            return None;
        }
        self.queues[chosen].waiting.pop_front();
        self.waiting -= 1;
        self.waiting_seats -= seats;
        Some((ticket, self.start(chosen, seats)))
    }

    /// Takes note that a request has ended, and of how long it took.
    pub(super) fn finish(&mut self, taken: Taken, took: Duration) {
        self.in_use = self.in_use.saturating_sub(taken.seats);
        // A queue may be gone since.
        if let Some(queue) = self.queues.get_mut(taken.queue).filter(|_| self.shape.is_some()) {
            queue.seats = queue.seats.saturating_sub(taken.seats);
            queue.tag += (took.as_secs_f64() - EXPECTED) * f64::from(taken.seats);
            self.highest = self.highest.max(queue.tag);
        }
        if self.in_use == 0 && self.waiting == 0 {
            self.turn = self.highest;
        }
    }

    /// Forgets a request that waits; says whether it did.
    pub(super) fn abandon(&mut self, ticket: Ticket) -> bool {
        for queue in &mut self.queues {
            if let Some(at) = queue.waiting.iter().position(|w| w.ticket == ticket) {
                let seats = queue.waiting.remove(at).map_or(0, |w| w.seats);
                queue.seats = queue.seats.saturating_sub(seats);
                self.waiting -= 1;
                self.waiting_seats -= seats;
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn queues(queues: usize, hand: usize, length: usize) -> Queues {
        let mut all = Queues::default();
        all.reshape(Some(Shape { queues, hand, length }));
        all
    }

    proptest! {
        #[test]
        fn hands_hold_different_cards_of_the_deck(flow: u64, deck in 1usize..130, hand in 1usize..12) {
            let cards = deal(flow, deck, hand);
            prop_assert_eq!(cards.len(), hand.min(deck));
            prop_assert_eq!(cards.iter().collect::<BTreeSet<_>>().len(), cards.len());
            prop_assert!(cards.iter().all(|c| *c < deck));
            prop_assert_eq!(cards, deal(flow, deck, hand));
        }

        /// Whatever comes and goes: seats stay within the limit (but for one that is wider than it), nobody waits while the level is
        /// idle, and everybody who was queued is served once or gave up.
        #[test]
        fn everybody_is_served_once_within_the_limit(steps in prop::collection::vec((0u8..4, 0u64..9, 1u32..4), 1..200), limit in 1u32..6) {
            let mut all = queues(8, 3, 5);
            let (mut executing, mut waiting): (Vec<Taken>, BTreeSet<Ticket>) = (Vec::new(), BTreeSet::new());
            for (ticket, (step, flow, seats)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => match all.arrive(ticket as u64, flow.wrapping_mul(0x9e37_79b9_7f4a_7c15), seats, limit) {
                        Ok(Some(taken)) => executing.push(taken),
                        Ok(None) => drop(waiting.insert(ticket as u64)),
                        Err(full) => prop_assert_eq!(full, Full::QueueFull),
                    },
                    2 if !executing.is_empty() => {
                        let taken = executing.remove(flow as usize % executing.len());
                        all.finish(taken, Duration::from_millis(flow));
                    }
                    _ => {
                        if let Some(ticket) = waiting.pop_first() {
                            prop_assert!(all.abandon(ticket));
                            prop_assert!(!all.abandon(ticket));
                        }
                    }
                }
                while let Some((ticket, taken)) = all.next(limit) {
                    prop_assert!(waiting.remove(&ticket), "served once");
                    executing.push(taken);
                }
                let in_use: u32 = executing.iter().map(|t| t.seats).sum();
                prop_assert_eq!((all.in_use(), all.waiting()), (in_use, waiting.len()));
                prop_assert!(in_use <= limit || executing.len() == 1);
                prop_assert!(waiting.is_empty() || !executing.is_empty(), "nobody waits for nothing");
                prop_assert!(all.longest() <= 5);
            }
        }
    }

    #[test]
    fn flows_share_a_seat_evenly_whatever_they_ask_for() {
        let mut all = queues(16, 1, 1000);
        // Three flows in queues of their own: one asks ten times as often as the others, and one takes three times as long.
        let (greedy, modest, slow) = (1, 2, 3);
        let mut flows = BTreeMap::new();
        let mut executing = None;
        for ticket in 0..1200u64 {
            let flow = match ticket % 12 {
                0 => modest,
                1 => slow,
                _ => greedy,
            };
            flows.insert(ticket, flow);
            executing = all.arrive(ticket, flow, 1, 1).unwrap().map(|taken| (flow, taken)).or(executing);
        }
        let mut time: BTreeMap<u64, u64> = BTreeMap::new();
        // As long as all three have something to do.
        for _ in 0..200 {
            let (flow, taken) = executing.take().unwrap();
            let took = if flow == slow { 30 } else { 10 };
            *time.entry(flow).or_default() += took;
            all.finish(taken, Duration::from_millis(took));
            executing = all.next(1).map(|(ticket, taken)| (flows[&ticket], taken));
        }
        let (least, most) = (time.values().min().unwrap(), time.values().max().unwrap());
        assert_eq!(time.len(), 3);
        assert!(most - least <= 60, "{time:?}");
    }

    #[test]
    fn without_queues_what_does_not_fit_is_refused() {
        let mut all = Queues::default();
        all.reshape(None);
        let first = all.arrive(1, 0, 1, 1).unwrap().unwrap();
        assert_eq!(all.arrive(2, 0, 1, 1), Err(Full::ConcurrencyLimit));
        all.finish(first, Duration::ZERO);
        assert!(all.arrive(3, 0, 1, 1).unwrap().is_some());
    }

    #[test]
    fn another_shape_sends_nobody_away() {
        let mut all = queues(8, 8, 10);
        let taken = all.arrive(0, 5, 1, 1).unwrap().unwrap();
        for ticket in 1..8 {
            assert_eq!(all.arrive(ticket, ticket, 1, 1), Ok(None));
        }
        all.reshape(Some(Shape { queues: 2, hand: 1, length: 10 }));
        all.finish(taken, Duration::ZERO);
        let mut served = BTreeSet::new();
        while let Some((ticket, taken)) = all.next(1) {
            served.insert(ticket);
            all.finish(taken, Duration::ZERO);
        }
        assert_eq!(served, (1..8).collect());
    }
}
