//! Patches: a kind, an object, a line feed, a patch, which is tried as all three sorts.

use gantry_schema::{json_patch, merge_patch};
use serde_json::Value;

use crate::bodies::{kind_of, registry};

pub(crate) fn patch(data: &[u8]) {
    let Some((kind, rest)) = kind_of(data) else { return };
    let Some(cut) = rest.iter().position(|b| *b == b'\n') else { return };
    let (object, patch) = (&rest[..cut], &rest[cut + 1..]);
    let Ok(decoded) = kind.decode_json(object) else { return };
    let base = decoded.value;
    if let Ok(patched) = json_patch(base.clone(), patch) {
        let _ = registry().type_of(&kind.gvk()).map(|ty| registry().schema().conform(ty, patched));
    }
    let Ok(patch) = serde_json::from_slice::<Value>(patch) else { return };
    let merged = merge_patch(base.clone(), &patch);
    assert_eq!(merge_patch(merged.clone(), &patch), merged, "a merge patch changes nothing the second time");
    if let Some(ty) = registry().type_of(&kind.gvk())
        && let Ok(merged) = registry().schema().strategic_merge(ty, base, &patch)
    {
        let _ = registry().schema().conform(ty, merged);
    }
}
