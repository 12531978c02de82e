//! A pod's quality-of-service class.

use std::collections::BTreeMap;

use gantry_object::{Quantity, Value};

use crate::tree;

/// The class: Guaranteed when every container's limits equal its requests for cpu and memory, BestEffort when nothing is asked for, else Burstable.
pub(crate) fn class(pod: &Value) -> &'static str {
    if let Some(whole) = pod.pointer("/spec/resources").filter(|r| !r.is_null()) {
        return of([whole].into_iter());
    }
    let containers = ["/spec/containers", "/spec/initContainers"].into_iter().flat_map(|list| tree::items(pod, list));
    of(containers.map(|c| tree::at(c, "/resources")))
}

fn of<'a>(resources: impl Iterator<Item = &'a Value>) -> &'static str {
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let mut all_limited = true;
    for each in resources {
        add(each, "/requests", &mut requests);
        let limited = add(each, "/limits", &mut limits);
        all_limited &= limited == 2;
    }
    if requests.is_empty() && limits.is_empty() {
        return "BestEffort";
    }
    if all_limited && requests == limits { "Guaranteed" } else { "Burstable" }
}

/// Adds the cpu and memory of one container; says how many of the two it names.
fn add(resources: &Value, list: &str, sums: &mut BTreeMap<&'static str, Quantity>) -> usize {
    let mut named = 0;
    for name in ["cpu", "memory"] {
        let amount = tree::at(resources, list).get(name).and_then(Value::as_str).and_then(|q| q.parse::<Quantity>().ok());
        let Some(amount) = amount.filter(|q| !q.is_zero()) else { continue };
        named += 1;
        let sum = sums.entry(name).or_insert_with(|| Quantity::whole(0));
        *sum = sum.plus(amount);
    }
    named
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn the_class_follows_requests_and_limits() {
        let pod = |resources: &[serde_json::Value]| {
            let containers: Vec<_> = resources.iter().map(|r| json!({"resources": r})).collect();
            json!({"spec": {"containers": containers}})
        };
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        assert_eq!(super::class(&pod(&[json!({})])), "BestEffort");
        assert_eq!(super::class(&pod(std::slice::from_ref(&full))), "Guaranteed");
        assert_eq!(super::class(&pod(&[full, json!({})])), "Burstable");
        assert_eq!(super::class(&pod(&[json!({"requests": {"cpu": "1"}})])), "Burstable");
        assert_eq!(super::class(&pod(&[json!({"requests": {"cpu": "0"}})])), "BestEffort");
    }
}
