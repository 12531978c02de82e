//! The built-in kinds: their tables and their own defaulting, validation and update rules.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod behaviour;
mod bootstrap;
mod openapi;
mod registry;
#[cfg(test)]
mod round_trips;
mod rules;
mod table;
mod tables;
mod tree;
mod validate;

pub use bootstrap::bootstrap_rbac;
pub use registry::{Column, Kind, Registry, Subresource};
pub use table::{IncludeObject, partial_metadata};
