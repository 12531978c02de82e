//! Persistent volumes and the claims on them.

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Quantity, Timestamp, Value};
use serde_json::json;

use crate::rules::{PLAIN, Rules, pod};
use crate::{tree, validate};

pub(crate) const VOLUME: Rules = Rules {
    defaults: |volume| {
        if let Some(amounts) = volume.pointer_mut("/spec/capacity") {
            pod::round_amounts(amounts);
        }
    },
    stamp: stamp_phase,
    validate: validate_volume,
    validate_update: keep_volume,
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
    validate: validate_claim,
    validate_update: keep_claim,
    resets_status: true,
    ..PLAIN
};

/// What volumes have beside the place they are in.
const BESIDE_SOURCE: [&str; 9] = [
    "capacity",
    "accessModes",
    "claimRef",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "mountOptions",
    "volumeMode",
    "nodeAffinity",
    "volumeAttributesClassName",
];

fn sources(volume: &Value) -> Vec<(&String, &Value)> {
    tree::entries(volume, "/spec").filter(|(name, _)| !BESIDE_SOURCE.contains(&name.as_str())).collect()
}

/// One that many may write cannot be one pod's alone.
fn access_modes(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let modes = tree::items(spec, "/accessModes");
    if modes.len() > 1 && modes.iter().any(|m| m == "ReadWriteOncePod") {
        errors.push(Error::forbidden(&path.child("accessModes"), "may not use ReadWriteOncePod with other access modes"));
    }
}

fn validate_volume(volume: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&volume["spec"], Path::new("spec"));
    access_modes(spec, &path, errors);
    let capacity = tree::at(spec, "/capacity");
    if capacity.as_object().is_none_or(serde_json::Map::is_empty) {
        errors.push(Error::required(&path.child("capacity"), ""));
    } else if capacity.get("storage").is_none() || tree::entries(capacity, "").count() > 1 {
        errors.push(Error::not_supported(&path.child("capacity"), capacity.clone(), &["storage"]));
    }
    validate::resource_list(capacity, &path.child("capacity"), errors);
    match sources(volume).as_slice() {
        [] => errors.push(Error::required(&path, "must specify a volume type")),
        [_, rest @ ..] => {
            errors.extend(rest.iter().map(|(name, _)| Error::forbidden(&path.child(name), "may not specify more than 1 volume type")));
        }
    }
}

fn keep_volume(new: &Value, old: &Value, subresource: Option<&str>, errors: &mut ErrorList) {
    if subresource == Some("status") {
        return;
    }
    let path = Path::new("spec");
    if sources(new) != sources(old) {
        let detail = "spec.persistentvolumesource is immutable after creation";
        errors.push(Error::forbidden(&path.child("persistentvolumesource"), detail));
    }
    validate::unchanged(&new["spec"], &old["spec"], &["volumeMode"], &path, errors);
    if !old["spec"]["nodeAffinity"].is_null() {
        validate::unchanged(&new["spec"], &old["spec"], &["nodeAffinity"], &path, errors);
    }
}

fn storage(claim: &Value, pointer: &str) -> Option<Quantity> {
    tree::at(claim, pointer).get("storage")?.as_str()?.parse().ok()
}

fn validate_claim(claim: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&claim["spec"], Path::new("spec"));
    if tree::items(spec, "/accessModes").is_empty() {
        errors.push(Error::required(&path.child("accessModes"), "at least 1 access mode is required"));
    }
    access_modes(spec, &path, errors);
    if !spec["selector"].is_null() {
        validate::label_selector(&spec["selector"], &path.child("selector"), errors);
    }
    let resources = path.child("resources");
    match storage(claim, "/spec/resources/requests") {
        None => errors.push(Error::required(&resources.key("storage"), "")),
        Some(size) if size.is_zero() || size.is_negative() => {
            let given = tree::at(spec, "/resources/requests/storage").clone();
            errors.push(Error::invalid(&resources.key("storage"), given, "must be greater than zero"));
        }
        Some(_) => {}
    }
}

/// Once made, a claim may be bound, and a bound one may grow and change its class of attributes.
fn keep_claim(new: &Value, old: &Value, subresource: Option<&str>, errors: &mut ErrorList) {
    if subresource == Some("status") {
        return;
    }
    let path = Path::new("spec");
    let (mut is, mut was) = (new["spec"].clone(), old["spec"].clone());
    let mut may_change = |member: &str| {
        tree::remove(&mut is, member);
        tree::remove(&mut was, member);
    };
    if tree::text(old, "/spec/volumeName").is_empty() {
        may_change("volumeName");
    }
    if old["spec"]["storageClassName"].is_null() {
        may_change("storageClassName");
    }
    if tree::text(old, "/status/phase") == "Bound" {
        may_change("volumeAttributesClassName");
        for spec in [&mut is, &mut was] {
            if let Some(resources) = spec.get_mut("resources") {
                tree::remove(resources, "requests");
            }
        }
        let (wanted, before) = (storage(new, "/spec/resources/requests"), storage(old, "/spec/resources/requests"));
        if wanted < before && wanted < storage(old, "/status/capacity") {
            let path = path.child("resources").child("requests").child("storage");
            errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
        }
    }
    if is != was {
        let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.push(Error::forbidden(&path, detail));
    }
}

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
