//! How two versions of an object differ, field by field.

use std::collections::BTreeMap;

use gantry_object::Value;

use super::set::{Element, FieldSet, Node};
use super::shape::{Shape, is_vacant, same};
use crate::model::Schema;

/// The fields in which two versions of an object differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// New or with another value.
    pub changed: FieldSet,
    /// No longer there.
    pub removed: FieldSet,
}

impl Comparison {
    /// Whether the versions are equal.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }
}

/// How one field differs.
#[derive(Default)]
struct Difference {
    changed: Node,
    removed: Node,
}

impl Difference {
    fn add(&mut self, element: Element, below: Self) {
        if !below.changed.is_empty() {
            self.changed.below.insert(element.clone(), below.changed);
        }
        if !below.removed.is_empty() {
            self.removed.below.insert(element, below.removed);
        }
    }

    /// Marks the field itself.
    fn mark(&mut self, old: Option<&Value>, new: Option<&Value>) {
        match (old, new) {
            (None, Some(_)) => self.changed.member = true,
            (Some(_), None) => self.removed.member = true,
            (Some(old), Some(new)) => self.changed.member |= !same(old, new),
            (None, None) => {}
        }
    }
}

impl Schema {
    /// How `new` differs from `old`.
    pub(super) fn difference(&self, shape: Shape<'_>, old: &Value, new: &Value) -> Comparison {
        let difference = self.differ(shape, Some(old), Some(new));
        Comparison { changed: difference.changed.below, removed: difference.removed.below }
    }

    fn differ(&self, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Difference {
        let mut out = Difference::default();
        if old == new {
            return out;
        }
        // What the schema doesn't know is a whole unless it is an object on either side.
        let objects = [old, new].into_iter().flatten().filter(|v| v.is_object()).count();
        let is_whole = match shape {
            Shape::Whole => true,
            Shape::Unknown => objects == 0,
            _ => false,
        };
        // An empty container and none at all are told apart as a whole.
        if is_whole || is_vacant(old) && is_vacant(new) {
            out.mark(old, new);
            return out;
        }
        match shape {
            Shape::Set | Shape::Keyed(..) => self.differ_items(shape, old, new, &mut out),
            _ => self.differ_members(shape, old, new, &mut out),
        }
        let became_another_type = matches!(shape, Shape::Unknown) && objects == 1 && ![old, new].contains(&Some(&Value::Null));
        if old.is_none() || new.is_none() || became_another_type {
            out.mark(old, new);
        }
        out
    }

    fn differ_members(&self, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>, out: &mut Difference) {
        let (old, new) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        let inner = |name: &str| self.member_shape(shape, name).unwrap_or(Shape::Unknown);
        for (name, before) in old.into_iter().flatten() {
            let after = new.and_then(|n| n.get(name));
            if after != Some(before) {
                out.add(Element::field(name), self.differ(inner(name), Some(before), after));
            }
        }
        for (name, after) in new.into_iter().flatten().filter(|(name, _)| old.is_none_or(|o| !o.contains_key(*name))) {
            out.add(Element::field(name), self.differ(inner(name), None, Some(after)));
        }
    }

    fn differ_items(&self, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>, out: &mut Difference) {
        // Lists may hold items twice, from before they were told apart.
        let mut found: BTreeMap<Element, [Vec<&Value>; 2]> = BTreeMap::new();
        for (side, list) in [old, new].into_iter().enumerate() {
            for item in list.and_then(Value::as_array).into_iter().flatten() {
                if let Ok(element) = self.item_element(shape, item) {
                    found.entry(element).or_default()[side].push(item);
                }
            }
        }
        let inner = self.item_shape(shape);
        for (element, [before, after]) in found {
            let mut difference = match (before.as_slice(), after.as_slice()) {
                ([] | [_], [] | [_]) => self.differ(inner, before.first().copied(), after.first().copied()),
                ([_, _, ..], [_, _, ..]) => {
                    let equal = before.len() == after.len() && before.iter().zip(&after).all(|(a, b)| same(a, b));
                    Difference { changed: Node { member: !equal, ..Node::default() }, ..Difference::default() }
                }
                ([_, _, ..], _) => self.differ(inner, None, after.first().copied()),
                (_, _) => self.differ(inner, before.first().copied(), None),
            };
            match (before.len(), after.len()) {
                (2.., 0 | 1) => difference.removed.member = true,
                (0 | 1, 2..) => difference.changed.member = true,
                _ => {}
            }
            out.add(element, difference);
        }
    }
}
