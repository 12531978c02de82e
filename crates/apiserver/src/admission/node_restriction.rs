//! A node's agent writes only what is its own: its Node, its lease, its pods' status, tokens for its pods.

use gantry_object::{GroupResource, Status, Value, meta};

use super::{Operation, Review};

pub(super) fn validate(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let Some(node) = review.call.user.node_name() else { return Ok(()) };
    let name = if meta::name(object).is_empty() { review.call.object.name.as_str() } else { meta::name(object) };
    let refused = match (review.call.kind.group.as_str(), review.call.kind.plural.as_str(), review.call.subresource.as_str()) {
        ("", "pods", "") => pod(review, node, object),
        ("", "pods", "status") if review.old["spec"]["nodeName"] != node => {
            Some(format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself"))
        }
        ("", "pods", "status") => None,
        ("", "pods", "eviction") => {
            let pod = review.stored("pods", &review.call.object.namespace, name);
            let foreign = pod.is_some_and(|p| p["spec"]["nodeName"] != node);
            foreign.then(|| format!("node {node:?} can only evict pods with spec.nodeName set to itself"))
        }
        ("", "pods", other) => Some(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed")),
        ("", "nodes", _) => own_node(review, node, name, object),
        ("", "serviceaccounts", "token") => return token(review, node, object),
        ("coordination.k8s.io", "leases", _) => {
            let own = review.call.object.namespace == "kube-node-lease" && name == node;
            let why = "can only access node lease with the same name as the requesting node, in the namespace \"kube-node-lease\"";
            (!own).then(|| why.to_owned())
        }
        _ => None,
    };
    refused.map_or(Ok(()), |why| Err(review.forbidden(name, &why)))
}

fn pod(review: &Review<'_>, node: &str, pod: &Value) -> Option<String> {
    match review.operation {
        Operation::Delete if review.old["spec"]["nodeName"] == node => None,
        Operation::Delete => Some(format!("node {node:?} can only delete pods with spec.nodeName set to itself")),
        Operation::Update => Some(format!("node {node:?} can only update pod status, not the pod")),
        Operation::Create => {
            let refers = |v: &Value| ["secret", "configMap", "persistentVolumeClaim", "projected"].iter().any(|k| v.get(k).is_some());
            if meta::annotation(pod, "kubernetes.io/config.mirror").is_none() {
                return Some(format!(
                    "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
                ));
            }
            if pod["spec"]["nodeName"] != node {
                return Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
            }
            let account = pod["spec"]["serviceAccountName"].as_str().is_some_and(|n| !n.is_empty());
            let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten().any(refers);
            (account || volumes).then(|| format!("node {node:?} can not create pods that reference API objects"))
        }
        // The pod itself is nothing to connect to.
        Operation::Connect => None,
    }
}

fn own_node(review: &Review<'_>, node: &str, name: &str, object: &Value) -> Option<String> {
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    match review.operation {
        Operation::Delete => return Some(format!("node {node:?} is not allowed to delete itself")),
        Operation::Update if review.call.subresource.is_empty() && object["spec"]["taints"] != review.old["spec"]["taints"] => {
            return Some(format!("node {node:?} is not allowed to modify taints"));
        }
        _ => {}
    }
    let forbidden: Vec<&str> = changed_labels(review.old, object).into_iter().filter(|key| !may_set(key)).collect();
    (!forbidden.is_empty()).then(|| format!("node {node:?} is not allowed to modify labels: {}", forbidden.join(", ")))
}

fn changed_labels<'a>(old: &'a Value, new: &'a Value) -> Vec<&'a str> {
    let labels = |object: &'a Value| meta::metadata(object).and_then(|m| m.get("labels")).and_then(Value::as_object);
    let (old, new) = (labels(old), labels(new));
    let keys = old.into_iter().chain(new).flat_map(|l| l.keys());
    let mut changed: Vec<&str> = keys.filter(|k| old.and_then(|l| l.get(*k)) != new.and_then(|l| l.get(*k))).map(String::as_str).collect();
    changed.sort_unstable();
    changed.dedup();
    changed
}

/// A node may set labels outside Kubernetes' own domains, and of those within a known few.
fn may_set(key: &str) -> bool {
    const KNOWN: [&str; 13] = [
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.kubernetes.io/region",
        "failure-domain.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within = |parent: &str| domain == parent || domain.strip_suffix(parent).is_some_and(|rest| rest.ends_with('.'));
    let is_kubernetes = within("kubernetes.io") || within("k8s.io");
    !is_kubernetes || KNOWN.contains(&key) || within("kubelet.kubernetes.io") || within("node.kubernetes.io")
}

fn token(review: &Review<'_>, node: &str, request: &Value) -> Result<(), Status> {
    let bound = &request["spec"]["boundObjectRef"];
    let pod_name = bound["name"].as_str().unwrap_or("");
    let refuse = |why: &str| Err(review.forbidden(&review.call.object.name, why));
    if bound["kind"] != "Pod" || bound["apiVersion"].as_str().unwrap_or("v1") != "v1" || pod_name.is_empty() {
        return refuse("node requested token not bound to a pod");
    }
    let Some(pod) = review.stored("pods", &review.call.object.namespace, pod_name) else {
        return Err(Status::not_found(&GroupResource::new("", "pods"), pod_name));
    };
    if bound["uid"].as_str() != Some(meta::uid(&pod)) {
        return refuse("the UID in the bound object reference does not match the UID in record");
    }
    if pod["spec"]["nodeName"] != node {
        return refuse("node requested token bound to a pod scheduled on a different node");
    }
    Ok(())
}
