//! Scenarios of the machine, and what must hold whatever happens.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_object::{Encoded, ObjectName, Revision, Status, Timestamp, Value};
use gantry_reconcile::{Action, Outcome, WatchEvent, Work};
use proptest::prelude::*;
use serde_json::json;

use crate::machine::{Job, Machine, NODES, PODS};

/// A machine and the objects it has been told of.
struct World {
    machine: Machine,
    revision: u64,
    pods: BTreeMap<String, Value>,
    now: Duration,
}

fn outcome(bound: bool) -> Outcome {
    Outcome { wrote: vec![], failed: (!bound).then(|| Status::internal("x")) }
}

fn cluster(count: usize) -> World {
    let mut world = World { machine: Machine::new(), revision: 0, pods: BTreeMap::new(), now: Duration::ZERO };
    for resource in [PODS, NODES] {
        world.machine.start(&resource);
        world.machine.take(&resource, WatchEvent::Bookmark { revision: Revision(0), initial_events_end: true });
    }
    for i in 1..=count {
        world.node(&format!("n{i}"), json!({}));
    }
    world
}

fn merge(target: &mut Value, change: Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            change.into_iter().for_each(|(k, v)| merge(target.entry(k).or_insert(Value::Null), v));
        }
        (target, change) => *target = change,
    }
}

impl World {
    fn encode(&mut self, object: Value) -> Encoded {
        self.revision += 1;
        Encoded::from_value(object, Revision(self.revision))
    }

    /// A node of 4 CPUs, 8 GiB and 10 pods, with changes.
    fn node(&mut self, name: &str, change: Value) {
        let mut node = json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"}}});
        merge(&mut node, change);
        let object = self.encode(node);
        self.machine.take(&NODES, WatchEvent::Modified(object));
    }

    /// A pod that asks for 1 CPU, with changes.
    fn pod(&mut self, name: &str, change: Value) {
        let container = json!({"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}});
        let mut pod = json!({"metadata": {"name": name, "namespace": "a", "uid": name}, "spec": {"containers": [container]}, "status": {"phase": "Pending"}});
        merge(&mut pod, change);
        self.tell(name, pod);
    }

    fn tell(&mut self, name: &str, pod: Value) {
        self.pods.insert(name.into(), pod.clone());
        let object = self.encode(pod);
        self.machine.take(&PODS, WatchEvent::Modified(object));
    }

    fn delete(&mut self, name: &str) {
        let pod = self.pods.remove(name).unwrap();
        let object = self.encode(pod);
        self.machine.take(&PODS, WatchEvent::Deleted(object));
    }

    fn next(&mut self) -> Option<Job> {
        self.machine.next(self.now, Timestamp::from_seconds(1000))
    }

    /// Schedules everything that can be, binds it, and says what became of each pod in turn.
    fn run(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(job) = self.next() {
            self.machine.finish(&job, outcome(true), Duration::ZERO);
            let name = job.pod.name.clone();
            match &job.node {
                Some(node) => {
                    let mut pod = self.pods[&name].clone();
                    pod["spec"]["nodeName"] = json!(node);
                    self.tell(&name, pod);
                    told.push(format!("{name} on {node}"));
                }
                None => told.push(format!("{name}: {}", said(&job))),
            }
        }
        told
    }
}

fn said(job: &Job) -> String {
    let message = |a: &Action| match a {
        Action::Event { message, reason: "FailedScheduling", .. } => Some(message.clone()),
        _ => None,
    };
    job.actions.iter().find_map(message).unwrap()
}

#[test]
fn a_binding_names_pod_uid_and_node() {
    let mut world = cluster(1);
    world.pod("p", json!({}));
    let job = world.next().unwrap();
    let Action::Create { resource: PODS, name, subresource: Some("binding"), object } = &job.actions[0] else { panic!("{job:?}") };
    assert_eq!((name, &object["target"]["name"], &object["metadata"]["uid"]), (&ObjectName::new("a", "p"), &json!("n1"), &json!("p")));
    assert!(matches!(&job.actions[1], Action::Event { reason: "Scheduled", message, .. } if message == "Successfully assigned a/p to n1"));
}

#[test]
fn a_pod_that_fits_nowhere_says_why_and_is_tried_again_when_that_changes() {
    let mut world = cluster(1);
    world.node("n2", json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}}));
    world.node("n3", json!({"spec": {"unschedulable": true}}));
    world.node("n4", json!({"metadata": {"labels": {"disk": "hdd"}}, "spec": {"taints": [{"key": "k", "effect": "NoExecute"}]}}));
    let greedy = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "5", "memory": "9Gi", "nvidia.com/gpu": "1"}}}]}});
    world.pod("p", greedy);
    let job = world.next().unwrap();
    let message = "0/4 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Insufficient nvidia.com/gpu, \
                   1 node(s) were unschedulable, 2 node(s) had untolerated taint(s).";
    assert_eq!(said(&job), message);
    let Action::Patch { patch, .. } = &job.actions[1] else { panic!("{job:?}") };
    let condition = patch["status"]["conditions"][0].clone();
    assert_eq!((&condition["reason"], &condition["message"]), (&json!("Unschedulable"), &json!(message)));
    // The condition comes back by the watch, and that alone is no reason to try again.
    let mut pod = world.pods["p"].clone();
    pod["status"]["conditions"] = json!([condition]);
    world.tell("p", pod);
    world.now = Duration::from_secs(20);
    assert_eq!(world.run(), [""; 0]);
    world.node("n1", json!({"status": {"allocatable": {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": "2"}}}));
    assert_eq!(world.run(), ["p on n1"]);
}

#[test]
fn without_nodes_there_is_a_message_too_and_room_made_by_a_deletion_is_used() {
    let mut world = cluster(0);
    world.pod("p", json!({}));
    assert_eq!(world.run(), ["p: no nodes available to schedule pods"]);
    world.node("n1", json!({"status": {"allocatable": {"cpu": "1"}}}));
    assert_eq!(world.run(), [""; 0], "it backs off for a second");
    world.now = Duration::from_secs(1);
    assert_eq!(world.run(), ["p on n1"]);
    world.pod("q", json!({}));
    assert_eq!(world.run(), ["q: 0/1 nodes are available: 1 Insufficient cpu."]);
    world.delete("p");
    world.now = Duration::from_secs(3);
    assert_eq!(world.run(), ["q on n1"]);
}

#[test]
fn a_failed_binding_gives_the_room_back() {
    let mut world = cluster(1);
    world.node("n1", json!({"status": {"allocatable": {"cpu": "1"}}}));
    world.pod("p", json!({}));
    let job = world.next().unwrap();
    world.machine.finish(&job, outcome(false), Duration::ZERO);
    world.pod("q", json!({}));
    assert_eq!(world.run(), ["q on n1"]);
    world.now = Duration::from_secs(5);
    assert_eq!(world.run(), ["p: 0/1 nodes are available: 1 Insufficient cpu."]);
}

#[test]
fn selectors_affinity_tolerations_and_ports_are_heeded() {
    let mut world = cluster(1);
    world.node("ssd", json!({"metadata": {"labels": {"disk": "ssd", "rank": "7"}}}));
    world.node("tainted", json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}}));
    let term =
        |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    let required = |terms: Value| json!({"spec": {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}}});
    world.pod("selector", json!({"spec": {"nodeSelector": {"disk": "ssd"}}}));
    world.pod("gt", required(json!([term("rank", "Gt", json!(["5"]))])));
    world.pod("either", required(json!([term("disk", "In", json!(["floppy"])), term("disk", "Exists", json!([]))])));
    world.pod("none", required(json!([term("disk", "In", json!(["floppy"]))])));
    world.pod("field", required(json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}])));
    let tolerant =
        json!({"tolerations": [{"key": "k", "operator": "Equal", "value": "v"}], "nodeSelector": {"kubernetes.io/hostname": "tainted"}});
    world.pod("tolerant", json!({"spec": tolerant}));
    let ports = json!({"spec": {"nodeSelector": {"disk": "ssd"}, "containers": [{"ports": [{"hostPort": 80}]}]}});
    world.pod("port", ports.clone());
    world.pod("port2", ports);
    let expected = [
        "selector on ssd",
        "gt on ssd",
        "either on ssd",
        "none: 0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) didn't match Pod's node affinity/selector.",
        "field on n1",
        "tolerant on tainted",
        "port on ssd",
        "port2: 0/3 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, \
         1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint(s).",
    ];
    assert_eq!(world.run(), expected);
}

#[test]
fn replicas_are_spread_and_preferences_count() {
    let mut world = cluster(3);
    let owner = json!({"metadata": {"ownerReferences": [{"controller": true, "uid": "set", "kind": "ReplicaSet", "name": "s", "apiVersion": "apps/v1"}]}});
    for i in 0..6 {
        world.pod(&format!("r{i}"), owner.clone());
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for told in world.run() {
        *counts.entry(told.split(" on ").nth(1).unwrap().to_owned()).or_default() += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [2, 2, 2]);
    let preferred = json!([{"weight": 100, "preference": {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n2"]}]}}]);
    world.pod("fond", json!({"spec": {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}}}));
    assert_eq!(world.run(), ["fond on n2"]);
}

#[test]
fn others_pods_and_gated_ones_are_left_alone_and_priority_goes_first() {
    let mut world = cluster(1);
    world.node("n1", json!({"status": {"allocatable": {"cpu": "1"}}}));
    world.pod("other", json!({"spec": {"schedulerName": "mine"}}));
    world.pod("gated", json!({"spec": {"schedulingGates": [{"name": "g"}]}}));
    world.pod("low", json!({}));
    world.pod("high", json!({"spec": {"priority": 10}}));
    assert_eq!(world.run(), ["high on n1", "low: 0/1 nodes are available: 1 Insufficient cpu."]);
    world.delete("high");
    world.delete("low");
    world.pod("gated", json!({"spec": {"schedulingGates": []}}));
    assert_eq!(world.run(), ["gated on n1"]);
}

#[test]
fn init_containers_and_sidecars_count_as_they_run() {
    let mut world = cluster(1);
    let asks = |cpu: &str| json!({"resources": {"requests": {"cpu": cpu}}});
    let mut sidecar = asks("1");
    sidecar["restartPolicy"] = json!("Always");
    // The init container runs beside the sidecar before it: 1 + 3 = 4; later 1 + 1 = 2.
    world.pod("fits", json!({"spec": {"containers": [asks("1")], "initContainers": [sidecar, asks("3")]}}));
    assert_eq!(world.run(), ["fits on n1"]);
    world.pod("more", json!({"spec": {"containers": [asks("1m")]}}));
    assert_eq!(world.run(), ["more: 0/1 nodes are available: 1 Insufficient cpu."]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever comes in whatever order, bound or refused: no node is given more than it has, and in the end every pod that fits is placed.
    #[test]
    fn nodes_are_never_overfull(steps in proptest::collection::vec((0..6u8, 0..12usize, 1..4i64), 1..120)) {
        let mut world = cluster(3);
        let mut jobs: Vec<Job> = Vec::new();
        for (kind, which, cpu) in steps {
            let name = format!("p{which}");
            match kind {
                0 | 1 if !world.pods.contains_key(&name) => {
                    let asks = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": cpu.to_string()}}}]}});
                    world.pod(&name, asks);
                }
                2 => jobs.extend(world.next().filter(|j| j.node.is_some())),
                3 if !jobs.is_empty() => {
                    let job = jobs.remove(which % jobs.len());
                    let there = world.pods.get(&job.pod.name).is_some_and(|p| p["spec"]["nodeName"].is_null());
                    world.machine.finish(&job, outcome(there && cpu > 1), Duration::ZERO);
                    if there && cpu > 1 {
                        let mut pod = world.pods[&job.pod.name].clone();
                        pod["spec"]["nodeName"] = json!(job.node);
                        world.tell(&job.pod.name, pod);
                    }
                }
                4 if world.pods.contains_key(&name) && jobs.iter().all(|j| j.pod.name != name) => world.delete(&name),
                _ => world.now += Duration::from_secs(which as u64),
            }
            let mut used: BTreeMap<String, i64> = BTreeMap::new();
            for pod in world.pods.values().filter(|p| !p["spec"]["nodeName"].is_null()) {
                let cpu: i64 = pod["spec"]["containers"][0]["resources"]["requests"]["cpu"].as_str().unwrap().parse().unwrap();
                *used.entry(pod["spec"]["nodeName"].as_str().unwrap().to_owned()).or_default() += cpu;
            }
            prop_assert!(used.values().all(|cpu| *cpu <= 4), "{:?}", used);
        }
        for job in jobs {
            world.machine.finish(&job, outcome(false), Duration::ZERO);
        }
        for _ in 0..10 {
            world.now += Duration::from_secs(11);
            world.run();
        }
        let waiting = world.pods.values().filter(|p| p["spec"]["nodeName"].is_null()).count();
        world.node("big", json!({"status": {"allocatable": {"cpu": "400", "memory": "800Gi", "pods": "110"}}}));
        world.now += Duration::from_secs(11);
        prop_assert_eq!(world.run().len(), waiting, "all that waited now fit");
    }
}
