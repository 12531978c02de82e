use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_object::Timestamp;

use crate::BoxFuture;

/// Tells the time and waits.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock. May jump in either direction.
    fn now(&self) -> Timestamp;

    /// Time since some fixed point. Never goes back; use it for intervals.
    fn monotonic(&self) -> Duration;

    /// Resolves once this much time has passed.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// The machine's clock, with tokio's timer behind `sleep`.
#[derive(Clone, Copy, Debug)]
pub struct RealClock {
    start: std::time::Instant,
}

#[allow(clippy::disallowed_methods, reason = "the real side of the port")]
impl RealClock {
    /// A clock whose monotonic time starts now.
    pub fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods, reason = "the real side of the port")]
impl Clock for RealClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::default().plus(since)
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands still until it is moved. Clones share the time.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    wall: Timestamp,
    monotonic: Duration,
    sleepers: Vec<(Duration, tokio::sync::oneshot::Sender<()>)>,
}

impl SimulatedClock {
    /// A clock that stands at a point in time.
    pub fn at(wall: Timestamp) -> Self {
        Self { state: Arc::new(Mutex::new(State { wall, monotonic: Duration::ZERO, sleepers: Vec::new() })) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().expect("nothing panics while it holds this lock"))
    }

    /// Lets time pass and wakes those whose sleep is over, in the order of their deadlines.
    pub fn advance(&self, by: Duration) {
        let mut due = self.with(|s| {
            s.wall = s.wall.plus(by);
            s.monotonic += by;
            let now = s.monotonic;
            let (due, later): (Vec<_>, Vec<_>) = s.sleepers.drain(..).partition(|(at, _)| *at <= now);
            s.sleepers = later;
            due
        });
        due.sort_by_key(|(at, _)| *at);
        for (_, sleeper) in due {
            // A sleeper that is gone no longer cares.
            let _ = sleeper.send(());
        }
    }

    /// Sets the wall clock alone, as an operator or a time daemon might.
    pub fn jump(&self, wall: Timestamp) {
        self.with(|s| s.wall = wall);
    }

    /// How long until the next sleeper wakes, if anybody sleeps.
    pub fn next_wake(&self) -> Option<Duration> {
        self.with(|s| {
            s.sleepers.retain(|(_, sleeper)| !sleeper.is_closed());
            s.sleepers.iter().map(|(at, _)| at.saturating_sub(s.monotonic)).min()
        })
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        self.with(|s| s.wall)
    }

    fn monotonic(&self) -> Duration {
        self.with(|s| s.monotonic)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let (send, receive) = tokio::sync::oneshot::channel();
        self.with(|s| s.sleepers.push((s.monotonic + duration, send)));
        Box::pin(async move {
            // An error means that the clock is gone, and with it all time.
            let _ = receive.await;
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn simulated_sleep_ends_when_time_has_passed_and_not_before() {
        let clock = SimulatedClock::at(Timestamp::from_seconds(100));
        let mut sleep = clock.sleep(Duration::from_secs(2));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert_eq!(clock.next_wake(), Some(Duration::from_secs(2)));
        clock.advance(Duration::from_secs(1));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        clock.advance(Duration::from_secs(1));
        assert_eq!(sleep.as_mut().poll(&mut cx), Poll::Ready(()));
        assert_eq!((clock.now(), clock.monotonic()), (Timestamp::from_seconds(102), Duration::from_secs(2)));
    }
}
