//! Reading an object's metadata in its tree form.

use crate::{Map, ObjectName, Value};

/// An object's metadata, or nothing when it has none.
pub fn metadata(object: &Value) -> Option<&Map> {
    object.get("metadata")?.as_object()
}

/// An object's metadata, made when missing.
///
/// # Panics
/// When the object is not a JSON object; decoding ensures it before.
pub fn metadata_mut(object: &mut Value) -> &mut Map {
    let members = object.as_object_mut().expect("a decoded object is a JSON object");
    let meta = members.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if !meta.is_object() {
        *meta = Value::Object(Map::new());
    }
    meta.as_object_mut().expect("just made an object")
}

/// A text member of the metadata, empty when missing.
pub fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    metadata(object).and_then(|m| m.get(member)).and_then(Value::as_str).unwrap_or("")
}

/// Its name, empty when missing.
pub fn name(object: &Value) -> &str {
    text(object, "name")
}

/// Its namespace, empty when it has none.
pub fn namespace(object: &Value) -> &str {
    text(object, "namespace")
}

/// Its uid, empty when it has none yet.
pub fn uid(object: &Value) -> &str {
    text(object, "uid")
}

/// Its namespace and name.
pub fn object_name(object: &Value) -> ObjectName {
    ObjectName::new(namespace(object), name(object))
}

/// Whether it is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    !text(object, "deletionTimestamp").is_empty()
}

/// Its finalizers.
pub fn finalizers(object: &Value) -> Vec<&str> {
    let list = metadata(object).and_then(|m| m.get("finalizers")).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// One of its labels.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    metadata(object)?.get("labels")?.get(key)?.as_str()
}

/// One of its annotations.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    metadata(object)?.get("annotations")?.get(key)?.as_str()
}

/// Its owner references, as they stand.
pub fn owner_references(object: &Value) -> &[Value] {
    metadata(object).and_then(|m| m.get("ownerReferences")).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
