//! The one runner: watch events in, keys out, `decide`, actions through the API, back-off.
//!
//! A [`Controller`] is a pure function from what it sees to what it wants done. The [`Machine`] holds the caches and queues and is
//! synchronous; a [`Shell`] feeds it and performs its actions. No key is decided on before the caches have seen what was
//! last written for it. Nothing here knows a particular kind, and nothing is written but through an [`gantry_client::Api`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod action;
mod controller;
mod customs;
mod events;
mod machine;
mod meta;
mod perform;
mod runner;
mod shell;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;
mod view;

pub use action::{Action, Decision, EventKind, merge_diff};
pub use controller::{Controller, Key, MapKeys, Read, controller_of, itself};
pub use customs::Following;
pub use events::Recorder;
pub use gantry_client::informer::Item;
pub use machine::{Job, Machine};
pub use meta::{Meta, Owner, time};
pub use perform::{Expect, Outcome, perform};
pub use runner::{Writers, run};
pub use shell::{Shell, Voice, Work};
pub use view::{Entry, Kind, Object, View};

pub use gantry_client::{
    Api, DeleteOptions, PatchType, Preconditions, Propagation, Request, Response, Verb, Watch, WatchEvent, WatchStream, queue,
};

pub use gantry_client::{Params, informer};
pub use gantry_ports::{Clock, Tasks};
