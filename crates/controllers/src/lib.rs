//! The controllers: a folder for each, with what it reads, what it alone owns, and `decide`.
//!
//! Every controller is a pure function over [`gantry_reconcile::View`]; the runner does the rest. No controller talks to another, and
//! none writes what another owns: a test reads the declarations.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod adoption;
pub mod deployment;
mod kinds;
pub mod replicaset;
#[cfg(test)]
mod world;
