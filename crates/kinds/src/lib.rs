//! The built-in kinds: their tables and their own defaulting, validation and update rules.
#![cfg_attr(test, allow(clippy::unwrap_used))]

use std::sync::Arc;

use gantry_object::{GroupVersionKind, Value};
use gantry_schema::{Decoded, DecodeError, Schema, TypeId};

/// A subresource of a kind.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// Its name, as in `status`.
    pub name: String,
    /// The kind it reads and writes.
    pub gvk: GroupVersionKind,
    /// Its verbs.
    pub verbs: Vec<String>,
}

/// A kind: its discovery facts, its schema, its rules.
#[derive(Clone, Debug)]
pub struct Kind {
    /// The group, empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind in CamelCase.
    pub kind: String,
    /// The kind of its lists; empty when it cannot be listed.
    pub list_kind: String,
    /// The plural resource name.
    pub plural: String,
    /// The singular resource name.
    pub singular: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories, as in `all`.
    pub categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Its verbs.
    pub verbs: Vec<String>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// Whether its objects are stored. Reviews and the like are not.
    pub stored: bool,
    /// The group, version and kind its objects are stored as: itself but for events.k8s.io Events, stored as core Events.
    pub storage: GroupVersionKind,
    /// Its type.
    pub ty: TypeId,
    schema: Arc<Schema>,
}

impl Kind {
    /// Its `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Decodes a JSON body.
    ///
    /// # Errors
    /// When the body is not JSON or a value has the wrong type.
    pub fn decode_json(&self, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        self.schema.decode_json(self.ty, bytes)
    }

    /// Table defaults and the kind's own.
    pub fn apply_defaults(&self, _object: &mut Value) {
        unimplemented!()
    }

    /// Makes a decoded, defaulted object ready to be created: status reset, generation 1, phases.
    pub fn prepare_create(&self, _object: &mut Value) {
        unimplemented!()
    }

    /// Makes `new` ready to replace `old`: what this (sub)resource may not write is taken from `old`; generation follows the spec.
    pub fn prepare_update(&self, _new: &mut Value, _old: &Value, _subresource: Option<&str>) {
        unimplemented!()
    }

    /// What a field selector sees: `None` when the kind has no such label.
    pub fn field(&self, _object: &Value, _label: &str) -> Option<String> {
        unimplemented!()
    }

    /// The labels a field selector of this kind may name.
    pub fn field_labels(&self) -> &[&'static str] {
        unimplemented!()
    }

    /// From the form it is stored as to this kind's form.
    pub fn from_storage(&self, object: Value) -> Value {
        object
    }

    /// From this kind's form to the form it is stored as.
    pub fn to_storage(&self, object: Value) -> Value {
        object
    }
}

/// Every kind a server serves.
#[derive(Clone, Debug)]
pub struct Registry {
    kinds: Vec<Kind>,
    schema: Arc<Schema>,
}

impl Registry {
    /// The built-in kinds.
    pub fn builtin() -> Self {
        Self { kinds: Vec::new(), schema: Arc::new(Schema::default()) }
    }

    /// All kinds, grouped by group and version.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The schema behind them.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The kind of a resource path.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        self.kinds.iter().find(|k| k.group == group && k.version == version && k.plural == plural)
    }

    /// The kind of this name.
    pub fn gvk(&self, group: &str, version: &str, kind: &str) -> Option<&Kind> {
        self.kinds.iter().find(|k| k.group == group && k.version == version && k.kind == kind)
    }
    /// The type of any group, version and kind the tables know: also those that are not resources of their own (Scale, Eviction, PodExecOptions, Status).
    pub fn type_of(&self, _gvk: &GroupVersionKind) -> Option<TypeId> {
        unimplemented!()
    }
}
