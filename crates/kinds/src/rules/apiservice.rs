//! API services: groups and versions that this server or another one answers for.

use gantry_object::field::{Error, Path};
use gantry_object::{Value, names};
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
    // That of the core group ends with a dot.
    name: names::path_segment,
    validate: |object, errors| {
        let wanted = format!("{}.{}", tree::text(object, "/spec/version"), tree::text(object, "/spec/group"));
        let name = tree::text(object, "/metadata/name");
        if name != wanted {
            let message = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
            errors.push(Error::invalid(&Path::new("metadata").child("name"), name, &message));
        }
    },
    resets_status: true,
    needs_version: true,
    ..PLAIN
};
