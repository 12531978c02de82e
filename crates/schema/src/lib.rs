//! A kind's schema as data, and everything done by walking it.
//!
//! Trees are `gantry_object::Value`; a `Schema` is an arena of types parsed from compact tables; every walk takes a `TypeId`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use gantry_object::Value;

/// A type in a schema's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) u32);

/// An arena of types, parsed from tables.
#[derive(Debug, Default)]
pub struct Schema {}

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("table {table}, line {line}: {problem}")]
pub struct TableError {
    /// The table's name.
    pub table: String,
    /// The line, from one.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

/// A body that cannot be decoded; its Display is the message upstream's clients see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// A patch that cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed (400).
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object: a failed test, a missing path (422).
    #[error("{0}")]
    Inapplicable(String),
}

/// A decoded body: the tree, normalized, and what strictness finds.
#[derive(Debug, Default, PartialEq)]
pub struct Decoded {
    /// The tree without the unknown fields.
    pub value: Value,
    /// Paths of unknown fields, for `unknown field "spec.foo"`.
    pub unknown: Vec<String>,
    /// Paths of fields given twice, for `duplicate field "spec.bar"`.
    pub duplicates: Vec<String>,
}

impl Schema {
    /// Parses tables, each a name and a text.
    ///
    /// # Errors
    /// When a line is malformed or names an unknown type.
    pub fn parse(_tables: &[(&str, &str)]) -> Result<Self, TableError> {
        Ok(Self {})
    }

    /// Finds a type by table and name, as in `core_v1.Pod`.
    pub fn lookup(&self, _name: &str) -> Option<TypeId> {
        None
    }

    /// Decodes a JSON body: unknown fields pruned and reported, nulls dropped, presence normalized.
    ///
    /// # Errors
    /// When the body is not JSON or a value has the wrong type.
    pub fn decode_json(&self, _ty: TypeId, _bytes: &[u8]) -> Result<Decoded, DecodeError> {
        unimplemented!()
    }

    /// Decodes a YAML body, as `decode_json`.
    ///
    /// # Errors
    /// When the body is not YAML or a value has the wrong type.
    pub fn decode_yaml(&self, _ty: TypeId, _bytes: &[u8]) -> Result<Decoded, DecodeError> {
        unimplemented!()
    }

    /// Takes a tree that came from elsewhere (a patched object), as `decode_json`.
    ///
    /// # Errors
    /// When a value has the wrong type.
    pub fn conform(&self, _ty: TypeId, _value: Value) -> Result<Decoded, DecodeError> {
        unimplemented!()
    }

    /// Decodes a protobuf message (no envelope) to a normalized tree, without apiVersion and kind.
    ///
    /// # Errors
    /// When the bytes are not such a message.
    pub fn decode_protobuf(&self, _ty: TypeId, _bytes: &[u8]) -> Result<Value, DecodeError> {
        unimplemented!()
    }

    /// Encodes a tree as a protobuf message (no envelope).
    pub fn encode_protobuf(&self, _ty: TypeId, _value: &Value) -> Vec<u8> {
        unimplemented!()
    }

    /// Gives the tree the presence, quantities and times upstream's encoder would write.
    pub fn normalize(&self, _ty: TypeId, _value: &mut Value) {
        unimplemented!()
    }

    /// Fills in the tables' defaults, through lists and maps.
    pub fn apply_defaults(&self, _ty: TypeId, _value: &mut Value) {
        unimplemented!()
    }

    /// Applies a strategic merge patch.
    ///
    /// # Errors
    /// When the patch is malformed.
    pub fn strategic_merge(&self, _ty: TypeId, _base: Value, _patch: &Value) -> Result<Value, PatchError> {
        unimplemented!()
    }
}

/// Applies a JSON merge patch (RFC 7386).
pub fn merge_patch(_base: Value, _patch: &Value) -> Value {
    unimplemented!()
}

/// Applies a JSON patch (RFC 6902).
///
/// # Errors
/// When the patch is malformed or does not apply.
pub fn json_patch(_base: Value, _patch: &[u8]) -> Result<Value, PatchError> {
    unimplemented!()
}
