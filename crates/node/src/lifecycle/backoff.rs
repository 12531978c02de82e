//! How long a container that keeps ending waits before it starts again.

use std::time::Duration;

use gantry_object::Timestamp;

/// The first wait.
const FIRST: Duration = Duration::from_secs(10);
/// The longest.
const LONGEST: Duration = Duration::from_secs(300);
/// A run this long is forgiven what was before.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// A container's back-off. The first restart is at once, then 10 s, doubling up to 5 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackOff {
    /// How long the wait after the next end is.
    pub delay: Duration,
    /// Until when the container waits now.
    pub until: Timestamp,
}

impl BackOff {
    /// The back-off after a run that ended.
    pub fn after(self, started: Timestamp, finished: Timestamp) -> Self {
        let delay = if finished.since(started) >= FORGIVEN_AFTER { Duration::ZERO } else { self.delay };
        Self { delay: next_delay(delay), until: finished.plus(delay) }
    }
}

/// The wait that follows a wait.
pub fn next_delay(delay: Duration) -> Duration {
    if delay.is_zero() { FIRST } else { (delay * 2).min(LONGEST) }
}
