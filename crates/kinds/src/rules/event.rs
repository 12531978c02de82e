//! Events, which two groups serve and one stores.

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Map, Value, meta};

use crate::rules::{PLAIN, Rules};
use crate::tree;

pub(crate) const EVENT: Rules = Rules { validate, creates_on_update: true, ..PLAIN };

/// Members that are named differently: in core, in events.k8s.io.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

fn rename(members: &mut Map, from: &str, to: &str) {
    if let Some(value) = members.remove(from) {
        members.insert(to.into(), value);
    }
}

/// Turns a core Event into one of events.k8s.io.
pub(crate) fn events_from_core(event: &mut Value) {
    let Some(members) = event.as_object_mut() else { return };
    RENAMED.iter().for_each(|(core, events)| rename(members, core, events));
    members.insert("apiVersion".into(), "events.k8s.io/v1".into());
}

/// Turns an Event of events.k8s.io into a core one.
pub(crate) fn core_from_events(event: &mut Value) {
    let Some(members) = event.as_object_mut() else { return };
    RENAMED.iter().for_each(|(core, events)| rename(members, events, core));
    members.insert("apiVersion".into(), "v1".into());
}

fn validate(event: &Value, errors: &mut ErrorList) {
    let (about, path) = match event.get("regarding") {
        Some(about) => (about, Path::new("regarding")),
        None => (tree::at(event, "/involvedObject"), Path::new("involvedObject")),
    };
    let (namespace, own) = (tree::text(about, "/namespace"), meta::namespace(event));
    // Events about cluster-wide objects live in the default namespace.
    let fits = if namespace.is_empty() { matches!(own, "" | "default" | "kube-system") } else { namespace == own };
    if !fits {
        errors.push(Error::invalid(&path.child("namespace"), namespace, "does not match event.namespace"));
    }
    if tree::text(event, "/eventTime").is_empty() {
        return;
    }
    let controller = event.get("reportingController").or_else(|| event.get("reportingComponent"));
    for (member, value) in [
        ("reportingController", controller),
        ("reportingInstance", event.get("reportingInstance")),
        ("action", event.get("action")),
        ("reason", event.get("reason")),
    ] {
        if value.and_then(Value::as_str).unwrap_or_default().is_empty() {
            errors.push(Error::required(&Path::new(member), ""));
        }
    }
}
