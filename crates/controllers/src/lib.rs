//! The controllers: a folder for each, with what it reads, what it alone owns, and `decide`.
//!
//! Every controller is a pure function over [`gantry_reconcile::View`]; the runner does the rest. No controller talks to another, and
//! none writes what another owns: a test reads the declarations.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod adoption;
mod backends;
pub mod certificates;
pub mod clusterroles;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod garbage;
mod kinds;
pub mod namespace;
pub mod nodelifecycle;
pub mod podgc;
pub mod replicaset;
pub mod rootca;
pub mod serviceaccount;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::sync::Arc;
use std::time::Duration;

use gantry_object::{Resource, Timestamp};
use gantry_reconcile::Controller;

/// What the controllers need to be told.
pub struct Settings {
    /// Every resource that can be listed and deleted, once each: for garbage collection and the emptying of namespaces.
    pub resources: Vec<Resource>,
    /// The API server's certificate authority in PEM.
    pub root_ca: String,
    /// Who signs nodes' certificates.
    pub signer: Arc<dyn certificates::Signer>,
    /// After how long a silent node counts as unreachable.
    pub node_grace: Duration,
    /// Since when this server listens.
    pub started: Timestamp,
    /// How many pods that have ended are kept.
    pub keep_finished_pods: usize,
}

/// All controllers.
pub fn all(settings: &Settings) -> Vec<Arc<dyn Controller>> {
    vec![
        Arc::new(deployment::Deployments),
        Arc::new(replicaset::ReplicaSets),
        Arc::new(replicaset::ReplicationControllers),
        Arc::new(clusterroles::RoleAggregation),
        Arc::new(endpointslice::EndpointSlices),
        Arc::new(endpoints::EndpointsOfServices),
        Arc::new(namespace::Namespaces::new(&settings.resources)),
        Arc::new(serviceaccount::ServiceAccounts),
        Arc::new(rootca::RootCa::new(settings.root_ca.clone())),
        Arc::new(garbage::Garbage::new(&settings.resources)),
        Arc::new(nodelifecycle::NodeLifecycle::new(settings.node_grace, settings.started)),
        Arc::new(nodelifecycle::TaintEvictions),
        Arc::new(podgc::PodGc::new(settings.keep_finished_pods)),
        Arc::new(certificates::Certificates::new(settings.signer.clone())),
    ]
}
