//! What a deployment promises about the number of its pods, kept from one state at rest to the next.

use std::collections::BTreeMap;

use crate::facts::{Deployment, Pod, Set};
use crate::trace::{Sort, Trace};

/// The promises of all deployments.
#[derive(Default)]
pub(crate) struct Promises {
    deployments: BTreeMap<String, Promised>,
    /// Whether pods were lost by something else than a rollout: then there may be too few.
    disrupted: bool,
}

struct Promised {
    deployment: Deployment,
    /// `None` until it was at rest once, or since something else changed whose pods are whose.
    most: Option<i64>,
    least: Option<i64>,
}

impl Promises {
    /// Pods may be lost from now on, until the end.
    pub(crate) fn disrupt(&mut self) {
        self.disrupted = true;
        self.deployments.values_mut().for_each(|p| p.least = None);
    }

    /// Pods changed hands: what is promised is not known before the next rest.
    pub(crate) fn forget(&mut self) {
        self.deployments.values_mut().for_each(|p| (p.most, p.least) = (None, None));
    }

    /// A deployment as it is now. While it changes, the loosest of its versions counts.
    pub(crate) fn deployment(&mut self, path: &str, deployment: Option<Deployment>) {
        let Some(deployment) = deployment else {
            self.deployments.remove(path);
            return;
        };
        let known = self.deployments.get(path).filter(|p| p.deployment.metadata.uid == deployment.metadata.uid);
        // Whoever is being deleted promises nothing.
        let known = known.filter(|_| !deployment.metadata.is_deleting());
        let most = known.and_then(|p| p.most).map(|m| m.max(deployment.most()));
        let least = known.and_then(|p| p.least).map(|l| l.min(deployment.least()));
        self.deployments.insert(path.to_owned(), Promised { deployment, most, least });
    }

    /// Looks whether every promise is kept.
    pub(crate) fn check(&mut self, sets: &BTreeMap<String, Set>, pods: &BTreeMap<String, Pod>, trace: &Trace) -> Result<(), String> {
        for (path, promised) in &mut self.deployments {
            let deployment = &promised.deployment;
            let own: Vec<&Set> = sets.values().filter(|s| s.metadata.is_managed_by(&deployment.metadata.uid)).collect();
            let is_own = |pod: &&Pod| pod.metadata.controllers().iter().any(|uid| own.iter().any(|s| s.metadata.uid == *uid));
            let own_pods: Vec<&Pod> = pods.values().filter(is_own).collect();
            let alive = own_pods.iter().filter(|p| p.is_alive()).count() as i64;
            let available = own_pods.iter().filter(|p| p.is_available()).count() as i64;
            if let Some(most) = promised.most.filter(|most| alive > *most) {
                return Err(format!("deployment {path} has {alive} pods, {most} are allowed"));
            }
            if let Some(least) = promised.least.filter(|least| available < *least) {
                return Err(format!("deployment {path} has {available} pods available, {least} are promised"));
            }
            let counts = [promised.most.is_some(), promised.least.is_some()];
            counts.iter().zip(["surge", "availability"]).filter(|(is, _)| **is).for_each(|(_, what)| trace.count(Sort::Check, what));
            if is_at_rest(deployment, &own, alive, available) {
                promised.most = Some(deployment.most());
                promised.least = (!self.disrupted).then(|| deployment.least());
            }
        }
        Ok(())
    }
}

/// Whether everybody has seen the deployment as it is, and nothing is left to do.
fn is_at_rest(deployment: &Deployment, sets: &[&Set], alive: i64, available: i64) -> bool {
    let (size, status) = (deployment.size(), &deployment.status);
    status.observed_generation == deployment.metadata.generation
        && !deployment.metadata.is_deleting()
        && (alive, available) == (size, size)
        && (status.replicas, status.available_replicas) == (size, size)
        && sets.iter().all(|s| s.is_observed())
        && sets.iter().map(|s| s.size()).sum::<i64>() == size
}
