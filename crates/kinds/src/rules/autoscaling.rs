//! Autoscalers of pods, stored as version 2. What version 1 has no members for is kept in annotations while it is shown as that.

use gantry_object::{Map, Value, meta};
use serde_json::json;

use crate::rules::{PLAIN, Rules};
use crate::tree;

pub(crate) const AUTOSCALER: Rules = Rules { defaults: default_autoscaler, resets_status: true, ..PLAIN };

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ANNOTATIONS: [&str; 6] = [
    METRICS,
    CURRENT_METRICS,
    CONDITIONS,
    BEHAVIOR,
    "autoscaling.alpha.kubernetes.io/scale-down-tolerance",
    "autoscaling.alpha.kubernetes.io/scale-up-tolerance",
];

/// The share of its request that a pod's processor is kept at when nothing else is said, in percent.
const UTILIZATION: i64 = 80;

/// Names of members: in version 2, in version 1.
type Renames = &'static [(&'static str, &'static str)];

const METRIC_NAME: (&str, &str) = ("metric/name", "metricName");
const SELECTOR: (&str, &str) = ("metric/selector", "selector");
const DESCRIBED: (&str, &str) = ("describedObject", "target");

/// What each kind of metric says of what is wanted.
const WANTED: [(&str, Renames); 5] = [
    ("object", &[DESCRIBED, METRIC_NAME, SELECTOR, ("target/value", "targetValue"), ("target/averageValue", "averageValue")]),
    ("pods", &[METRIC_NAME, SELECTOR, ("target/averageValue", "targetAverageValue")]),
    (
        "resource",
        &[("name", "name"), ("target/averageUtilization", "targetAverageUtilization"), ("target/averageValue", "targetAverageValue")],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("container", "container"),
            ("target/averageUtilization", "targetAverageUtilization"),
            ("target/averageValue", "targetAverageValue"),
        ],
    ),
    (
        "external",
        &[
            METRIC_NAME,
            ("metric/selector", "metricSelector"),
            ("target/value", "targetValue"),
            ("target/averageValue", "targetAverageValue"),
        ],
    ),
];

/// What each kind of metric says of what is.
const FOUND: [(&str, Renames); 5] = [
    ("object", &[DESCRIBED, METRIC_NAME, SELECTOR, ("current/value", "currentValue"), ("current/averageValue", "averageValue")]),
    ("pods", &[METRIC_NAME, SELECTOR, ("current/averageValue", "currentAverageValue")]),
    (
        "resource",
        &[("name", "name"), ("current/averageUtilization", "currentAverageUtilization"), ("current/averageValue", "currentAverageValue")],
    ),
    (
        "containerResource",
        &[
            ("name", "name"),
            ("container", "container"),
            ("current/averageUtilization", "currentAverageUtilization"),
            ("current/averageValue", "currentAverageValue"),
        ],
    ),
    (
        "external",
        &[
            METRIC_NAME,
            ("metric/selector", "metricSelector"),
            ("current/value", "currentValue"),
            ("current/averageValue", "currentAverageValue"),
        ],
    ),
];

/// Amounts that version 1 cannot leave out.
const NEEDED: [&str; 4] = ["object/targetValue", "pods/targetAverageValue", "object/currentValue", "external/currentValue"];

fn default_autoscaler(autoscaler: &mut Value) {
    let Some(spec) = autoscaler.get_mut("spec").filter(|s| s.is_object()) else { return };
    if tree::items(spec, "/metrics").is_empty() {
        tree::set(spec, "metrics", json!([processor(UTILIZATION)]));
    }
    let Some(behavior) = spec.get_mut("behavior").filter(|b| b.is_object()) else { return };
    let policy = |kind: &str, value: i64| json!({"type": kind, "value": value, "periodSeconds": 15});
    let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": [policy("Pods", 4), policy("Percent", 100)]});
    let down = json!({"selectPolicy": "Max", "policies": [policy("Percent", 100)]});
    for (member, defaults) in [("scaleUp", up), ("scaleDown", down)] {
        let rules = tree::object_mut(behavior, member);
        for (name, value) in defaults.as_object().into_iter().flatten() {
            if rules.get(name).is_none_or(Value::is_null) {
                rules.insert(name.clone(), value.clone());
            }
        }
    }
}

fn processor(utilization: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": utilization}}})
}

/// The utilization of processors that a metric of version 2 wants or tells of.
fn utilization(metric: &Value, side: &str) -> Option<i64> {
    let is_processor = metric["type"] == "Resource" && tree::text(metric, "/resource/name") == "cpu";
    tree::at(metric, &format!("/resource/{side}/averageUtilization")).as_i64().filter(|_| is_processor)
}

fn put(object: &mut Value, path: &str, value: Value) {
    match path.split_once('/') {
        Some((first, rest)) => {
            tree::object_mut(object, first);
            put(&mut object[first], rest, value);
        }
        None => tree::set(object, path, value),
    }
}

fn rename(metric: &Value, table: &[(&str, Renames)], to_v1: bool) -> Value {
    let mut renamed = json!({});
    tree::copy_member(&mut renamed, metric, "type");
    for (kind, members) in table {
        let Some(source) = metric.get(*kind).filter(|s| s.is_object()) else { continue };
        let mut target = json!({});
        for (v2, v1) in *members {
            let (from, to) = if to_v1 { (*v2, *v1) } else { (*v1, *v2) };
            let value = tree::at(source, &format!("/{from}"));
            if !value.is_null() {
                put(&mut target, to, value.clone());
            } else if to_v1 && NEEDED.contains(&format!("{kind}/{v1}").as_str()) {
                put(&mut target, to, json!("0"));
            }
        }
        renamed[*kind] = target;
    }
    renamed
}

/// A metric of version 1 as version 2 has it: with the type of its target.
fn wanted_from_v1(metric: &Value) -> Value {
    let mut metric = rename(metric, &WANTED, false);
    for (kind, _) in WANTED {
        let Some(target) = metric.pointer_mut(&format!("/{kind}/target")) else { continue };
        let has = |member: &str| target.get(member).is_some();
        let average = has("averageValue");
        let of_type = match kind {
            "resource" | "containerResource" if has("averageUtilization") => "Utilization",
            "object" if !average => "Value",
            "external" if has("value") => "Value",
            _ => "AverageValue",
        };
        if kind == "object" && average && target["value"] == "0" {
            tree::remove(target, "value");
        }
        tree::set(target, "type", of_type);
    }
    metric
}

/// A tree with the first letters of its members' names in upper or lower case: behaviour is kept under the names it has in Go.
fn recased(value: &Value, change: fn(&char) -> char) -> Value {
    match value {
        Value::Object(members) => {
            let rename = |name: &str| name.chars().next().map(|c| change(&c)).into_iter().chain(name.chars().skip(1)).collect::<String>();
            members.iter().map(|(name, v)| (rename(name), recased(v, change))).collect::<Map>().into()
        }
        Value::Array(items) => items.iter().map(|v| recased(v, change)).collect(),
        other => other.clone(),
    }
}

/// Turns a stored autoscaler into one of version 1.
pub(crate) fn v1_from_v2(autoscaler: &mut Value) {
    drop_annotations(autoscaler);
    tree::set(autoscaler, "apiVersion", "autoscaling/v1");
    let mut kept: Vec<(&str, Value)> = Vec::new();
    if let Some(spec) = autoscaler.get_mut("spec") {
        let metrics = tree::remove(spec, "metrics").unwrap_or_default();
        let metrics = metrics.as_array().map_or(&[][..], Vec::as_slice);
        if let Some(share) = metrics.iter().find_map(|m| utilization(m, "target")) {
            tree::set(spec, "targetCPUUtilizationPercentage", share);
        }
        let others: Vec<Value> = metrics.iter().filter(|m| utilization(m, "target").is_none()).map(|m| rename(m, &WANTED, true)).collect();
        kept.push((METRICS, others.into()));
        let behavior = tree::remove(spec, "behavior").filter(Value::is_object);
        kept.extend(behavior.map(|b| (BEHAVIOR, recased(&b, char::to_ascii_uppercase))));
    }
    if let Some(status) = autoscaler.get_mut("status") {
        let metrics = tree::remove(status, "currentMetrics").unwrap_or_default();
        let metrics = metrics.as_array().map_or(&[][..], Vec::as_slice);
        if let Some(share) = metrics.iter().rev().find_map(|m| utilization(m, "current")) {
            tree::set(status, "currentCPUUtilizationPercentage", share);
        }
        let found: Vec<Value> = metrics.iter().map(|m| rename(m, &FOUND, true)).collect();
        kept.push((CURRENT_METRICS, found.into()));
        kept.extend(tree::remove(status, "conditions").map(|c| (CONDITIONS, c)));
    }
    for (name, value) in kept {
        if value.as_array().is_none_or(|items| !items.is_empty()) && !value.is_null() {
            let annotations = meta::metadata_mut(autoscaler).entry("annotations").or_insert(Value::Null);
            if !annotations.is_object() {
                *annotations = json!({});
            }
            tree::set(annotations, name, value.to_string());
        }
    }
}

fn annotation(autoscaler: &Value, name: &str) -> Option<Value> {
    let text = tree::at(autoscaler, "/metadata/annotations").get(name)?.as_str()?;
    serde_json::from_str(text).ok()
}

fn drop_annotations(autoscaler: &mut Value) {
    let Some(Value::Object(annotations)) = meta::metadata_mut(autoscaler).get_mut("annotations") else { return };
    ANNOTATIONS.iter().for_each(|name| drop(annotations.remove(*name)));
}

/// Turns an autoscaler of version 1 into what is stored.
pub(crate) fn v2_from_v1(autoscaler: &mut Value) {
    let list = |name: &str| annotation(autoscaler, name).and_then(|v| v.as_array().cloned());
    let (wanted, found, conditions) = (list(METRICS), list(CURRENT_METRICS), list(CONDITIONS));
    let behavior = annotation(autoscaler, BEHAVIOR).map(|b| recased(&b, char::to_ascii_lowercase));
    let behavior = behavior.filter(|b| b.as_object().is_some_and(|b| b.values().any(|v| !v.is_null())));
    drop_annotations(autoscaler);
    tree::set(autoscaler, "apiVersion", "autoscaling/v2");
    if let Some(spec) = autoscaler.get_mut("spec").filter(|s| s.is_object()) {
        let share = tree::remove(spec, "targetCPUUtilizationPercentage").and_then(|v| v.as_i64());
        let mut metrics: Vec<Value> = wanted.iter().flatten().map(wanted_from_v1).collect();
        metrics.extend(share.map(processor));
        if metrics.is_empty() {
            metrics.push(processor(UTILIZATION));
        }
        tree::set(spec, "metrics", metrics);
        behavior.into_iter().for_each(|b| tree::set(spec, "behavior", b));
    }
    if let Some(status) = autoscaler.get_mut("status").filter(|s| s.is_object()) {
        let share = tree::remove(status, "currentCPUUtilizationPercentage").and_then(|v| v.as_i64());
        let metrics: Option<Vec<Value>> = found.map(|found| found.iter().map(|m| rename(m, &FOUND, false)).collect());
        let told = share.map(|s| vec![json!({"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": s}}})]);
        metrics.or(told).into_iter().for_each(|m| tree::set(status, "currentMetrics", m));
        conditions.into_iter().for_each(|c| tree::set(status, "conditions", c));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;

    #[test]
    fn version_1_keeps_what_only_version_2_says() {
        let registry = Registry::builtin();
        let (v1, v2) = (
            registry.gvk("autoscaling", "v1", "HorizontalPodAutoscaler").unwrap(),
            registry.gvk("autoscaling", "v2", "HorizontalPodAutoscaler").unwrap(),
        );
        let mut stored = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a", "annotations": {"x": "y"}},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "minReplicas": 2, "maxReplicas": 5,
                "metrics": [
                    {"type": "Object", "object": {"describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "AverageValue", "averageValue": "7"}}},
                    {"type": "Pods", "pods": {"metric": {"name": "p"}, "target": {"type": "AverageValue", "averageValue": "1k"}}},
                    {"type": "External", "external": {"metric": {"name": "e"}, "target": {"type": "Value", "value": "3"}}},
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                    {"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 9}}},
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5, "selectPolicy": "Max", "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}}},
            "status": {"currentReplicas": 2, "desiredReplicas": 3,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 50, "averageValue": "5m"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True", "lastTransitionTime": "2026-11-23T05:00:00Z"}]}});
        v2.normalize(&mut stored);
        let shown = v1.from_storage(stored.clone());
        assert_eq!(shown["spec"]["targetCPUUtilizationPercentage"], 60);
        assert_eq!(shown["status"]["currentCPUUtilizationPercentage"], 50);
        assert!(shown["spec"].get("metrics").is_none() && shown["status"].get("conditions").is_none(), "{shown}");
        let annotation = |name: &str| shown["metadata"]["annotations"][name].as_str().unwrap().to_owned();
        assert!(annotation(METRICS).contains(r#""targetAverageValue":"1k""#), "{}", annotation(METRICS));
        assert!(annotation(BEHAVIOR).contains(r#""StabilizationWindowSeconds":5"#), "{}", annotation(BEHAVIOR));
        assert_eq!(v1.to_storage(shown), stored);
    }

    #[test]
    fn version_1_that_says_nothing_wants_processors_at_four_fifths() {
        let registry = Registry::builtin();
        let v1 = registry.gvk("autoscaling", "v1", "HorizontalPodAutoscaler").unwrap();
        let object = json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"}, "spec": {"maxReplicas": 5}});
        assert_eq!(v1.to_storage(object)["spec"]["metrics"], json!([processor(80)]));
    }
}
