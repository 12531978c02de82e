//! The roles and bindings a fresh cluster has.

use gantry_object::{Map, Value};
use serde_json::json;

use crate::tables;

const RBAC: &str = "rbac.authorization.k8s.io";

/// The roles and bindings a fresh cluster has, as upstream makes them: apiVersion, kind, labels and annotations included.
///
/// Roles that gather others' rules (admin, edit, view) come with the rules they gather, which upstream leaves to a controller.
///
/// # Panics
/// When the table compiled in is malformed, which the tests rule out.
pub fn bootstrap_rbac() -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    for line in tables::BOOTSTRAP_RBAC.lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            ["clusterrole", name, rest @ ..] => objects.push(cluster_role(name, rest)),
            ["role", name, namespace] => {
                objects.push(json!({"kind": "Role", "metadata": {"name": name, "namespace": namespace}, "rules": []}))
            }
            ["clusterrolebinding", name, role] => {
                objects.push(json!({"kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": role_ref("ClusterRole", role)}));
            }
            ["rolebinding", name, namespace, kind, role] => {
                let metadata = json!({"name": name, "namespace": namespace});
                objects.push(json!({"kind": "RoleBinding", "metadata": metadata, "roleRef": role_ref(kind, role)}));
            }
            ["rule", rest @ ..] => append(&mut objects, "rules", rule(rest)),
            ["subject", rest @ ..] => append(&mut objects, "subjects", subject(rest)),
            _ => panic!("the table of bootstrap roles is well-formed, but for {line:?}"),
        }
    }
    gather(&mut objects);
    for object in &mut objects {
        object["apiVersion"] = format!("{RBAC}/v1").into();
        object["metadata"]["labels"]["kubernetes.io/bootstrapping"] = "rbac-defaults".into();
        object["metadata"]["annotations"] = json!({"rbac.authorization.kubernetes.io/autoupdate": "true"});
    }
    objects
}

fn label(whole: &str) -> String {
    format!("{RBAC}/aggregate-to-{whole}")
}

fn cluster_role(name: &str, rest: &[&str]) -> Value {
    let mut role = json!({"kind": "ClusterRole", "metadata": {"name": name}, "rules": []});
    for word in rest {
        if let Some(whole) = word.strip_prefix("part-of=") {
            role["metadata"]["labels"][label(whole)] = "true".into();
        } else if let Some(whole) = word.strip_prefix("whole=") {
            let labels: Map = [(label(whole), "true".into())].into_iter().collect();
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
        }
    }
    role
}

fn role_ref(kind: &str, name: &str) -> Value {
    json!({"apiGroup": RBAC, "kind": kind, "name": name})
}

/// Adds to a list of the last object.
fn append(objects: &mut [Value], list: &str, item: Value) {
    let Some(object) = objects.last_mut() else { return };
    if !object[list].is_array() {
        object[list] = json!([]);
    }
    if let Some(items) = object[list].as_array_mut() {
        items.push(item);
    }
}

fn rule(words: &[&str]) -> Value {
    let list = |word: &str| -> Vec<String> { word.split(',').map(|w| if w == "core" { String::new() } else { w.into() }).collect() };
    match words {
        [verbs, "url", urls] => json!({"verbs": list(verbs), "nonResourceURLs": list(urls)}),
        [verbs, groups, resources] => json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources)}),
        [verbs, groups, resources, names] => {
            json!({"verbs": list(verbs), "apiGroups": list(groups), "resources": list(resources), "resourceNames": list(names)})
        }
        _ => panic!("a rule in the table of bootstrap roles has three or four parts"),
    }
}

fn subject(words: &[&str]) -> Value {
    match words {
        ["ServiceAccount", name, namespace] => json!({"kind": "ServiceAccount", "name": name, "namespace": namespace}),
        [kind, name] => json!({"kind": kind, "apiGroup": RBAC, "name": name}),
        _ => panic!("a subject in the table of bootstrap roles has a kind and a name"),
    }
}

/// Fills roles that gather the rules of those with a label; view goes into edit, edit into admin, so the smallest come first.
fn gather(objects: &mut [Value]) {
    for whole in ["view", "edit", "admin"] {
        let label = label(whole);
        let parts = objects.iter().filter(|o| o["metadata"]["labels"].get(&label).is_some());
        let mut rules: Vec<Value> = Vec::new();
        for rule in parts.filter_map(|o| o["rules"].as_array()).flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
        let wholes = objects
            .iter_mut()
            .filter(|o| o.pointer("/aggregationRule/clusterRoleSelectors/0/matchLabels").is_some_and(|m| m.get(&label).is_some()));
        wholes.for_each(|o| o["rules"] = rules.clone().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;

    #[test]
    fn every_bootstrap_object_is_valid_and_whole() {
        let registry = Registry::builtin();
        let objects = bootstrap_rbac();
        assert_eq!(objects.len(), 71 + 52 + 7 + 7);
        for object in &objects {
            let kind = registry.gvk(RBAC, "v1", object["kind"].as_str().unwrap()).unwrap();
            let decoded = registry.schema().conform(kind.ty, object.clone()).unwrap();
            assert_eq!(decoded.complaints(), Vec::<String>::new());
            assert_eq!(
                kind.validate_create(&decoded.value).iter().map(ToString::to_string).collect::<Vec<_>>(),
                Vec::<String>::new(),
                "{object}"
            );
        }
        let find = |name: &str| objects.iter().find(|o| o["kind"] == "ClusterRole" && o["metadata"]["name"] == name).unwrap();
        assert_eq!(find("cluster-admin")["rules"][1], json!({"verbs": ["*"], "nonResourceURLs": ["*"]}));
        let rules = |name: &str| find(name)["rules"].as_array().unwrap().len();
        assert!(rules("view") > 5 && rules("edit") > rules("view") && rules("admin") > rules("edit"));
        assert_eq!(find("edit")["metadata"]["labels"][label("admin")], "true");
    }

    #[test]
    fn every_binding_has_its_role() {
        let all = bootstrap_rbac();
        for binding in all.iter().filter(|o| o["kind"].as_str().unwrap().ends_with("Binding")) {
            let role = &binding["roleRef"];
            assert!(all.iter().any(|o| o["kind"] == role["kind"] && o["metadata"]["name"] == role["name"]), "{binding}");
        }
    }
}
