//! Deployments, replica sets and controller revisions.

use gantry_object::Value;
use gantry_object::field::{Error, ErrorList, Path};
use serde_json::json;

use crate::rules::{Generation, PLAIN, Rules, pod};
use crate::{tree, validate};

pub(crate) const DEPLOYMENT: Rules = Rules {
    defaults: |deployment| {
        pod::default_template(deployment, "/spec/template");
        if let Some(strategy) = deployment.pointer_mut("/spec/strategy").filter(|s| s["type"] == "RollingUpdate")
            && strategy.get("rollingUpdate").is_none_or(Value::is_null)
        {
            tree::set(strategy, "rollingUpdate", json!({}));
        }
    },
    update: |new, old, subresource| {
        if subresource == Some("status")
            && let Some(metadata) = new.get_mut("metadata")
        {
            tree::copy_member(metadata, &old["metadata"], "labels");
        }
    },
    validate: validate_deployment,
    validate_update: count_status,
    resets_status: true,
    generation: Generation::SpecOrAnnotations,
    ..PLAIN
};

pub(crate) const REPLICA_SET: Rules = Rules {
    defaults: |set| pod::default_template(set, "/spec/template"),
    validate: |set, errors| {
        validate_scaled(set, errors);
    },
    validate_update: count_status,
    resets_status: true,
    generation: Generation::Spec,
    ..PLAIN
};

pub(crate) const REPLICATION_CONTROLLER: Rules = Rules {
    defaults: |controller| {
        let labels = tree::at(controller, "/spec/template/metadata/labels").clone();
        if labels.is_object() {
            if tree::entries(controller, "/spec/selector").next().is_none() {
                tree::object_mut(controller, "spec").insert("selector".into(), labels.clone());
            }
            if tree::entries(controller, "/metadata/labels").next().is_none() {
                tree::object_mut(controller, "metadata").insert("labels".into(), labels);
            }
        }
        pod::default_template(controller, "/spec/template");
    },
    validate: validate_controller,
    validate_update: count_status,
    resets_status: true,
    generation: Generation::Spec,
    ..PLAIN
};

pub(crate) const CONTROLLER_REVISION: Rules = Rules {
    validate: |revision, errors| {
        if tree::at(revision, "/data").is_null() {
            errors.push(Error::required(&Path::new("data"), "data is mandatory"));
        }
        if let Some(n) = tree::at(revision, "/revision").as_i64().filter(|n| *n < 0) {
            errors.push(Error::invalid(&Path::new("revision"), n, validate::NOT_NEGATIVE));
        }
    },
    ..PLAIN
};

/// What kinds that keep pods going have in common: replicas, a selector, a template it selects.
pub(crate) fn validate_scaled(object: &Value, errors: &mut ErrorList) {
    let spec = Path::new("spec");
    validate::not_negative(object, &["spec", "replicas"], errors);
    validate::not_negative(object, &["spec", "minReadySeconds"], errors);
    let selector = tree::at(object, "/spec/selector");
    let path = spec.child("selector");
    if selector.is_null() {
        errors.push(Error::required(&path, ""));
    } else {
        validate::label_selector(selector, &path, errors);
        if selector.as_object().is_some_and(serde_json::Map::is_empty) {
            errors.push(Error::invalid(&path, selector.clone(), &format!("empty selector is invalid for {}", noun(object))));
        }
    }
    let template = spec.child("template");
    let labels = tree::at(object, "/spec/template/metadata/labels").clone();
    let pairs: Vec<(&str, &str)> =
        labels.as_object().into_iter().flatten().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())).collect();
    if let Ok(Some(wanted)) = gantry_object::labels::Selector::from_label_selector(selector)
        && !wanted.is_empty()
        && !wanted.matches_object(&json!({"metadata": {"labels": labels}}))
    {
        let given: serde_json::Map<String, Value> = pairs.iter().map(|(k, v)| ((*k).to_owned(), Value::from(*v))).collect();
        errors.push(Error::invalid(&template.child("metadata").child("labels"), given, "`selector` does not match template `labels`"));
    }
    validate::pod::template(tree::at(object, "/spec/template"), &template, errors);
    runs_for_ever(object, tree::at(object, "/spec/template"), &template, errors);
}

/// A replication controller selects by labels alone.
fn validate_controller(controller: &Value, errors: &mut ErrorList) {
    let spec = Path::new("spec");
    let (selector, template) = (tree::at(controller, "/spec/selector"), tree::at(controller, "/spec/template"));
    if selector.as_object().is_none_or(serde_json::Map::is_empty) {
        errors.push(Error::required(&spec.child("selector"), ""));
    }
    let path = spec.child("template");
    if template.is_null() {
        errors.push(Error::required(&path, ""));
        return;
    }
    let labels = tree::at(template, "/metadata/labels");
    if tree::entries(selector, "").any(|(key, value)| labels.get(key) != Some(value)) {
        let detail = "`selector` does not match template `labels`";
        errors.push(Error::invalid(&path.child("metadata").child("labels"), labels.clone(), detail));
    }
    validate::pod::template(template, &path, errors);
    runs_for_ever(controller, template, &path, errors);
}

/// Pods that are kept going are always restarted, and have no deadline.
fn runs_for_ever(object: &Value, template: &Value, path: &Path, errors: &mut ErrorList) {
    let policy = tree::text(template, "/spec/restartPolicy");
    if policy != "Always" {
        errors.push(Error::not_supported(&path.child("spec").child("restartPolicy"), policy, &["Always"]));
    }
    if !tree::at(template, "/spec/activeDeadlineSeconds").is_null() {
        let detail = format!("activeDeadlineSeconds in {} is not Supported", tree::text(object, "/kind"));
        errors.push(Error::forbidden(&path.child("spec").child("activeDeadlineSeconds"), &detail));
    }
}

fn noun(object: &Value) -> &'static str {
    match object["kind"].as_str() {
        Some("ReplicaSet") => "replicaset",
        Some("DaemonSet") => "daemonset",
        Some("StatefulSet") => "statefulset",
        _ => "deployment",
    }
}

fn validate_deployment(deployment: &Value, errors: &mut ErrorList) {
    validate_scaled(deployment, errors);
    validate::not_negative(deployment, &["spec", "revisionHistoryLimit"], errors);
    validate::not_negative(deployment, &["spec", "progressDeadlineSeconds"], errors);
    let spec = Path::new("spec");
    let deadline = tree::at(deployment, "/spec/progressDeadlineSeconds").as_i64();
    let ready = tree::at(deployment, "/spec/minReadySeconds").as_i64().unwrap_or_default();
    if let Some(deadline) = deadline.filter(|d| *d <= ready) {
        errors.push(Error::invalid(&spec.child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds"));
    }
    validate_strategy(tree::at(deployment, "/spec/strategy"), &spec.child("strategy"), errors);
}

fn validate_strategy(strategy: &Value, path: &Path, errors: &mut ErrorList) {
    let rolling = strategy.get("rollingUpdate").filter(|r| !r.is_null());
    match (tree::text(strategy, "/type"), rolling) {
        ("Recreate", Some(_)) => {
            errors.push(Error::forbidden(&path.child("rollingUpdate"), "may not be specified when strategy `type` is 'Recreate'"));
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => {
            errors.push(Error::required(&path.child("rollingUpdate"), "this should be defaulted and never be nil"));
        }
        ("RollingUpdate", Some(rolling)) => {
            let path = path.child("rollingUpdate");
            for member in ["maxUnavailable", "maxSurge"] {
                validate::int_or_percent(&rolling[member], &path.child(member), errors);
            }
            let zero = |member: &str| rolling[member] == 0 || rolling[member] == "0%";
            if zero("maxUnavailable") && zero("maxSurge") {
                let detail = "may not be 0 when `maxSurge` is 0";
                errors.push(Error::invalid(&path.child("maxUnavailable"), rolling["maxUnavailable"].clone(), detail));
            }
            if validate::percent(&rolling["maxUnavailable"]).is_some_and(|p| p > 100) {
                errors.push(Error::invalid(
                    &path.child("maxUnavailable"),
                    rolling["maxUnavailable"].clone(),
                    "must not be greater than 100%",
                ));
            }
        }
        (kind, _) => errors.push(Error::not_supported(&path.child("type"), kind, &["Recreate", "RollingUpdate"])),
    }
}

fn count_status(new: &Value, _: &Value, subresource: Option<&str>, errors: &mut ErrorList) {
    if subresource == Some("status") {
        for member in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas", "fullyLabeledReplicas"] {
            validate::not_negative(new, &["status", member], errors);
        }
    }
}
