//! Schema documents: types as OpenAPI definitions.

use std::collections::{BTreeMap, BTreeSet};

use gantry_object::{GroupVersionKind, Map, Value};
use serde_json::json;

use crate::model::{Field, ListKind, Node, Schema, Short, Struct, TypeId};

/// Which OpenAPI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Swagger 2.0.
    V2,
    /// OpenAPI 3.0.
    V3,
}

impl Version {
    /// A reference to a definition.
    pub fn reference(self, name: &str) -> Value {
        match self {
            Version::V2 => json!({"$ref": format!("#/definitions/{name}")}),
            Version::V3 => json!({"$ref": format!("#/components/schemas/{name}")}),
        }
    }
}

const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

impl Schema {
    /// The OpenAPI name of a struct type.
    pub fn openapi_name(&self, ty: TypeId) -> Option<&str> {
        self.as_struct(ty).map(|s| s.openapi.as_str())
    }

    /// Definitions of these types and of all they refer to, by name. `gvks` gives kinds that several groups serve as their own.
    pub fn openapi_definitions(
        &self,
        roots: impl IntoIterator<Item = TypeId>,
        version: Version,
        gvks: &BTreeMap<TypeId, Vec<GroupVersionKind>>,
    ) -> Map {
        let mut walk = Walk { schema: self, version, gvks, seen: BTreeSet::new(), todo: roots.into_iter().collect(), out: Map::new() };
        while let Some(ty) = walk.todo.pop() {
            if walk.seen.insert(ty)
                && let Node::Struct(s) = self.node(ty)
            {
                let definition = walk.definition(ty, s);
                walk.out.insert(s.openapi.clone(), definition);
            }
        }
        walk.out
    }
}

struct Walk<'s> {
    schema: &'s Schema,
    version: Version,
    gvks: &'s BTreeMap<TypeId, Vec<GroupVersionKind>>,
    seen: BTreeSet<TypeId>,
    todo: Vec<TypeId>,
    out: Map,
}

impl Walk<'_> {
    fn definition(&mut self, ty: TypeId, s: &Struct) -> Value {
        let mut properties = Map::new();
        for field in &s.fields {
            properties.insert(field.name.clone(), self.property(field));
        }
        let mut definition = Map::from_iter([("type".to_owned(), json!("object"))]);
        if !properties.is_empty() {
            definition.insert("properties".into(), properties.into());
        }
        let required: Vec<&str> = s.fields.iter().filter(|f| f.required).map(|f| f.name.as_str()).collect();
        if !required.is_empty() {
            definition.insert("required".into(), json!(required));
        }
        if s.atomic {
            definition.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        let gvks = self.gvks.get(&ty).cloned().unwrap_or_else(|| s.gvk.iter().cloned().collect());
        if !gvks.is_empty() {
            let gvks: Vec<Value> = gvks.iter().map(gvk_value).collect();
            definition.insert("x-kubernetes-group-version-kind".into(), gvks.into());
        }
        definition.into()
    }

    fn property(&mut self, field: &Field) -> Value {
        let mut property = self.of(field.ty);
        let Some(members) = property.as_object_mut() else { return property };
        if let Some(default) = field.default.as_ref().filter(|_| field.published_default && self.version == Version::V3) {
            members.insert("default".into(), default.clone());
        }
        match &field.list {
            Some(ListKind::Atomic) => drop(members.insert("x-kubernetes-list-type".into(), "atomic".into())),
            Some(ListKind::Set) => drop(members.insert("x-kubernetes-list-type".into(), "set".into())),
            Some(ListKind::Map(keys)) => {
                members.insert("x-kubernetes-list-type".into(), "map".into());
                members.insert("x-kubernetes-list-map-keys".into(), json!(keys));
            }
            None => {}
        }
        if field.atomic {
            members.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        let strategies = [("merge", field.merge_key.is_some()), ("replace", field.replace), ("retainKeys", field.retain_keys)];
        let strategy: Vec<&str> = strategies.into_iter().filter(|(_, on)| *on).map(|(name, _)| name).collect();
        if !strategy.is_empty() {
            members.insert("x-kubernetes-patch-strategy".into(), strategy.join(",").into());
        }
        if let Some(key) = field.merge_key.as_ref().filter(|k| !k.is_empty()) {
            members.insert("x-kubernetes-patch-merge-key".into(), key.as_str().into());
        }
        property
    }

    /// A type where it is used. Version 3 wraps references, since nothing may stand beside them there.
    fn of(&mut self, ty: TypeId) -> Value {
        match self.schema.node(ty) {
            Node::Bool => json!({"type": "boolean"}),
            Node::Int32 => json!({"type": "integer", "format": "int32"}),
            Node::Int64 => json!({"type": "integer", "format": "int64"}),
            Node::Double => json!({"type": "number", "format": "double"}),
            Node::String(Some(named)) if !named.values.is_empty() => json!({"type": "string", "enum": named.values}),
            Node::String(_) => json!({"type": "string"}),
            Node::Bytes => json!({"type": "string", "format": "byte"}),
            Node::Any => json!({}),
            Node::Json => self.untyped("JSON"),
            Node::Either(short, item) => {
                self.todo.push(*item);
                match short {
                    Short::Array => self.untyped("JSONSchemaPropsOrArray"),
                    Short::Bool => self.untyped("JSONSchemaPropsOrBool"),
                    Short::Strings => self.untyped("JSONSchemaPropsOrStringArray"),
                }
            }
            Node::List(item) | Node::Wrapped(item) => json!({"type": "array", "items": self.of(*item)}),
            Node::Map(item) => json!({"type": "object", "additionalProperties": self.of(*item)}),
            Node::Struct(s) => {
                self.todo.push(ty);
                self.refer(&s.openapi)
            }
            special => {
                let (name, definition) = special_definition(special, self.version);
                self.out.insert(name.clone(), definition);
                self.refer(&name)
            }
        }
    }

    /// A type of the custom resource definitions that may hold anything.
    fn untyped(&mut self, name: &str) -> Value {
        let name = format!("{EXTENSIONS}.{name}");
        self.out.entry(name.clone()).or_insert_with(|| json!({}));
        self.refer(&name)
    }

    fn refer(&self, name: &str) -> Value {
        let reference = self.version.reference(name);
        if self.version == Version::V3 { json!({"allOf": [reference]}) } else { reference }
    }
}

fn gvk_value(gvk: &GroupVersionKind) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

/// Scalars that have definitions of their own.
fn special_definition(node: &Node, version: Version) -> (String, Value) {
    let either = |a: &str, b: &str, v2: Value| match version {
        Version::V2 => v2,
        Version::V3 => json!({"oneOf": [{"type": a}, {"type": b}]}),
    };
    match node {
        Node::Quantity => ("io.k8s.apimachinery.pkg.api.resource.Quantity".into(), either("string", "number", json!({"type": "string"}))),
        Node::IntOrString => {
            let mut definition = either("integer", "string", json!({"type": "string"}));
            definition["format"] = "int-or-string".into();
            ("io.k8s.apimachinery.pkg.util.intstr.IntOrString".into(), definition)
        }
        Node::Time => (format!("{META}.Time"), json!({"type": "string", "format": "date-time"})),
        Node::MicroTime => (format!("{META}.MicroTime"), json!({"type": "string", "format": "date-time"})),
        Node::Duration => (format!("{META}.Duration"), json!({"type": "string"})),
        Node::FieldsV1 => (format!("{META}.FieldsV1"), json!({"type": "object"})),
        _ => ("io.k8s.apimachinery.pkg.runtime.RawExtension".into(), json!({"type": "object"})),
    }
}
