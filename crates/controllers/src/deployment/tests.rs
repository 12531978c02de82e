//! Rollouts from beginning to end, with the replica set controller and a node that is played.

use std::sync::Arc;
use std::time::Duration;

use gantry_object::{ObjectName, Value, meta};
use gantry_reconcile::Kind;
use gantry_reconcile::testing::World;
use proptest::prelude::*;
use serde_json::json;

use super::{Deployments, REVISION, template_hash};
use crate::kinds::{Deployment, Pod, ReplicaSet};
use crate::replicaset::ReplicaSets;
use crate::world::{deployment, play_node, status, web};

fn world() -> World {
    World::new(vec![Arc::new(Deployments), Arc::new(ReplicaSets)])
}

/// Settles and plays until everything is at rest.
fn run(world: &mut World) {
    for _ in 0..100 {
        let before = world.settle();
        play_node(world, |_| true);
        if world.settle().is_empty() && before.is_empty() {
            return;
        }
    }
    panic!("the rollout never ended");
}

/// The sets as `image: size (revision)`, oldest revision first.
fn sets(world: &World) -> Vec<String> {
    let mut sets: Vec<(i64, String)> = world
        .list(ReplicaSet::RESOURCE)
        .iter()
        .map(|s| {
            let revision: i64 = meta::annotation(s, REVISION).unwrap().parse().unwrap();
            let image = s["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap();
            (revision, format!("{image}: {} ({revision})", s["spec"]["replicas"]))
        })
        .collect();
    sets.sort();
    sets.into_iter().map(|(_, text)| text).collect()
}

fn update(world: &mut World, patch: Value) {
    world.patch(Deployment::RESOURCE, &web(), &patch);
}

fn image(image: &str) -> Value {
    json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": image}]}}}})
}

#[test]
fn a_new_deployment_gets_a_set_and_its_pods() {
    let mut world = world();
    world.put(Deployment::RESOURCE, deployment(2, "v1"));
    let log = world.settle();
    let hash = template_hash(&deployment(2, "v1")["spec"]["template"], None);
    let lines: Vec<&str> = log.lines().map(|l| l.split(" {").next().unwrap()).collect();
    let set = format!("web-{hash}");
    let first = [format!("create replicasets a/{set}"), format!("event ScalingReplicaSet: Scaled up replica set {set} from 0 to 2")];
    assert_eq!(lines[..2], first, "{log}");
    assert_eq!(lines.iter().filter(|l| l.starts_with("create pods")).count(), 2, "{log}");
    assert_eq!(
        status(&world),
        "replicas 2 updated 2 ready 0 available 0 unavailable 2; Available=False:MinimumReplicasUnavailable Progressing=True:ReplicaSetUpdated"
    );
    run(&mut world);
    assert_eq!(
        status(&world),
        "replicas 2 updated 2 ready 2 available 2 unavailable 0; Available=True:MinimumReplicasAvailable Progressing=True:NewReplicaSetAvailable"
    );
    let set = world.get(ReplicaSet::RESOURCE, &ObjectName::new("a", &set)).unwrap();
    assert_eq!(set["spec"]["selector"]["matchLabels"], json!({"app": "web", "pod-template-hash": hash}));
    assert_eq!(
        set["metadata"]["annotations"],
        json!({REVISION: "1", "deployment.kubernetes.io/desired-replicas": "2", "deployment.kubernetes.io/max-replicas": "3"})
    );
    assert_eq!(meta::annotation(&world.get(Deployment::RESOURCE, &web()).unwrap(), REVISION), Some("1"));
}

#[test]
fn an_update_rolls_and_an_undo_takes_the_old_set_again() {
    let mut world = world();
    world.put(Deployment::RESOURCE, deployment(4, "v1"));
    run(&mut world);
    update(&mut world, image("v2"));
    world.settle();
    assert_eq!(sets(&world), ["v1: 3 (1)", "v2: 2 (2)"], "one more may be there, one may be missing");
    run(&mut world);
    assert_eq!(sets(&world), ["v1: 0 (1)", "v2: 4 (2)"]);
    update(&mut world, image("v1"));
    run(&mut world);
    assert_eq!(sets(&world), ["v2: 0 (2)", "v1: 4 (3)"]);
    let old = world.list(ReplicaSet::RESOURCE).into_iter().find(|s| meta::annotation(s, REVISION) == Some("3")).unwrap();
    assert_eq!(meta::annotation(&old, "deployment.kubernetes.io/revision-history"), Some("1"));
    for version in ["v3", "v4", "v5"] {
        update(&mut world, image(version));
        run(&mut world);
    }
    assert_eq!(sets(&world), ["v3: 0 (4)", "v4: 0 (5)", "v5: 4 (6)"], "two earlier revisions are kept");
}

#[test]
fn a_rollout_that_does_not_get_ready_stops_and_says_so() {
    let mut world = world();
    world.put(Deployment::RESOURCE, deployment(4, "v1"));
    run(&mut world);
    world.pass(Duration::from_secs(10));
    update(&mut world, image("broken"));
    for _ in 0..5 {
        world.settle();
        play_node(&mut world, |pod| pod["spec"]["containers"][0]["image"] == "v1");
    }
    assert_eq!(sets(&world), ["v1: 3 (1)", "broken: 2 (2)"], "enough of the old stay");
    assert!(status(&world).contains("Available=True") && status(&world).contains("Progressing=True"), "{}", status(&world));
    world.pass(Duration::from_secs(602));
    world.settle();
    assert!(status(&world).contains("Progressing=False:ProgressDeadlineExceeded"), "{}", status(&world));
    update(&mut world, image("v1"));
    run(&mut world);
    assert!(status(&world).contains("Progressing=True:NewReplicaSetAvailable"), "{}", status(&world));
}

#[test]
fn recreate_waits_for_the_old_pods_to_be_gone() {
    let mut world = world();
    let mut object = deployment(2, "v1");
    object["spec"]["strategy"] = json!({"type": "Recreate"});
    world.put(Deployment::RESOURCE, object);
    run(&mut world);
    update(&mut world, image("v2"));
    world.settle();
    assert_eq!(sets(&world), ["v1: 0 (1)"]);
    assert!(world.list(Pod::RESOURCE).iter().all(meta::is_deleting), "the old pods are still stopping");
    run(&mut world);
    assert_eq!(sets(&world), ["v1: 0 (1)", "v2: 2 (2)"]);
}

#[test]
fn a_rollout_goes_on_when_it_becomes_a_recreation_of_another_size_midway() {
    let mut world = world();
    world.put(Deployment::RESOURCE, deployment(10, "v1"));
    run(&mut world);
    update(&mut world, image("v2"));
    world.settle();
    update(&mut world, json!({"spec": {"replicas": 3, "strategy": {"type": "Recreate", "rollingUpdate": null}}}));
    run(&mut world);
    assert_eq!(sets(&world), ["v1: 0 (1)", "v2: 3 (2)"]);
}

#[test]
fn a_change_of_size_in_the_middle_is_shared_out() {
    let mut world = world();
    world.put(Deployment::RESOURCE, deployment(10, "v1"));
    run(&mut world);
    update(&mut world, image("v2"));
    world.settle();
    assert_eq!(sets(&world), ["v1: 8 (1)", "v2: 5 (2)"]);
    update(&mut world, json!({"spec": {"replicas": 20}}));
    world.step();
    world.step();
    assert_eq!(sets(&world), ["v1: 15 (1)", "v2: 10 (2)"]);
    run(&mut world);
    assert_eq!(sets(&world), ["v1: 0 (1)", "v2: 20 (2)"]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = world();
    world.put(Deployment::RESOURCE, deployment(2, "v1"));
    run(&mut world);
    update(&mut world, json!({"spec": {"paused": true, "replicas": 3}}));
    update(&mut world, image("v2"));
    run(&mut world);
    assert_eq!(sets(&world), ["v1: 3 (1)"]);
    assert!(status(&world).contains("Progressing=Unknown:DeploymentPaused"), "{}", status(&world));
    update(&mut world, json!({"spec": {"paused": false}}));
    run(&mut world);
    assert_eq!(sets(&world), ["v1: 0 (1)", "v2: 3 (2)"]);
}

#[test]
fn a_set_of_the_name_that_is_somebody_elses_is_stepped_around() {
    let mut world = world();
    let object = deployment(1, "v1");
    let name = format!("web-{}", template_hash(&object["spec"]["template"], None));
    let owner = json!({"apiVersion": "x/v1", "kind": "X", "name": "x", "uid": "x", "controller": true});
    let other = json!({"metadata": {"name": name, "namespace": "a", "ownerReferences": [owner]}, "spec": {"replicas": 0}});
    world.put(ReplicaSet::RESOURCE, other);
    world.put(Deployment::RESOURCE, object);
    run(&mut world);
    assert_eq!(world.get(Deployment::RESOURCE, &web()).unwrap()["status"]["collisionCount"], 1);
    assert_eq!(world.list(ReplicaSet::RESOURCE).len(), 2);
}

#[test]
fn sets_are_adopted_and_let_go_by_their_labels() {
    let mut world = world();
    world.put(Deployment::RESOURCE, deployment(1, "v1"));
    run(&mut world);
    let set = world.list(ReplicaSet::RESOURCE).remove(0);
    let name = meta::object_name(&set);
    world.patch(ReplicaSet::RESOURCE, &name, &json!({"metadata": {"labels": {"app": "other"}}}));
    let log = world.settle();
    assert!(log.starts_with(&format!("patch replicasets {name} {{\"metadata\":{{\"ownerReferences\":[]}}}}")), "{log}");
    world.patch(ReplicaSet::RESOURCE, &name, &json!({"metadata": {"labels": {"app": "web"}}}));
    world.settle();
    assert_eq!(meta::owner_references(&world.get(ReplicaSet::RESOURCE, &name).unwrap()).len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    /// Whatever happens in whatever order: never more pods than surge allows, never fewer available than promised, and in the end all is as asked.
    #[test]
    fn a_rollout_keeps_its_bounds_and_ends(
        size in 1..12i32, surge in 0..5i32, unavailable in 0..5i32, schedule in proptest::collection::vec(0..6u8, 0..60), updates in 1..4usize,
    ) {
        prop_assume!(surge + unavailable > 0);
        let mut world = world();
        let mut object = deployment(size, "v0");
        object["spec"]["strategy"]["rollingUpdate"] = json!({"maxSurge": surge, "maxUnavailable": unavailable});
        world.put(Deployment::RESOURCE, object);
        run(&mut world);
        let mut schedule = schedule.into_iter();
        for round in 1..=updates {
            update(&mut world, image(&format!("v{round}")));
            for choice in schedule.by_ref().take(20) {
                match choice {
                    0..=3 => { world.step(); }
                    4 => play_node(&mut world, |pod| meta::uid(pod).ends_with(['1', '3', '5', '7', '9'])),
                    _ => play_node(&mut world, |_| true),
                }
                let pods = world.list(Pod::RESOURCE);
                let alive: Vec<&Value> = pods.iter().filter(|p| !meta::is_deleting(p)).collect();
                let available = alive.iter().filter(|p| p["status"]["phase"] == "Running").count() as i32;
                prop_assert!(alive.len() as i32 <= size + surge, "{} pods of {size}+{surge}", alive.len());
                prop_assert!(available >= size - unavailable, "{available} available of {size}-{unavailable}");
            }
        }
        run(&mut world);
        let last = sets(&world).pop().unwrap();
        prop_assert!(last.starts_with(&format!("v{updates}: {size} (")), "{}", last);
        prop_assert_eq!(world.list(Pod::RESOURCE).len() as i32, size);
    }
}
