//! Scaling, adoption and the choice of victims.

use std::sync::Arc;
use std::time::Duration;

use gantry_object::{ObjectName, Value, meta};
use gantry_reconcile::Kind;
use gantry_reconcile::testing::World;
use serde_json::{Value as Json, json};

use super::ReplicaSets;
use crate::kinds::{Pod, ReplicaSet};
use crate::world::play_node;

fn set(replicas: i32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "s", "namespace": "a"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "s"}},
            "template": {"metadata": {"labels": {"app": "s"}, "annotations": {"x": "y"}}, "spec": {"containers": []}},
        },
    })
}

fn name() -> ObjectName {
    ObjectName::new("a", "s")
}

fn world(replicas: i32) -> World {
    let mut world = World::new(vec![Arc::new(ReplicaSets)]);
    world.put(ReplicaSet::RESOURCE, set(replicas));
    world
}

fn pod(name: &str, since: &str, mut change: Json) -> Value {
    let condition = json!({"type": "Ready", "status": "True", "lastTransitionTime": since});
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "s"}, "creationTimestamp": since},
        "spec": {"nodeName": "n1"}, "status": {"phase": "Running", "conditions": [condition]},
    });
    for part in ["metadata", "spec", "status"] {
        if let Some(members) = change[part].as_object_mut() {
            for (member, value) in std::mem::take(members) {
                pod[part][member] = value;
            }
        }
    }
    pod
}

#[test]
fn pods_are_made_counted_and_replaced() {
    let mut world = world(2);
    let log = world.settle();
    assert!(log.contains("event SuccessfulCreate: Created pod: s-"), "{log}");
    let pods = world.list(Pod::RESOURCE);
    assert_eq!(pods.len(), 2);
    assert_eq!(pods[0]["metadata"]["labels"], json!({"app": "s"}));
    assert_eq!(pods[0]["metadata"]["annotations"], json!({"x": "y"}));
    assert_eq!(pods[0]["metadata"]["ownerReferences"][0]["controller"], true);
    play_node(&mut world, |_| true);
    world.settle();
    let status = world.get(ReplicaSet::RESOURCE, &name()).unwrap()["status"].clone();
    assert_eq!(
        status,
        json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 1})
    );
    world.patch(Pod::RESOURCE, &meta::object_name(&pods[0]), &json!({"status": {"phase": "Failed"}}));
    world.settle();
    assert_eq!(world.list(Pod::RESOURCE).len(), 3, "one that failed is replaced and left for the garbage collector");
}

#[test]
fn a_pod_counts_as_available_after_its_time() {
    let mut world = world(1);
    world.patch(ReplicaSet::RESOURCE, &name(), &json!({"spec": {"minReadySeconds": 10}}));
    world.settle();
    play_node(&mut world, |_| true);
    world.settle();
    let available = |world: &World| world.get(ReplicaSet::RESOURCE, &name()).unwrap()["status"]["availableReplicas"].clone();
    assert_eq!(available(&world), Json::Null);
    world.pass(Duration::from_secs(11));
    world.settle();
    assert_eq!(available(&world), 1);
}

#[test]
fn selected_pods_are_adopted_and_others_released() {
    let mut world = world(1);
    world.put(Pod::RESOURCE, pod("p", "2026-01-01T00:00:00Z", json!({})));
    world.settle();
    assert_eq!(world.list(Pod::RESOURCE).len(), 1);
    assert_eq!(meta::owner_references(&world.list(Pod::RESOURCE)[0]).len(), 1);
    world.patch(Pod::RESOURCE, &ObjectName::new("a", "p"), &json!({"metadata": {"labels": {"app": "debug"}}}));
    world.settle();
    let pods = world.list(Pod::RESOURCE);
    assert_eq!(pods.len(), 2, "the released pod stays and another takes its place");
    assert_eq!(meta::owner_references(&world.get(Pod::RESOURCE, &ObjectName::new("a", "p")).unwrap()).len(), 0);
}

#[test]
fn those_go_first_whose_loss_costs_least() {
    let mut world = world(0);
    let old = "2026-01-01T00:00:00Z";
    let young = "2026-01-01T11:59:00Z";
    let not_ready = json!([{"type": "Ready", "status": "False"}]);
    let pods = [
        pod("1-unassigned", old, json!({"spec": {"nodeName": ""}})),
        pod("2-pending", old, json!({"status": {"phase": "Pending", "conditions": []}})),
        pod("3-not-ready", old, json!({"status": {"conditions": not_ready}})),
        pod("4-cheap", old, json!({"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-5"}}})),
        pod("5-crowded", old, json!({"spec": {"nodeName": "crowded"}})),
        pod("6-young", young, json!({"spec": {"nodeName": "n2"}})),
        pod("7-restarted", old, json!({"spec": {"nodeName": "n3"}, "status": {"containerStatuses": [{"restartCount": 3}]}})),
        pod("8-steady", old, json!({"spec": {"nodeName": "n4"}})),
        pod(
            "9-dear",
            old,
            json!({"spec": {"nodeName": "crowded"}, "metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": "9"}}}),
        ),
    ];
    for p in pods {
        world.put(Pod::RESOURCE, p);
    }
    world.patch(ReplicaSet::RESOURCE, &name(), &json!({"spec": {"replicas": 9}}));
    world.settle();
    let mut order = Vec::new();
    for size in (0..9).rev() {
        world.patch(ReplicaSet::RESOURCE, &name(), &json!({"spec": {"replicas": size}}));
        let log = world.settle();
        order.extend(log.lines().filter_map(|l| l.strip_prefix("delete pods a/")).map(str::to_owned));
        // The node has stopped it.
        for gone in world.list(Pod::RESOURCE).iter().filter(|p| meta::is_deleting(p)) {
            world.remove(Pod::RESOURCE, &meta::object_name(gone));
        }
        world.settle();
    }
    assert_eq!(order, ["1-unassigned", "2-pending", "3-not-ready", "4-cheap", "5-crowded", "6-young", "7-restarted", "8-steady", "9-dear"]);
}

#[test]
fn a_refusal_is_told_and_not_tried_for_every_pod() {
    let mut world = world(50);
    world.refuse(gantry_reconcile::Verb::Create, "pods");
    let log = world.settle();
    assert_eq!(log.matches("event FailedCreate: Error creating: ").count(), 1, "{log}");
    assert!(world.list(Pod::RESOURCE).is_empty());
    world.pass(Duration::from_secs(1));
    world.settle();
    let conditions = |world: &World| world.get(ReplicaSet::RESOURCE, &name()).unwrap()["status"]["conditions"].clone();
    assert_eq!((&conditions(&world)[0]["type"], &conditions(&world)[0]["reason"]), (&json!("ReplicaFailure"), &json!("FailedCreate")));
    world.allow_all();
    world.pass(Duration::from_secs(60));
    world.settle();
    assert_eq!((world.list(Pod::RESOURCE).len(), conditions(&world)), (50, Json::Null));
}

#[test]
fn a_set_that_is_being_deleted_makes_nothing() {
    let mut world = world(2);
    world.patch(ReplicaSet::RESOURCE, &name(), &json!({"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}}));
    assert!(!world.settle().contains("create pods"));
}

#[test]
fn a_replication_controller_does_the_same_with_a_map_of_labels() {
    use super::ReplicationControllers;
    use crate::kinds::ReplicationController;
    let mut world = World::new(vec![Arc::new(ReplicationControllers)]);
    let controller = json!({
        "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "s", "namespace": "a"},
        "spec": {"replicas": 2, "selector": {"app": "s"}, "template": {"metadata": {"labels": {"app": "s"}}, "spec": {"containers": []}}},
    });
    world.put(Pod::RESOURCE, pod("orphan", "2026-01-01T11:00:00Z", json!({})));
    world.put(ReplicationController::RESOURCE, controller);
    world.settle();
    let pods = world.list(Pod::RESOURCE);
    assert_eq!(pods.len(), 2, "the orphan is taken in, one is made");
    for pod in &pods {
        let owner = &meta::owner_references(pod)[0];
        assert_eq!((&owner["apiVersion"], &owner["kind"]), (&json!("v1"), &json!("ReplicationController")));
    }
    // A pod that no longer fits is let go and replaced.
    world.patch(Pod::RESOURCE, &ObjectName::new("a", "orphan"), &json!({"metadata": {"labels": {"app": "other"}}}));
    world.settle();
    let orphan = world.get(Pod::RESOURCE, &ObjectName::new("a", "orphan")).unwrap();
    assert!(meta::owner_references(&orphan).is_empty());
    assert_eq!(world.list(Pod::RESOURCE).len(), 3);
    let refused = {
        world.refuse(gantry_reconcile::Verb::Create, "pods");
        world.patch(ReplicationController::RESOURCE, &name(), &json!({"spec": {"replicas": 3}}));
        world.settle();
        world.pass(Duration::from_secs(1));
        world.settle();
        world.get(ReplicationController::RESOURCE, &name()).unwrap()["status"].clone()
    };
    assert_eq!((&refused["replicas"], &refused["conditions"][0]["type"]), (&json!(2), &json!("ReplicaFailure")));
    world.allow_all();
    world.patch(ReplicationController::RESOURCE, &name(), &json!({"spec": {"replicas": 2}}));
    world.settle();
    let status = &world.get(ReplicationController::RESOURCE, &name()).unwrap()["status"];
    assert_eq!(status.get("conditions"), None, "a quota that is no longer overstepped is no longer told of");
}
