//! Daemon sets and stateful sets.

use gantry_object::Value;
use gantry_object::field::{Error, ErrorList, Path};
use serde_json::json;

use crate::rules::{Generation, PLAIN, Rules, pod, volumes, workload};
use crate::{tree, validate};

/// Where a daemon set says how often its template changed.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) const DAEMON_SET: Rules = Rules {
    defaults: |set| {
        pod::default_template(set, "/spec/template");
        make_rolling_update(set);
    },
    create: |set| {
        let given = template_generation(set).max(1);
        put_template_generation(set, given);
    },
    update: |new, old, _| {
        let changed = new["spec"].get("template") != old["spec"].get("template");
        put_template_generation(new, template_generation(old) + i64::from(changed));
    },
    validate: validate_daemon_set,
    resets_status: true,
    generation: Generation::Spec,
    ..PLAIN
};

pub(crate) const STATEFUL_SET: Rules = Rules {
    defaults: |set| {
        pod::default_template(set, "/spec/template");
        if tree::text(set, "/spec/updateStrategy/type").is_empty() {
            let spec = tree::object_mut(set, "spec");
            spec.entry("updateStrategy").or_insert(Value::Null);
            let strategy = &mut spec["updateStrategy"];
            tree::object_mut(strategy, "rollingUpdate");
            tree::set(strategy, "type", "RollingUpdate");
        }
        for claim in tree::items_mut(set, "/spec/volumeClaimTemplates") {
            // Templates of claims are claims themselves, named so.
            tree::set_if_empty(claim, "apiVersion", "v1");
            tree::set_if_empty(claim, "kind", "PersistentVolumeClaim");
            volumes::round_claim(claim);
        }
    },
    validate: validate_stateful_set,
    validate_update: keep_stateful_set,
    resets_status: true,
    generation: Generation::Spec,
    ..PLAIN
};

fn validate_daemon_set(set: &Value, errors: &mut ErrorList) {
    workload::validate_scaled(set, errors);
    let path = Path::new("spec").child("updateStrategy");
    match tree::text(set, "/spec/updateStrategy/type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (rolling, path) = (tree::at(set, "/spec/updateStrategy/rollingUpdate"), path.child("rollingUpdate"));
            for member in ["maxUnavailable", "maxSurge"] {
                validate::int_or_percent(&rolling[member], &path.child(member), errors);
                if validate::percent(&rolling[member]).is_some_and(|p| p > 100) {
                    errors.push(Error::invalid(&path.child(member), rolling[member].clone(), "must not be greater than 100%"));
                }
            }
            let some = |member: &str| !(rolling[member].is_null() || rolling[member] == 0 || rolling[member] == "0%");
            match (some("maxUnavailable"), some("maxSurge")) {
                (true, true) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.push(Error::invalid(&path.child("maxSurge"), rolling["maxSurge"].clone(), detail));
                }
                (false, false) => errors.push(Error::required(&path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0")),
                _ => {}
            }
        }
        other => errors.push(Error::not_supported(&path, other, &["RollingUpdate", "OnDelete"])),
    }
}

fn validate_stateful_set(set: &Value, errors: &mut ErrorList) {
    workload::validate_scaled(set, errors);
    let spec = Path::new("spec");
    match tree::text(set, "/spec/podManagementPolicy") {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(Error::required(&spec.child("podManagementPolicy"), "")),
        other => errors.push(Error::invalid(&spec.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'")),
    }
    let (strategy, path) = (tree::at(set, "/spec/updateStrategy"), spec.child("updateStrategy"));
    match strategy["type"].as_str() {
        Some("RollingUpdate") => {
            validate::not_negative(set, &["spec", "updateStrategy", "rollingUpdate", "partition"], errors);
        }
        Some("OnDelete") if strategy["rollingUpdate"].is_null() => {}
        Some("OnDelete") => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            errors.push(Error::invalid(&path.child("rollingUpdate"), strategy["rollingUpdate"].clone(), detail));
        }
        None | Some("") => errors.push(Error::required(&path, "")),
        Some(_) => errors.push(Error::invalid(&path, strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'")),
    }
    validate::not_negative(set, &["spec", "ordinals", "start"], errors);
}

/// What of a stateful set may change; everything else is as its pods and claims were made.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

fn keep_stateful_set(new: &Value, old: &Value, subresource: Option<&str>, errors: &mut ErrorList) {
    let members = tree::entries(new, "/spec").chain(tree::entries(old, "/spec"));
    let mut fixed = members.map(|(name, _)| name).filter(|name| !CHANGEABLE.contains(&name.as_str()));
    if subresource != Some("status") && fixed.any(|name| new["spec"].get(name) != old["spec"].get(name)) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
        errors.push(Error::forbidden(&Path::new("spec"), detail));
    }
}

fn make_rolling_update(set: &mut Value) {
    if let Some(strategy) = set.pointer_mut("/spec/updateStrategy").filter(|s| s["type"] == "RollingUpdate")
        && strategy.get("rollingUpdate").is_none_or(Value::is_null)
    {
        tree::set(strategy, "rollingUpdate", json!({}));
    }
}

fn template_generation(set: &Value) -> i64 {
    let annotations = tree::at(set, "/metadata/annotations");
    annotations.get(TEMPLATE_GENERATION).and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn put_template_generation(set: &mut Value, generation: i64) {
    let metadata = gantry_object::meta::metadata_mut(set);
    let annotations = metadata.entry("annotations").or_insert(Value::Null);
    if !annotations.is_object() {
        *annotations = json!({});
    }
    tree::set(annotations, TEMPLATE_GENERATION, generation.to_string());
}
