//! Finds a node for every pod that has none.
//!
//! The [`Machine`] is synchronous: it keeps its view of nodes up to date event by event, queues pods with back-off, filters, scores, and
//! assumes each pod on the node it chose until the watch shows it there. [`run`] sets it to work in a shell that binds. Nothing is preempted yet,
//! and affinity between pods is not looked at.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod filter;
mod machine;
mod node;
mod pod;
mod queue;
mod resources;
mod runner;
mod score;
mod terms;
#[cfg(test)]
mod tests;

pub use machine::{Job, Machine, NODES, PODS};
pub use runner::run;
