//! API services: groups and versions that this server or another one answers for.

use gantry_object::Value;
use serde_json::json;

use crate::rules::{PLAIN, Rules};
use crate::tree;

pub(crate) const API_SERVICE: Rules = Rules {
    stamp: |new, old, now| {
        // What this server answers itself is there as soon as it is named.
        if old.is_null() && tree::at(new, "/spec/service").is_null() {
            let condition = json!({"type": "Available", "status": "True", "lastTransitionTime": now.rfc3339(), "reason": "Local",
                "message": "Local APIServices are always available"});
            tree::object_mut(new, "status").insert("conditions".into(), Value::Array(vec![condition]));
        }
    },
    name: |name| gantry_object::names::path_segment(name),
    resets_status: true,
    needs_version: true,
    ..PLAIN
};
