//! Label keys of affinity terms and spread constraints, which become part of their selectors when a pod is created.

use gantry_object::{Map, Value, meta};
use serde_json::json;

use crate::tree;

/// Terms of pod affinity, as pointers into the spec: lists of terms, and where in an item the term is.
const TERMS: [(&str, &str); 2] =
    [("requiredDuringSchedulingIgnoredDuringExecution", ""), ("preferredDuringSchedulingIgnoredDuringExecution", "/podAffinityTerm")];

/// Adds what the label keys say, with the pod's own labels, to the selectors beside them. Without a selector nothing is matched anyway.
pub(super) fn into_selectors(pod: &mut Value) {
    let labels = meta::metadata(pod).and_then(|m| m.get("labels")).and_then(Value::as_object).cloned().unwrap_or_default();
    for side in ["podAffinity", "podAntiAffinity"] {
        for (list, within) in TERMS {
            for item in tree::items_mut(pod, &format!("/spec/affinity/{side}/{list}")) {
                if let Some(term) = item.pointer_mut(within) {
                    add(term, "matchLabelKeys", "In", &labels);
                    add(term, "mismatchLabelKeys", "NotIn", &labels);
                }
            }
        }
    }
    for constraint in tree::items_mut(pod, "/spec/topologySpreadConstraints") {
        add(constraint, "matchLabelKeys", "In", &labels);
    }
}

fn add(term: &mut Value, member: &str, operator: &str, labels: &Map) {
    let keys: Vec<String> = tree::items(term, &format!("/{member}")).iter().filter_map(Value::as_str).map(Into::into).collect();
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else { return };
    let wanted = keys.iter().filter_map(|key| Some(json!({"key": key, "operator": operator, "values": [labels.get(key)?]})));
    let wanted: Vec<Value> = wanted.collect();
    if wanted.is_empty() {
        return;
    }
    let expressions = selector.entry("matchExpressions").or_insert(Value::Null);
    match expressions {
        Value::Array(list) => list.extend(wanted),
        other => *other = Value::Array(wanted),
    }
}
