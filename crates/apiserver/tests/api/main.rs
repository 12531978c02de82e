//! The API as its clients see it: whole servers on simulated disks, talked to over HTTP and in process.
#![allow(clippy::unwrap_used)]

mod world;

mod apply;
mod components;
mod customs;
mod deletes;
mod formats;
mod identities;
mod kinds;
mod lists;
mod refusals;
mod watches;
mod writes;
