//! Certificate signing requests.

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Timestamp, Value, names};

use crate::rules::{PLAIN, Rules};
use crate::tree;

pub(crate) const SIGNING_REQUEST: Rules = Rules {
    create: |csr| {
        // Who asks is filled in by the server from the request.
        for member in ["username", "uid", "groups", "extra"] {
            if let Some(spec) = csr.get_mut("spec") {
                tree::remove(spec, member);
            }
        }
    },
    update,
    validate,
    validate_update,
    name: names::path_segment,
    resets_status: true,
    stamp,
    ..PLAIN
};

/// Fills in the times that conditions lack.
fn stamp(new: &mut Value, old: &Value, now: Timestamp) {
    for condition in tree::items_mut(new, "/status/conditions") {
        tree::set_if_empty(condition, "lastUpdateTime", now.rfc3339());
        let before = tree::items(old, "/status/conditions")
            .iter()
            .find(|c| c["type"] == condition["type"] && c["status"] == condition["status"])
            .map(|c| tree::text(c, "/lastTransitionTime").to_owned())
            .filter(|t| !t.is_empty());
        tree::set_if_empty(condition, "lastTransitionTime", before.unwrap_or_else(|| now.rfc3339()));
    }
}

fn update(new: &mut Value, old: &Value, subresource: Option<&str>) {
    tree::copy_member(new, old, "spec");
    match subresource {
        Some("approval") => {
            let conditions = tree::at(new, "/status/conditions").clone();
            tree::copy_member(new, old, "status");
            tree::object_mut(new, "status").insert("conditions".into(), conditions);
        }
        Some("status") => ["Approved", "Denied"].into_iter().for_each(|kind| keep_conditions(new, old, kind)),
        _ => tree::copy_member(new, old, "status"),
    }
}

/// Conditions of a type stay as they were, unless some were added or removed, which validation then refuses.
fn keep_conditions(new: &mut Value, old: &Value, kind: &str) {
    let kept: Vec<&Value> = tree::items(old, "/status/conditions").iter().filter(|c| c["type"] == kind).collect();
    let slots = tree::items_mut(new, "/status/conditions").iter_mut().filter(|c| c["type"] == kind);
    let slots: Vec<&mut Value> = slots.collect();
    if slots.len() == kept.len() {
        slots.into_iter().zip(kept).for_each(|(slot, old)| *slot = old.clone());
    }
}

fn validate(csr: &Value, errors: &mut ErrorList) {
    let spec = Path::new("spec");
    let usages = tree::items(csr, "/spec/usages");
    for (i, usage) in usages.iter().enumerate().filter(|(i, u)| usages[..*i].contains(u)) {
        errors.push(Error::duplicate(&spec.child("usages").index(i), usage.clone()));
    }
    if tree::text(csr, "/spec/request").is_empty() {
        errors.push(Error::invalid(&spec.child("request"), "", "PEM block type must be CERTIFICATE REQUEST"));
    }
    let (path, signer) = (spec.child("signerName"), tree::text(csr, "/spec/signerName"));
    match signer.split_once('/') {
        _ if signer.is_empty() => errors.push(Error::required(&path, "")),
        None => {
            errors.push(Error::invalid(&path, signer, "must be a fully qualified domain and path of the form 'example.com/signer-name'"))
        }
        Some((domain, rest)) => {
            if !domain.contains('.') {
                errors.push(Error::invalid(&path, signer, "should be a domain with at least two segments separated by dots"));
            }
            for problem in names::dns1123_subdomain(domain) {
                errors.push(Error::invalid(&path, signer, &format!("validating domain {domain:?}: {problem}")));
            }
            if rest.is_empty() {
                errors.push(Error::invalid(&path, signer, "validating signerName path: path must not be empty"));
            }
        }
    }
    if let Some(seconds) = tree::at(csr, "/spec/expirationSeconds").as_i64().filter(|s| *s < 600) {
        errors.push(Error::invalid(
            &spec.child("expirationSeconds"),
            seconds,
            "may not specify a duration less than 600 seconds (10 minutes)",
        ));
    }
    validate_conditions(csr, errors);
}

fn validate_conditions(csr: &Value, errors: &mut ErrorList) {
    let path = Path::new("status").child("conditions");
    let conditions = tree::items(csr, "/status/conditions");
    let has = |kind: &str| conditions.iter().any(|c| c["type"] == kind);
    for (i, condition) in conditions.iter().enumerate() {
        let at = path.index(i);
        let (kind, status) = (tree::text(condition, "/type"), tree::text(condition, "/status"));
        if kind.is_empty() {
            errors.push(Error::required(&at.child("type"), ""));
        }
        match status {
            "" => errors.push(Error::required(&at.child("status"), "")),
            "True" => {}
            _ if ["Approved", "Denied", "Failed"].contains(&kind) => {
                errors.push(Error::not_supported(&at.child("status"), status, &["True"]));
            }
            "False" | "Unknown" => {}
            _ => errors.push(Error::not_supported(&at.child("status"), status, &["False", "True", "Unknown"])),
        }
        if kind == "Approved" && has("Denied") || kind == "Denied" && has("Approved") {
            errors.push(Error::invalid(&at.child("type"), kind, "Approved and Denied conditions are mutually exclusive"));
        }
    }
}

fn validate_update(new: &Value, old: &Value, subresource: Option<&str>, errors: &mut ErrorList) {
    let path = Path::new("status").child("conditions");
    let of = |csr: &'_ Value, kind: &str| tree::items(csr, "/status/conditions").iter().filter(|c| c["type"] == kind).count();
    for kind in ["Approved", "Denied", "Failed"] {
        let (before, after) = (of(old, kind), of(new, kind));
        if before > after {
            errors.push(Error::forbidden(&path, &format!("updates may not remove a condition of type {kind:?}")));
        }
        let may_add = subresource == Some("approval") || kind == "Failed";
        if after > before && !may_add {
            errors.push(Error::forbidden(&path, &format!("updates may not add a condition of type {kind:?}")));
        }
    }
    let certificate = |csr: &'_ Value| tree::text(csr, "/status/certificate").to_owned();
    if !certificate(old).is_empty() && certificate(new) != certificate(old) {
        errors.push(Error::forbidden(&Path::new("status").child("certificate"), "updates may not change an issued certificate"));
    }
}
