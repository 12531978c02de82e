//! What is mounted into a pod: the contents of its volumes, computed from objects that were fetched before, and written so that a reader
//! never sees half of a change.
//!
//! Fetching is the node's affair: [`needs`] says what to fetch, [`payload`] makes files of it. Nothing here talks to the API or the runtime.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod directory;
mod downward;
mod host_path;
mod payload;

pub use directory::{make_empty_dir, remove_volumes, write_payload};
pub use downward::{Facts, field, resource};
pub use host_path::{HostPathError, check_host_path};
pub use payload::{Fetched, File, Need, Payload, PayloadError, needs, payload};
