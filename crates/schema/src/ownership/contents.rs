//! What an apply configuration says: the fields it names, and what is wrong with it.

use std::collections::BTreeSet;

use gantry_object::Value;

use super::set::{Element, FieldSet, Node};
use super::shape::{Shape, is_vacant};
use crate::model::{self, Schema, TypeId};

impl Schema {
    /// The fields an object names: every leaf, every item of a list, every member of a map.
    pub fn fields_of(&self, ty: TypeId, object: &Value) -> FieldSet {
        self.named(self.shape(ty), object).below
    }

    fn named(&self, shape: Shape<'_>, value: &Value) -> Node {
        let mut node = Node::default();
        match (shape, value) {
            (Shape::Whole, _) => node.member = true,
            (Shape::Unknown, Value::Null) => {}
            (Shape::Struct(_) | Shape::Map(_) | Shape::Unknown, Value::Object(members)) => {
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
    pub(super) fn misfit(&self, ty: TypeId, config: &Value) -> Option<String> {
        let mut check = Check { schema: self, path: String::new(), problems: Vec::new() };
        check.value(ty, self.shape(ty), config);
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

    fn items(&mut self, item_type: TypeId, shape: Shape<'_>, items: &[Value]) {
        let mut seen = BTreeSet::new();
        for (i, item) in items.iter().enumerate() {
            if matches!(shape, Shape::Set | Shape::Keyed(..)) {
                match self.schema.item_element(shape, item) {
                    Err(why) => return self.problem(format_args!("element {i}: {why}")),
                    Ok(element) => {
                        if seen.contains(&element) {
                            self.problem(format_args!("duplicate entries for key {element}"));
                        }
                        self.within(&element, |check| check.value(item_type, check.schema.shape(item_type), item));
                        seen.insert(element);
                    }
                }
            } else {
                self.within(format_args!("[{i}]"), |check| check.value(item_type, check.schema.shape(item_type), item));
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
