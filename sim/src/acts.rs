//! Whether what a controller is about to do is allowed by what it sees. What it sees may be old: that is no excuse for going beyond it.

use std::collections::BTreeMap;

use gantry_object::Encoded;
use gantry_reconcile::{Action, Job, View};
use gantry_scheduler::PODS;

use crate::component::{DEPLOYMENTS, SETS};
use crate::facts::{Deployment, Pod, Set, read};
use crate::trace::{Sort, Trace};

/// Looks at a decision of the deployment controller's or the replica set controller's.
pub(crate) fn check(job: &Job, view: &View, trace: &Trace) -> Result<(), String> {
    let wrong = |why: String| format!("{} on {}: {why}; it decided {:?}", job.name, job.key, job.decision.actions);
    let Some(item) = view.item(&job.key.resource, &job.key.name) else { return Ok(()) };
    if job.key.resource == DEPLOYMENTS && job.name == "deployment-controller" {
        trace.count(Sort::Check, "decision of the deployment controller");
        Rollout::see(&item.object, view)?.check(&job.decision.actions).map_err(wrong)?;
    }
    if job.key.resource == SETS && job.name == "replicaset-controller" {
        trace.count(Sort::Check, "decision of the replica set controller");
        check_set(&read(&item.object)?, view, &job.decision.actions).map_err(wrong)?;
    }
    Ok(())
}

/// A deployment, its sets and their pods, as the controller sees them.
struct Rollout {
    deployment: Deployment,
    sets: BTreeMap<String, Set>,
    /// Pods by the uid of their set.
    pods: Vec<Pod>,
}

impl Rollout {
    fn see(object: &Encoded, view: &View) -> Result<Self, String> {
        let deployment: Deployment = read(object)?;
        let mut sets = BTreeMap::new();
        for item in view.items_in(&SETS, "default") {
            let set: Set = read(&item.object)?;
            if set.metadata.is_managed_by(&deployment.metadata.uid) {
                sets.insert(set.metadata.name.clone(), set);
            }
        }
        let pods = view.items_in(&PODS, "default").map(|item| read(&item.object)).collect::<Result<_, _>>()?;
        Ok(Self { deployment, sets, pods })
    }

    fn check(&self, actions: &[Action]) -> Result<(), String> {
        let sizes = self.sizes_after(actions)?;
        // A set that is to grow back to what is there anyway makes no pods.
        let before = |name: &String| self.sets.get(name).map_or(0, |set| set.size().max(set.status.replicas));
        let grows = sizes.iter().any(|(name, size)| *size > before(name));
        if grows {
            self.check_growth(&sizes)?;
        }
        if self.deployment.recreates() { self.check_recreation(&sizes) } else { self.check_shrinking(&sizes) }
    }

    /// The size each set will have.
    fn sizes_after(&self, actions: &[Action]) -> Result<BTreeMap<String, i64>, String> {
        let mut sizes: BTreeMap<String, i64> = self.sets.iter().map(|(name, set)| (name.clone(), set.size())).collect();
        for action in actions {
            match action {
                Action::Create { resource, name, object, .. } if *resource == SETS => {
                    sizes.insert(name.name.clone(), object["spec"]["replicas"].as_i64().unwrap_or(1));
                }
                Action::Update { resource, base, change, .. } if *resource == SETS => {
                    let set: Set = read(base)?;
                    if !sizes.contains_key(&set.metadata.name) {
                        return Err(format!("set {} is not this deployment's", set.metadata.name));
                    }
                    if let Some(size) = change["spec"]["replicas"].as_i64() {
                        sizes.insert(set.metadata.name, size);
                    }
                }
                _ => {}
            }
        }
        Ok(sizes)
    }

    /// Pods that are still there count as long as they are there.
    fn check_growth(&self, sizes: &BTreeMap<String, i64>) -> Result<(), String> {
        // Who recreates looks at the pods themselves, which a status may be behind: see `check_recreation`.
        let shown = |set: &Set| if self.deployment.recreates() { 0 } else { set.status.replicas };
        let there = |(name, size): (&String, &i64)| self.sets.get(name).map_or(*size, |set| shown(set).max(*size));
        let total: i64 = sizes.iter().map(there).sum();
        match total > self.deployment.most() {
            true => Err(format!("grows to {total} pods, {} are allowed", self.deployment.most())),
            false => Ok(()),
        }
    }

    /// The pods that are available and stay are enough, or no fewer than before.
    fn check_shrinking(&self, sizes: &BTreeMap<String, i64>) -> Result<(), String> {
        let available = |set: &Set, size: i64| if set.is_observed() { set.status.available_replicas.min(size) } else { 0 };
        let before: i64 = self.sets.values().map(|set| available(set, set.size())).sum();
        let after: i64 = self.sets.iter().map(|(name, set)| available(set, sizes.get(name).map_or(0, |s| (*s).min(set.size())))).sum();
        match after < before && after < self.deployment.least() {
            true => Err(format!("leaves {after} of {before} available pods, {} are promised", self.deployment.least())),
            false => Ok(()),
        }
    }

    /// No new pod comes before the last old one has gone.
    fn check_recreation(&self, sizes: &BTreeMap<String, i64>) -> Result<(), String> {
        for (name, size) in sizes {
            let before = self.sets.get(name).map_or(0, Set::size);
            if *size <= before || before > 0 {
                continue;
            }
            let others: Vec<&str> = self.sets.values().filter(|s| s.metadata.name != *name).map(|s| s.metadata.uid.as_str()).collect();
            let left = self.pods.iter().filter(|p| !p.is_finished() && others.iter().any(|uid| p.metadata.is_managed_by(uid))).count();
            if left > 0 && !self.deployment.spec.paused {
                return Err(format!("{name} begins to grow while {left} pods of other sets are there"));
            }
        }
        Ok(())
    }
}

/// A set makes no more pods than it lacks, deletes no more than it has too many, and only its own.
fn check_set(set: &Set, view: &View, actions: &[Action]) -> Result<(), String> {
    let mut alive = 0;
    for item in view.items_in(&PODS, "default") {
        let pod: Pod = read(&item.object)?;
        alive += i64::from(pod.metadata.is_managed_by(&set.metadata.uid) && pod.is_alive());
    }
    let made = actions.iter().filter(|a| matches!(a, Action::CreateFor { .. })).count() as i64;
    if made > 0 && alive + made > set.size() {
        return Err(format!("makes {made} pods where {alive} of {} are there", set.size()));
    }
    let mut deleted = 0;
    for action in actions {
        let Action::Delete { name, options, .. } = action else { continue };
        let pod: Pod = view.item(&PODS, name).map(|item| read(&item.object)).transpose()?.unwrap_or_default();
        let uid = options.preconditions.as_ref().and_then(|p| p.uid.as_deref()).unwrap_or_default();
        if !pod.metadata.is_managed_by(&set.metadata.uid) || pod.metadata.uid != uid {
            return Err(format!("deletes pod {name}, which is not its own"));
        }
        deleted += 1;
    }
    match deleted > 0 && alive - deleted < set.size() {
        true => Err(format!("deletes {deleted} pods of {alive} where {} are wanted", set.size())),
        false => Ok(()),
    }
}
