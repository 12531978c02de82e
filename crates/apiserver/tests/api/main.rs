//! The API as its clients see it: whole servers on simulated disks, talked to over HTTP and in process.
#![allow(clippy::unwrap_used)]

mod outside;
mod world;

mod aggregation;
mod apply;
mod components;
mod conversions;
mod customs;
mod deletes;
mod fairness;
mod formats;
mod identities;
mod kinds;
mod lists;
mod metrics;
mod proxies;
mod refusals;
mod watches;
mod webhooks;
mod writes;
