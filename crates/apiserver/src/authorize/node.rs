//! What a node's agent may do beyond RBAC: read what its own pods refer to, and make tokens for them.

use std::collections::{BTreeMap, BTreeSet};

use gantry_object::{Encoded, Value};

use super::{Attributes, Follow};

/// Which node's pods refer to what.
#[derive(Default)]
pub(crate) struct Graph {
    /// By the pod's path.
    pods: BTreeMap<String, Pod>,
    /// How many pods of a node refer to an object.
    references: BTreeMap<(String, Reference), usize>,
}

#[derive(Default)]
struct Pod {
    node: String,
    references: BTreeSet<Reference>,
}

/// An object in a namespace that a pod refers to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Reference {
    resource: &'static str,
    namespace: String,
    name: String,
}

/// What the graph says.
pub(crate) enum Decision {
    Allow,
    /// It is nothing of one node's own: what the role of all nodes says counts.
    AsEveryNode,
    NoOpinion(String),
}

fn names<'a>(list: &'a Value, pointer: &'a str) -> impl Iterator<Item = &'a str> {
    list.as_array().into_iter().flatten().filter_map(move |item| item.pointer(pointer)?.as_str())
}

fn references(namespace: &str, spec: &Value) -> BTreeSet<Reference> {
    let mut found = BTreeSet::new();
    let mut add = |resource, name: &str| {
        found.insert(Reference { resource, namespace: namespace.into(), name: name.into() });
    };
    if let Some(account) = spec["serviceAccountName"].as_str() {
        add("serviceaccounts", account);
    }
    names(&spec["imagePullSecrets"], "/name").for_each(|n| add("secrets", n));
    for (pointer, resource) in [
        ("/secret/secretName", "secrets"),
        ("/configMap/name", "configmaps"),
        ("/persistentVolumeClaim/claimName", "persistentvolumeclaims"),
        ("/csi/nodePublishSecretRef/name", "secrets"),
    ] {
        names(&spec["volumes"], pointer).for_each(|n| add(resource, n));
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        names(&volume["projected"]["sources"], "/secret/name").for_each(|n| add("secrets", n));
        names(&volume["projected"]["sources"], "/configMap/name").for_each(|n| add("configmaps", n));
    }
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        for container in spec[containers].as_array().into_iter().flatten() {
            names(&container["env"], "/valueFrom/secretKeyRef/name").for_each(|n| add("secrets", n));
            names(&container["env"], "/valueFrom/configMapKeyRef/name").for_each(|n| add("configmaps", n));
            names(&container["envFrom"], "/secretRef/name").for_each(|n| add("secrets", n));
            names(&container["envFrom"], "/configMapRef/name").for_each(|n| add("configmaps", n));
        }
    }
    found
}

impl Follow for Graph {
    const RESOURCES: &'static [&'static str] = &["pods"];

    fn apply(&mut self, _resource: &str, path: &str, object: Option<&Encoded>) {
        let pod = object.and_then(|o| o.decode::<Value>().ok()).and_then(|pod| {
            let node = pod["spec"]["nodeName"].as_str()?.to_owned();
            let (namespace, _) = path.split_once('/')?;
            Some(Pod { node, references: references(namespace, &pod["spec"]) })
        });
        for reference in pod.iter().flat_map(|p| &p.references) {
            let node = pod.as_ref().map(|p| p.node.clone()).unwrap_or_default();
            *self.references.entry((node, reference.clone())).or_default() += 1;
        }
        let old = match pod {
            Some(pod) => self.pods.insert(path.into(), pod),
            None => self.pods.remove(path),
        };
        for reference in old.iter().flat_map(|p| &p.references) {
            let key = (old.as_ref().map(|p| p.node.clone()).unwrap_or_default(), reference.clone());
            let count = self.references.entry(key.clone()).or_default();
            *count -= 1;
            if *count == 0 {
                self.references.remove(&key);
            }
        }
    }
}

impl Graph {
    pub(super) fn decide(&self, node: &str, what: &Attributes) -> Decision {
        let no = |why: &str| Decision::NoOpinion(why.into());
        let is_read = matches!(what.verb.as_str(), "get" | "list" | "watch");
        let resource = match (what.group.as_str(), what.resource.as_str(), what.subresource.as_str()) {
            ("", "secrets", "") => "secrets",
            ("", "configmaps", "") => "configmaps",
            ("", "persistentvolumeclaims", "") => "persistentvolumeclaims",
            ("", "serviceaccounts", "token") if what.verb == "create" => "serviceaccounts",
            ("", "serviceaccounts", "") => "serviceaccounts",
            ("coordination.k8s.io", "leases", "") => return own_lease(node, what),
            _ => return Decision::AsEveryNode,
        };
        if !is_read && what.subresource != "token" {
            return no("can only read resources of this type");
        }
        if what.name.is_empty() || what.namespace.is_empty() {
            return no("No Object name found");
        }
        let reference = Reference { resource, namespace: what.namespace.clone(), name: what.name.clone() };
        if self.references.contains_key(&(node.to_owned(), reference)) {
            return Decision::Allow;
        }
        Decision::NoOpinion(format!("no relationship found between node '{node}' and this object"))
    }
}

/// A node's lease is its own, in the namespace kept for them; a create names nothing yet and is looked at again in admission.
fn own_lease(node: &str, what: &Attributes) -> Decision {
    let own = what.namespace == "kube-node-lease" && (what.name == node || what.verb == "create" && what.name.is_empty());
    let verb = matches!(what.verb.as_str(), "get" | "create" | "update" | "patch" | "delete");
    if own && verb { Decision::Allow } else { Decision::NoOpinion("can only access its own node lease".into()) }
}

#[cfg(test)]
mod tests {
    use gantry_object::Revision;
    use serde_json::json;

    use super::*;

    fn may(graph: &Graph, node: &str, verb: &str, resource: &str, name: &str) -> bool {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let what = Attributes {
            verb: verb.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: "a".into(),
            name: name.into(),
            ..Attributes::default()
        };
        matches!(graph.decide(node, &what), Decision::Allow)
    }

    #[test]
    fn a_node_reads_what_its_pods_refer_to_and_only_while_they_do() {
        let mut graph = Graph::default();
        let pod = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "serviceAccountName": "sa",
            "volumes": [{"secret": {"secretName": "s1"}}, {"projected": {"sources": [{"configMap": {"name": "c1"}}]}}],
            "containers": [{"env": [{"name": "x", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]}]}});
        let pod = Encoded::from_value(pod, Revision(1));
        graph.apply("pods", "a/p", Some(&pod));
        graph.apply("pods", "a/p", Some(&pod));
        for (node, verb, resource, name, expected) in [
            ("n1", "get", "secrets", "s1", true),
            ("n1", "get", "secrets", "s2", true),
            ("n1", "watch", "configmaps", "c1", true),
            ("n2", "get", "secrets", "s1", false),
            ("n1", "get", "secrets", "s3", false),
            ("n1", "update", "secrets", "s1", false),
            ("n1", "create", "serviceaccounts/token", "sa", true),
            ("n2", "create", "serviceaccounts/token", "sa", false),
            ("n1", "list", "secrets", "", false),
        ] {
            assert_eq!(may(&graph, node, verb, resource, name), expected, "{node} {verb} {resource} {name}");
        }
        graph.apply("pods", "a/p", None);
        assert!(!may(&graph, "n1", "get", "secrets", "s1"));
        assert!(graph.references.is_empty());
    }
}
