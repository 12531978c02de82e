//! Slices follow services and pods.

use std::sync::Arc;

use gantry_object::{ObjectName, Value, meta};
use gantry_reconcile::Kind;
use gantry_reconcile::testing::World;
use proptest::prelude::*;
use serde_json::json;

use super::EndpointSlices;
use crate::kinds::{EndpointSlice, Node, Pod, Service};
use crate::tests::{pod, service};

fn world(ports: Value) -> World {
    let mut world = World::new(vec![Arc::new(EndpointSlices)]);
    world.put(Service::RESOURCE, service(ports));
    world
}

fn slices(world: &World) -> Vec<Value> {
    world.list(EndpointSlice::RESOURCE)
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("a", name)
}

#[test]
fn a_slice_tells_state_node_zone_and_port() {
    let mut world = world(json!([{"name": "http", "port": 80, "targetPort": "web", "appProtocol": "h2c"}]));
    world.settle();
    assert_eq!((slices(&world).len(), &slices(&world)[0]["endpoints"]), (1, &json!([])), "a service with nobody has an empty slice");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z"}}});
    world.put(Node::RESOURCE, node);
    world.put(Pod::RESOURCE, pod("p1", "10.1.0.1", true));
    world.settle();
    let slice = &slices(&world)[0];
    assert_eq!(slice["ports"], json!([{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "h2c"}]));
    let expected = json!([{
        "addresses": ["10.1.0.1"], "conditions": {"ready": true, "serving": true, "terminating": false}, "nodeName": "n", "zone": "z",
        "targetRef": {"kind": "Pod", "namespace": "a", "name": "p1", "uid": "p1"},
    }]);
    assert_eq!(slice["endpoints"], expected);
    let labels = json!({
        "team": "t", "kubernetes.io/service-name": "s", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    });
    assert_eq!(slice["metadata"]["labels"], labels);
    assert_eq!(slice["metadata"]["ownerReferences"][0]["kind"], "Service");
    world.patch(Pod::RESOURCE, &name("p1"), &json!({"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}}));
    world.settle();
    assert_eq!(slices(&world)[0]["endpoints"][0]["conditions"], json!({"ready": false, "serving": true, "terminating": true}));
    world.patch(Service::RESOURCE, &name("s"), &json!({"spec": {"publishNotReadyAddresses": true, "clusterIP": "None"}}));
    world.settle();
    assert_eq!(slices(&world)[0]["endpoints"][0]["conditions"]["ready"], true);
    assert_eq!(slices(&world)[0]["metadata"]["labels"]["service.kubernetes.io/headless"], "");
}

#[test]
fn pods_with_other_ports_go_to_other_slices_and_ended_ones_nowhere() {
    let mut world = world(json!([{"port": 80, "targetPort": "web"}]));
    world.put(Pod::RESOURCE, pod("p1", "10.1.0.1", true));
    let mut other = pod("p2", "10.1.0.2", true);
    other["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090);
    world.put(Pod::RESOURCE, other);
    let mut ended = pod("p3", "10.1.0.3", true);
    ended["status"]["phase"] = json!("Succeeded");
    world.put(Pod::RESOURCE, ended);
    let mut v6 = pod("p4", "fd00::1", true);
    v6["status"]["podIPs"] = json!([{"ip": "fd00::1"}]);
    world.put(Pod::RESOURCE, v6);
    world.settle();
    let mut found: Vec<(i64, usize)> =
        slices(&world).iter().map(|s| (s["ports"][0]["port"].as_i64().unwrap(), s["endpoints"].as_array().unwrap().len())).collect();
    found.sort_unstable();
    assert_eq!(found, [(8080, 1), (9090, 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    /// However pods come and go: every pod is in exactly one slice, none is over-full, and a pod that stays is not moved.
    #[test]
    fn every_pod_is_told_once(waves in proptest::collection::vec((0..260usize, 1..7usize), 1..4)) {
        let mut world = world(json!([{"port": 80}]));
        let mut where_before: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
        for (upto, step) in waves {
            let wanted: Vec<usize> = (0..upto).step_by(step).collect();
            for old in world.list(Pod::RESOURCE) {
                if !wanted.iter().any(|i| meta::name(&old) == format!("p{i}")) {
                    world.remove(Pod::RESOURCE, &meta::object_name(&old));
                }
            }
            for i in &wanted {
                world.put(Pod::RESOURCE, pod(&format!("p{i}"), &format!("10.1.{}.{}", i / 250, i % 250), i % 3 > 0));
            }
            world.settle();
            prop_assert_eq!(world.settle(), "");
            let mut places = std::collections::BTreeMap::new();
            for slice in slices(&world) {
                let endpoints = slice["endpoints"].as_array().unwrap();
                prop_assert!(endpoints.len() <= 100);
                for endpoint in endpoints {
                    let uid = endpoint["targetRef"]["uid"].as_str().unwrap().to_owned();
                    prop_assert!(places.insert(uid, meta::name(&slice).to_owned()).is_none());
                }
            }
            prop_assert_eq!(places.len(), wanted.len());
            for (uid, place) in &places {
                prop_assert!(where_before.get(uid).is_none_or(|before| before == place), "{} moved", uid);
            }
            where_before = places;
        }
    }
}
