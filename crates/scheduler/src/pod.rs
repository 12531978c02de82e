//! What the scheduler needs to know of a pod.

use std::collections::BTreeMap;

use gantry_object::{Encoded, ObjectName, Value};
use gantry_reconcile::Meta;
use serde::Deserialize;

use crate::resources::Amounts;
use crate::terms::{Term, Toleration};

/// The name by which pods ask for this scheduler.
const DEFAULT_SCHEDULER: &str = "default-scheduler";
/// What a container that asks for nothing counts as when nodes are compared.
const UNASKED_CPU: i64 = 100;
const UNASKED_MEMORY: i64 = 200 << 20;

/// A pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) name: ObjectName,
    pub(crate) uid: String,
    /// Where it is; empty while it is nowhere.
    pub(crate) node: String,
    pub(crate) priority: i32,
    pub(crate) requests: Amounts,
    /// Its requests for comparing nodes: CPU and memory, where nothing asked counts as a little.
    pub(crate) weight: (i64, i64),
    pub(crate) ports: Vec<HostPort>,
    /// The uid of the controller whose pods are spread.
    pub(crate) owner: String,
    /// How it chooses nodes; only for pods that are still to be scheduled.
    pub(crate) choice: Option<Choice>,
    /// Whether it uses its node: it has one and has not ended.
    pub(crate) is_placed: bool,
}

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPort {
    pub(crate) protocol: String,
    pub(crate) port: u16,
    pub(crate) address: String,
}

impl HostPort {
    /// Whether both cannot be on one node.
    pub(crate) fn clashes(&self, other: &Self) -> bool {
        let all = |a: &str| a == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || all(&self.address) || all(&other.address))
    }
}

/// How a pod chooses among nodes.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    pub(crate) selector: BTreeMap<String, String>,
    pub(crate) required: Option<Vec<Term>>,
    pub(crate) preferred: Vec<(i64, Term)>,
    pub(crate) tolerations: Vec<Toleration>,
    /// The message of its PodScheduled condition, if that says no.
    pub(crate) last_message: String,
}

#[derive(Deserialize)]
struct Raw {
    metadata: Meta,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    node_name: String,
    scheduler_name: String,
    priority: i32,
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    overhead: BTreeMap<String, String>,
    resources: Option<Resources>,
    node_selector: BTreeMap<String, String>,
    affinity: Affinity,
    tolerations: Vec<Toleration>,
    scheduling_gates: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    resources: Resources,
    ports: Vec<Port>,
    restart_policy: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Port {
    host_port: u16,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Affinity {
    node_affinity: NodeAffinity,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeAffinity {
    required_during_scheduling_ignored_during_execution: Option<Required>,
    preferred_during_scheduling_ignored_during_execution: Vec<Preferred>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Required {
    node_selector_terms: Vec<Term>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Preferred {
    weight: i64,
    preference: Term,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    phase: String,
    conditions: Vec<Condition>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    message: String,
}

impl Pod {
    /// Reads a pod.
    pub(crate) fn read(object: &Encoded) -> Result<Self, serde_json::Error> {
        let Raw { metadata, spec, status } = serde_json::from_slice(&object.body)?;
        let ended = matches!(status.phase.as_str(), "Succeeded" | "Failed");
        let ours = spec.scheduler_name.is_empty() || spec.scheduler_name == DEFAULT_SCHEDULER;
        let waits = spec.node_name.is_empty() && ours && !ended && !metadata.is_deleting() && spec.scheduling_gates.is_empty();
        let (requests, weight) = spec.requests();
        let ports = spec.containers.iter().chain(&spec.init_containers).flat_map(|c| &c.ports).filter(|p| p.host_port > 0).map(host_port);
        let ports = ports.collect();
        let owner = metadata.controller().map(|o| o.uid.clone()).unwrap_or_default();
        Ok(Self {
            name: ObjectName::new(&metadata.namespace, &metadata.name),
            uid: metadata.uid,
            priority: spec.priority,
            requests,
            weight,
            ports,
            owner,
            is_placed: !spec.node_name.is_empty() && !ended,
            choice: waits.then(|| Choice::of(spec.node_selector, spec.affinity.node_affinity, spec.tolerations, &status)),
            node: spec.node_name,
        })
    }
}

impl Choice {
    fn of(selector: BTreeMap<String, String>, affinity: NodeAffinity, tolerations: Vec<Toleration>, status: &Status) -> Self {
        let scheduled = status.conditions.iter().find(|c| c.kind == "PodScheduled" && c.status == "False");
        Self {
            selector,
            required: affinity.required_during_scheduling_ignored_during_execution.map(|r| r.node_selector_terms),
            preferred: affinity
                .preferred_during_scheduling_ignored_during_execution
                .into_iter()
                .map(|p| (p.weight, p.preference))
                .collect(),
            tolerations,
            last_message: scheduled.map(|c| c.message.clone()).unwrap_or_default(),
        }
    }
}

fn host_port(port: &Port) -> HostPort {
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    HostPort { protocol: or(&port.protocol, "TCP"), port: port.host_port, address: or(&port.host_ip, "0.0.0.0") }
}

impl Spec {
    /// The sum of all containers that run together, or what the most demanding init container needs at its turn if that is more.
    fn requests(&self) -> (Amounts, (i64, i64)) {
        let mut running = Amounts::default();
        let mut weight = (0, 0);
        for container in &self.containers {
            let asked = Amounts::read(&container.resources.requests);
            weight.0 += if asked.cpu == 0 { UNASKED_CPU } else { asked.cpu };
            weight.1 += if asked.memory == 0 { UNASKED_MEMORY } else { asked.memory };
            running.add(&asked);
        }
        let mut sidecars = Amounts::default();
        let mut peak = Amounts::default();
        for container in &self.init_containers {
            let mut turn = Amounts::read(&container.resources.requests);
            turn.add(&sidecars);
            if container.restart_policy == "Always" {
                sidecars.clone_from(&turn);
            }
            peak.raise_to(&turn);
        }
        running.add(&sidecars);
        running.raise_to(&peak);
        if let Some(whole) = &self.resources {
            running.raise_to(&Amounts::read(&whole.requests));
        }
        running.add(&Amounts::read(&self.overhead));
        (running.clone(), (weight.0.max(running.cpu), weight.1.max(running.memory)))
    }
}
