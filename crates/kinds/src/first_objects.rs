//! What a fresh cluster has besides its roles: API services, priority classes, flow schemas and their priority levels.

use gantry_object::{GroupVersion, Value};
use serde_json::json;

use crate::tables;
use crate::tree::items_mut;

/// The objects, cluster-wide all of them, as upstream makes them: apiVersion and kind included.
///
/// # Panics
/// When the table compiled in is malformed, which the tests rule out.
pub fn bootstrap_objects() -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    for line in tables::BOOTSTRAP.lines().filter(|l| !l.starts_with('#')) {
        if let Some(rule) = line.strip_prefix("  ") {
            take_in(objects.last_mut().expect("rules stand below a schema"), rule);
            continue;
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        objects.push(object(&words).unwrap_or_else(|| panic!("the table of first objects is well-formed, but for {line:?}")));
    }
    objects
}

fn object(words: &[&str]) -> Option<Value> {
    Some(match words {
        ["api", version, group_priority, version_priority] => {
            api(&GroupVersion::parse(version)?, number(group_priority)?, number(version_priority)?)
        }
        ["priority", name, value] => {
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": number(value)?,
            "description": "For pods that the cluster itself cannot do without."})
        }
        ["level", name, "0", lendable] => {
            level(name, json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": number(lendable)?}}))
        }
        ["level", name, shares, lendable] => limited(name, number(shares)?, number(lendable)?, json!({"type": "Reject"})),
        ["level", name, shares, lendable, queues, hand] => {
            let queuing = json!({"queues": number(queues)?, "handSize": number(hand)?, "queueLengthLimit": 50});
            limited(name, number(shares)?, number(lendable)?, json!({"type": "Queue", "queuing": queuing}))
        }
        ["schema", name, level, precedence, method, subjects] => {
            let subjects: Vec<Value> = subjects.split(',').map(subject).collect::<Option<_>>()?;
            let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": number(precedence)?,
                "rules": [{"subjects": subjects}]});
            if *method != "-" {
                spec["distinguisherMethod"] = json!({"type": method});
            }
            flow_control("FlowSchema", name, spec)
        }
        _ => return None,
    })
}

fn number(word: &str) -> Option<i64> {
    word.parse().ok()
}

fn api(gv: &GroupVersion, group_priority: i64, version_priority: i64) -> Value {
    let mut spec = json!({"version": gv.version, "groupPriorityMinimum": group_priority, "versionPriority": version_priority});
    if !gv.group.is_empty() {
        spec["group"] = json!(gv.group);
    }
    let metadata =
        json!({"name": format!("{}.{}", gv.version, gv.group), "labels": {"kube-aggregator.kubernetes.io/automanaged": "onstart"}});
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": metadata, "spec": spec})
}

fn flow_control(kind: &str, name: &str, spec: Value) -> Value {
    let metadata = json!({"name": name, "annotations": {"apf.kubernetes.io/autoupdate-spec": "true"}});
    json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
}

fn level(name: &str, spec: Value) -> Value {
    flow_control("PriorityLevelConfiguration", name, spec)
}

fn limited(name: &str, shares: i64, lendable: i64, response: Value) -> Value {
    let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response});
    level(name, json!({"type": "Limited", "limited": limited}))
}

fn subject(word: &str) -> Option<Value> {
    Some(match word.split_once(':')? {
        ("group", name) => json!({"kind": "Group", "group": {"name": name}}),
        ("user", name) => json!({"kind": "User", "user": {"name": name}}),
        ("account", name) => json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}),
        _ => return None,
    })
}

/// Adds a rule to the last flow schema.
fn take_in(schema: &mut Value, rule: &str) {
    let list = |word: &str| -> Vec<String> { word.split(',').map(|w| if w == "core" { String::new() } else { w.into() }).collect() };
    let words: Vec<&str> = rule.split(' ').collect();
    let (member, rule) = match words.as_slice() {
        [verbs, "url", paths] => ("nonResourceRules", json!({"verbs": list(verbs), "nonResourceURLs": list(paths)})),
        [verbs, groups, resources, rest @ ..] => {
            let mut rule = json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources), "namespaces": ["*"]});
            if *rest == ["cluster"] {
                rule["clusterScope"] = json!(true);
            }
            ("resourceRules", rule)
        }
        _ => panic!("the table of first objects is well-formed, but for {rule:?}"),
    };
    for policy in items_mut(schema, "/spec/rules") {
        match policy.get_mut(member).and_then(Value::as_array_mut) {
            Some(rules) => rules.push(rule.clone()),
            None => policy[member] = json!([rule]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Registry;

    #[test]
    fn every_first_object_is_valid_and_whole() {
        let registry = Registry::builtin();
        let objects = bootstrap_objects();
        let of = |kind: &str| objects.iter().filter(|o| o["kind"] == kind).count();
        assert_eq!(["PriorityClass", "PriorityLevelConfiguration", "FlowSchema"].map(of), [2, 8, 11]);
        for object in &objects {
            let gv = GroupVersion::parse(object["apiVersion"].as_str().unwrap()).unwrap();
            let kind = registry.gvk(&gv.group, &gv.version, object["kind"].as_str().unwrap()).unwrap();
            let mut decoded = registry.schema().conform(kind.ty, object.clone()).unwrap();
            assert_eq!(decoded.complaints(), Vec::<String>::new());
            kind.apply_defaults(&mut decoded.value);
            assert!(kind.validate_create(&decoded.value).is_empty(), "{object}");
        }
    }

    #[test]
    fn every_served_version_is_an_api_service_and_none_else_but_its_own() {
        let registry = Registry::builtin();
        let served: BTreeSet<String> = registry.kinds().iter().map(|k| format!("{}.{}", k.version, k.group)).collect();
        let objects = bootstrap_objects();
        let mut named: BTreeSet<String> =
            objects.iter().filter(|o| o["kind"] == "APIService").map(|o| o["metadata"]["name"].as_str().unwrap().into()).collect();
        assert!(named.insert("v1.apiregistration.k8s.io".into()), "upstream has none for the group of API services itself");
        assert_eq!(named, served);
    }
}
