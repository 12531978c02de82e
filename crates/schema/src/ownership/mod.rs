//! Server-side apply and field ownership, as pure functions on trees (KEP 555).
//!
//! [`Tracker::update`] follows any write, [`Tracker::apply`] merges an apply configuration. What is owned as a whole and what piece by piece is told by
//! the schema: list kinds and keys, atomic maps and structs. Time, names and the other versions of a kind are handed in.

mod compare;
mod contents;
mod managed;
mod merge;
mod open;
mod set;
mod shape;
#[cfg(test)]
mod tests;
mod tracker;

pub use compare::Comparison;
pub use managed::{Entry, Managed, Operation, Writer};
pub use open::Open;
pub use set::{Element, FieldSet};
pub use tracker::{Applied, ApplyError, Conflict, Path, Scope, Tracker, Version, Versions};
