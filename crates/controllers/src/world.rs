//! Objects for scenarios.

use gantry_object::{ObjectName, Value};
use gantry_reconcile::Kind;
use gantry_reconcile::testing::World;
use serde_json::json;

use crate::kinds::{Deployment, Pod};

/// A deployment `web` in namespace `a`.
pub(crate) fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "a"},
        "spec": {
            "replicas": replicas, "revisionHistoryLimit": 2, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}},
        },
    })
}

/// `a/web`.
pub(crate) fn web() -> ObjectName {
    ObjectName::new("a", "web")
}

/// Plays the node: gives pods without one a node, makes them ready, and ends those that are being deleted. `ready` says which become ready.
pub(crate) fn play_node(world: &mut World, ready: impl Fn(&Value) -> bool) {
    for pod in world.list(Pod::RESOURCE) {
        let name = gantry_object::meta::object_name(&pod);
        if gantry_object::meta::is_deleting(&pod) {
            world.remove(Pod::RESOURCE, &name);
        } else if pod["status"]["phase"] != "Running" && ready(&pod) {
            let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": world.now().rfc3339()});
            let patch = json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Running", "conditions": [condition]}});
            world.patch(Pod::RESOURCE, &name, &patch);
        }
    }
}

/// The deployment's status as one line, with its conditions' reasons.
pub(crate) fn status(world: &World) -> String {
    let deployment = world.get(Deployment::RESOURCE, &web()).unwrap();
    let status = &deployment["status"];
    let number = |member: &str| status[member].as_i64().unwrap_or(0);
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let mut reasons: Vec<String> = conditions
        .iter()
        .map(|c| format!("{}={}:{}", c["type"].as_str().unwrap(), c["status"].as_str().unwrap(), c["reason"].as_str().unwrap()))
        .collect();
    reasons.sort();
    format!(
        "replicas {} updated {} ready {} available {} unavailable {}; {}",
        number("replicas"),
        number("updatedReplicas"),
        number("readyReplicas"),
        number("availableReplicas"),
        number("unavailableReplicas"),
        reasons.join(" ")
    )
}
