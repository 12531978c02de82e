//! Pods and the pod specs in other kinds' templates.

use gantry_object::{Quantity, Value};
use serde_json::json;

use crate::rules::{Generation, PLAIN, Rules, label_keys, qos};
use crate::{tree, validate};

pub(crate) const POD: Rules = Rules {
    defaults: default_pod,
    create: |pod| {
        label_keys::into_selectors(pod);
        let class = qos::class(pod);
        let gated = !tree::items(pod, "/spec/schedulingGates").is_empty();
        let status = tree::object_mut(pod, "status");
        status.insert("phase".into(), "Pending".into());
        status.insert("qosClass".into(), class.into());
        if gated {
            let condition = json!({
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates",
            });
            status.insert("conditions".into(), json!([condition]));
        }
    },
    update,
    validate: |pod, errors| validate::pod::pod(pod, errors),
    validate_update: |new, old, subresource, errors| validate::pod_update::update(new, old, subresource, errors),
    resets_status: true,
    generation: Generation::Spec,
    ..PLAIN
};

pub(crate) const POD_TEMPLATE: Rules =
    Rules { defaults: |template| default_template(template, "/template"), generation: Generation::Content, ..PLAIN };

fn update(new: &mut Value, old: &Value, subresource: Option<&str>) {
    match subresource {
        Some("status") => keep_identity(new, old),
        Some("ephemeralcontainers") => {
            let containers = tree::at(new, "/spec/ephemeralContainers").clone();
            tree::copy_member(new, old, "spec");
            tree::copy_member(new, old, "status");
            tree::object_mut(new, "spec").insert("ephemeralContainers".into(), containers);
        }
        Some("resize") => {
            let resources = |list: &str| tree::items(new, list).iter().map(|c| c.get("resources").cloned()).collect::<Vec<_>>();
            let wanted = ["/spec/containers", "/spec/initContainers"].map(|list| (list, resources(list)));
            tree::copy_member(new, old, "spec");
            tree::copy_member(new, old, "status");
            for (list, resources) in wanted {
                for (container, resources) in tree::items_mut(new, list).iter_mut().zip(resources) {
                    tree::set(container, "resources", resources.unwrap_or_default());
                }
            }
        }
        _ => {}
    }
}

/// What a status update may not touch: owners, the quality class, generations observed before.
fn keep_identity(new: &mut Value, old: &Value) {
    if let Some(metadata) = new.get_mut("metadata") {
        tree::copy_member(metadata, &old["metadata"], "ownerReferences");
    }
    let class = tree::at(old, "/status/qosClass").clone();
    let observed = tree::at(old, "/status/observedGeneration").clone();
    let Some(status) = new.get_mut("status") else { return };
    if !class.is_null() {
        tree::set_if_empty(status, "qosClass", class);
    }
    if !observed.is_null() && status.get("observedGeneration").is_none_or(|g| g == 0) {
        tree::set(status, "observedGeneration", observed);
    }
}

fn default_pod(pod: &mut Value) {
    let Some(spec) = pod.get_mut("spec") else { return };
    default_spec(spec);
    for list in ["/containers", "/initContainers"] {
        tree::items_mut(spec, list).iter_mut().for_each(request_what_is_limited);
    }
    if spec.get("enableServiceLinks").is_none_or(Value::is_null) {
        tree::set(spec, "enableServiceLinks", true);
    }
}

/// Requests that are not given are as high as the limits. Only pods have this, templates do not.
fn request_what_is_limited(container: &mut Value) {
    let Some(resources) = container.get_mut("resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let requests = tree::object_mut(resources, "requests");
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
}

/// Defaults of the pod template at a JSON pointer.
pub(crate) fn default_template(object: &mut Value, pointer: &str) {
    if let Some(spec) = object.pointer_mut(&format!("{pointer}/spec")) {
        default_spec(spec);
    }
}

fn default_spec(spec: &mut Value) {
    // The old name of the field stays in step with the new one.
    let account = match tree::text(spec, "/serviceAccountName") {
        "" => tree::text(spec, "/serviceAccount"),
        name => name,
    };
    let account = account.to_owned();
    if !account.is_empty() {
        tree::set(spec, "serviceAccountName", account.as_str());
        tree::set(spec, "serviceAccount", account);
    }
    let host_network = spec["hostNetwork"] == true;
    for list in ["/containers", "/initContainers", "/ephemeralContainers"] {
        for container in tree::items_mut(spec, list) {
            default_container(container, host_network && list != "/ephemeralContainers");
        }
    }
    tree::items_mut(spec, "/volumes").iter_mut().for_each(default_volume);
    for list in ["overhead", "resources"] {
        if let Some(amounts) = spec.get_mut(list) {
            round_amounts(amounts);
        }
    }
}

fn default_container(container: &mut Value, host_network: bool) {
    let policy = pull_policy(tree::text(container, "/image"));
    tree::set_if_empty(container, "imagePullPolicy", policy);
    if host_network {
        for port in tree::items_mut(container, "/ports") {
            if port["hostPort"].as_i64().unwrap_or_default() == 0 {
                let inside = port["containerPort"].clone();
                tree::set(port, "hostPort", inside);
            }
        }
    }
    if let Some(resources) = container.get_mut("resources") {
        round_amounts(resources);
    }
}

/// Amounts are kept to a thousandth, rounded up.
pub(crate) fn round_amounts(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(round_amounts),
        Value::String(text) => {
            if let Ok(amount) = text.parse::<Quantity>()
                && Quantity::millis(amount.milli_value()) != amount
                && amount.milli_value() != i64::MAX
            {
                *text = Quantity::millis(amount.milli_value()).to_string();
            }
        }
        _ => {}
    }
}

fn default_volume(volume: &mut Value) {
    let has_source = volume.as_object().is_some_and(|v| v.iter().any(|(name, source)| name != "name" && !source.is_null()));
    if !has_source {
        tree::set(volume, "emptyDir", json!({}));
    }
    if let Some(image) = volume.get_mut("image").filter(|i| i.is_object()) {
        let policy = pull_policy(tree::text(image, "/reference"));
        tree::set_if_empty(image, "pullPolicy", policy);
    }
}

/// Images named `latest`, or not named further, are pulled always.
fn pull_policy(image: &str) -> &'static str {
    let last = image.rsplit('/').next().unwrap_or(image);
    let (last, digest) = last.split_once('@').map_or((last, false), |(name, _)| (name, true));
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest => "Always",
        _ => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_pull_policy_follows_the_tag() {
        for (image, policy) in [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0000", "IfNotPresent"),
        ] {
            assert_eq!(super::pull_policy(image), policy, "{image}");
        }
    }
}
