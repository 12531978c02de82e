//! Trees to protobuf messages and back.
//!
//! The encoder writes what upstream's does: every member that is not a pointer, list or map is written even when zero, in order of numbers; map entries
//! are in order of keys; what JSON inlines is a message of its own.

mod read;
mod write;

use crate::model::{Node, Schema, TypeId};

pub(crate) use read::Reader;
pub(crate) use write::Reversed;

/// How a value is laid out on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Varint,
    Fixed64,
    Delimited,
}

impl Layout {
    pub(crate) fn code(self) -> u64 {
        match self {
            Layout::Varint => 0,
            Layout::Fixed64 => 1,
            Layout::Delimited => 2,
        }
    }
}

impl Schema {
    pub(crate) fn layout(&self, ty: TypeId) -> Layout {
        match self.node(ty) {
            Node::Bool | Node::Int32 | Node::Int64 => Layout::Varint,
            Node::Double => Layout::Fixed64,
            _ => Layout::Delimited,
        }
    }
}
