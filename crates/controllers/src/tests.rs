//! What holds of all controllers together, and scenarios of the small ones.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use gantry_object::{ObjectName, Resource, Timestamp, Value, meta};
use gantry_reconcile::testing::World;
use gantry_reconcile::{Kind, Propagation, Verb};
use serde_json::json;

use crate::certificates::{Signer, Subject};
use crate::kinds::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use crate::{Settings, all, namespace, podgc, rootca, serviceaccount};

const SECRETS: Resource = Resource::namespaced("", "v1", "secrets", "Secret");
const EVENTS: Resource = Resource::namespaced("", "v1", "events", "Event");

struct NoSigner;

impl Signer for NoSigner {
    fn subject(&self, _: &str) -> Option<Subject> {
        None
    }

    fn sign(&self, _: &str, _: &str, _: &[String], _: Option<Duration>) -> Result<String, String> {
        Err("no".into())
    }
}

#[test]
fn no_two_controllers_own_the_same() {
    let settings = Settings {
        resources: vec![Pod::RESOURCE, SECRETS, EVENTS],
        root_ca: String::new(),
        signer: Arc::new(NoSigner),
        node_grace: Duration::from_secs(50),
        started: Timestamp(0),
        keep_finished_pods: 1,
    };
    let mut owned = BTreeSet::new();
    for controller in all(&settings) {
        assert!(!controller.owns().is_empty() && !controller.reads().is_empty(), "{}", controller.name());
        for thing in controller.owns() {
            assert!(owned.insert(*thing), "{} owns {thing}, as another does", controller.name());
        }
    }
}

fn ns(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": ["kubernetes"]}})
}

fn cluster(name: &str) -> ObjectName {
    ObjectName::cluster(name)
}

#[test]
fn every_namespace_gets_its_account_and_its_certificates_back() {
    let mut world = World::new(vec![Arc::new(serviceaccount::ServiceAccounts), Arc::new(rootca::RootCa::new("PEM"))]);
    world.put(Namespace::RESOURCE, ns("a"));
    assert_eq!(world.settle(), "create serviceaccounts a/default\ncreate configmaps a/kube-root-ca.crt\n");
    world.remove(ServiceAccount::RESOURCE, &ObjectName::new("a", "default"));
    world.patch(ConfigMap::RESOURCE, &ObjectName::new("a", "kube-root-ca.crt"), &json!({"data": {"ca.crt": "x", "y": "z"}}));
    world.settle();
    assert_eq!(world.list(ServiceAccount::RESOURCE).len(), 1);
    assert_eq!(world.list(ConfigMap::RESOURCE)[0]["data"], json!({"ca.crt": "PEM"}));
    world.delete(Namespace::RESOURCE, &cluster("a"), Some(Propagation::Foreground));
    world.remove(ServiceAccount::RESOURCE, &ObjectName::new("a", "default"));
    assert_eq!(world.settle(), "", "one that is being deleted gets nothing");
}

#[test]
fn a_deleted_namespace_is_emptied_before_it_goes() {
    let controller = namespace::Namespaces::new(&[Pod::RESOURCE, SECRETS, EVENTS, Node::RESOURCE]);
    let mut world = World::new(vec![Arc::new(controller)]);
    world.put(Namespace::RESOURCE, ns("a"));
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n"}});
    world.put(Pod::RESOURCE, pod);
    for space in ["a", "b"] {
        world.put(SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": space}}));
    }
    assert_eq!(world.settle(), "");
    world.patch(Namespace::RESOURCE, &cluster("a"), &json!({"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}}));
    let log = world.settle();
    assert!(log.contains("delete all pods in a\ndelete all secrets in a\n"), "{log}");
    assert!(!log.contains("namespaces/finalize"), "the pod is still stopping: {log}");
    assert_eq!(world.list(SECRETS).len(), 1);
    let status = &world.get(Namespace::RESOURCE, &cluster("a")).unwrap()["status"];
    assert_eq!(status["conditions"][0]["message"], "Some resources are remaining: pods has 1 resource instances");
    world.remove(Pod::RESOURCE, &ObjectName::new("a", "p"));
    let log = world.settle();
    assert!(log.contains("delete all events in a\nupdate namespaces/finalize a {\"spec\":{\"finalizers\":[]}}"), "{log}");
}

#[test]
fn a_namespace_is_not_finalized_while_the_server_has_something() {
    let controller = namespace::Namespaces::new(&[SECRETS]);
    let mut world = World::new(vec![Arc::new(controller)]);
    let mut object = ns("a");
    object["metadata"]["deletionTimestamp"] = json!("2026-01-01T12:00:00Z");
    world.put(Namespace::RESOURCE, object);
    world.refuse(Verb::List, "secrets");
    assert!(!world.settle().contains("finalize"));
}

#[test]
fn pods_that_nobody_ends_are_ended() {
    let mut world = World::new(vec![Arc::new(podgc::PodGc::new(1))]);
    world.put(Node::RESOURCE, json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}));
    let pod = |name: &str, node: &str, phase: &str| {
        let created = format!("2026-01-01T0{}:00:00Z", name.len());
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "creationTimestamp": created},
            "spec": {"nodeName": node}, "status": {"phase": phase}})
    };
    world.put(Pod::RESOURCE, pod("x", "n", "Running"));
    world.put(Pod::RESOURCE, pod("lost", "gone", "Running"));
    let mut unscheduled = pod("u", "", "Pending");
    unscheduled["metadata"]["deletionTimestamp"] = json!("2026-01-01T12:00:00Z");
    world.put(Pod::RESOURCE, unscheduled);
    for name in ["d", "dd", "ddd"] {
        world.put(Pod::RESOURCE, pod(name, "n", "Succeeded"));
    }
    let log = world.settle();
    let names: Vec<String> = world.list(Pod::RESOURCE).iter().map(|p| meta::name(p).to_owned()).collect();
    assert_eq!(names, ["ddd", "x"], "{log}");
    assert!(log.contains("\"phase\":\"Failed\""), "{log}");
    world.remove(Node::RESOURCE, &cluster("n"));
    world.settle();
    assert!(world.list(Pod::RESOURCE).is_empty());
}

/// A service `s` in `a` for pods labelled `app=s`.
pub(crate) fn service(ports: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "a", "labels": {"team": "t"}},
        "spec": {"clusterIP": "10.0.0.1", "selector": {"app": "s"}, "ports": ports}})
}

/// A running pod with an address.
pub(crate) fn pod(name: &str, ip: &str, ready: bool) -> Value {
    let ready = if ready { "True" } else { "False" };
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": {"app": "s"}, "uid": name},
        "spec": {"nodeName": "n", "containers": [{"ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": ready}]},
    })
}

#[test]
fn endpoints_follow_pods() {
    let mut world = World::new(vec![Arc::new(crate::endpoints::EndpointsOfServices)]);
    world.put(Service::RESOURCE, service(json!([{"port": 80, "targetPort": "web"}])));
    world.put(Pod::RESOURCE, pod("p2", "10.1.0.2", true));
    world.put(Pod::RESOURCE, pod("p1", "10.1.0.1", true));
    world.put(Pod::RESOURCE, pod("p3", "10.1.0.3", false));
    world.settle();
    let name = ObjectName::new("a", "s");
    let endpoints = world.get(Endpoints::RESOURCE, &name).unwrap();
    assert_eq!(endpoints["metadata"]["labels"], json!({"team": "t", "endpoints.kubernetes.io/managed-by": "endpoint-controller"}));
    let address = |n: u8| {
        let pod = format!("p{n}");
        json!({"ip": format!("10.1.0.{n}"), "nodeName": "n", "targetRef": {"kind": "Pod", "namespace": "a", "name": pod, "uid": pod}})
    };
    let expected =
        json!([{"addresses": [address(1), address(2)], "notReadyAddresses": [address(3)], "ports": [{"port": 8080, "protocol": "TCP"}]}]);
    assert_eq!(endpoints["subsets"], expected);
    assert_eq!(world.settle(), "", "nothing changes, nothing is written");
    world.remove(Pod::RESOURCE, &ObjectName::new("a", "p1"));
    world.settle();
    assert_eq!(world.get(Endpoints::RESOURCE, &name).unwrap()["subsets"][0]["addresses"], json!([address(2)]));
    world.remove(Service::RESOURCE, &name);
    world.settle();
    assert_eq!(world.get(Endpoints::RESOURCE, &name), None);
}
