//! A kind's schema as data, and everything done by walking it.
//!
//! A [`Schema`] is an arena of types, parsed from compact tables. Objects are trees (`gantry_object::Value`); every walk takes a [`TypeId`] and a
//! tree. Nothing here knows a particular kind: what a kind does beyond its table lives in the `kinds` room.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod conform;
mod decode;
mod defaults;
mod envelope;
mod go;
mod model;
mod normalize;
pub mod openapi;
pub mod ownership;
mod parse;
mod patch;
mod protobuf;
mod strategic;
pub mod structural;
mod validate;
mod yaml;

pub use conform::DecodeError;
pub use decode::{Decoded, parse_document};
pub use envelope::{Envelope, PROTOBUF_MAGIC};
pub use model::{Field, ListKind, Node, Schema, Short, Struct, TypeId};
pub use parse::TableError;
pub use patch::{PatchError, json_patch, merge_patch};
pub use yaml::to_yaml;
