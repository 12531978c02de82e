//! Schemas of custom resources: what a definition says of its objects, and everything done by walking it.
//!
//! A [`Structural`] is made from the `openAPIV3Schema` of a definition, which the `kinds` room has found to be structural. Objects are pruned and
//! completed ([`Structural::conform`], [`Structural::apply_defaults`]) and checked ([`Structural::validate`]); schema documents are made from
//! the definition's own text ([`document`]).

mod check;
mod document;
mod format;
mod junctors;
mod lists;
mod shape;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use gantry_object::{Map, Value};
use regex::Regex;

pub use document::document;
pub use format::is_known as is_known_format;

use crate::model::ListKind;

/// The largest compiled pattern, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;

/// The JSON type a schema asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JsonType {
    /// None in particular.
    #[default]
    Any,
    /// true or false.
    Boolean,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A text.
    String,
    /// A list.
    Array,
    /// An object.
    Object,
}

/// What `additionalProperties` says.
#[derive(Debug, Default)]
enum Additional {
    /// Nothing.
    #[default]
    Unsaid,
    /// Whether there may be any.
    Allowed(bool),
    /// What they must be.
    Schema(Box<Structural>),
}

/// A schema of a custom resource, or of a value in it.
#[derive(Debug, Default)]
pub struct Structural {
    kind: JsonType,
    nullable: bool,
    preserves: bool,
    embedded: bool,
    int_or_string: bool,
    default: Option<Value>,
    properties: BTreeMap<Box<str>, Structural>,
    additional: Additional,
    items: Option<Box<Structural>>,
    list: Option<ListKind>,
    checks: Option<Box<Checks>>,
}

/// What a value must keep beyond its type.
#[derive(Debug, Default)]
struct Checks {
    format: String,
    pattern: Option<Pattern>,
    values: Vec<Value>,
    minimum: Option<Value>,
    exclusive_minimum: bool,
    maximum: Option<Value>,
    exclusive_maximum: bool,
    multiple_of: Option<Value>,
    min_length: Option<i64>,
    max_length: Option<i64>,
    min_items: Option<i64>,
    max_items: Option<i64>,
    min_properties: Option<i64>,
    max_properties: Option<i64>,
    required: Vec<String>,
    all_of: Vec<Structural>,
    any_of: Vec<Structural>,
    one_of: Vec<Structural>,
    not: Option<Box<Structural>>,
}

/// A pattern, compiled when it is first needed: most definitions' never are.
#[derive(Debug)]
struct Pattern {
    text: String,
    compiled: OnceLock<Option<Regex>>,
}

/// A pattern of Go's in Rust's syntax, which lacks quoting by \Q…\E and has all else that Go's has.
fn translated(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, quoted)) = rest.split_once(r"\Q") {
        plain.push_str(before);
        let (literal, after) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
        plain.push_str(&regex::escape(literal));
        rest = after;
    }
    plain.push_str(rest);
    plain
}

/// Checks that a pattern is a regular expression, without the cost of compiling it.
///
/// # Errors
/// What is wrong with the pattern.
pub fn check_pattern(text: &str) -> Result<(), String> {
    let parsed = regex_syntax::Parser::new().parse(&translated(text));
    parsed.map(drop).map_err(|problem| problem.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned())
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        let compiled =
            self.compiled.get_or_init(|| regex::RegexBuilder::new(&translated(&self.text)).size_limit(LARGEST_PATTERN).build().ok());
        compiled.as_ref().is_none_or(|r| r.is_match(text))
    }
}

impl Structural {
    /// Reads a schema, as a definition's `openAPIV3Schema` holds it. What is not a structural schema is read as far as it is one.
    pub fn read(schema: &Value) -> Self {
        let Some(members) = schema.as_object() else { return Self::default() };
        let is = |name: &str| members.get(name) == Some(&Value::Bool(true));
        let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
        let properties = members.get("properties").and_then(Value::as_object);
        Self {
            kind: json_type(text("type")),
            nullable: is("nullable"),
            preserves: is("x-kubernetes-preserve-unknown-fields"),
            embedded: is("x-kubernetes-embedded-resource"),
            int_or_string: is("x-kubernetes-int-or-string"),
            default: members.get("default").filter(|d| !d.is_null()).cloned(),
            properties: properties.into_iter().flatten().map(|(name, s)| (name.as_str().into(), Self::read(s))).collect(),
            additional: match members.get("additionalProperties") {
                Some(Value::Bool(allowed)) => Additional::Allowed(*allowed),
                Some(schema @ Value::Object(_)) => Additional::Schema(Box::new(Self::read(schema))),
                _ => Additional::Unsaid,
            },
            items: members.get("items").filter(|i| i.is_object()).map(|i| Box::new(Self::read(i))),
            list: match text("x-kubernetes-list-type") {
                "set" => Some(ListKind::Set),
                "map" => Some(ListKind::Map(texts(members, "x-kubernetes-list-map-keys"))),
                "atomic" => Some(ListKind::Atomic),
                _ => None,
            },
            checks: Checks::read(members).map(Box::new),
        }
    }

    /// The schema of a member, declared or additional.
    fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
    }

    /// The default of the schema itself.
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_ref()
    }
}

fn json_type(name: &str) -> JsonType {
    match name {
        "boolean" => JsonType::Boolean,
        "integer" => JsonType::Integer,
        "number" => JsonType::Number,
        "string" => JsonType::String,
        "array" => JsonType::Array,
        "object" => JsonType::Object,
        _ => JsonType::Any,
    }
}

fn texts(members: &Map, name: &str) -> Vec<String> {
    members.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(|v| v.as_str().map(String::from)).collect()
}

impl Checks {
    /// The checks a schema has; `None` when it has none.
    fn read(members: &Map) -> Option<Self> {
        const KEYWORDS: [&str; 17] = [
            "format",
            "pattern",
            "enum",
            "minimum",
            "maximum",
            "multipleOf",
            "minLength",
            "maxLength",
            "minItems",
            "maxItems",
            "minProperties",
            "maxProperties",
            "required",
            "allOf",
            "anyOf",
            "oneOf",
            "not",
        ];
        if !KEYWORDS.iter().any(|k| members.contains_key(*k)) {
            return None;
        }
        let is = |name: &str| members.get(name) == Some(&Value::Bool(true));
        let text = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
        let count = |name: &str| members.get(name).and_then(Value::as_i64);
        let number = |name: &str| members.get(name).filter(|v| v.is_number()).cloned();
        let list = |name: &str| members.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let schemas = |name: &str| list(name).iter().map(Structural::read).collect();
        let pattern = Some(text("pattern")).filter(|p| !p.is_empty());
        Some(Self {
            format: text("format").into(),
            pattern: pattern.map(|p| Pattern { text: p.into(), compiled: OnceLock::new() }),
            values: list("enum").to_vec(),
            minimum: number("minimum"),
            exclusive_minimum: is("exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: is("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: texts(members, "required"),
            all_of: schemas("allOf"),
            any_of: schemas("anyOf"),
            one_of: schemas("oneOf"),
            not: members.get("not").filter(|n| n.is_object()).map(|n| Box::new(Structural::read(n))),
        })
    }
}
