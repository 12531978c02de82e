//! Putting an apply configuration over a live object, and taking out what is no longer applied.

use std::collections::BTreeMap;

use gantry_object::{Map, Value};

use super::set::{Element, FieldSet, Node};
use super::shape::{Shape, is_vacant};
use crate::model::Schema;

impl Schema {
    /// Puts `config` over `live`: leaves are replaced, members and items are merged, nothing is removed.
    pub(super) fn overlay(&self, shape: Shape<'_>, live: &Value, config: &Value) -> Value {
        self.merged(shape, Some(live), Some(config)).unwrap_or(Value::Null)
    }

    fn merged(&self, shape: Shape<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
        let leaf = || config.or(live).cloned();
        match shape {
            Shape::Whole => leaf(),
            Shape::Unknown if ![live, config].into_iter().flatten().all(|v| v.is_object() || v.is_null()) => leaf(),
            _ if is_vacant(live) && is_vacant(config) => leaf(),
            Shape::Set | Shape::Keyed(..) => {
                let items = |value: Option<&'_ Value>| value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice).to_vec();
                let merged = self.merged_items(shape, &items(live), &items(config));
                (!merged.is_empty()).then_some(Value::Array(merged))
            }
            Shape::Struct(_) | Shape::Map(_) | Shape::Open(..) | Shape::Unknown => {
                let mut members = live.and_then(Value::as_object).cloned().unwrap_or_default();
                for (name, value) in config.and_then(Value::as_object).into_iter().flatten() {
                    let inner = self.member_shape(shape, name).unwrap_or(Shape::Unknown);
                    let old = members.remove(name);
                    members.extend(self.merged(inner, old.as_ref(), Some(value)).map(|merged| (name.clone(), merged)));
                }
                (!members.is_empty()).then_some(Value::Object(members))
            }
        }
    }

    /// The items of both lists: the configuration's in its own order; the live list's others where they stand between items of both.
    fn merged_items(&self, shape: Shape<'_>, live: &[Value], config: &[Value]) -> Vec<Value> {
        let steps = |items: &[Value]| -> Vec<Option<Element>> { items.iter().map(|i| self.item_element(shape, i).ok()).collect() };
        let (live_steps, config_steps) = (steps(live), steps(config));
        // What the live list holds once; `None` for items it holds twice, which are not merged but replaced.
        let mut found: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
        for (element, item) in live_steps.iter().zip(live).filter_map(|(e, i)| Some((e.as_ref()?, i))) {
            found.entry(element).and_modify(|at| *at = None).or_insert(Some(item));
        }
        let configured: BTreeMap<&Element, ()> = config_steps.iter().flatten().map(|e| (e, ())).collect();
        let mut shared = config_steps.iter().flatten().filter(|e| found.contains_key(e)).peekable();
        let mut waiting = live_steps.iter().zip(live).peekable();
        let mut out = Vec::with_capacity(live.len().max(config.len()));
        let inner = self.item_shape(shape);
        for (element, item) in config_steps.iter().zip(config) {
            let Some(element) = element else { continue };
            // The live list's own items go first, up to the next item that both lists hold.
            while let Some((step, own)) = waiting.next_if(|(step, _)| step.is_none() || step.as_ref() != shared.peek().copied()) {
                if step.as_ref().is_none_or(|s| !configured.contains_key(s)) {
                    out.push(own.clone());
                }
            }
            if shared.next_if(|next| *next == element).is_some() {
                waiting.next_if(|(step, _)| step.as_ref() == Some(element));
            }
            out.extend(self.merged(inner, found.get(element).copied().flatten(), Some(item)));
        }
        out.extend(waiting.filter(|(step, _)| step.as_ref().is_none_or(|s| !configured.contains_key(s))).map(|(_, own)| own.clone()));
        out
    }

    /// Drops items and members that `doomed` names, but not those that `kept` still holds.
    pub(super) fn drop_fields(&self, shape: Shape<'_>, object: &Value, doomed: &FieldSet, kept: Option<&Value>) -> Value {
        let prune = Prune { schema: self, drops_named: true };
        prune.value(shape, object, kept, Some(doomed))
    }

    /// Drops items and members but for those that `kept` holds or `owned` names.
    pub(super) fn keep_fields(&self, shape: Shape<'_>, object: &Value, owned: &FieldSet, kept: &Value) -> Value {
        let prune = Prune { schema: self, drops_named: false };
        prune.value(shape, object, Some(kept), Some(owned))
    }
}

/// A walk that drops parts of an object. Those that `kept` holds stay; of the others go those that the set names, or those that it doesn't.
struct Prune<'s> {
    schema: &'s Schema,
    drops_named: bool,
}

impl Prune<'_> {
    fn value(&self, shape: Shape<'_>, value: &Value, kept: Option<&Value>, set: Option<&FieldSet>) -> Value {
        match (shape, value) {
            (Shape::Struct(_) | Shape::Map(_) | Shape::Open(..) | Shape::Unknown, Value::Object(members)) => {
                let kept = kept.and_then(Value::as_object);
                let left = members.iter().filter_map(|(name, value)| {
                    let kept = kept.and_then(|k| k.get(name));
                    let node = set.and_then(|s| s.get(&Element::field(name)));
                    // A member that the schema names is in a set when something below it is.
                    let declared = shape.declares(name);
                    let is_named = node.is_some_and(|n| n.member || declared);
                    // An empty list in such a place is nobody's.
                    let inner = self.schema.member_shape(shape, name).unwrap_or(Shape::Unknown);
                    let counts =
                        !(declared && matches!(inner, Shape::Set | Shape::Keyed(..)) && value.as_array().is_some_and(Vec::is_empty));
                    let value = self.part(inner, value, kept, node, is_named, counts)?;
                    Some((name.clone(), value))
                });
                Value::Object(left.collect::<Map>())
            }
            (Shape::Set | Shape::Keyed(..), Value::Array(items)) => {
                let mut held: BTreeMap<Element, &Value> = BTreeMap::new();
                for item in kept.and_then(Value::as_array).into_iter().flatten() {
                    held.extend(self.schema.item_element(shape, item).ok().map(|element| (element, item)));
                }
                let left = items.iter().filter_map(|item| {
                    let Ok(element) = self.schema.item_element(shape, item) else { return Some(item.clone()) };
                    let node = set.and_then(|s| s.get(&element));
                    let is_named = node.is_some_and(|n| n.member);
                    self.part(self.schema.item_shape(shape), item, held.get(&element).copied(), node, is_named, true)
                });
                Value::Array(left.collect())
            }
            _ => value.clone(),
        }
    }

    fn part(
        &self,
        shape: Shape<'_>,
        value: &Value,
        kept: Option<&Value>,
        node: Option<&Node>,
        is_named: bool,
        counts: bool,
    ) -> Option<Value> {
        if kept.is_none() && counts && is_named == self.drops_named {
            return None;
        }
        Some(self.value(shape, value, kept, node.map(|n| &n.below)))
    }
}
