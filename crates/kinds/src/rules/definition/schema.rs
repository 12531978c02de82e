//! What a definition's schema may say, word by word. What makes it structural is checked beside this.

use gantry_cel::rules::check_definition;
use gantry_object::Value;
use gantry_object::field::{Error, ErrorList, Path};
use gantry_schema::structural::{Structural, is_known_format};

use super::structural;
use crate::tree::{at, items, text};

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const META: [&str; 3] = ["metadata", "kind", "apiVersion"];
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];
/// What may not stand at the root of a schema whose objects have a status of their own.
const NOT_AT_ROOT: [&str; 7] = ["allOf", "anyOf", "oneOf", "not", "additionalProperties", "enum", "$ref"];

/// What the walk knows of where it is.
#[derive(Clone, Default)]
struct Place {
    root: bool,
    in_meta: bool,
    /// Why there may be no defaults here.
    no_defaults: Option<String>,
}

/// What is wrong with a schema, structure and defaults included.
pub(super) fn validate(schema: &Value, has_status: bool, path: &Path, errors: &mut ErrorList) {
    if !schema.is_object() {
        return;
    }
    if has_status && NOT_AT_ROOT.iter().any(|word| !schema[*word].is_null()) {
        // Upstream names the fields of its own struct here.
        let allowed = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";
        let detail = format!("only {allowed} fields are allowed at the root of the schema if the status subresource is enabled");
        errors.push(Error::invalid(path, schema.clone(), &detail));
    }
    if schema["nullable"] == true {
        errors.push(Error::forbidden(&path.child("nullable"), "nullable cannot be true at the root"));
    }
    let before = errors.len();
    structural::validate(schema, path, errors);
    errors[before..].sort_by_key(ToString::to_string);
    if errors.len() == before {
        defaults(schema, false, path, errors);
    }
    walk(schema, path, &Place { root: true, ..Place::default() }, errors);
    // Rules over a schema that is wrong itself would only be misunderstood.
    if errors.len() == before {
        check_definition(schema, path, errors);
    }
}

fn walk(schema: &Value, path: &Path, place: &Place, errors: &mut ErrorList) {
    if !schema.is_object() {
        return;
    }
    words(schema, path, place, errors);
    let below = Place { root: false, ..place.clone() };
    let additional = &schema["additionalProperties"];
    if !additional.is_null() {
        let has_properties = schema["properties"].as_object().is_some_and(|p| !p.is_empty());
        if has_properties && *additional != true {
            errors.push(Error::forbidden(&path.child("additionalProperties"), "additionalProperties and properties are mutual exclusive"));
        }
        let mut below = below.clone();
        if place.in_meta {
            below.no_defaults = Some("inside additionalProperties applying to object metadata".into());
        }
        walk(additional, &path.child("additionalProperties"), &below, errors);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let mut below = below.clone();
        if (place.root || schema["x-kubernetes-embedded-resource"] == true) && META.contains(&name.as_str()) {
            below.in_meta = true;
            if place.root {
                below.no_defaults = Some(format!("in top-level {name}"));
            }
        }
        walk(property, &path.child("properties").key(name), &below, errors);
    }
    walk(&schema["not"], &path.child("not"), &below, errors);
    for word in ["allOf", "oneOf", "anyOf"] {
        for (i, inner) in items(schema, &format!("/{word}")).iter().enumerate() {
            walk(inner, &path.child(word).index(i), &below, errors);
        }
    }
    walk(&schema["items"], &path.child("items"), &below, errors);
    list_words(schema, path, errors);
    rules(schema, path, errors);
}

fn words(schema: &Value, path: &Path, place: &Place, errors: &mut ErrorList) {
    let kind = text(schema, "/type");
    if !kind.is_empty() && !TYPES.contains(&kind) {
        errors.push(Error::not_supported(&path.child("type"), kind, &TYPES));
    }
    if !schema["default"].is_null()
        && let Some(why) = &place.no_defaults
    {
        errors.push(Error::forbidden(&path.child("default"), &format!("must not be set {why}")));
    }
    for word in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if !schema[word].is_null() {
            errors.push(Error::forbidden(&path.child(word), &format!("{word} is not supported")));
        }
    }
    if kind == "null" {
        errors.push(Error::forbidden(&path.child("type"), "type cannot be set to null, use nullable as an alternative"));
    }
    if schema["items"].is_array() {
        errors.push(Error::forbidden(&path.child("items"), "items must be a schema object and not an array"));
    }
    if place.in_meta && schema["x-kubernetes-embedded-resource"] == true {
        errors.push(Error::forbidden(&path.child("x-kubernetes-embedded-resource"), "must not be used inside of resource meta"));
    }
    if schema["uniqueItems"] == true {
        let detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(Error::forbidden(&path.child("uniqueItems"), detail));
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == false {
        errors.push(Error::invalid(&path.child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined"));
    }
}

/// A word that asks for a type beside it.
fn needs_type(schema: &Value, wanted: &str, word: &str, path: &Path, errors: &mut ErrorList) {
    let (kind, detail) = (text(schema, "/type"), format!("must be {wanted} if {word} is specified"));
    if kind.is_empty() {
        errors.push(Error::required(&path.child("type"), &detail));
    } else if kind != wanted {
        errors.push(Error::invalid(&path.child("type"), kind, &detail));
    }
}

fn list_words(schema: &Value, path: &Path, errors: &mut ErrorList) {
    const LIST: &str = "x-kubernetes-list-type";
    const MAP: &str = "x-kubernetes-map-type";
    const KEYS: &str = "x-kubernetes-list-map-keys";
    if let Some(kind) = schema[MAP].as_str() {
        needs_type(schema, "object", MAP, path, errors);
        if !matches!(kind, "atomic" | "granular") {
            errors.push(Error::not_supported(&path.child(MAP), kind, &["atomic", "granular"]));
        }
    }
    let list = schema[LIST].as_str();
    if let Some(kind) = list {
        needs_type(schema, "array", LIST, path, errors);
        if !matches!(kind, "atomic" | "set" | "map") {
            errors.push(Error::not_supported(&path.child(LIST), kind, &["atomic", "set", "map"]));
        }
    }
    let item = &schema["items"];
    if list == Some("set") && item.is_object() {
        let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let inner = item[LIST].as_str();
        if text(item, "/type") == "array" && inner.is_some_and(|l| l != "atomic") {
            errors.push(Error::invalid(&path.child("items").child(LIST), inner, detail));
        }
        if text(item, "/type") == "object" && item[MAP].as_str() != Some("atomic") {
            errors.push(Error::invalid(&path.child("items").child(MAP), item[MAP].clone(), detail));
        }
    }
    let keys = items(schema, &format!("/{KEYS}"));
    if !keys.is_empty() && list != Some("map") {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        match list {
            None => errors.push(Error::required(&path.child(LIST), detail)),
            Some(other) => errors.push(Error::invalid(&path.child(LIST), other, detail)),
        }
    }
    if list == Some("map") {
        map_keys(item, keys, path, errors);
    }
    if matches!(list, Some("map" | "set")) && item["nullable"] == true {
        let detail = format!("cannot be nullable when x-kubernetes-list-type is {}", list.unwrap_or_default());
        errors.push(Error::forbidden(&path.child("items").child("nullable"), &detail));
    }
}

fn map_keys(item: &Value, keys: &[Value], path: &Path, errors: &mut ErrorList) {
    let at_keys = path.child("x-kubernetes-list-map-keys");
    if keys.is_empty() {
        errors.push(Error::required(&at_keys, "must not be empty if x-kubernetes-list-type is map"));
    }
    if !item.is_object() {
        errors.push(Error::required(&path.child("items"), "must have a schema if x-kubernetes-list-type is map"));
        return;
    }
    if text(item, "/type") != "object" {
        let detail = "must be object if parent array's x-kubernetes-list-type is map";
        errors.push(Error::invalid(&path.child("items").child("type"), text(item, "/type"), detail));
        return;
    }
    for (i, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        let at_key = path.child("items").child("properties").key(name);
        let Some(property) = item["properties"].get(name) else {
            errors.push(Error::invalid(&at_keys, keys.to_vec(), "entries must all be names of item properties"));
            continue;
        };
        if matches!(text(property, "/type"), "array" | "object") {
            let detail = "must be a scalar type if parent array's x-kubernetes-list-type is map";
            errors.push(Error::invalid(&at_key.child("type"), text(property, "/type"), detail));
        }
        if keys[..i].contains(key) {
            errors.push(Error::invalid(&at_keys, keys.to_vec(), "must not contain duplicate entries"));
        }
        if property["default"].is_null() && !items(item, "/required").contains(key) {
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(Error::required(&at_key.child("default"), detail));
        }
        if property["nullable"] == true {
            let detail = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(Error::forbidden(&at_key.child("nullable"), detail));
        }
    }
}

fn rules(schema: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, rule) in items(schema, "/x-kubernetes-validations").iter().enumerate() {
        let path = path.child("x-kubernetes-validations").index(i);
        let (rule_text, message) = (text(rule, "/rule").trim(), rule["message"].as_str());
        if rule_text.is_empty() {
            errors.push(Error::required(&path.child("rule"), "rule is not specified"));
        }
        match message {
            Some(m) if m.trim().is_empty() => errors.push(Error::invalid(&path.child("message"), m, "must be non-empty if specified")),
            Some(m) if m.trim().contains('\n') => errors.push(Error::invalid(&path.child("message"), m, "must not contain line breaks")),
            None if rule_text.contains('\n') => {
                errors.push(Error::required(&path.child("message"), "message must be specified if rule contains line breaks"));
            }
            _ => {}
        }
        if let Some(reason) = rule["reason"].as_str().filter(|r| !REASONS.contains(r)) {
            errors.push(Error::not_supported(&path.child("reason"), reason, &REASONS));
        }
        if let Some(field) = rule["fieldPath"].as_str().filter(|f| !f.is_empty() && f.trim().contains('\n')) {
            errors.push(Error::invalid(&path.child("fieldPath"), field, "must not contain line breaks"));
        }
    }
}

/// Defaults must keep what their schema asks for, and be pruned already.
fn defaults(schema: &Value, in_meta: bool, path: &Path, errors: &mut ErrorList) {
    if !schema.is_object() {
        return;
    }
    let embedded = schema["x-kubernetes-embedded-resource"] == true;
    let default = &schema["default"];
    if !default.is_null() && !in_meta {
        let path = path.child("default");
        let structural = Structural::read(schema);
        if structural.prunes(default) {
            errors.push(Error::invalid(&path, default.clone(), "must not have unknown fields"));
        }
        for error in structural.validate(default, None) {
            let at_error = match error.path.to_string().as_str() {
                "" | "<nil>" => path.clone(),
                below => path.child(below),
            };
            errors.push(Error { path: at_error, ..error });
        }
    }
    defaults(&schema["items"], in_meta, &path.child("items"), errors);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let in_meta = in_meta && !embedded || embedded && META.contains(&name.as_str());
        defaults(property, in_meta, &path.child("properties").key(name), errors);
    }
    defaults(at(schema, "/additionalProperties"), in_meta, &path.child("additionalProperties"), errors);
}

/// Formats that a definition's schemas name and nothing is checked against.
fn unknown_formats(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(members) => {
            let format = text(schema, "/format");
            if !format.is_empty() && !is_known_format(text(schema, "/type"), format) && !found.iter().any(|f| f == format) {
                found.push(format.into());
            }
            for (name, v) in members {
                match name.as_str() {
                    "properties" => v.as_object().into_iter().flatten().for_each(|(_, v)| unknown_formats(v, found)),
                    "items" | "additionalProperties" | "not" | "allOf" | "anyOf" | "oneOf" => unknown_formats(v, found),
                    _ => {}
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|v| unknown_formats(v, found)),
        _ => {}
    }
}

/// What the writer of a definition is warned of: what it says that no value is checked against, as far as it is new.
pub(crate) fn warnings(new: &Value, old: &Value) -> Vec<String> {
    let formats = |crd: &Value| {
        let mut found = Vec::new();
        items(crd, "/spec/versions").iter().for_each(|v| unknown_formats(at(v, "/schema/openAPIV3Schema"), &mut found));
        found.sort();
        found
    };
    let before = formats(old);
    formats(new).iter().filter(|f| !before.contains(f)).map(|f| format!("unrecognized format {f:?}")).collect()
}
