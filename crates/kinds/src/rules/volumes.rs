//! Persistent volumes and the claims on them.

use gantry_object::{Timestamp, Value};
use serde_json::json;

use crate::rules::{PLAIN, Rules, pod};
use crate::tree;

pub(crate) const VOLUME: Rules = Rules {
    defaults: |volume| {
        if let Some(amounts) = volume.pointer_mut("/spec/capacity") {
            pod::round_amounts(amounts);
        }
    },
    stamp: stamp_phase,
    resets_status: true,
    ..PLAIN
};

pub(crate) const CLAIM: Rules = Rules {
    defaults: round_claim,
    create: |claim| complete_source(claim),
    update: |claim, _, subresource| {
        if subresource.is_none() {
            complete_source(claim);
        }
    },
    resets_status: true,
    ..PLAIN
};

/// Rounds the amounts of a claim, or of the template of one.
pub(crate) fn round_claim(claim: &mut Value) {
    for list in ["/spec/resources", "/status/capacity", "/status/allocatedResources"] {
        if let Some(amounts) = claim.pointer_mut(list) {
            pod::round_amounts(amounts);
        }
    }
}

/// When a volume came into its phase: set unless the writer of the status says so itself.
fn stamp_phase(new: &mut Value, old: &Value, now: Timestamp) {
    let member = "lastPhaseTransitionTime";
    let of = |volume: &Value, member: &str| volume.pointer(&format!("/status/{member}")).cloned().unwrap_or_default();
    let (was, is) = (of(old, member), of(new, member));
    let same = !old.is_null() && of(old, "phase") == of(new, "phase");
    let Some(status) = new.get_mut("status").filter(|s| s.is_object()) else { return };
    if same && is.is_null() && !was.is_null() {
        tree::set(status, member, was);
    } else if !same && (is.is_null() || is == was) {
        tree::set(status, member, now.rfc3339());
    }
}

/// Both names of a claim's source say the same, where the old one can.
fn complete_source(claim: &mut Value) {
    let Some(spec) = claim.get_mut("spec").filter(|s| s.is_object()) else { return };
    let (old, new) = (tree::at(spec, "/dataSource").clone(), tree::at(spec, "/dataSourceRef").clone());
    let elsewhere = !tree::text(&new, "/namespace").is_empty();
    if new.is_null() && !old.is_null() {
        tree::set(spec, "dataSourceRef", old);
    } else if old.is_null() && !new.is_null() && !elsewhere {
        let mut source = json!({});
        ["apiGroup", "kind", "name"].into_iter().for_each(|member| tree::copy_member(&mut source, &new, member));
        tree::set(spec, "dataSource", source);
    }
}
