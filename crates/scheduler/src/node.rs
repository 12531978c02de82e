//! What the scheduler knows of a node: what it offers and what is taken.

use std::collections::{BTreeMap, BTreeSet};

use gantry_object::{Encoded, ObjectName, Quantity};
use gantry_reconcile::Meta;
use serde::Deserialize;

use crate::pod::{HostPort, Pod};
use crate::resources::Amounts;
use crate::terms::Taint;

/// What a node offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
    pub(crate) allocatable: Amounts,
    pub(crate) max_pods: usize,
    /// The zone, empty when the node is in none.
    pub(crate) zone: String,
}

/// A node and what is taken of it.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) name: String,
    /// `None` while only pods speak of it.
    pub(crate) offer: Option<Offer>,
    pub(crate) pods: BTreeSet<ObjectName>,
    pub(crate) taken: Amounts,
    pub(crate) weight: (i64, i64),
    pub(crate) ports: Vec<HostPort>,
    /// Pods of each controller.
    pub(crate) owners: BTreeMap<String, u32>,
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
#[serde(default)]
struct Spec {
    taints: Vec<Taint>,
    unschedulable: bool,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    allocatable: Option<BTreeMap<String, String>>,
    capacity: BTreeMap<String, String>,
}

impl Offer {
    /// Reads a node.
    pub(crate) fn read(object: &Encoded) -> Result<Self, serde_json::Error> {
        let Raw { metadata, spec, status } = serde_json::from_slice(&object.body)?;
        let amounts = status.allocatable.unwrap_or(status.capacity);
        let pods = amounts.get("pods").and_then(|p| p.parse::<Quantity>().ok()).map_or(0, Quantity::value);
        Ok(Self {
            zone: metadata.labels.get("topology.kubernetes.io/zone").cloned().unwrap_or_default(),
            labels: metadata.labels,
            taints: spec.taints,
            unschedulable: spec.unschedulable,
            allocatable: Amounts::read(&amounts),
            max_pods: usize::try_from(pods).unwrap_or(0),
        })
    }
}

impl Node {
    pub(crate) fn place(&mut self, pod: &Pod) {
        if !self.pods.insert(pod.name.clone()) {
            return;
        }
        self.taken.add(&pod.requests);
        self.weight.0 += pod.weight.0;
        self.weight.1 += pod.weight.1;
        self.ports.extend(pod.ports.iter().cloned());
        if !pod.owner.is_empty() {
            *self.owners.entry(pod.owner.clone()).or_default() += 1;
        }
    }

    pub(crate) fn remove(&mut self, pod: &Pod) {
        if !self.pods.remove(&pod.name) {
            return;
        }
        self.taken.take(&pod.requests);
        self.weight.0 -= pod.weight.0;
        self.weight.1 -= pod.weight.1;
        for port in &pod.ports {
            if let Some(at) = self.ports.iter().position(|p| p == port) {
                self.ports.swap_remove(at);
            }
        }
        if let Some(count) = self.owners.get_mut(&pod.owner) {
            *count -= 1;
            if *count == 0 {
                self.owners.remove(&pod.owner);
            }
        }
    }
}
