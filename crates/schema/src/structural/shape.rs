//! Pruning, nulls and defaults: which members an object has.

use std::fmt::Write;

use gantry_object::{GroupVersionKind, Map, Value};

use super::{Additional, Structural};
use crate::conform::DecodeError;
use crate::decode::{Decoded, parse_json, parse_yaml};
use crate::model::{Schema, TypeId};

/// Members every object has, whatever its schema says.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// The type of what every object has, among the built-in types.
fn meta_type(meta: &Schema) -> Result<TypeId, DecodeError> {
    let gvk = GroupVersionKind::new("meta.k8s.io", "v1", "PartialObjectMetadata");
    let found = meta.kind(&gvk).or_else(|| meta.lookup("meta_v1.PartialObjectMetadata"));
    found.ok_or_else(|| DecodeError("no type for metadata".into()))
}

/// Where a walk stands, and what it pruned.
#[derive(Default)]
struct Pruned {
    path: String,
    found: Vec<String>,
}

impl Pruned {
    fn enter(&mut self, name: &str) -> usize {
        let here = self.path.len();
        if here > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        here
    }

    fn index(&mut self, index: usize) -> usize {
        let here = self.path.len();
        write!(self.path, "[{index}]").expect("a text takes every write");
        here
    }

    fn record(&mut self, name: &str) {
        let here = self.enter(name);
        self.found.push(self.path.clone());
        self.path.truncate(here);
    }
}

impl Structural {
    /// Decodes a JSON body as [`Structural::conform`] has it. `meta` holds the types of metadata.
    ///
    /// # Errors
    /// When the body is not a JSON object or its metadata have a wrong type.
    pub fn decode_json(&self, meta: &Schema, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let (value, duplicates) = parse_json(bytes)?;
        Ok(Decoded { duplicates, ..self.conform(meta, value)? })
    }

    /// Decodes a YAML body, as [`Structural::decode_json`].
    ///
    /// # Errors
    /// When the body is not a YAML object or its metadata have a wrong type.
    pub fn decode_yaml(&self, meta: &Schema, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let (value, duplicates) = parse_yaml(bytes)?;
        Ok(Decoded { duplicates, ..self.conform(meta, value)? })
    }

    /// Takes a tree that came from elsewhere: members that the schema doesn't declare are pruned and reported, nulls it doesn't allow dropped,
    /// metadata brought into their own type.
    ///
    /// # Errors
    /// When the tree is no object, or metadata have a wrong type.
    pub fn conform(&self, meta: &Schema, mut value: Value) -> Result<Decoded, DecodeError> {
        if !value.is_object() {
            return Err(DecodeError("json: cannot unmarshal value into Go value of type map[string]interface {}".into()));
        }
        let mut unknown = self.fit_meta(meta, &mut value)?;
        let mut pruned = Pruned::default();
        self.prune(&mut value, true, &mut pruned);
        self.drop_nulls(&mut value);
        self.fit_embedded(meta, &mut value)?;
        pruned.found.sort();
        unknown.extend(pruned.found);
        Ok(Decoded { value, unknown, duplicates: Vec::new() })
    }

    /// Brings apiVersion, kind and metadata into their own types.
    fn fit_meta(&self, meta: &Schema, value: &mut Value) -> Result<Vec<String>, DecodeError> {
        let Some(members) = value.as_object_mut() else { return Ok(Vec::new()) };
        let own: Map = META.iter().filter_map(|name| members.remove(*name).map(|v| ((*name).to_owned(), v))).collect();
        let had_metadata = own.contains_key("metadata");
        let fitted = meta.conform(meta_type(meta)?, Value::Object(own))?;
        if let Value::Object(fitted) = fitted.value {
            members.extend(fitted.into_iter().filter(|(name, v)| !v.is_null() && (had_metadata || name != "metadata")));
        }
        Ok(fitted.unknown)
    }

    /// The same for objects within objects.
    fn fit_embedded(&self, meta: &Schema, value: &mut Value) -> Result<(), DecodeError> {
        match value {
            Value::Object(members) => {
                for (name, v) in members.iter_mut() {
                    let Some(schema) = self.member(name) else { continue };
                    if schema.embedded && v.is_object() {
                        schema.fit_meta(meta, v)?;
                    }
                    schema.fit_embedded(meta, v)?;
                }
                Ok(())
            }
            Value::Array(items) => {
                let Some(schema) = &self.items else { return Ok(()) };
                for v in items {
                    if schema.embedded && v.is_object() {
                        schema.fit_meta(meta, v)?;
                    }
                    schema.fit_embedded(meta, v)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes out what the schema doesn't declare. `whole`: the value is an object with apiVersion, kind and metadata.
    fn prune(&self, value: &mut Value, whole: bool, pruned: &mut Pruned) {
        self.prune_unless(value, whole, false, pruned);
    }

    /// `preserved`: the list around the value keeps what nobody declares.
    fn prune_unless(&self, value: &mut Value, whole: bool, preserved: bool, pruned: &mut Pruned) {
        let whole = whole || self.embedded;
        let preserved = preserved || self.preserves;
        match value {
            Value::Object(members) => members.retain(|name, v| {
                if whole && META.contains(&name.as_str()) {
                    return true;
                }
                let declared = self.properties.get(name.as_str());
                let here = pruned.enter(name);
                let keeps = match (declared, &self.additional) {
                    (Some(schema), _) => {
                        schema.prune(v, false, pruned);
                        true
                    }
                    (None, Additional::Schema(schema)) => {
                        schema.prune(v, false, pruned);
                        true
                    }
                    (None, Additional::Allowed(_)) => {
                        Structural::default().prune(v, false, pruned);
                        true
                    }
                    (None, Additional::Unsaid) => preserved,
                };
                pruned.path.truncate(here);
                if !keeps {
                    pruned.record(name);
                }
                keeps
            }),
            Value::Array(items) => {
                let nothing = Structural::default();
                let of = match &self.items {
                    Some(schema) => schema,
                    None if preserved => return,
                    None => &nothing,
                };
                for (i, v) in items.iter_mut().enumerate() {
                    let here = pruned.index(i);
                    of.prune_unless(v, false, preserved, pruned);
                    pruned.path.truncate(here);
                }
            }
            _ => {}
        }
    }

    /// Drops nulls where the schema allows none and has no default for them.
    fn drop_nulls(&self, value: &mut Value) {
        match value {
            Value::Object(members) => members.retain(|name, v| {
                let Some(schema) = self.member(name) else { return true };
                schema.drop_nulls(v);
                !v.is_null() || schema.nullable || schema.default.is_some()
            }),
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|v| schema.drop_nulls(v));
                }
            }
            _ => {}
        }
    }

    /// Fills in defaults, through lists and objects.
    pub fn apply_defaults(&self, value: &mut Value) {
        let wants = |schema: &Self, v: Option<&Value>| v.is_none_or(|v| v.is_null() && !schema.nullable);
        match value {
            Value::Object(members) => {
                for (name, schema) in &self.properties {
                    if let Some(default) = &schema.default
                        && wants(schema, members.get(name.as_ref()))
                    {
                        members.insert(name.as_ref().into(), default.clone());
                    }
                }
                for (name, v) in members.iter_mut() {
                    let Some(schema) = self.member(name) else { continue };
                    if let Some(default) = &schema.default
                        && wants(schema, Some(v))
                    {
                        *v = default.clone();
                    }
                    schema.apply_defaults(v);
                }
            }
            Value::Array(items) => {
                let Some(schema) = &self.items else { return };
                for v in items {
                    if let Some(default) = &schema.default
                        && wants(schema, Some(v))
                    {
                        *v = default.clone();
                    }
                    schema.apply_defaults(v);
                }
            }
            _ => {}
        }
    }

    /// Whether a value would lose anything by pruning: for defaults, which must not.
    pub fn prunes(&self, value: &Value) -> bool {
        let mut pruned = Pruned::default();
        self.prune(&mut value.clone(), false, &mut pruned);
        !pruned.found.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn meta() -> Schema {
        let table = "table meta_v1\nversion meta.k8s.io/v1\nstruct PartialObjectMetadata kind\n  metadata 1 ObjectMeta o\nstruct ObjectMeta\n  name 1 string o\n  labels 2 map[]string o\n";
        Schema::parse(&[("meta_v1", table)]).unwrap()
    }

    fn conform(schema: Value, value: Value) -> (Value, Vec<String>) {
        let decoded = Structural::read(&schema).conform(&meta(), value).unwrap();
        (decoded.value, decoded.unknown)
    }

    #[test]
    fn what_is_not_declared_is_pruned_and_named() {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "a": {"type": "string"}, "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"b": {"type": "object"}}},
            "list": {"type": "array", "items": {"type": "object", "properties": {"c": {"type": "string"}}}},
            "map": {"type": "object", "additionalProperties": {"type": "string"}}}}}});
        let (value, unknown) = conform(
            schema,
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n", "odd": 1}, "top": 1,
            "spec": {"a": "x", "z": 1, "free": {"q": 1, "b": {"r": 1}}, "list": [{"c": "x", "d": 1}], "map": {"k": "v"}}}),
        );
        assert_eq!(unknown, ["metadata.odd", "spec.free.b.r", "spec.list[0].d", "spec.z", "top"]);
        assert_eq!(
            value,
            json!({"apiVersion": "g/v1", "kind": "K", "metadata": {"name": "n"},
            "spec": {"a": "x", "free": {"q": 1, "b": {}}, "list": [{"c": "x"}], "map": {"k": "v"}}})
        );
    }

    #[test]
    fn metadata_of_the_wrong_type_are_refused() {
        let schema = Structural::read(
            &json!({"type": "object", "properties": {"o": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}}),
        );
        assert!(schema.conform(&meta(), json!({"metadata": {"labels": {"a": 1}}})).is_err());
        assert!(schema.conform(&meta(), json!({"o": {"metadata": {"labels": {"a": 1}}}})).is_err());
        let whole = json!({"apiVersion": "g/v1", "kind": "K", "metadata": {}, "o": {"apiVersion": "v1", "kind": "L", "metadata": {"name": "x"}, "data": {"y": 1}}});
        assert_eq!(schema.conform(&meta(), whole.clone()).unwrap().value, whole);
    }

    #[test]
    fn nulls_and_absent_members_get_defaults() {
        let schema = json!({"type": "object", "properties": {
            "a": {"type": "string", "default": "A"}, "n": {"type": "string", "nullable": true, "default": "N"}, "p": {"type": "string"},
            "o": {"type": "object", "default": {}, "properties": {"x": {"type": "integer", "default": 3}}},
            "l": {"type": "array", "items": {"type": "object", "properties": {"y": {"type": "boolean", "default": true}}}}}});
        let structural = Structural::read(&schema);
        let mut value = structural.conform(&meta(), json!({"a": null, "n": null, "p": null, "l": [{}]})).unwrap().value;
        structural.apply_defaults(&mut value);
        assert_eq!(value, json!({"a": "A", "n": null, "o": {"x": 3}, "l": [{"y": true}]}));
        assert!(structural.prunes(&json!({"zz": 1})) && !structural.prunes(&json!({"o": {}})));
    }
}
