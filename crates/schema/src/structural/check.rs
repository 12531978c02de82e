//! Validation of objects against their schema, in the words of upstream's validator. What a change leaves as it was is not held against it.

use gantry_object::Value;
use gantry_object::field::{Error, ErrorList, Path};

use super::{Additional, Checks, JsonType, Structural, format};
use crate::model::ListKind;

/// Errors, and how much was looked at: of failed alternatives the one that got furthest is told.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) errors: ErrorList,
    pub(super) visited: usize,
}

impl Findings {
    fn add(&mut self, error: Error) {
        self.errors.push(error);
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.visited += other.visited;
    }

    /// A value of which a message says what it should be.
    fn should(&mut self, path: &str, value: &Value, what: &str) {
        self.add(Error::invalid(&Path::new(path), value.clone(), &format!("{path} in body should {what}")));
    }

    fn wrong_type(&mut self, path: &str, wanted: &str, found: &str) {
        let message = format!("{path} in body must be of type {wanted}: {found:?}");
        self.add(Error::type_invalid(&Path::new(path), found, &message));
    }
}

impl Structural {
    /// What is wrong with an object. With the object it replaces, only what changed is looked at.
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> ErrorList {
        let mut found = Findings::default();
        self.check(new, old, "", &mut found);
        let mut before = ErrorList::new();
        if let Some(old) = old {
            self.check_lists(old, &Path::default(), &mut before);
        }
        // Lists that were wrong before are left alone.
        if before.is_empty() {
            self.check_lists(new, &Path::default(), &mut found.errors);
        }
        found.errors
    }

    pub(super) fn check(&self, new: &Value, old: Option<&Value>, path: &str, found: &mut Findings) {
        found.visited += 1;
        if old == Some(new) || !self.check_type(new, path, found) {
            return;
        }
        if let Some(checks) = &self.checks {
            checks.check_junctors(new, path, found);
            match new {
                Value::String(text) => checks.check_text(self.kind, text, new, path, found),
                Value::Number(_) => checks.check_number(new, path, found),
                Value::Array(items) => checks.check_items(items.len(), path, found),
                Value::Object(members) => checks.check_members(members, path, found),
                _ => {}
            }
            checks.check_values(new, path, found);
        }
        match new {
            Value::Array(items) => self.check_each(items, old, path, found),
            Value::Object(members) => {
                for (name, v) in members {
                    let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    match (self.member(name), &self.additional) {
                        (Some(schema), _) => schema.check(v, old.and_then(|o| o.get(name)), &at, found),
                        (None, Additional::Allowed(false)) => {
                            let detail = format!("{path}.{name} in body is a forbidden property");
                            found.add(Error::invalid(&Path::new(path), name.as_str(), &detail));
                        }
                        (None, _) => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn check_each(&self, items: &[Value], old: Option<&Value>, path: &str, found: &mut Findings) {
        let Some(schema) = &self.items else { return };
        let before = old.and_then(Value::as_array);
        for (i, v) in items.iter().enumerate() {
            // Only items with keys can be told to be the same as before.
            let same = match (&self.list, before) {
                (Some(ListKind::Map(keys)), Some(before)) => before.iter().find(|b| keys.iter().all(|k| b.get(k) == v.get(k))),
                _ => None,
            };
            schema.check(v, same, &format!("{path}[{i}]"), found);
        }
    }

    /// Whether the type is right; a null that is allowed needs no further look.
    fn check_type(&self, value: &Value, path: &str, found: &mut Findings) -> bool {
        let wanted = match self.kind {
            _ if self.int_or_string => "integer,string",
            JsonType::Any => return true,
            JsonType::Boolean => "boolean",
            JsonType::Integer => "integer",
            JsonType::Number => "number",
            JsonType::String => "string",
            JsonType::Array => "array",
            JsonType::Object => "object",
        };
        let is = match value {
            Value::Null if self.nullable => return true,
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(n) if n.is_f64() && n.as_f64().is_none_or(|f| f.fract() != 0.0) => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits = wanted.split(',').any(|w| w == is || (w == "number" && is == "integer"));
        if !fits {
            found.wrong_type(path, wanted, is);
        }
        fits
    }
}

/// A number as Go prints it in messages.
fn shown(number: &Value) -> String {
    match number.as_f64() {
        Some(f) if f.fract() == 0.0 && f.abs() < 1e15 => format!("{f:.0}"),
        _ => number.to_string(),
    }
}

/// How two numbers compare; whole ones exactly.
fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
    }
}

fn is_multiple(value: &Value, factor: &Value) -> bool {
    match (value.as_i64(), factor.as_i64(), factor.as_f64()) {
        (Some(value), Some(factor), _) if factor != 0 => value % factor == 0,
        (_, _, Some(factor)) if factor != 0.0 => (value.as_f64().unwrap_or_default() / factor).fract() == 0.0,
        _ => true,
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Checks {
    fn check_text(&self, kind: JsonType, text: &str, value: &Value, path: &str, found: &mut Findings) {
        let length = count(text.chars().count());
        if let Some(max) = self.max_length.filter(|m| length > *m) {
            found.add(Error::too_long(&Path::new(path), usize::try_from(max).unwrap_or(0)));
        }
        if let Some(min) = self.min_length.filter(|m| length < *m) {
            found.should(path, value, &format!("be at least {min} chars long"));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|p| !p.matches(text)) {
            found.should(path, value, &format!("match '{}'", pattern.text));
        }
        let has_format = matches!(kind, JsonType::Any | JsonType::String) && !self.format.is_empty();
        if has_format && !format::fits(&self.format, text) {
            found.wrong_type(path, &self.format, text);
        }
    }

    fn check_number(&self, value: &Value, path: &str, found: &mut Findings) {
        use std::cmp::Ordering::{Equal, Greater, Less};
        if let Some(factor) = self.multiple_of.as_ref().filter(|f| !is_multiple(value, f)) {
            found.should(path, value, &format!("be a multiple of {}", shown(factor)));
        }
        if let Some(max) = &self.maximum {
            match (compare(value, max), self.exclusive_maximum) {
                (Greater, false) => found.should(path, value, &format!("be less than or equal to {}", shown(max))),
                (Greater | Equal, true) => found.should(path, value, &format!("be less than {}", shown(max))),
                _ => {}
            }
        }
        if let Some(min) = &self.minimum {
            match (compare(value, min), self.exclusive_minimum) {
                (Less, false) => found.should(path, value, &format!("be greater than or equal to {}", shown(min))),
                (Less | Equal, true) => found.should(path, value, &format!("be greater than {}", shown(min))),
                _ => {}
            }
        }
    }

    fn check_items(&self, items: usize, path: &str, found: &mut Findings) {
        if let Some(min) = self.min_items.filter(|m| count(items) < *m) {
            found.should(path, &items.into(), &format!("have at least {min} items"));
        }
        if let Some(max) = self.max_items.filter(|m| count(items) > *m) {
            found.add(Error::too_many(&Path::new(path), items, usize::try_from(max).unwrap_or(0)));
        }
    }

    fn check_members(&self, members: &gantry_object::Map, path: &str, found: &mut Findings) {
        if let Some(min) = self.min_properties.filter(|m| count(members.len()) < *m) {
            found.should(path, &members.len().into(), &format!("have at least {min} properties"));
        }
        if let Some(max) = self.max_properties.filter(|m| count(members.len()) > *m) {
            found.add(Error::too_many(&Path::new(path), members.len(), usize::try_from(max).unwrap_or(0)));
        }
        for name in self.required.iter().filter(|n| !members.contains_key(n.as_str())) {
            found.add(Error::required(&Path::new(path).child(name), ""));
        }
    }

    fn check_values(&self, value: &Value, path: &str, found: &mut Findings) {
        let equal = |allowed: &Value| allowed == value || (allowed.is_number() && value.is_number() && compare(allowed, value).is_eq());
        if self.values.is_empty() || self.values.iter().any(equal) {
            return;
        }
        let texts: Vec<String> = self.values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), String::from)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        found.add(Error::not_supported(&Path::new(path), value.clone(), &texts));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(schema: Value, value: Value, expected: &[&str]) {
        let errors: Vec<String> = Structural::read(&schema).validate(&value, None).iter().map(ToString::to_string).collect();
        assert_eq!(errors, expected);
    }

    fn of(schema: Value) -> Value {
        json!({"type": "object", "properties": {"x": schema}})
    }

    #[test]
    fn values_are_refused_in_upstreams_words() {
        let integer = of(json!({"type": "integer", "minimum": 1, "maximum": 5, "exclusiveMaximum": true}));
        check(integer.clone(), json!({"x": 2}), &[]);
        check(integer.clone(), json!({"x": 0}), &["x: Invalid value: 0: x in body should be greater than or equal to 1"]);
        check(integer.clone(), json!({"x": 5}), &["x: Invalid value: 5: x in body should be less than 5"]);
        check(integer, json!({"x": "a"}), &["x: Invalid value: \"string\": x in body must be of type integer: \"string\""]);
        let text = of(json!({"type": "string", "pattern": "^a+$", "maxLength": 3, "minLength": 1}));
        check(text.clone(), json!({"x": "b"}), &["x: Invalid value: \"b\": x in body should match '^a+$'"]);
        check(text.clone(), json!({"x": "aaaa"}), &["x: Too long: may not be more than 3 bytes"]);
        check(text, json!({"x": null}), &["x: Invalid value: \"null\": x in body must be of type string: \"null\""]);
        check(
            of(json!({"type": "string", "enum": ["a", "b"]})),
            json!({"x": "c"}),
            &["x: Unsupported value: \"c\": supported values: \"a\", \"b\""],
        );
        check(
            of(json!({"type": "array", "minItems": 1, "items": {"type": "string"}})),
            json!({"x": []}),
            &["x: Invalid value: 0: x in body should have at least 1 items"],
        );
        check(of(json!({"type": "object", "required": ["y"]})), json!({"x": {}}), &["x.y: Required value"]);
        check(
            of(json!({"type": "number", "multipleOf": 0.5})),
            json!({"x": 1.25}),
            &["x: Invalid value: 1.25: x in body should be a multiple of 0.5"],
        );
        check(
            of(json!({"type": "string", "format": "date-time"})),
            json!({"x": "soon"}),
            &["x: Invalid value: \"soon\": x in body must be of type date-time: \"soon\""],
        );
        check(
            of(json!({"x-kubernetes-int-or-string": true})),
            json!({"x": true}),
            &["x: Invalid value: \"boolean\": x in body must be of type integer,string: \"boolean\""],
        );
        check(of(json!({"type": "integer", "format": "int64", "nullable": true})), json!({"x": null}), &[]);
    }

    #[test]
    fn alternatives_are_weighed() {
        let one = of(
            json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "oneOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        );
        check(one.clone(), json!({"x": {"a": ""}}), &[]);
        check(
            one.clone(),
            json!({"x": {}}),
            &["<nil>: Invalid value: \"\": \"x\" must validate one and only one schema (oneOf). Found none valid", "x.a: Required value"],
        );
        check(
            one,
            json!({"x": {"a": "", "b": ""}}),
            &["<nil>: Invalid value: \"\": \"x\" must validate one and only one schema (oneOf). Found 2 valid alternatives"],
        );
        let not = of(json!({"type": "string", "not": {"enum": ["a"]}}));
        check(not, json!({"x": "a"}), &["<nil>: Invalid value: \"\": \"x\" must not validate the schema (not)"]);
    }

    #[test]
    fn sets_and_maps_hold_nothing_twice() {
        let set = of(json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}}));
        check(set, json!({"x": ["a", "b", "a", "a"]}), &["x[2]: Duplicate value: \"a\""]);
        let item = json!({"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "string"}}});
        let map = of(json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": item}));
        check(map, json!({"x": [{"k": "a"}, {"k": "a", "v": "b"}]}), &["x[1]: Duplicate value: {\"k\":\"a\"}"]);
    }

    #[test]
    fn what_was_wrong_before_is_not_held_against_a_change() {
        let schema =
            json!({"type": "object", "properties": {"x": {"type": "integer", "minimum": 5}, "y": {"type": "integer", "minimum": 5}}});
        let schema = Structural::read(&schema);
        assert!(schema.validate(&json!({"x": 1, "y": 6}), Some(&json!({"x": 1, "y": 5}))).is_empty());
        assert_eq!(schema.validate(&json!({"x": 2, "y": 6}), Some(&json!({"x": 1, "y": 5}))).len(), 1);
    }
}
