//! `gantry server` alone, as real clients see it: kubectl and the `kube` crate.

mod client;
mod harness;
mod kubectl;
mod restart;
