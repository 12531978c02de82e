//! The built-in kinds: their tables and their own defaulting, validation and update rules.
//!
//! A kind is its types in `tables/GROUP_VERSION.txt` (the format is told in `gantry_schema`'s `parse.rs`), its discovery facts, columns and field
//! labels in `tables/kinds.txt`, and, where it does more than tables can say, an entry in `rules`. To serve another kind, add its table to
//! `SERVED` in `tables.rs`, describe it in `kinds.txt`, and give it rules.
//!
//! The server's order for an object: decode, [`Kind::apply_defaults`], [`Kind::prepare_create`] or [`Kind::prepare_update`] and [`Kind::stamp`],
//! [`Kind::validate_create`] or [`Kind::validate_update`], [`Kind::to_storage`].
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod behaviour;
mod bootstrap;
mod custom;
mod first_objects;
mod openapi;
mod ownership;
mod registry;
#[cfg(test)]
mod round_trips;
mod rules;
mod table;
mod tables;
mod tree;
mod validate;

pub use bootstrap::bootstrap_rbac;
pub use custom::{JsonPath, Lookout, custom_kinds, precedence};
pub use first_objects::bootstrap_objects;
pub use openapi::openapi_v3_index;
pub use registry::{Column, Kind, Registry, Subresource};
pub use rules::definition::{
    APPROVED as APPROVED_ANNOTATION, CLEANUP as CLEANUP_FINALIZER, approval, is_established, is_protected, set_condition,
};
pub use table::{IncludeObject, partial_metadata};
pub use validate::field_manager;
