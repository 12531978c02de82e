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
    assert!(log.contains("delete all pods in a\n"), "{log}");
    assert!(!log.contains("secrets"), "pods may need the rest until they have stopped: {log}");
    assert_eq!(world.list(SECRETS).len(), 2);
    let status = &world.get(Namespace::RESOURCE, &cluster("a")).unwrap()["status"];
    let told: Vec<String> = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{}={} {}", c["type"], c["status"], c["reason"]).replace('"', ""))
        .collect();
    assert_eq!(
        told,
        [
            "NamespaceDeletionDiscoveryFailure=False ResourcesDiscovered",
            "NamespaceDeletionGroupVersionParsingFailure=False ParsedGroupVersions",
            "NamespaceDeletionContentFailure=False ContentDeleted",
            "NamespaceContentRemaining=True SomeResourcesRemain",
            "NamespaceFinalizersRemaining=False ContentHasNoFinalizers",
        ]
    );
    assert_eq!(status["conditions"][3]["message"], "Some resources are remaining: pods. has 1 resource instances");
    world.remove(Pod::RESOURCE, &ObjectName::new("a", "p"));
    let log = world.settle();
    assert_eq!(world.list(SECRETS).len(), 1, "{log}");
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

const DEFINITIONS: Resource = Resource::cluster("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition");
const CUSTOM: Resource = Resource::namespaced("x.io", "v1", "things", "Thing");

fn definition() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.x.io"},
        "spec": {"group": "x.io", "scope": "Namespaced", "versions": [{"name": "v2", "served": true}, {"name": "v1", "served": true, "storage": true}]},
        "status": {"acceptedNames": {"plural": "things", "kind": "Thing"}, "conditions": [{"type": "Established", "status": "True"}]}})
}

fn thing(name: &str, metadata: Value) -> Value {
    let mut thing = json!({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": name, "namespace": "a", "uid": name}});
    for (member, value) in metadata.as_object().unwrap() {
        thing["metadata"][member] = value.clone();
    }
    thing
}

#[test]
fn a_namespace_is_emptied_of_custom_resources_too() {
    let mut world = World::new(vec![Arc::new(namespace::Namespaces::new(&[SECRETS]))]);
    world.put(Namespace::RESOURCE, ns("a"));
    world.put(CUSTOM, thing("t", json!({"finalizers": ["x.io/hold"]})));
    world.put(DEFINITIONS, definition());
    assert_eq!(world.settle(), "");
    world.patch(Namespace::RESOURCE, &cluster("a"), &json!({"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}}));
    let log = world.settle();
    assert!(log.contains("delete all things in a\n") && !log.contains("namespaces/finalize"), "{log}");
    let conditions = world.get(Namespace::RESOURCE, &cluster("a")).unwrap()["status"]["conditions"].clone();
    assert_eq!(conditions[3]["message"], "Some resources are remaining: things.x.io has 1 resource instances");
    assert_eq!(conditions[4]["message"], "Some content in the namespace has finalizers remaining: x.io/hold in 1 resource instances");
    world.remove(CUSTOM, &ObjectName::new("a", "t"));
    assert!(world.settle().contains("update namespaces/finalize a"));
}

#[test]
fn what_a_namespace_cannot_be_emptied_of_is_told() {
    let mut world = World::new(vec![Arc::new(namespace::Namespaces::new(&[SECRETS]))]);
    world.put(Namespace::RESOURCE, ns("a"));
    world.put(SECRETS, json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "a"}}));
    world.refuse(Verb::DeleteCollection, "secrets");
    world.patch(Namespace::RESOURCE, &cluster("a"), &json!({"metadata": {"deletionTimestamp": "2026-01-01T12:00:00Z"}}));
    world.settle();
    world.pass(Duration::from_secs(1));
    world.settle();
    let conditions = world.get(Namespace::RESOURCE, &cluster("a")).unwrap()["status"]["conditions"].clone();
    assert_eq!((&conditions[2]["status"], &conditions[2]["reason"]), (&json!("True"), &json!("ContentDeletionFailed")));
    assert!(conditions[2]["message"].as_str().unwrap().starts_with("Failed to delete all resource types, 1 remaining: "), "{conditions}");
}

#[test]
fn custom_resources_are_owners_and_owned_while_they_are_served() {
    let mut world = World::new(vec![Arc::new(crate::garbage::Garbage::new(&[SECRETS]))]);
    let owner = |kind: &str, version: &str, name: &str| json!({"ownerReferences": [{"apiVersion": version, "kind": kind, "name": name, "uid": name}]});
    let secret = |name: &str, metadata: Value| {
        let mut secret = thing(name, metadata);
        secret["kind"] = json!("Secret");
        secret["apiVersion"] = json!("v1");
        secret
    };
    world.put(SECRETS, secret("of-thing", owner("Thing", "x.io/v2", "t")));
    world.put(SECRETS, secret("of-lost", owner("Thing", "x.io/v1", "lost")));
    world.put(SECRETS, secret("s", json!({})));
    world.put(CUSTOM, thing("t", json!({})));
    world.put(CUSTOM, thing("of-secret", owner("Secret", "v1", "s")));
    assert_eq!(world.settle(), "", "nobody knows what a Thing is");
    world.put(DEFINITIONS, definition());
    world.settle();
    world.pass(Duration::from_secs(31));
    assert_eq!(world.settle(), "delete secrets a/of-lost Background\n");
    world.delete(SECRETS, &ObjectName::new("a", "s"), Some(Propagation::Background));
    assert_eq!(world.settle(), "delete things a/of-secret Background\n");
    world.put(
        DEFINITIONS,
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.x.io"}}),
    );
    world.remove(CUSTOM, &ObjectName::new("a", "t"));
    assert_eq!(world.settle(), "delete secrets a/of-thing Background\n", "what ended with its definition is gone");
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
