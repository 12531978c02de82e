//! Nodes, played: pods bound to them start, become ready, and stop when deleted.

use std::sync::Arc;

use gantry_client::{Api, DeleteOptions, PatchType, Preconditions, Request};
use gantry_object::{ObjectName, Timestamp, Value, meta};
use gantry_ports::Random;
use gantry_scheduler::PODS;
use serde_json::{Value as Json, json};

use crate::process::list;

/// The nodes of every run.
pub(crate) const NODE_NAMES: [&str; 3] = ["node-1", "node-2", "node-3"];

/// Does one thing for one of the node's pods, drawn by lot; says what, if there was anything to do.
pub(crate) async fn step(api: &Arc<dyn Api>, node: &str, random: &dyn Random, now: Timestamp) -> Option<String> {
    let mut request = Request::list(PODS, "");
    request.params.field_selector = format!("spec.nodeName={node}");
    let pods = match list(api, request).await {
        Ok(pods) => pods,
        Err(status) => return Some(format!("{node} cannot list its pods: {}", status.message)),
    };
    let mut work: Vec<&Value> = pods.iter().filter(|p| meta::is_deleting(p) || !is_ready(p)).collect();
    if work.is_empty() {
        return None;
    }
    let pod = work.swap_remove(random.below(work.len() as u64) as usize);
    let name = meta::object_name(pod);
    let (what, result) = if meta::is_deleting(pod) {
        ("stopped", stop(api, pod, &name).await)
    } else if pod["status"]["phase"] != "Running" {
        ("started", tell(api, pod, &name, "False", now).await)
    } else {
        ("ready", tell(api, pod, &name, "True", now).await)
    };
    let failed = result.err().map(|s| format!(", failed: {}", s.message)).unwrap_or_default();
    Some(format!("{node}: {name} {what}{failed}"))
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

async fn tell(api: &Arc<dyn Api>, pod: &Value, name: &ObjectName, ready: &str, now: Timestamp) -> Result<(), gantry_object::Status> {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": now.rfc3339()});
    let conditions: Json = json!([condition("Ready", ready), condition("PodScheduled", "True")]);
    let patch = json!({"metadata": {"uid": meta::uid(pod)}, "status": {"phase": "Running", "conditions": conditions}});
    api.call(Request::patch(PODS, &name.namespace, &name.name, PatchType::Strategic, &patch).on("status")).await.map(drop)
}

async fn stop(api: &Arc<dyn Api>, pod: &Value, name: &ObjectName) -> Result<(), gantry_object::Status> {
    let preconditions = Some(Preconditions { uid: Some(meta::uid(pod).into()), ..Preconditions::default() });
    let options = DeleteOptions { grace_period_seconds: Some(0), preconditions, ..DeleteOptions::default() };
    api.call(Request::delete(PODS, &name.namespace, &name.name, &options)).await.map(drop)
}
