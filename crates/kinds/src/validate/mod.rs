//! Hand-written validation, and what several kinds' validation shares.

pub mod field_manager;
pub(crate) mod metadata;
pub(crate) mod pod;
pub(crate) mod pod_update;
pub(crate) mod service;

use std::net::IpAddr;

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Quantity, Value, names};

use crate::tree;

/// What upstream says of a number below zero.
pub(crate) const NOT_NEGATIVE: &str = "must be greater than or equal to 0";

/// A number at this path must not be below zero.
pub(crate) fn not_negative(object: &Value, path: &[&str], errors: &mut ErrorList) {
    at_least(object, path, 0, NOT_NEGATIVE, errors);
}

/// A number at this path must be above zero.
pub(crate) fn at_least(object: &Value, path: &[&str], least: i64, detail: &str, errors: &mut ErrorList) {
    let pointer: String = path.iter().map(|p| format!("/{p}")).collect();
    if let Some(n) = tree::at(object, &pointer).as_i64().filter(|n| *n < least) {
        let path = path.iter().fold(Path::default(), |at, p| at.child(p));
        errors.push(Error::invalid(&path, n, detail));
    }
}

/// What may not change between two objects, or parts of them.
pub(crate) fn unchanged(new: &Value, old: &Value, members: &[&str], path: &Path, errors: &mut ErrorList) {
    let changed = members.iter().filter(|member| new.get(**member) != old.get(**member));
    errors.extend(changed.map(|member| Error::invalid(&path.child(member), new[*member].clone(), "field is immutable")));
}

/// The percentage a text like `25%` names.
pub(crate) fn percent(value: &Value) -> Option<i64> {
    value.as_str()?.strip_suffix('%').filter(|d| !d.is_empty() && d.bytes().all(|c| c.is_ascii_digit()))?.parse().ok()
}

/// A number not below zero, or a percentage.
pub(crate) fn int_or_percent(value: &Value, path: &Path, errors: &mut ErrorList) {
    match value {
        Value::String(text) if percent(value).is_none() => {
            let detail = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
            errors.push(Error::invalid(path, text.as_str(), detail));
        }
        Value::Number(n) if n.as_i64().is_some_and(|n| n < 0) => errors.push(Error::invalid(path, n.as_i64(), NOT_NEGATIVE)),
        _ => {}
    }
}

/// A label selector as workloads have it.
pub(crate) fn label_selector(selector: &Value, path: &Path, errors: &mut ErrorList) {
    metadata::labels(tree::at(selector, "/matchLabels"), &path.child("matchLabels"), errors);
    for (i, requirement) in tree::items(selector, "/matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let values = tree::items(requirement, "/values");
        match tree::text(requirement, "/operator") {
            "In" | "NotIn" if values.is_empty() => {
                errors.push(Error::required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "In" | "NotIn" => {}
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                errors.push(Error::forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Exists" | "DoesNotExist" => {}
            other => errors.push(Error::invalid(&path.child("operator"), other, "not a valid selector operator")),
        }
        let key = tree::text(requirement, "/key");
        errors.extend(names::qualified_name(key).iter().map(|m| Error::invalid(&path.child("key"), key, m)));
        for (j, value) in values.iter().enumerate() {
            let text = value.as_str().unwrap_or_default();
            errors.extend(names::label_value(text).iter().map(|m| Error::invalid(&path.child("values").index(j), text, m)));
        }
    }
}

/// Taints of a node.
pub(crate) fn taints(taints: &[Value], path: &Path, errors: &mut ErrorList) {
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        let (key, value, effect) = (tree::text(taint, "/key"), tree::text(taint, "/value"), tree::text(taint, "/effect"));
        errors.extend(names::qualified_name(key).iter().map(|m| Error::invalid(&path.child("key"), key, m)));
        errors.extend(names::label_value(value).iter().map(|m| Error::invalid(&path.child("value"), value, m)));
        taint_effect(effect, false, &path.child("effect"), errors);
        if taints[..i].iter().any(|t| t["key"] == taint["key"] && t["effect"] == taint["effect"]) {
            errors.push(Error::duplicate(&path, taint.clone()));
        }
    }
}

/// The effect of a taint or toleration.
pub(crate) fn taint_effect(effect: &str, may_be_empty: bool, path: &Path, errors: &mut ErrorList) {
    match effect {
        "" if may_be_empty => {}
        "" => errors.push(Error::required(path, "")),
        "NoSchedule" | "PreferNoSchedule" | "NoExecute" => {}
        other => errors.push(Error::not_supported(path, other, &["NoSchedule", "PreferNoSchedule", "NoExecute"])),
    }
}

/// A map of resource names to amounts.
pub(crate) fn resource_list(list: &Value, path: &Path, errors: &mut ErrorList) {
    for (name, amount) in list.as_object().into_iter().flatten() {
        let path = path.key(name);
        errors.extend(names::qualified_name(name).iter().map(|m| Error::invalid(&path, name.as_str(), m)));
        if amount.as_str().and_then(|a| a.parse::<Quantity>().ok()).is_some_and(Quantity::is_negative) {
            errors.push(Error::invalid(&path, amount.clone(), NOT_NEGATIVE));
        }
    }
}

/// Whether a text is an IP range.
pub(crate) fn is_cidr(text: &str) -> bool {
    let Some((ip, bits)) = text.split_once('/') else { return false };
    let (Ok(ip), Ok(bits)) = (ip.parse::<IpAddr>(), bits.parse::<u8>()) else { return false };
    bits <= if ip.is_ipv4() { 32 } else { 128 }
}

/// What is wrong with a text as an IP address.
pub(crate) fn ip(text: &str) -> Option<&'static str> {
    text.parse::<IpAddr>().is_err().then_some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
}
