//! What schemas say of values: their types and how large they may be.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_object::Value;
use gantry_schema::ListKind;

use crate::escape::escape;
use crate::types::Type;

/// The largest request, in bytes: what bounds what nothing else does.
pub const LARGEST_REQUEST: i64 = 3 * 1024 * 1024;

/// What every object has.
const META: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// What a schema says of a value.
#[derive(Debug)]
pub struct Decl {
    /// Its type.
    pub kind: DeclKind,
    /// How many elements, entries, bytes or characters it has at most.
    pub max: i64,
    /// How many bytes it takes at least, as JSON.
    pub min_size: i64,
}

/// The type a schema asks for.
#[derive(Debug)]
pub enum DeclKind {
    /// Any.
    Dyn,
    /// true or false.
    Bool,
    /// A whole number.
    Int,
    /// A number.
    Double,
    /// A text.
    String,
    /// Bytes, written in base 64.
    Bytes,
    /// A time, or a day when so.
    Timestamp {
        /// Written without the time of day.
        day: bool,
    },
    /// A length of time.
    Duration,
    /// A list.
    List(Arc<Decl>, ListKind),
    /// Named values of one type.
    Map(Arc<Decl>),
    /// An object.
    Object(ObjectDecl),
}

/// An object's fields.
#[derive(Debug)]
pub struct ObjectDecl {
    /// The name of its type.
    pub name: Arc<str>,
    /// By the name that expressions use.
    pub fields: BTreeMap<Box<str>, FieldDecl>,
}

/// A field of an object.
#[derive(Debug)]
pub struct FieldDecl {
    /// Its name in JSON.
    pub json: Box<str>,
    /// What is said of it.
    pub decl: Arc<Decl>,
}

impl Decl {
    /// A type of no bounded size.
    pub fn new(kind: DeclKind) -> Self {
        Self { kind, max: -1, min_size: 0 }
    }

    /// The type of expressions of it.
    pub fn ty(&self) -> Type {
        match &self.kind {
            DeclKind::Dyn => Type::Dyn,
            DeclKind::Bool => Type::Bool,
            DeclKind::Int => Type::Int,
            DeclKind::Double => Type::Double,
            DeclKind::String => Type::String,
            DeclKind::Bytes => Type::Bytes,
            DeclKind::Timestamp { .. } => Type::Timestamp,
            DeclKind::Duration => Type::Duration,
            DeclKind::List(of, _) => Type::list(of.ty()),
            DeclKind::Map(of) => Type::map(Type::String, of.ty()),
            DeclKind::Object(object) => Type::Named(object.name.clone()),
        }
    }

    /// An object of these fields, for types that no schema describes.
    pub fn object(name: &str, fields: impl IntoIterator<Item = (&'static str, Arc<Self>)>) -> Self {
        let fields = fields.into_iter().map(|(json, decl)| (json.into(), FieldDecl { json: json.into(), decl })).collect();
        Self::new(DeclKind::Object(ObjectDecl { name: name.into(), fields }))
    }

    /// A list of these.
    pub fn list(of: Arc<Self>) -> Self {
        Self::new(DeclKind::List(of, ListKind::Atomic))
    }

    /// Named values of this type.
    pub fn map(of: Arc<Self>) -> Self {
        Self::new(DeclKind::Map(of))
    }

    /// The types of items of lists and of maps' values.
    pub fn element(&self) -> Option<&Arc<Self>> {
        match &self.kind {
            DeclKind::List(of, _) | DeclKind::Map(of) => Some(of),
            _ => None,
        }
    }

    /// A field by the name that expressions use.
    pub fn field(&self, name: &str) -> Option<&Arc<Self>> {
        match &self.kind {
            DeclKind::Object(object) => object.fields.get(name).map(|f| &f.decl),
            _ => None,
        }
    }

    /// What a structural schema says; `None` when expressions don't see its values. `root`: of whole objects, with their metadata.
    pub fn of_schema(schema: &Value, root: bool, name: &str) -> Option<Self> {
        if schema["x-kubernetes-int-or-string"] == true {
            let max = schema["maxLength"].as_i64().map_or(LARGEST_REQUEST - 2, |n| n.max(0).saturating_mul(4));
            return Some(Self { kind: DeclKind::Dyn, max, min_size: 1 });
        }
        let scalar = |kind, min_size| Some(Self { kind, max: -1, min_size });
        let kind = schema["type"].as_str().unwrap_or(if root { "object" } else { "" });
        match kind {
            "array" => Self::of_array(schema, name),
            "object" => Self::of_object(schema, root, name),
            "string" => Some(Self::of_text(schema)),
            "boolean" => scalar(DeclKind::Bool, 4),
            "number" => scalar(DeclKind::Double, 1),
            "integer" => scalar(DeclKind::Int, 1),
            _ => None,
        }
    }

    fn below(schema: &Value, name: &str) -> Option<Self> {
        Self::of_schema(schema, schema["x-kubernetes-embedded-resource"] == true, name)
    }

    fn of_array(schema: &Value, name: &str) -> Option<Self> {
        let item = Self::below(schema.get("items").filter(|i| i.is_object())?, &format!("{name}.@idx"))?;
        let max = schema["maxItems"].as_i64().map_or((LARGEST_REQUEST - 2) / (item.min_size + 1), |n| n.max(0));
        let keys = || schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(|k| k.as_str().map(String::from));
        let list = match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => ListKind::Set,
            Some("map") => ListKind::Map(keys().collect()),
            _ => ListKind::Atomic,
        };
        Some(Self { kind: DeclKind::List(Arc::new(item), list), max, min_size: 2 })
    }

    fn of_object(schema: &Value, root: bool, name: &str) -> Option<Self> {
        if let Some(additional) = schema.get("additionalProperties").filter(|a| a.is_object()) {
            let value = Self::below(additional, &format!("{name}.@elem"))?;
            let max = schema["maxProperties"].as_i64().map_or((LARGEST_REQUEST - 2) / (value.min_size + 6), |n| n.max(0));
            return Some(Self { kind: DeclKind::Map(Arc::new(value)), max, min_size: 2 });
        }
        let mut fields = BTreeMap::new();
        let mut min_size = 2;
        let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        for (json, property) in schema["properties"].as_object().into_iter().flatten() {
            if root && META.contains(&json.as_str()) {
                continue;
            }
            let Some(decl) = Self::below(property, &format!("{name}.{json}")) else { continue };
            if property["default"].is_null() && required.iter().any(|r| r == json) {
                min_size += json.len() as i64 + decl.min_size + 4;
            }
            add(&mut fields, json, decl);
        }
        if root {
            min_size += add_meta(&mut fields, name, schema);
        }
        Some(Self { kind: DeclKind::Object(ObjectDecl { name: name.into(), fields }), max: -1, min_size })
    }

    fn of_text(schema: &Value) -> Self {
        let largest = LARGEST_REQUEST - 2;
        let (kind, max, min_size) = match schema["format"].as_str().unwrap_or_default() {
            "byte" => (DeclKind::Bytes, schema["maxLength"].as_i64().map_or(largest, |n| n.max(0)), 2),
            "duration" => (DeclKind::Duration, 32, 3),
            "date" => (DeclKind::Timestamp { day: true }, 12, 12),
            "date-time" => (DeclKind::Timestamp { day: false }, 32, 21),
            _ => {
                let values = schema["enum"].as_array().filter(|v| !v.is_empty());
                let longest = values.map(|v| v.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0) as i64);
                // Lengths are said in characters, of up to four bytes.
                let max = schema["maxLength"].as_i64().map(|n| n.max(0).saturating_mul(4)).or(longest).unwrap_or(largest);
                (DeclKind::String, max, 2)
            }
        };
        Self { kind, max, min_size }
    }
}

fn add(fields: &mut BTreeMap<Box<str>, FieldDecl>, json: &str, decl: Decl) {
    if let Some(escaped) = escape(json) {
        fields.insert(escaped.into(), FieldDecl { json: json.into(), decl: Arc::new(decl) });
    }
}

/// Expressions see no more of the metadata than the names, whatever the schema says.
fn add_meta(fields: &mut BTreeMap<Box<str>, FieldDecl>, name: &str, schema: &Value) -> i64 {
    let properties = &schema["properties"];
    let said = &properties["metadata"]["properties"];
    let is_text = |schema: &Value| schema["type"] == "string";
    let whole = [&properties["kind"], &properties["apiVersion"], &said["name"], &said["generateName"]].into_iter().all(is_text);
    let text = |schema: &Value| Decl::of_text(if whole { schema } else { &Value::Null });
    for member in ["apiVersion", "kind"] {
        add(fields, member, text(&properties[member]));
    }
    let mut names = BTreeMap::new();
    for member in ["name", "generateName"] {
        add(&mut names, member, text(&said[member]));
    }
    let metadata = ObjectDecl { name: format!("{name}.metadata").into(), fields: names };
    add(fields, "metadata", Decl { kind: DeclKind::Object(metadata), max: -1, min_size: 2 });
    let required = schema["required"].as_array().map_or(&[][..], Vec::as_slice);
    required.iter().filter_map(Value::as_str).filter(|r| META.contains(r)).map(|r| r.len() as i64 + 6).sum()
}
