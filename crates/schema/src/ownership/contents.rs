//! What an apply configuration says: the fields it names, and what is wrong with it.

use std::collections::BTreeSet;

use gantry_object::Value;

use super::open::{Object, Open, Scalar};
use super::set::{Element, FieldSet, Node};
use super::shape::{Shape, is_vacant, open_shape};
use crate::model::{self, Schema, TypeId};

impl Schema {
    /// The fields an object names: every leaf, every item of a list, every member of a map.
    pub(super) fn fields(&self, shape: Shape<'_>, object: &Value) -> FieldSet {
        self.named(shape, object).below
    }

    fn named(&self, shape: Shape<'_>, value: &Value) -> Node {
        let mut node = Node::default();
        match (shape, value) {
            (Shape::Whole, _) => node.member = true,
            (Shape::Unknown, Value::Null) => {}
            (Shape::Struct(_) | Shape::Map(_) | Shape::Open(..) | Shape::Unknown, Value::Object(members)) => {
                for (name, value) in members {
                    let inner = self.member_shape(shape, name).unwrap_or(Shape::Unknown);
                    let mut below = self.named(inner, value);
                    let is_hollow = value.is_null() || value.is_object() && is_vacant(Some(value));
                    below.member |= is_hollow || !shape.declares(name);
                    node.below.insert(Element::field(name), below);
                }
            }
            (Shape::Set | Shape::Keyed(..), Value::Array(items)) => node.below = self.named_items(shape, items),
            (Shape::Unknown, _) => node.member = true,
            // Of the wrong type, or nothing at all.
            _ => {}
        }
        node
    }

    fn named_items(&self, shape: Shape<'_>, items: &[Value]) -> FieldSet {
        let mut set = FieldSet::default();
        let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
        let elements: Vec<Option<Element>> = items.iter().map(|item| self.item_element(shape, item).ok()).collect();
        for element in elements.iter().flatten() {
            if !seen.insert(element) {
                twice.insert(element);
            }
        }
        for (element, item) in elements.iter().zip(items) {
            let Some(element) = element else { continue };
            // Items that cannot be told apart are owned as one.
            let below = if twice.contains(element) { FieldSet::default() } else { self.named(self.item_shape(shape), item).below };
            set.insert(element.clone(), Node { member: true, below });
        }
        set
    }

    /// What is wrong with an apply configuration, in the words clients see; `None` when it fits its type.
    pub(super) fn misfit(&self, ty: TypeId, open: Option<&Open>, config: &Value) -> Option<String> {
        let mut check = Check { schema: self, path: String::new(), problems: Vec::new() };
        match open {
            Some(open) => check.open(open, ty, config),
            None => check.value(ty, self.shape(ty), config),
        }
        match check.problems.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            many => Some(format!("errors:\n  {}", many.join("\n  "))),
        }
    }
}

struct Check<'s> {
    schema: &'s Schema,
    path: String,
    problems: Vec<String>,
}

impl Check<'_> {
    fn problem(&mut self, why: impl std::fmt::Display) {
        let path = &self.path;
        self.problems.push(if path.is_empty() { why.to_string() } else { format!("{path}: {why}") });
    }

    fn within(&mut self, step: impl std::fmt::Display, check: impl FnOnce(&mut Self)) {
        let here = self.path.len();
        self.path.push_str(&step.to_string());
        check(self);
        self.path.truncate(here);
    }

    fn value(&mut self, ty: TypeId, shape: Shape<'_>, value: &Value) {
        if value.is_null() {
            return;
        }
        match (self.schema.node(ty), value) {
            (model::Node::Struct(s), Value::Object(members)) => {
                for (name, value) in members {
                    let Some(field) = s.field(name) else {
                        self.within(format_args!(".{name}"), |check| check.problem("field not declared in schema"));
                        return;
                    };
                    let inner = self.schema.field_shape(field);
                    self.within(format_args!(".{name}"), |check| check.value(field.ty, inner, value));
                }
            }
            (model::Node::Map(item), Value::Object(members)) => {
                let inner = self.schema.shape(*item);
                for (name, value) in members {
                    self.within(format_args!(".{name}"), |check| check.value(*item, inner, value));
                }
            }
            (model::Node::Struct(_) | model::Node::Map(_), other) => self.problem(format_args!("expected map, got {}", shown(other))),
            (model::Node::List(item) | model::Node::Wrapped(item), Value::Array(items)) => self.items(*item, shape, items),
            (model::Node::List(_) | model::Node::Wrapped(_), other) => self.problem(format_args!("expected list, got {}", shown(other))),
            (node, value) => self.scalar(node, value),
        }
    }

    /// What a definition says of a value.
    fn open(&mut self, open: &Open, meta: TypeId, value: &Value) {
        match (open, value) {
            (_, Value::Null) | (Open::Unknown | Open::Whole, _) => {}
            (Open::Scalar(scalar), value) => self.open_scalar(*scalar, value),
            (Open::Object(object), Value::Object(members)) => self.open_members(object, meta, members),
            (Open::Object(_), other) => self.problem(format_args!("expected map, got {}", shown(other))),
            (Open::Set(scalar), Value::Array(items)) => {
                self.told_apart(open_shape(open, meta), items, |check, item| check.open_scalar(*scalar, item))
            }
            (Open::Keyed(keyed), Value::Array(items)) => {
                self.told_apart(open_shape(open, meta), items, |check, item| check.open(&keyed.item, meta, item));
            }
            (Open::Set(_) | Open::Keyed(_), other) => self.problem(format_args!("expected list, got {}", shown(other))),
        }
    }

    fn open_members(&mut self, object: &Object, meta: TypeId, members: &gantry_object::Map) {
        for (name, value) in members {
            let named = object.properties.get(name.as_str()).map(|(open, _)| open);
            match (name.as_str(), named.or(object.others.as_ref())) {
                ("metadata", _) if object.embedded => {
                    self.within(".metadata", |check| check.value(meta, check.schema.shape(meta), value));
                }
                ("apiVersion" | "kind", _) if object.embedded => {}
                (_, Some(open)) => self.within(format_args!(".{name}"), |check| check.open(open, meta, value)),
                (_, None) => {
                    self.within(format_args!(".{name}"), |check| check.problem("field not declared in schema"));
                    return;
                }
            }
        }
    }

    fn open_scalar(&mut self, scalar: Scalar, value: &Value) {
        let node = match scalar {
            Scalar::Any => model::Node::IntOrString,
            Scalar::Boolean => model::Node::Bool,
            Scalar::Number => model::Node::Double,
            Scalar::String => model::Node::String(None),
        };
        self.scalar(&node, value);
    }

    fn items(&mut self, item_type: TypeId, shape: Shape<'_>, items: &[Value]) {
        if matches!(shape, Shape::Set | Shape::Keyed(..)) {
            return self.told_apart(shape, items, |check, item| check.value(item_type, check.schema.shape(item_type), item));
        }
        for (i, item) in items.iter().enumerate() {
            self.within(format_args!("[{i}]"), |check| check.value(item_type, check.schema.shape(item_type), item));
        }
    }

    fn told_apart(&mut self, shape: Shape<'_>, items: &[Value], each: impl Fn(&mut Self, &Value)) {
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            match self.schema.item_element(shape, item) {
                Err(why) => return self.problem(format_args!("element {i}: {why}")),
                Ok(element) => {
                    if seen.contains(&element) {
                        self.problem(format_args!("duplicate entries for key {element}"));
                    }
                    self.within(&element, |check| each(check, item));
                    seen.insert(element);
                }
            }
        }
    }

    fn scalar(&mut self, node: &model::Node, value: &Value) {
        use model::Node;
        match (node, value) {
            (Node::Bool, Value::Bool(_))
            | (Node::Int32 | Node::Int64 | Node::Double, Value::Number(_))
            | (Node::String(_) | Node::Bytes | Node::Time | Node::MicroTime | Node::Duration, Value::String(_))
            | (Node::Quantity | Node::IntOrString, Value::String(_) | Value::Number(_) | Value::Bool(_))
            | (Node::Raw | Node::FieldsV1 | Node::Any, _) => {}
            (Node::Bool, other) => self.problem(format_args!("expected boolean, got {}", shown(other))),
            (Node::Int32 | Node::Int64 | Node::Double, other) => {
                self.problem(format_args!("expected numeric (int or float), got {}", go_type(other)));
            }
            (Node::Quantity | Node::IntOrString, other) => self.problem(format_args!("expected any scalar, got {}", shown(other))),
            (_, other) => self.problem(format_args!("expected string, got &value.valueUnstructured{{Value:{}}}", shown(other))),
        }
    }
}

/// A value as messages show it.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members: Vec<String> = members.iter().map(|(name, value)| format!("{name}:{}", plain(value))).collect();
            format!("&{{map[{}]}}", members.join(" "))
        }
        other => format!("&{{{}}}", plain(other)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The type Go gives a decoded value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
