//! The life of a pod on its node, as a decision: what is wanted and what was observed in, steps and status out.
//!
//! Nothing here does I/O or knows what time it is. The worker performs the steps, observes again, and asks again.

mod backoff;
mod containers;
mod decide;
mod observed;
mod status;
#[cfg(test)]
mod tests;

pub use backoff::{BackOff, next_delay};
pub use decide::{NodeFacts, Plan, Step, StopReason, decide};
pub use observed::{Observed, ProbeResults, Sandbox, Volumes, Waiting};
pub use status::status_patch;
