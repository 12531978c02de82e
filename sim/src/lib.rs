//! The deterministic simulator: a control plane on a disk that tears, with processes that die between any two actions.
//!
//! One thread, a clock that moves when told, and one source of chance. A seed draws the deployment, the order of everything that happens,
//! and the faults; the same seed gives the same trace. Phase one checks safety under faults, phase two heals and demands convergence.
//! The store, the API server, the runner's machine, two controllers and the scheduler are the real ones; nodes are played.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod checks;
mod faults;
mod node;
mod process;
mod scenario;
#[cfg(test)]
mod tests;
mod trace;
#[cfg(test)]
mod whole;

pub use scenario::{Failure, Report, run};
