//! What is wrong with which field of an object, in the words upstream's clients know.

use std::fmt;

use serde_json::json;

use crate::Value;
use crate::status::{Cause, CauseReason};

/// The path of a field, as error messages write it: `spec.containers[0].env[key]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field. Empty: the object itself.
    pub fn new(field: &str) -> Self {
        Self(field.into())
    }

    /// A member of this field.
    pub fn child(&self, field: &str) -> Self {
        if self.0.is_empty() { Self(field.into()) } else { Self(format!("{}.{field}", self.0)) }
    }

    /// An item of this list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// A value of this map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// One thing wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What is wrong in general.
    pub reason: CauseReason,
    /// Where.
    pub path: Path,
    /// The rest of the message after the path.
    pub body: String,
}

/// Everything wrong with an object. Empty means nothing.
pub type ErrorList = Vec<Error>;

fn quoted(value: &Value) -> String {
    match value {
        Value::String(s) => format!("{s:?}"),
        Value::Null => "null".into(),
        other => other.to_string(),
    }
}

fn with_detail(head: String, detail: &str) -> String {
    if detail.is_empty() { head } else { format!("{head}: {detail}") }
}

impl Error {
    fn new(reason: CauseReason, path: &Path, body: String) -> Self {
        Self { reason, path: path.clone(), body }
    }

    /// A value that must be given is missing.
    pub fn required(path: &Path, detail: &str) -> Self {
        Self::new(CauseReason::FieldValueRequired, path, with_detail("Required value".into(), detail))
    }

    /// A value is malformed or out of bounds.
    pub fn invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(CauseReason::FieldValueInvalid, path, with_detail(format!("Invalid value: {}", quoted(&value.into())), detail))
    }

    /// A value is not one of those allowed.
    pub fn not_supported(path: &Path, value: impl Into<Value>, allowed: &[&str]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(|a| format!("{a:?}")).collect();
        let detail = if allowed.is_empty() { String::new() } else { format!("supported values: {}", allowed.join(", ")) };
        let head = format!("Unsupported value: {}", quoted(&value.into()));
        Self::new(CauseReason::FieldValueNotSupported, path, with_detail(head, &detail))
    }

    /// A value stands twice where it may stand once.
    pub fn duplicate(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(CauseReason::FieldValueDuplicate, path, format!("Duplicate value: {}", quoted(&value.into())))
    }

    /// A value that refers to something which does not exist.
    pub fn not_found(path: &Path, value: impl Into<Value>) -> Self {
        Self::new(CauseReason::FieldValueNotFound, path, format!("Not found: {}", quoted(&value.into())))
    }

    /// A value that may not be set here or now.
    pub fn forbidden(path: &Path, detail: &str) -> Self {
        Self::new(CauseReason::FieldValueForbidden, path, with_detail("Forbidden".into(), detail))
    }

    /// A text longer than allowed, in bytes.
    pub fn too_long(path: &Path, max: usize) -> Self {
        Self::new(CauseReason::FieldValueTooLong, path, format!("Too long: may not be more than {max} bytes"))
    }

    /// A list with more items than allowed.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        let items = if max == 1 { "item" } else { "items" };
        Self::new(CauseReason::FieldValueTooMany, path, format!("Too many: {actual}: must have at most {max} {items}"))
    }

    /// A value of the wrong JSON type.
    pub fn type_invalid(path: &Path, value: impl Into<Value>, detail: &str) -> Self {
        Self::new(CauseReason::FieldValueTypeInvalid, path, with_detail(format!("Invalid value: {}", quoted(&value.into())), detail))
    }

    /// Something failed on our side while looking at the field.
    pub fn internal(path: &Path, detail: &str) -> Self {
        Self::new(CauseReason::InternalError, path, with_detail("Internal error".into(), detail))
    }

    /// This error as a cause in a Status.
    pub fn cause(&self) -> Cause {
        Cause { reason: self.reason.clone(), message: self.body.clone(), field: self.path.to_string() }
    }

    /// This error as JSON for logs and traces.
    pub fn to_value(&self) -> Value {
        json!({"field": self.path.to_string(), "message": self.body})
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstream_writes_them() {
        let path = Path::new("spec").child("containers").index(0).child("name");
        assert_eq!(Error::required(&path, "").to_string(), "spec.containers[0].name: Required value");
        assert_eq!(
            Error::not_supported(&Path::new("spec").child("type"), "X", &["A", "B"]).to_string(),
            r#"spec.type: Unsupported value: "X": supported values: "A", "B""#
        );
        assert_eq!(Error::invalid(&Path::new("a").key("k"), 3, "must be even").to_string(), "a[k]: Invalid value: 3: must be even");
        assert_eq!(Error::too_many(&path, 3, 1).to_string(), "spec.containers[0].name: Too many: 3: must have at most 1 item");
    }
}
