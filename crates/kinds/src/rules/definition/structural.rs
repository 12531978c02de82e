//! What makes a schema structural: every value has one type, said in one place.

use gantry_object::Value;
use gantry_object::field::{Error, ErrorList, Path};
use gantry_schema::structural::check_pattern;
use serde_json::json;

use crate::tree::{items, text};

const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// Where in its parent a schema stands.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What keeps a schema from being structural.
pub(super) fn validate(schema: &Value, path: &Path, errors: &mut ErrorList) {
    invariants(schema, Level::Root, path, errors);
    complete(schema, schema, path, errors);
}

fn is(schema: &Value, word: &str) -> bool {
    schema[word] == true
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn invariants(schema: &Value, level: Level, path: &Path, errors: &mut ErrorList) {
    if !schema.is_object() {
        return;
    }
    let kind = text(schema, "/type");
    if kind == "array" && !schema["items"].is_object() {
        errors.push(Error::required(&path.child("items"), "must be specified"));
    }
    invariants(&schema["items"], Level::Item, &path.child("items"), errors);
    for (name, property) in properties(schema) {
        invariants(property, Level::Field, &path.child("properties").key(name), errors);
    }
    let additional = &schema["additionalProperties"];
    if !additional.is_null() {
        if level == Level::Root {
            errors.push(Error::forbidden(&path.child("additionalProperties"), "must not be used at the root"));
        }
        invariants(additional, Level::Field, &path.child("additionalProperties"), errors);
    }
    for word in [PRESERVES, EMBEDDED] {
        if is(schema, INT_OR_STRING) && is(schema, word) {
            errors.push(Error::invalid(&path.child(word), true, "must be false if x-kubernetes-int-or-string is true"));
        }
    }
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let skips_any = is(schema, INT_OR_STRING) && schema["anyOf"] == either;
    let skips_first_all = is(schema, INT_OR_STRING) && schema["allOf"][0]["anyOf"] == either;
    values(schema, skips_any, skips_first_all, path, errors);
    typed(schema, level, path, errors);
    whole_objects(schema, level, path, errors);
}

/// Everything has a type, but what may be anything.
fn typed(schema: &Value, level: Level, path: &Path, errors: &mut ErrorList) {
    let kind = text(schema, "/type");
    let at_type = path.child("type");
    if is(schema, EMBEDDED) && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        match kind {
            "" => errors.push(Error::required(&at_type, detail)),
            other => errors.push(Error::invalid(&at_type, other, detail)),
        }
    } else if kind.is_empty() && !is(schema, INT_OR_STRING) && !is(schema, PRESERVES) {
        errors.push(Error::required(
            &at_type,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        ));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(Error::invalid(&at_type, kind, "must be object at the root"));
    }
}

/// Objects with apiVersion, kind and metadata.
fn whole_objects(schema: &Value, level: Level, path: &Path, errors: &mut ErrorList) {
    let embedded = is(schema, EMBEDDED);
    if embedded && !schema["additionalProperties"].is_null() {
        errors.push(Error::forbidden(&path.child("additionalProperties"), "must not be used if x-kubernetes-embedded-resource is set"));
    }
    if embedded && !is(schema, PRESERVES) && properties(schema).next().is_none() {
        let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(Error::required(&path.child("properties"), detail));
    }
    if level != Level::Root && !embedded {
        return;
    }
    for (name, wanted) in [("kind", "string"), ("apiVersion", "string"), ("metadata", "object")] {
        let Some(property) = schema["properties"].get(name) else { continue };
        let path = path.child("properties").key(name);
        if text(property, "/type") != wanted {
            errors.push(Error::invalid(&path.child("type"), text(property, "/type"), &format!("must be {wanted}")));
        }
        if name == "metadata" && level == Level::Root && !says_only_names(property) {
            let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
            errors.push(Error::forbidden(&path, detail));
        }
    }
}

fn says_only_names(metadata: &Value) -> bool {
    let words = metadata.as_object().into_iter().flatten();
    let only = words.map(|(k, _)| k.as_str()).all(|k| matches!(k, "type" | "properties" | "default" | "description"));
    // A description is part of what upstream compares, a type and a default are not.
    only && metadata.get("description").is_none() && properties(metadata).all(|(name, _)| matches!(name.as_str(), "name" | "generateName"))
}

fn values(schema: &Value, skips_any: bool, skips_first_all: bool, path: &Path, errors: &mut ErrorList) {
    for word in ["anyOf", "allOf", "oneOf"] {
        if word == "anyOf" && skips_any {
            continue;
        }
        for (i, inner) in items(schema, &format!("/{word}")).iter().enumerate() {
            nested(inner, word == "allOf" && i == 0 && skips_first_all, &path.child(word).index(i), errors);
        }
    }
    nested(&schema["not"], false, &path.child("not"), errors);
    if let Some(pattern) = schema["pattern"].as_str()
        && let Err(problem) = check_pattern(pattern)
    {
        let detail = format!("must be a valid regular expression, but isn't: {problem}");
        errors.push(Error::invalid(&path.child("pattern"), pattern, &detail));
    }
}

/// A schema inside alternatives: it checks values and declares nothing.
fn nested(schema: &Value, skips_any: bool, path: &Path, errors: &mut ErrorList) {
    if !schema.is_object() {
        return;
    }
    values(schema, skips_any, false, path, errors);
    nested(&schema["items"], false, &path.child("items"), errors);
    for (name, property) in properties(schema) {
        nested(property, false, &path.child("properties").key(name), errors);
    }
    for word in ["type", "title", "description"] {
        if !text(schema, &format!("/{word}")).is_empty() {
            errors.push(Error::forbidden(&path.child(word), "must be empty to be structural"));
        }
    }
    for word in ["additionalProperties", "default", "x-kubernetes-list-type", "x-kubernetes-map-type"] {
        if !schema[word].is_null() {
            errors.push(Error::forbidden(&path.child(word), "must be undefined to be structural"));
        }
    }
    for word in ["nullable", PRESERVES, EMBEDDED, INT_OR_STRING] {
        if is(schema, word) {
            errors.push(Error::forbidden(&path.child(word), "must be false to be structural"));
        }
    }
    for word in ["x-kubernetes-list-map-keys", "x-kubernetes-validations"] {
        if !items(schema, &format!("/{word}")).is_empty() {
            errors.push(Error::forbidden(&path.child(word), "must be empty to be structural"));
        }
    }
    if schema["properties"].get("metadata").is_some() {
        errors.push(Error::forbidden(&path.child("properties").key("metadata"), "must not be specified in a nested context"));
    }
}

/// What alternatives name must be declared outside of them too. `whole` is the declaring schema where `part` stands.
fn complete(whole: &Value, part: &Value, path: &Path, errors: &mut ErrorList) {
    for word in ["anyOf", "allOf", "oneOf"] {
        for (i, inner) in items(part, &format!("/{word}")).iter().enumerate() {
            named(whole, inner, &path.child(word).index(i), path, errors);
        }
    }
    if part["not"].is_object() {
        named(whole, &part["not"], &path.child("not"), path, errors);
    }
    if std::ptr::eq(whole, part) {
        for (name, property) in properties(whole) {
            complete(property, property, &path.child("properties").key(name), errors);
        }
        for word in ["items", "additionalProperties"] {
            let inner = &whole[word];
            if inner.is_object() {
                complete(inner, inner, &path.child(word), errors);
            }
        }
    }
}

fn named(whole: &Value, part: &Value, path: &Path, declared: &Path, errors: &mut ErrorList) {
    for (name, inner) in properties(part) {
        let (at_part, at_whole) = (path.child("properties").key(name), declared.child("properties").key(name));
        match whole["properties"].get(name).or(whole.get("additionalProperties").filter(|a| a.is_object())) {
            Some(property) => named(property, inner, &at_part, &at_whole, errors),
            None if *part != json!({}) && !is(whole, PRESERVES) => {
                errors.push(Error::required(&at_whole, &format!("because it is defined in {at_part}")));
            }
            None => {}
        }
    }
    if part["items"].is_object() {
        let (at_part, at_whole) = (path.child("items"), declared.child("items"));
        match whole.get("items").filter(|i| i.is_object()) {
            Some(items) => named(items, &part["items"], &at_part, &at_whole, errors),
            None => errors.push(Error::required(&at_whole, &format!("because it is defined in {at_part}"))),
        }
    }
    complete(whole, part, path, errors);
}
