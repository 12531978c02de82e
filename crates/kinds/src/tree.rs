//! Reading and writing members of trees.

use gantry_object::{Map, Value};

/// The member at a JSON pointer, null when missing.
pub(crate) fn at<'a>(value: &'a Value, pointer: &str) -> &'a Value {
    value.pointer(pointer).unwrap_or(&Value::Null)
}

/// The text at a JSON pointer, empty when missing.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    at(value, pointer).as_str().unwrap_or_default()
}

/// The items of the list at a JSON pointer.
pub(crate) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    at(value, pointer).as_array().map_or(&[], Vec::as_slice)
}

/// The items of the list at a JSON pointer, to be changed.
pub(crate) fn items_mut<'a>(value: &'a mut Value, pointer: &str) -> &'a mut [Value] {
    value.pointer_mut(pointer).and_then(Value::as_array_mut).map_or(&mut [], Vec::as_mut_slice)
}

/// The members of the object at a JSON pointer.
pub(crate) fn entries<'a>(value: &'a Value, pointer: &str) -> impl DoubleEndedIterator<Item = (&'a String, &'a Value)> {
    at(value, pointer).as_object().into_iter().flatten()
}

/// The members of the object a member holds, made when missing.
pub(crate) fn object_mut<'a>(value: &'a mut Value, member: &str) -> &'a mut Map {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let slot = value.as_object_mut().expect("made an object above").entry(member).or_insert(Value::Null);
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    slot.as_object_mut().expect("made an object above")
}

/// Makes a member what it is in another tree; missing there, missing here.
pub(crate) fn copy_member(to: &mut Value, from: &Value, member: &str) {
    let Some(members) = to.as_object_mut() else { return };
    match from.get(member) {
        Some(value) => members.insert(member.into(), value.clone()),
        None => members.remove(member),
    };
}

/// Sets a member of an object.
pub(crate) fn set(value: &mut Value, member: &str, to: impl Into<Value>) {
    if let Some(members) = value.as_object_mut() {
        members.insert(member.into(), to.into());
    }
}

/// Sets a member of an object when it is missing, null or an empty text.
pub(crate) fn set_if_empty(value: &mut Value, member: &str, to: impl Into<Value>) {
    if value.get(member).is_none_or(|v| v.is_null() || v == "") {
        set(value, member, to);
    }
}

/// Removes a member of an object.
pub(crate) fn remove(value: &mut Value, member: &str) -> Option<Value> {
    value.as_object_mut()?.remove(member)
}
