//! Merge patch and JSON patch.

use gantry_object::{Map, Value};

/// A patch that cannot be applied; its Display is the message upstream's clients see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed (400).
    #[error("{0}")]
    Malformed(String),
    /// The patch does not fit the object: a failed test, a missing path (422).
    #[error("{0}")]
    Inapplicable(String),
}

/// Applies a JSON merge patch (RFC 7386).
pub fn merge_patch(base: Value, patch: &Value) -> Value {
    let Value::Object(changes) = patch else { return patch.clone() };
    let mut members = match base {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            let old = members.remove(name).unwrap_or(Value::Null);
            members.insert(name.clone(), merge_patch(old, change));
        }
    }
    Value::Object(members)
}

/// How many operations a JSON patch may have, as upstream limits it.
const MOST_OPERATIONS: usize = 10_000;

/// Applies a JSON patch (RFC 6902).
///
/// # Errors
/// When the patch is malformed or does not apply.
pub fn json_patch(mut base: Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch: json_patch::Patch =
        serde_json::from_slice(patch).map_err(|e| PatchError::Malformed(format!("error decoding patch: {e}")))?;
    if patch.0.len() > MOST_OPERATIONS {
        return Err(PatchError::Inapplicable(format!(
            "The allowed maximum operations in a JSON patch is {MOST_OPERATIONS}, got {}",
            patch.0.len()
        )));
    }
    json_patch::patch(&mut base, &patch)
        .map_err(|e| PatchError::Inapplicable(format!("the server rejected our request due to an error in our request: {e}")))?;
    Ok(base)
}
