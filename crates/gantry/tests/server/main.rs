//! `gantry server` alone, as real clients see it: kubectl and the `kube` crate.

#![allow(clippy::disallowed_methods, reason = "tests measure real time and spawn their own tasks")]

mod client;
mod crash;
mod customs;
mod disk;
mod harness;
mod kubectl;
#[path = "../programs/mod.rs"]
mod programs;
