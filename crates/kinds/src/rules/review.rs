//! Access reviews.

use gantry_object::Value;
use gantry_object::field::{Error, ErrorList, Path};

use crate::rules::{PLAIN, Rules};
use crate::tree;

pub(crate) const SUBJECT_ACCESS: Rules = Rules {
    validate: |review, errors| {
        attributes(review, errors);
        subject(review, errors);
        empty_metadata(review, &[], "must be empty", errors);
    },
    ..PLAIN
};

pub(crate) const SELF_SUBJECT_ACCESS: Rules = Rules {
    validate: |review, errors| {
        attributes(review, errors);
        empty_metadata(review, &[], "must be empty", errors);
    },
    ..PLAIN
};

pub(crate) const LOCAL_SUBJECT_ACCESS: Rules = Rules {
    validate: |review, errors| {
        attributes(review, errors);
        subject(review, errors);
        empty_metadata(review, &["namespace"], "must be empty except for namespace", errors);
        let spec = Path::new("spec");
        let resource = tree::at(review, "/spec/resourceAttributes");
        let namespace = tree::text(resource, "/namespace");
        if !resource.is_null() && namespace != tree::text(review, "/metadata/namespace") {
            let path = spec.child("resourceAttributes").child("namespace");
            errors.push(Error::invalid(&path, namespace, "must match metadata.namespace"));
        }
        let other = tree::at(review, "/spec/nonResourceAttributes");
        if !other.is_null() {
            errors.push(Error::invalid(&spec.child("nonResourceAttributes"), other.clone(), "disallowed on this kind of request"));
        }
    },
    ..PLAIN
};

/// A review asks about a resource or about a path, not both.
fn attributes(review: &Value, errors: &mut ErrorList) {
    let spec = Path::new("spec");
    let (resource, other) = (tree::at(review, "/spec/resourceAttributes"), tree::at(review, "/spec/nonResourceAttributes"));
    match (resource.is_null(), other.is_null()) {
        (false, false) => {
            let detail = "cannot be specified in combination with resourceAttributes";
            errors.push(Error::invalid(&spec.child("nonResourceAttributes"), other.clone(), detail));
        }
        (true, true) => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(Error::invalid(&spec.child("resourceAttributes"), Value::Null, detail));
        }
        _ => {}
    }
}

fn subject(review: &Value, errors: &mut ErrorList) {
    if tree::text(review, "/spec/user").is_empty() && tree::items(review, "/spec/groups").is_empty() {
        errors.push(Error::invalid(&Path::new("spec").child("user"), "", "at least one of user or group must be specified"));
    }
}

fn empty_metadata(review: &Value, allowed: &[&str], detail: &str, errors: &mut ErrorList) {
    if tree::entries(review, "/metadata").any(|(name, v)| !v.is_null() && name != "managedFields" && !allowed.contains(&name.as_str())) {
        errors.push(Error::invalid(&Path::new("metadata"), review["metadata"].clone(), detail));
    }
}
