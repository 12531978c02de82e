//! Strategic merge patches: merge patches that know lists by the keys of their items, and carry directives among their members.
//!
//! `$patch` replaces or deletes a map, a list or an item; `$retainKeys` names the members that stay; `$setElementOrder/LIST` gives the order of a list;
//! `$deleteFromPrimitiveList/LIST` takes values out of one. Without an order directive the order of the patch comes before the live one.

use gantry_object::{Map, Value};

use crate::model::{Field, Node, Schema, TypeId};
use crate::patch::PatchError;

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const ORDER: &str = "$setElementOrder/";
const DELETE: &str = "$deleteFromPrimitiveList/";

type Result<T> = std::result::Result<T, PatchError>;

fn malformed<T>(problem: impl Into<String>) -> Result<T> {
    Err(PatchError::Malformed(problem.into()))
}

impl Schema {
    /// Applies a strategic merge patch. The result is yet to be conformed to its type.
    ///
    /// # Errors
    /// When the patch is malformed: not an object, an unknown directive, an item without its merge key.
    pub fn strategic_merge(&self, ty: TypeId, base: Value, patch: &Value) -> Result<Value> {
        let Value::Object(patch) = patch else { return malformed("invalid JSON document") };
        let base = match base {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        Ok(Value::Object(self.merge_map(Some(ty), base, patch)?))
    }

    fn merge_map(&self, ty: Option<TypeId>, mut base: Map, patch: &Map) -> Result<Map> {
        match patch.get(PATCH) {
            None => {}
            Some(Value::String(s)) if s == "replace" => {
                let mut replaced = patch.clone();
                replaced.remove(PATCH);
                return Ok(replaced);
            }
            Some(Value::String(s)) if s == "delete" => return Ok(Map::new()),
            Some(other) => return malformed(format!("unknown patch type: {} in map: {}", plain(other), Value::Object(patch.clone()))),
        }
        retain_keys(&mut base, patch)?;
        for name in names_touched(patch)? {
            let order = patch.get(&format!("{ORDER}{name}"));
            if order.is_some() || patch.contains_key(name) {
                self.merge_member(ty, &mut base, name, patch.get(name), order)?;
            }
            if let Some(values) = patch.get(&format!("{DELETE}{name}")) {
                let Some(values) = values.as_array() else { return malformed("invalid patch format of primitive list") };
                if let Some(Value::Array(items)) = base.get_mut(name) {
                    items.retain(|item| !values.contains(item));
                }
            }
        }
        Ok(base)
    }

    fn field_of(&self, ty: Option<TypeId>, name: &str) -> Option<&Field> {
        self.as_struct(ty?)?.field(name)
    }

    fn merge_member(&self, ty: Option<TypeId>, base: &mut Map, name: &str, patch: Option<&Value>, order: Option<&Value>) -> Result<()> {
        let field = self.field_of(ty, name);
        if let Some(order) = order {
            return self.merge_ordered(ty, field, base, name, patch, order);
        }
        let Some(patch) = patch.filter(|p| !p.is_null()) else {
            base.remove(name);
            return Ok(());
        };
        let unknown = || match ty.and_then(|t| self.as_struct(t)) {
            Some(s) if field.is_none() => malformed(format!("unable to find api field {name:?} in {}", s.go)),
            _ => Ok(()),
        };
        let merged = match (base.remove(name), patch) {
            (Some(Value::Object(old)), Value::Object(new)) => {
                unknown()?;
                if field.is_some_and(|f| f.replace) {
                    Some(patch.clone())
                } else {
                    Some(Value::Object(self.merge_map(field.map(|f| f.ty), old, new)?))
                }
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                unknown()?;
                match field.and_then(|f| f.merge_key.as_deref().map(|key| (f, key))) {
                    Some((field, key)) => Some(Value::Array(self.merge_list(field, key, old, new)?)),
                    None => Some(patch.clone()),
                }
            }
            _ => taken_as_new(patch),
        };
        if let Some(merged) = merged {
            base.insert(name.into(), merged);
        }
        Ok(())
    }

    /// A list whose order the patch gives.
    fn merge_ordered(
        &self,
        ty: Option<TypeId>,
        field: Option<&Field>,
        base: &mut Map,
        name: &str,
        patch: Option<&Value>,
        order: &Value,
    ) -> Result<()> {
        let Some(field) = field else {
            let holder = ty.and_then(|t| self.as_struct(t)).map_or("map", |s| s.go.as_str());
            return malformed(format!("unable to find api field {name:?} in {holder}"));
        };
        let bad = || PatchError::Malformed("invalid patch format of setElementOrder list".into());
        let order = order.as_array().ok_or_else(bad)?;
        let key = field.merge_key.as_deref().unwrap_or_default();
        let list = |value: Option<&Value>| match value {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.clone())),
            Some(_) => Err(bad()),
        };
        let (old, new) = (list(base.get(name))?, list(patch)?);
        check_order(new.as_deref().unwrap_or_default(), order, key)?;
        let merged = match (&old, &new) {
            (None, None) => return Ok(()),
            (Some(old), None) => old.clone(),
            (None, Some(_)) => patch.and_then(taken_as_new).and_then(|v| v.as_array().cloned()).unwrap_or_default(),
            (Some(_), Some(new)) if field.merge_key.is_none() => new.clone(),
            (Some(old), Some(new)) => self.merge_list(field, key, old.clone(), new)?,
        };
        let ordered = in_order(merged, order, old.as_deref().unwrap_or_default(), key);
        base.insert(name.into(), Value::Array(ordered));
        Ok(())
    }

    fn merge_list(&self, field: &Field, key: &str, old: Vec<Value>, new: &[Value]) -> Result<Vec<Value>> {
        let maps = old.iter().chain(new).filter(|v| v.is_object()).count();
        if maps == 0 {
            let mut both: Vec<Value> = Vec::with_capacity(old.len() + new.len());
            for value in old.iter().chain(new) {
                if !both.contains(value) {
                    both.push(value.clone());
                }
            }
            return Ok(in_order(both, new, &old, ""));
        }
        if maps != old.len() + new.len() {
            return malformed("list element types are not identical");
        }
        if key.is_empty() {
            return malformed(format!("cannot merge lists without merge key for {}", field.name));
        }
        let item = match self.node(field.ty) {
            Node::List(item) => Some(*item),
            _ => None,
        };
        let (old, new) = apply_item_directives(old, new, key)?;
        let mut merged = old.clone();
        for patch in &new {
            let Some(value) = patch.get(key) else { return no_merge_key(patch, key) };
            let found = merged.iter().position(|m| m.get(key) == Some(value));
            let Some(members) = patch.as_object() else { continue };
            match found {
                Some(at) => {
                    let base = merged[at].as_object().cloned().unwrap_or_default();
                    merged[at] = Value::Object(self.merge_map(item, base, members)?);
                }
                None => merged.extend(taken_as_new(patch)),
            }
        }
        Ok(in_order(merged, &new, &old, key))
    }
}

fn no_merge_key<T>(item: &Value, key: &str) -> Result<T> {
    malformed(format!("map: {item} does not contain declared merge key: {key}"))
}

/// A value without the quotes of a text.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), Into::into)
}

/// The members a patch touches, each once: by value, by order, by deletion.
fn names_touched(patch: &Map) -> Result<Vec<&str>> {
    let mut names: Vec<&str> = Vec::with_capacity(patch.len());
    for name in patch.keys() {
        let name = match name.strip_prefix(ORDER).or_else(|| name.strip_prefix(DELETE)) {
            Some(list) => list,
            None if name.starts_with("$setElementOrder") => return malformed("invalid patch format of setElementOrder list"),
            None if name.starts_with("$deleteFromPrimitiveList") => return malformed("invalid patch format of primitive list"),
            None if name == RETAIN => continue,
            None => name,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn retain_keys(base: &mut Map, patch: &Map) -> Result<()> {
    let Some(retained) = patch.get(RETAIN) else { return Ok(()) };
    let bad = || PatchError::Malformed("invalid patch format of retainKeys".into());
    let retained = retained.as_array().ok_or_else(bad)?;
    let is_retained = |name: &str| retained.iter().any(|r| r == name);
    let names = patch.iter().filter(|(_, v)| !v.is_null()).map(|(name, _)| name);
    if names.filter(|n| *n != RETAIN && !n.starts_with(ORDER) && !n.starts_with(DELETE)).any(|n| !is_retained(n)) {
        return Err(bad());
    }
    base.retain(|name, _| is_retained(name));
    Ok(())
}

/// A value where there was none: without nulls and without directives; nothing at all when it is itself one.
fn taken_as_new(patch: &Value) -> Option<Value> {
    match patch {
        Value::Object(members) if members.contains_key(PATCH) => None,
        Value::Object(members) => {
            let kept =
                members.iter().filter(|(name, v)| !v.is_null() && !name.starts_with(ORDER) && !name.starts_with(DELETE) && *name != RETAIN);
            Some(Value::Object(kept.filter_map(|(name, v)| Some((name.clone(), taken_as_new(v)?))).collect()))
        }
        Value::Array(items) => Some(Value::Array(items.iter().filter_map(taken_as_new).collect())),
        other => Some(other.clone()),
    }
}

/// Items with `$patch` delete what has their key, or say that the list is replaced.
fn apply_item_directives(mut old: Vec<Value>, new: &[Value], key: &str) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut rest = Vec::with_capacity(new.len());
    let mut replace = false;
    for item in new {
        match item.get(PATCH) {
            None => rest.push(item.clone()),
            Some(Value::String(s)) if s == "delete" => {
                let Some(value) = item.get(key) else { return no_merge_key(item, key) };
                old.retain(|o| o.get(key) != Some(value));
            }
            Some(Value::String(s)) if s == "replace" => replace = true,
            Some(Value::String(s)) if s == "merge" => return malformed("merging lists cannot yet be specified in the patch"),
            Some(other) => return malformed(format!("unknown patch type: {} in map: {item}", plain(other))),
        }
    }
    Ok(if replace { (Vec::new(), rest) } else { (old, rest) })
}

/// Whether two items are the same one: equal, or with equal keys.
fn same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() { a == b } else { a.get(key).is_some() && a.get(key) == b.get(key) }
}

/// A patch's items must stand in the order its order directive gives.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<()> {
    if order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|p| p.get(PATCH).is_none()) {
        if !rest.any(|o| same(o, item, key)) {
            let show = |list: &[Value]| Value::Array(list.to_vec()).to_string();
            return malformed(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                show(patch),
                show(order)
            ));
        }
    }
    Ok(())
}

/// Puts the items `order` names into that order. The others stay where the live list had them, before what is new.
fn in_order(items: Vec<Value>, order: &[Value], live: &[Value], key: &str) -> Vec<Value> {
    let place = |list: &[Value], item: &Value| list.iter().position(|o| same(o, item, key));
    let (mut named, others): (Vec<Value>, Vec<Value>) = items.into_iter().partition(|item| place(order, item).is_some());
    named.sort_by_key(|item| place(order, item));
    let mut merged = Vec::with_capacity(named.len() + others.len());
    let mut named = named.into_iter().peekable();
    for other in others {
        let at = place(live, &other);
        while let Some(item) = named.next_if(|item| matches!((place(live, item), at), (Some(a), Some(b)) if a < b)) {
            merged.push(item);
        }
        merged.push(other);
    }
    merged.extend(named);
    merged
}
