//! Changes of pods.

use std::collections::BTreeSet;

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Value, names};

use crate::tree::{at, copy_member, entries, items, items_mut, remove, set, text};

/// What upstream lists as changeable when it refuses a change.
const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A change of a pod: most of its spec may not change.
pub(crate) fn update(new: &Value, old: &Value, subresource: Option<&str>, errors: &mut ErrorList) {
    match subresource {
        Some("status") => return status_update(new, old, errors),
        // The rules took everything else from the old pod already.
        Some("ephemeralcontainers") => return debuggers(new, old, errors),
        Some("resize" | "binding") => return,
        _ => {}
    }
    let path = Path::new("spec");
    for list in ["containers", "initContainers"] {
        let (before, after) = (items(old, &format!("/spec/{list}")).len(), items(new, &format!("/spec/{list}")).len());
        if before != after {
            errors.push(Error::forbidden(&path.child(list), "pod updates may not add or remove containers"));
            return;
        }
    }
    deadline(new, old, &path.child("activeDeadlineSeconds"), errors);
    let untimed = |pod: &Value| -> Vec<Value> {
        let mut list = items(pod, "/spec/tolerations").to_vec();
        list.iter_mut().for_each(|t| drop(remove(t, "tolerationSeconds")));
        list
    };
    let kept = untimed(new);
    if untimed(old).iter().any(|t| !kept.contains(t)) {
        errors.push(Error::forbidden(&path.child("tolerations"), "existing toleration can not be modified except its tolerationSeconds"));
    }
    let gates = items(old, "/spec/schedulingGates");
    for (i, gate) in items(new, "/spec/schedulingGates").iter().enumerate().filter(|(_, g)| !gates.contains(g)) {
        let path = path.child("schedulingGates").index(i);
        errors.push(Error::forbidden(&path, &format!("only deletion is allowed, but found new scheduling gate '{}'", text(gate, "/name"))));
    }
    rest_of_spec(new, old, &path, errors);
}

/// Once what may change is set aside, nothing else may differ.
fn rest_of_spec(new: &Value, old: &Value, path: &Path, errors: &mut ErrorList) {
    let mut same = new["spec"].clone();
    for member in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        copy_member(&mut same, &old["spec"], member);
    }
    if !items(old, "/spec/schedulingGates").is_empty() {
        // A pod that waits at its gates may still be narrowed to fewer nodes.
        if entries(old, "/spec/nodeSelector").any(|(k, v)| at(new, "/spec/nodeSelector").get(k) != Some(v)) {
            let path = path.child("nodeSelector");
            errors.push(Error::invalid(
                &path,
                at(new, "/spec/nodeSelector").clone(),
                "only additions to nodeSelector are allowed (no mutations or deletions)",
            ));
        }
        copy_member(&mut same, &old["spec"], "nodeSelector");
    }
    let negative = at(old, "/spec/terminationGracePeriodSeconds").as_i64().is_some_and(|n| n < 0);
    if negative && same["terminationGracePeriodSeconds"] == 1 {
        copy_member(&mut same, &old["spec"], "terminationGracePeriodSeconds");
    }
    for list in ["containers", "initContainers"] {
        let images: Vec<Value> = items(old, &format!("/spec/{list}")).iter().map(|c| c["image"].clone()).collect();
        items_mut(&mut same, &format!("/{list}")).iter_mut().zip(images).for_each(|(c, image)| set(c, "image", image));
    }
    if same != old["spec"] {
        let names: BTreeSet<&String> = entries(&same, "").chain(entries(&old["spec"], "")).map(|(k, _)| k).collect();
        let changed: Vec<&str> = names.into_iter().filter(|k| same.get(*k) != old["spec"].get(*k)).map(String::as_str).collect();
        let detail = format!("pod updates may not change fields other than {CHANGEABLE}\n changed: {}", changed.join(", "));
        errors.push(Error::forbidden(path, &detail));
    }
}

/// Ephemeral containers are added, never changed or taken away.
fn debuggers(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec").child("ephemeralContainers");
    let now = items(new, "/spec/ephemeralContainers");
    for before in items(old, "/spec/ephemeralContainers") {
        let name = text(before, "/name");
        match now.iter().position(|c| c["name"] == before["name"]) {
            None => errors.push(Error::forbidden(&path, &format!("existing ephemeral containers {name:?} may not be removed\n"))),
            Some(i) if now[i] != *before => {
                errors.push(Error::forbidden(&path.index(i), &format!("existing ephemeral containers {name:?} may not be changed\n")));
            }
            Some(_) => {}
        }
    }
}

fn deadline(new: &Value, old: &Value, path: &Path, errors: &mut ErrorList) {
    let of = |pod: &Value| at(pod, "/spec/activeDeadlineSeconds").as_i64();
    match (of(old), of(new)) {
        (Some(before), Some(after)) if after > before => {
            errors.push(Error::invalid(path, after, "must be less than or equal to previous value"));
        }
        (Some(_), None) => errors.push(Error::invalid(path, Value::Null, "must not update from a positive integer to nil value")),
        _ => {}
    }
}

fn status_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("status");
    let nominated = |pod: &'_ Value| text(pod, "/status/nominatedNodeName").to_owned();
    if !nominated(new).is_empty() && nominated(new) != nominated(old) {
        let name = nominated(new);
        errors.extend(names::dns1123_subdomain(&name).iter().map(|m| Error::invalid(&path.child("nominatedNodeName"), name.as_str(), m)));
    }
    let class = |pod: &'_ Value| text(pod, "/status/qosClass").to_owned();
    if !class(old).is_empty() && class(new) != class(old) {
        errors.push(Error::invalid(&path.child("qosClass"), class(new), "field is immutable"));
    }
}
