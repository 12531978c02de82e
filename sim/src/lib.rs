//! The deterministic simulator: a cluster of up to twenty nodes on one thread, on a disk that tears, with processes that die between any
//! two actions.
//!
//! One thread, a clock that moves when told, and one source of chance. A seed draws the cluster, the work, the order of everything that
//! happens, and the faults; the same seed gives the same trace. Phase one checks safety under faults, phase two heals and demands
//! convergence. The store, the API server, the runner's machine, the controllers, the scheduler and the agent's decisions are the real
//! ones; disk, network, machines and users are simulated. `docs/simulation.md` says what is drawn and what is checked.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod acts;
mod audit;
mod chaos;
mod component;
mod draw;
mod facts;
mod feed;
mod flight;
mod machine;
mod net;
mod node;
mod process;
mod promise;
mod run;
mod settle;
#[cfg(test)]
mod tests;
mod trace;
mod user;
mod watcher;
#[cfg(test)]
mod whole;
mod worker;
mod world;

pub use run::{Failure, Report, run, run_twice};
pub use trace::{Counts, Sort};
