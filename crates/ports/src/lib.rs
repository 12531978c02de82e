//! The outside world as traits: clock, randomness, tasks, disk and sockets, each with a real and a simulated side.
//!
//! Nothing else in the house reads a wall clock, sleeps, spawns, or draws a random number; the lints say so.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod clock;
pub mod disk;
mod random;
mod sockets;
mod tasks;

pub use clock::{Clock, RealClock, SimulatedClock};
pub use random::{Random, RealRandom, SeededRandom};
pub use sockets::{Connection, Listener, RealSockets, SimulatedSockets, Sockets};
pub use tasks::{Tasks, join_all};
pub use tokio::task::AbortHandle;

/// A future on the heap that can move between threads.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A hash map with the same order in every run, for places where order is never seen and speed matters.
#[allow(clippy::disallowed_types, reason = "the hasher is fixed")]
pub type HashMap<K, V> = std::collections::HashMap<K, V, std::hash::BuildHasherDefault<std::hash::DefaultHasher>>;

/// Waits for the first of several futures, looking at them from top to bottom, never at random.
#[macro_export]
macro_rules! select {
    ($($arms:tt)*) => {
        $crate::tokio_select! { biased; $($arms)* }
    };
}

#[doc(hidden)]
pub use tokio::select as tokio_select;
