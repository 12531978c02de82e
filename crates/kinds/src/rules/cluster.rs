//! Namespaces, nodes, leases and RBAC.

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Value, meta, names};
use serde_json::json;

use crate::rules::{PLAIN, Rules};
use crate::{tree, validate};

pub(crate) const NAMESPACE: Rules = Rules {
    defaults: |namespace| label_with_name(namespace),
    create: |namespace| {
        label_with_name(namespace);
        let spec = tree::object_mut(namespace, "spec");
        let finalizers = spec.entry("finalizers").or_insert(Value::Null);
        if !finalizers.is_array() {
            *finalizers = json!([]);
        }
        if let Some(list) = finalizers.as_array_mut().filter(|l| !l.contains(&json!("kubernetes"))) {
            list.push("kubernetes".into());
        }
    },
    update: |new, old, subresource| {
        label_with_name(new);
        match subresource {
            None => tree::copy_member(new, old, "spec"),
            Some("finalize") => tree::copy_member(new, old, "status"),
            Some(_) => {}
        }
    },
    name: names::dns1123_label,
    resets_status: true,
    ..PLAIN
};

/// Every namespace carries its name as a label.
fn label_with_name(namespace: &mut Value) {
    let name = meta::name(namespace).to_owned();
    if name.is_empty() {
        return;
    }
    let labels = meta::metadata_mut(namespace).entry("labels").or_insert(Value::Null);
    if !labels.is_object() {
        *labels = json!({});
    }
    tree::set(labels, "kubernetes.io/metadata.name", name);
}

pub(crate) const NODE: Rules = Rules {
    defaults: |node| {
        let status = node.get("status");
        let capacity = status.and_then(|s| s.get("capacity")).filter(|c| c.is_object()).cloned();
        let given = status.and_then(|s| s.get("allocatable")).is_some_and(|a| !a.is_null());
        if let (Some(capacity), false) = (capacity, given) {
            tree::object_mut(node, "status").insert("allocatable".into(), capacity);
        }
    },
    validate: validate_node,
    validate_update: validate_node_update,
    ..PLAIN
};

fn validate_node(node: &Value, errors: &mut ErrorList) {
    validate::taints(tree::items(node, "/spec/taints"), &Path::new("spec").child("taints"), errors);
    validate::resource_list(tree::at(node, "/status/capacity"), &Path::new("status").child("capacity"), errors);
    validate::resource_list(tree::at(node, "/status/allocatable"), &Path::new("status").child("allocatable"), errors);
    let path = Path::new("spec").child("podCIDRs");
    let ranges = tree::items(node, "/spec/podCIDRs");
    for (i, range) in ranges.iter().enumerate() {
        if !validate::is_cidr(range.as_str().unwrap_or_default()) {
            errors.push(Error::invalid(&path.index(i), range.clone(), "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
        }
    }
    if ranges.len() > 2 {
        errors.push(Error::invalid(&path, ranges.to_vec(), "may specify no more than one CIDR for each IP family"));
    }
}

fn validate_node_update(new: &Value, old: &Value, _: Option<&str>, errors: &mut ErrorList) {
    let ranges = |node: &Value| tree::at(node, "/spec/podCIDRs").clone();
    if ranges(old).is_array() && ranges(new) != ranges(old) {
        errors
            .push(Error::forbidden(&Path::new("spec").child("podCIDRs"), "node updates may not change podCIDR except from \"\" to valid"));
    }
    let provider = |node: &'_ Value| tree::text(node, "/spec/providerID").to_owned();
    if !provider(old).is_empty() && provider(new) != provider(old) {
        errors.push(Error::forbidden(
            &Path::new("spec").child("providerID"),
            "node updates may not change providerID except from \"\" to valid",
        ));
    }
}

pub(crate) const LEASE: Rules = Rules {
    validate: |lease, errors| {
        let spec = Path::new("spec");
        for (member, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
            let given = lease.get("spec").and_then(|s| s.get(member)).and_then(Value::as_i64);
            if let Some(value) = given.filter(|v| *v < least) {
                let detail = if least == 1 { "must be greater than 0" } else { "must be greater than or equal to 0" };
                errors.push(Error::invalid(&spec.child(member), value, detail));
            }
        }
        if lease.pointer("/spec/holderIdentity").is_some_and(|h| h == "") {
            errors.push(Error::invalid(&spec.child("holderIdentity"), "", "must not be empty"));
        }
    },
    creates_on_update: true,
    needs_version: true,
    ..PLAIN
};

pub(crate) const ROLE: Rules =
    Rules { validate: |role, errors| validate_rules(role, true, errors), name: names::path_segment, creates_on_update: true, ..PLAIN };

pub(crate) const CLUSTER_ROLE: Rules = Rules { validate: |role, errors| validate_rules(role, false, errors), ..ROLE };

pub(crate) const ROLE_BINDING: Rules = Rules {
    defaults: default_subjects,
    validate: |binding, errors| validate_binding(binding, &["Role", "ClusterRole"], true, errors),
    validate_update: validate_role_ref,
    name: names::path_segment,
    creates_on_update: true,
    ..PLAIN
};

pub(crate) const CLUSTER_ROLE_BINDING: Rules =
    Rules { validate: |binding, errors| validate_binding(binding, &["ClusterRole"], false, errors), ..ROLE_BINDING };

const RBAC: &str = "rbac.authorization.k8s.io";

fn default_subjects(binding: &mut Value) {
    for subject in tree::items_mut(binding, "/subjects") {
        if matches!(tree::text(subject, "/kind"), "User" | "Group") {
            tree::set_if_empty(subject, "apiGroup", RBAC);
        }
    }
}

fn validate_rules(role: &Value, namespaced: bool, errors: &mut ErrorList) {
    for (i, rule) in tree::items(role, "/rules").iter().enumerate() {
        let path = Path::new("rules").index(i);
        if tree::items(rule, "/verbs").is_empty() {
            errors.push(Error::required(&path.child("verbs"), "verbs must contain at least one value"));
        }
        let urls = tree::items(rule, "/nonResourceURLs");
        let (groups, resources) = (tree::items(rule, "/apiGroups"), tree::items(rule, "/resources"));
        if !urls.is_empty() {
            if namespaced {
                errors.push(Error::invalid(
                    &path.child("nonResourceURLs"),
                    urls.to_vec(),
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if !groups.is_empty() || !resources.is_empty() || !tree::items(rule, "/resourceNames").is_empty() {
                errors.push(Error::invalid(
                    &path.child("nonResourceURLs"),
                    urls.to_vec(),
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if groups.is_empty() {
            errors.push(Error::required(&path.child("apiGroups"), "resource rules must supply at least one api group"));
        }
        if resources.is_empty() {
            errors.push(Error::required(&path.child("resources"), "resource rules must supply at least one resource"));
        }
    }
}

fn validate_binding(binding: &Value, kinds: &[&str], namespaced: bool, errors: &mut ErrorList) {
    let role = Path::new("roleRef");
    let group = tree::text(binding, "/roleRef/apiGroup");
    if group != RBAC {
        errors.push(Error::not_supported(&role.child("apiGroup"), group, &[RBAC]));
    }
    let kind = tree::text(binding, "/roleRef/kind");
    if !kinds.contains(&kind) {
        errors.push(Error::not_supported(&role.child("kind"), kind, kinds));
    }
    let name = tree::text(binding, "/roleRef/name");
    if name.is_empty() {
        errors.push(Error::required(&role.child("name"), ""));
    } else {
        errors.extend(names::path_segment(name).iter().map(|m| Error::invalid(&role.child("name"), name, m)));
    }
    for (i, subject) in tree::items(binding, "/subjects").iter().enumerate() {
        validate_subject(subject, &Path::new("subjects").index(i), namespaced, errors);
    }
}

fn validate_subject(subject: &Value, path: &Path, namespaced: bool, errors: &mut ErrorList) {
    let name = tree::text(subject, "/name");
    if name.is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let group = tree::text(subject, "/apiGroup");
    match tree::text(subject, "/kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.extend(names::dns1123_subdomain(name).iter().map(|m| Error::invalid(&path.child("name"), name, m)));
            }
            if !group.is_empty() {
                errors.push(Error::not_supported(&path.child("apiGroup"), group, &[""]));
            }
            if !namespaced && tree::text(subject, "/namespace").is_empty() {
                errors.push(Error::required(&path.child("namespace"), ""));
            }
        }
        "User" | "Group" if group != RBAC => errors.push(Error::not_supported(&path.child("apiGroup"), group, &[RBAC])),
        "User" | "Group" => {}
        kind => errors.push(Error::not_supported(&path.child("kind"), kind, &["ServiceAccount", "User", "Group"])),
    }
}

fn validate_role_ref(new: &Value, old: &Value, _: Option<&str>, errors: &mut ErrorList) {
    if new["roleRef"] != old["roleRef"] {
        errors.push(Error::invalid(&Path::new("roleRef"), new["roleRef"].clone(), "cannot change roleRef"));
    }
}
