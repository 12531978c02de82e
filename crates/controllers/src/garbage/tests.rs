//! Background, foreground and orphaning deletions.

use std::sync::Arc;

use gantry_object::{ObjectName, Resource, Value, meta};
use gantry_reconcile::Propagation;
use gantry_reconcile::testing::World;
use serde_json::{Value as Json, json};

use super::Garbage;

const TOPS: Resource = Resource::namespaced("x", "v1", "tops", "Top");
const MIDS: Resource = Resource::namespaced("x", "v1", "mids", "Mid");
const LEAVES: Resource = Resource::namespaced("x", "v1", "leaves", "Leaf");

fn name(name: &str) -> ObjectName {
    ObjectName::new("a", name)
}

fn owner(kind: &str, name: &str) -> Json {
    json!({"apiVersion": "x/v1", "kind": kind, "name": name, "uid": name, "controller": true, "blockOwnerDeletion": true})
}

fn object(kind: &str, name: &str, owners: &[Json]) -> Value {
    json!({"apiVersion": "x/v1", "kind": kind, "metadata": {"name": name, "namespace": "a", "uid": name, "ownerReferences": owners}})
}

/// top ← mid ← leaf.
fn world() -> World {
    let mut world = World::new(vec![Arc::new(Garbage::new(&[TOPS, MIDS, LEAVES]))]);
    world.put(TOPS, object("Top", "top", &[]));
    world.put(MIDS, object("Mid", "mid", &[owner("Top", "top")]));
    world.put(LEAVES, object("Leaf", "leaf", &[owner("Mid", "mid")]));
    assert_eq!(world.settle(), "", "nothing is garbage while its owner lives");
    world
}

#[test]
fn what_is_left_behind_goes_too() {
    let mut world = world();
    world.delete(TOPS, &name("top"), Some(Propagation::Background));
    assert_eq!(world.settle(), "delete mids a/mid Background\ndelete leaves a/leaf Background\n");
}

#[test]
fn a_foreground_deletion_goes_from_the_leaves_up() {
    let mut world = world();
    world.delete(TOPS, &name("top"), Some(Propagation::Foreground));
    let log = world.settle();
    let deletions: Vec<&str> = log.lines().map(|l| l.split(" {").next().unwrap()).collect();
    assert_eq!(
        deletions,
        ["delete mids a/mid Foreground", "delete leaves a/leaf Background", "patch mids a/mid", "patch tops a/top"],
        "{log}"
    );
    assert!(world.list(TOPS).is_empty() && world.list(MIDS).is_empty() && world.list(LEAVES).is_empty());
}

#[test]
fn orphans_stay_and_forget_their_owner() {
    let mut world = world();
    world.delete(TOPS, &name("top"), Some(Propagation::Orphan));
    world.settle();
    assert!(world.list(TOPS).is_empty());
    assert_eq!(meta::owner_references(&world.get(MIDS, &name("mid")).unwrap()).len(), 0);
    assert_eq!(world.list(LEAVES).len(), 1);
}

#[test]
fn one_owner_that_lives_is_enough() {
    let mut world = world();
    world.put(TOPS, object("Top", "other", &[]));
    world.put(MIDS, object("Mid", "mid", &[owner("Top", "top"), owner("Top", "other")]));
    world.delete(TOPS, &name("top"), None);
    world.settle();
    let owners = meta::owner_references(&world.get(MIDS, &name("mid")).unwrap()).to_vec();
    assert_eq!(owners.iter().map(|o| o["name"].as_str().unwrap()).collect::<Vec<_>>(), ["other"]);
}

#[test]
fn an_owner_of_another_uid_is_none_and_one_of_an_unknown_kind_is_left_alone() {
    let mut world = world();
    let mut stranger = owner("Top", "top");
    stranger["uid"] = json!("an earlier top");
    world.put(MIDS, object("Mid", "stray", &[stranger]));
    world.put(MIDS, object("Mid", "custom", &[owner("Custom", "c")]));
    assert_eq!(world.settle(), "delete mids a/stray Background\n");
    assert_eq!(world.list(MIDS).len(), 2);
}
