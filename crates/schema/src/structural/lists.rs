//! Lists that are sets or maps: no item twice.

use std::collections::BTreeMap;

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Map, Value};

use super::Structural;
use crate::model::ListKind;

impl Structural {
    /// Items that stand twice where the schema lets them stand once.
    pub(super) fn check_lists(&self, value: &Value, path: &Path, errors: &mut ErrorList) {
        match value {
            Value::Object(members) => {
                for (name, v) in members {
                    match (self.properties.get(name.as_str()), self.member(name)) {
                        (Some(schema), _) => schema.check_lists(v, &path.child(name), errors),
                        (None, Some(schema)) => schema.check_lists(v, &path.key(name), errors),
                        (None, None) => {}
                    }
                }
            }
            Value::Array(items) => {
                match &self.list {
                    Some(ListKind::Set) => {
                        twice(items.iter().map(Value::to_string)).into_iter().for_each(|i| {
                            errors.push(Error::duplicate(&path.index(i), items[i].clone()));
                        });
                    }
                    Some(ListKind::Map(keys)) => check_map(items, keys, path, errors),
                    _ => {}
                }
                if let Some(schema) = &self.items {
                    items.iter().enumerate().for_each(|(i, v)| schema.check_lists(v, &path.index(i), errors));
                }
            }
            _ => {}
        }
    }
}

fn check_map(items: &[Value], keys: &[String], path: &Path, errors: &mut ErrorList) {
    if let Some((i, odd)) = items.iter().enumerate().find(|(_, v)| !v.is_object() && !v.is_null()) {
        errors.push(Error::invalid(&path.index(i), odd.clone(), "must be an object for an array of list-type map"));
        return;
    }
    let key_of = |v: &Value| -> Value {
        let given = keys.iter().filter_map(|k| v.get(k).map(|value| (k.clone(), value.clone())));
        Value::Object(given.collect::<Map>())
    };
    let of: Vec<Value> = items.iter().map(key_of).collect();
    for i in twice(of.iter().map(Value::to_string)) {
        errors.push(Error::duplicate(&path.index(i), of[i].clone()));
    }
}

/// The places at which something stands for the second time.
fn twice(items: impl Iterator<Item = String>) -> Vec<usize> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (i, item) in items.enumerate() {
        let times = seen.entry(item).or_insert(0);
        *times += 1;
        if *times == 2 {
            found.push(i);
        }
    }
    found
}
