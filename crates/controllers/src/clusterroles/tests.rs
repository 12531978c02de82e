//! Roles that gather, and what they gather.

use std::sync::Arc;

use gantry_object::{ObjectName, Value};
use gantry_reconcile::Kind;
use gantry_reconcile::testing::World;
use serde_json::json;

use super::RoleAggregation;
use crate::kinds::ClusterRole;

fn rule(verb: &str) -> Value {
    json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]})
}

fn part(name: &str, of: &str, verbs: &[&str]) -> Value {
    let rules: Vec<Value> = verbs.iter().map(|v| rule(v)).collect();
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": {"to": of}}, "rules": rules})
}

fn whole(name: &str, labels: Value, of: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": labels},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": of}}]}, "rules": []})
}

fn verbs(world: &World, name: &str) -> String {
    let role = world.get(ClusterRole::RESOURCE, &ObjectName::cluster(name)).unwrap();
    let rules = role["rules"].as_array().unwrap();
    rules.iter().map(|r| r["verbs"][0].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

#[test]
fn rules_follow_the_roles_that_are_selected() {
    let mut world = World::new(vec![Arc::new(RoleAggregation)]);
    world.put(ClusterRole::RESOURCE, whole("all", json!({}), "all"));
    world.put(ClusterRole::RESOURCE, whole("some", json!({"to": "all"}), "some"));
    world.put(ClusterRole::RESOURCE, part("a", "some", &["get", "list"]));
    world.put(ClusterRole::RESOURCE, part("b", "all", &["get", "watch"]));
    world.settle();
    assert_eq!((verbs(&world, "some").as_str(), verbs(&world, "all").as_str()), ("get list", "get watch list"));
    assert_eq!(world.settle(), "", "nothing changes, nothing is written");

    world.put(ClusterRole::RESOURCE, part("a", "nobody", &["get", "list"]));
    world.settle();
    assert_eq!((verbs(&world, "some").as_str(), verbs(&world, "all").as_str()), ("", "get watch"), "what loses its label is taken out");

    world.put(ClusterRole::RESOURCE, part("c", "some", &["delete"]));
    world.settle();
    world.remove(ClusterRole::RESOURCE, &ObjectName::cluster("c"));
    world.settle();
    assert_eq!(verbs(&world, "all"), "get watch", "and so is what is gone");
}

#[test]
fn a_role_that_gathers_nothing_keeps_what_it_says() {
    let mut world = World::new(vec![Arc::new(RoleAggregation)]);
    world.put(ClusterRole::RESOURCE, part("plain", "x", &["get"]));
    world.settle();
    assert_eq!(verbs(&world, "plain"), "get");
}
