//! The scheduler at work.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_reconcile::{Api, Clock, Shell, Tasks, Voice};

use crate::machine::{Machine, NAME, NODES, PODS};

/// How many pods are bound at once.
const WORKERS: usize = 256;

/// Starts scheduling under an identity (upstream: `system:kube-scheduler`); it ends with `tasks`.
pub fn run(api: &Arc<dyn Api>, clock: Arc<dyn Clock>, tasks: &Tasks) {
    let voices = BTreeMap::from([(NAME, Voice::new(api.clone(), NAME, clock.clone()))]);
    Shell::start(Machine::new(), WORKERS, vec![NODES, PODS], api, voices, clock, tasks);
}
