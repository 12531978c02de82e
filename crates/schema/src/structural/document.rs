//! Schema documents of custom resources, made from the definition's own text.

use gantry_object::{GroupVersionKind, Map, Value};
use serde_json::json;

use crate::openapi::Version;

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const API_VERSION: &str =
    "The version of the schema this object is written in: group and version, or the version alone for the core group.";
const KIND: &str = "The kind of this object in CamelCase.";
const METADATA: &str = "The metadata that every object has.";

/// The definition of a kind: its schema with what every object has. Version 2 lacks words for some of it, and leaves that out.
pub fn document(schema: Option<&Value>, gvk: &GroupVersionKind, selectable: &[String], version: Version) -> Value {
    let mut definition = match schema {
        Some(schema) if version == Version::V3 => schema.clone(),
        Some(schema) if schema["x-kubernetes-preserve-unknown-fields"] != true => plain(schema),
        _ => json!({"type": "object"}),
    };
    let complete = schema.is_some() && definition.get("type").is_some_and(|t| t == "object") || version == Version::V3 && schema.is_some();
    if complete {
        add_meta(&mut definition, version);
        add_embedded(&mut definition, version);
    }
    if let Some(members) = definition.as_object_mut() {
        let gvk = json!([{"group": gvk.group, "version": gvk.version, "kind": gvk.kind}]);
        members.insert("x-kubernetes-group-version-kind".into(), gvk);
        if !selectable.is_empty() {
            let fields: Vec<Value> = selectable.iter().map(|path| json!({"fieldPath": path})).collect();
            members.insert("x-kubernetes-selectable-fields".into(), fields.into());
        }
    }
    definition
}

/// Adds apiVersion, kind and metadata.
fn add_meta(definition: &mut Value, version: Version) {
    let reference = version.reference(OBJECT_META);
    let mut metadata = match version {
        Version::V2 => reference,
        Version::V3 => json!({"allOf": [reference]}),
    };
    metadata["description"] = METADATA.into();
    let Some(members) = definition.as_object_mut() else { return };
    let properties = members.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    properties["apiVersion"] = json!({"type": "string", "description": API_VERSION});
    properties["kind"] = json!({"type": "string", "description": KIND});
    properties["metadata"] = metadata;
}

/// Every schema directly below this one that describes values.
fn below(schema: &mut Value) -> Vec<&mut Value> {
    let Some(members) = schema.as_object_mut() else { return Vec::new() };
    let mut found = Vec::new();
    for (name, v) in members.iter_mut() {
        match (name.as_str(), v) {
            ("properties", Value::Object(properties)) => found.extend(properties.values_mut()),
            ("items" | "additionalProperties", v @ Value::Object(_)) => found.push(v),
            _ => {}
        }
    }
    found
}

fn add_embedded(schema: &mut Value, version: Version) {
    for inner in below(schema) {
        if inner["x-kubernetes-embedded-resource"] == true {
            add_meta(inner, version);
        }
        add_embedded(inner, version);
    }
}

/// A schema in the words of version 2: no alternatives, no nulls, nothing said of what is preserved.
fn plain(schema: &Value) -> Value {
    let mut plain = schema.clone();
    simplify(&mut plain);
    plain
}

fn simplify(schema: &mut Value) {
    let nullable: Vec<String> = schema["properties"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, s)| s["nullable"] == true)
        .map(|(name, _)| name.clone())
        .collect();
    let Some(members) = schema.as_object_mut() else { return };
    let is = |members: &Map, name: &str| members.get(name) == Some(&Value::Bool(true));
    for word in ["allOf", "anyOf", "oneOf", "not", "example"] {
        members.remove(word);
    }
    let preserves = is(members, "x-kubernetes-preserve-unknown-fields");
    let was_nullable = is(members, "nullable");
    if was_nullable || preserves {
        members.remove("items");
        members.remove("properties");
    }
    if was_nullable {
        members.remove("type");
        members.remove("nullable");
    }
    let kind = members.get("type").and_then(Value::as_str).unwrap_or_default();
    if (kind == "array" && !members.contains_key("items")) || (kind == "object" && preserves) {
        members.remove("type");
    }
    if let Some(Value::Array(required)) = members.get_mut("required") {
        required.retain(|name| !nullable.iter().any(|n| name == n));
        if required.is_empty() {
            members.remove("required");
        }
    }
    if members.get("additionalProperties").is_some_and(|a| a["nullable"] == true) {
        members.remove("required");
    }
    below(schema).into_iter().for_each(simplify);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_says_less() {
        let schema = json!({"type": "object", "required": ["a", "b"], "properties": {
            "a": {"type": "string", "nullable": true}, "b": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "c": {"type": "integer", "anyOf": [{"minimum": 1}]}}});
        let gvk = GroupVersionKind::new("g.io", "v1", "K");
        let v2 = document(Some(&schema), &gvk, &[], Version::V2);
        assert_eq!(v2["required"], json!(["b"]));
        assert_eq!(v2["properties"]["a"], json!({}));
        assert_eq!(v2["properties"]["b"], json!({"x-kubernetes-preserve-unknown-fields": true}));
        assert_eq!(v2["properties"]["c"], json!({"type": "integer"}));
        assert_eq!(v2["properties"]["metadata"]["$ref"], format!("#/definitions/{OBJECT_META}"));
        let v3 = document(Some(&schema), &gvk, &[], Version::V3);
        assert_eq!(v3["properties"]["a"], schema["properties"]["a"]);
        assert_eq!(document(None, &gvk, &[], Version::V2)["type"], "object");
    }
}
