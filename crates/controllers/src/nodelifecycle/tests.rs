//! Silence, taints and evictions.

use std::sync::Arc;
use std::time::Duration;

use gantry_object::{ObjectName, Timestamp, Value, meta};
use gantry_reconcile::Kind;
use gantry_reconcile::testing::World;
use serde_json::json;

use super::{NodeLifecycle, TaintEvictions};
use crate::kinds::{Lease, Node, Pod};

const GRACE: Duration = Duration::from_secs(50);

fn renew(world: &mut World) {
    let name = json!({"name": "n", "namespace": "kube-node-lease"});
    world.put(
        Lease::RESOURCE,
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": name,
        "spec": {"renewTime": world.now().rfc3339_micros()}}),
    );
}

fn world() -> World {
    let mut world = World::new(vec![Arc::new(NodeLifecycle::new(GRACE, Timestamp(0))), Arc::new(TaintEvictions)]);
    let ready = json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T12:00:00Z"}]);
    world.put(
        Node::RESOURCE,
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"},
        "spec": {"taints": [{"key": "mine", "effect": "NoExecute"}]}, "status": {"conditions": ready}}),
    );
    renew(&mut world);
    let tolerate =
        |key: &str, seconds: Option<i64>| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    for (name, seconds) in [("brief", Some(10)), ("long", Some(300)), ("daemon", None)] {
        let tolerations = [tolerate("node.kubernetes.io/unreachable", seconds), tolerate("mine", None)];
        let conditions = json!([{"type": "Ready", "status": "True"}]);
        world.put(
            Pod::RESOURCE,
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"},
            "spec": {"nodeName": "n", "tolerations": tolerations}, "status": {"phase": "Running", "conditions": conditions}}),
        );
    }
    world.settle();
    world
}

fn taints(world: &World) -> Vec<String> {
    let node = world.get(Node::RESOURCE, &ObjectName::cluster("n")).unwrap();
    let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
    taints.iter().map(|t| format!("{}:{}", t["key"].as_str().unwrap(), t["effect"].as_str().unwrap())).collect()
}

fn deleted(world: &World) -> Vec<String> {
    world.list(Pod::RESOURCE).iter().filter(|p| meta::is_deleting(p)).map(|p| meta::name(p).to_owned()).collect()
}

#[test]
fn a_silent_node_is_tainted_its_pods_move_and_it_recovers() {
    let mut world = world();
    assert_eq!(taints(&world), ["mine:NoExecute"]);
    world.pass(Duration::from_secs(40));
    renew(&mut world);
    world.pass(Duration::from_secs(40));
    world.settle();
    assert_eq!(taints(&world), ["mine:NoExecute"], "the lease was renewed in time");
    world.pass(Duration::from_secs(11));
    let log = world.settle();
    assert!(log.contains("event NodeNotReady: Node n status is now: NodeNotReady"), "{log}");
    assert_eq!(taints(&world), ["mine:NoExecute", "node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]);
    let conditions = world.get(Node::RESOURCE, &ObjectName::cluster("n")).unwrap()["status"]["conditions"].clone();
    let ready = &conditions.as_array().unwrap()[0];
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("Unknown"), &json!("NodeStatusUnknown")));
    assert!(world.list(Pod::RESOURCE).iter().all(|p: &Value| p["status"]["conditions"][0]["status"] == "False"));
    assert_eq!(deleted(&world), [""; 0]);
    world.pass(Duration::from_secs(11));
    world.settle();
    assert_eq!(deleted(&world), ["brief"]);
    renew(&mut world);
    world.patch(Node::RESOURCE, &ObjectName::cluster("n"), &json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}));
    world.settle();
    assert_eq!(taints(&world), ["mine:NoExecute"]);
    world.pass(Duration::from_secs(301));
    renew(&mut world);
    world.settle();
    assert_eq!(deleted(&world), ["brief"], "the toleration no longer runs out");
}

#[test]
fn conditions_and_cordons_become_taints_and_untolerated_pods_go_at_once() {
    let mut world = world();
    let pressed = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}, {"type": "DiskPressure", "status": "True"}]}, "spec": {"unschedulable": true}});
    world.patch(Node::RESOURCE, &ObjectName::cluster("n"), &pressed);
    world.settle();
    let expected = [
        "mine:NoExecute",
        "node.kubernetes.io/not-ready:NoSchedule",
        "node.kubernetes.io/not-ready:NoExecute",
        "node.kubernetes.io/disk-pressure:NoSchedule",
        "node.kubernetes.io/unschedulable:NoSchedule",
    ];
    assert_eq!(taints(&world), expected);
    assert_eq!(deleted(&world), ["brief", "daemon", "long"], "they tolerate unreachable, not this");
}

#[test]
fn silence_before_the_start_does_not_count() {
    let start = Timestamp::parse("2026-01-01T12:00:00Z").unwrap();
    let mut world = World::new(vec![Arc::new(NodeLifecycle::new(GRACE, start))]);
    let ready = json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T01:00:00Z"}]);
    world.put(
        Node::RESOURCE,
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "spec": {}, "status": {"conditions": ready}}),
    );
    assert_eq!(world.settle(), "");
    world.pass(GRACE + Duration::from_secs(1));
    assert!(world.settle().contains("unreachable"));
}
