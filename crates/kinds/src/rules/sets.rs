//! Daemon sets and stateful sets.

use gantry_object::Value;
use serde_json::json;

use crate::rules::{Generation, PLAIN, Rules, pod, volumes};
use crate::tree;

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
    resets_status: true,
    generation: Generation::Spec,
    ..PLAIN
};

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
