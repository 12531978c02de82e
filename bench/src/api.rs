//! Objects and paths of the API, as the rows use them.

use serde_json::{Value, json};

use crate::Result;
use crate::load::{Client, request};

pub(crate) const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const NODES: &str = "/api/v1/nodes";
pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE: &str = "application/merge-patch+json";

/// A POST of a JSON text.
pub(crate) fn post(path: &str, body: &[u8]) -> Vec<u8> {
    request("POST", path, JSON, body)
}

/// A GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    request("GET", path, "", b"")
}

/// A ConfigMap whose JSON, once stored, is about this many bytes.
pub(crate) fn config_map(name: &str, size: usize) -> Vec<u8> {
    // What the server adds (uid, creation time, namespace, resource version) is some 180 bytes.
    let value = "v".repeat(size.saturating_sub(270));
    format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"value":"{value}"}}}}"#).into_bytes()
}

/// A pod as a Deployment's would be, of about 1.7 kB with its status.
pub(crate) fn pod(name: &str, more: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name,
            "labels": {"app": "bench", "pod-template-hash": "5d4f8c7b9"},
        },
        "spec": {
            "containers": [{
                "name": "main", "image": "registry.example/team/application:1.2.3", "ports": [{"name": "http", "containerPort": 8080}],
                "env": [{"name": "MODE", "value": "production"}],
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "64Mi"}},
            }],
            "automountServiceAccountToken": false,
        },
    });
    if let (Some(spec), Some(more)) = (pod["spec"].as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    pod
}

/// What a node would say of a pod that runs.
pub(crate) fn running_status(address: &str) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-11-23T08:00:00Z"});
    let conditions = ["Ready", "PodScheduled"].map(condition);
    json!({"status": {
        "phase": "Running", "hostIP": "10.0.0.1", "podIP": address, "podIPs": [{"ip": address}], "startTime": "2026-11-23T08:00:00Z",
        "conditions": conditions,
        "containerStatuses": [{
            "name": "main", "image": "registry.example/team/application:1.2.3", "imageID": "sha256:0123456789abcdef", "ready": true,
            "restartCount": 0, "started": true, "state": {"running": {"startedAt": "2026-11-23T08:00:00Z"}},
        }],
    }})
}

/// A node that nobody runs.
pub(crate) fn node(name: &str, pods: usize) -> Value {
    let allocatable = json!({"cpu": "64", "memory": "256Gi", "pods": pods.to_string(), "ephemeral-storage": "100Gi"});
    let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-11-23T08:00:00Z", "lastTransitionTime": "2026-11-23T08:00:00Z", "reason": "Bench", "message": ""});
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": format!("zone-{}", name.len() % 3)}},
        "status": {"capacity": allocatable, "allocatable": allocatable, "conditions": [ready]},
    })
}

/// Makes nodes that nobody runs, which count as ready: their condition is written as their own.
pub(crate) async fn make_nodes(client: &mut Client, count: usize, pods: usize) -> Result<()> {
    for i in 0..count {
        let name = format!("bench-{i}");
        let mut node = node(&name, pods);
        client.succeed(&post(NODES, node.to_string().as_bytes())).await?;
        let status = json!({"status": node["status"].take()}).to_string();
        client.succeed(&request("PATCH", &format!("{NODES}/{name}/status"), MERGE, status.as_bytes())).await?;
        // The controller takes these away once it has seen the condition; the benchmark does not wait for that.
        client.succeed(&request("PATCH", &format!("{NODES}/{name}"), MERGE, br#"{"spec":{"taints":null}}"#)).await?;
    }
    Ok(())
}

/// The objects of a collection, counted by the server.
pub(crate) async fn count(client: &mut Client, path: &str) -> Result<usize> {
    let body = client.succeed(&get(&format!("{path}?limit=1"))).await?;
    let list: Value = serde_json::from_slice(&body).map_err(|e| format!("{path}: {e}"))?;
    let here = list["items"].as_array().map_or(0, Vec::len);
    Ok(here + list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0) as usize)
}
