//! What to do next for a pod.

use std::time::Duration;

use gantry_containers::{ContainerId, ContainerState};
use gantry_object::{Timestamp, Value};
use k8s_openapi::api::core::v1::{Container, Pod};

use super::containers::{InitProgress, RestartPolicy, app_containers, init_containers, init_progress, is_lost, is_sidecar, next_attempt};
use super::observed::{Observed, Sandbox, Volumes};
use super::status;

/// What a status says about the node.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The node's own addresses.
    pub host_ips: Vec<String>,
}

/// Something to do for a pod. Steps of one plan may be done side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the pod's volumes.
    PrepareVolumes,
    /// Make its network and its sandbox.
    StartSandbox,
    /// Remove what is left of a sandbox whose shim is gone.
    RemoveSandbox,
    /// Pull a container's image if need be, make the container and start it.
    StartContainer {
        /// Its name.
        name: String,
        /// Which attempt it is.
        attempt: u32,
    },
    /// Run the hook that comes before its end, then end it.
    StopContainer {
        /// Which.
        id: ContainerId,
        /// Its name.
        name: String,
        /// How long it may take.
        grace: Duration,
        /// Why.
        reason: StopReason,
    },
    /// Forget an attempt that is of no more use, with its log.
    RemoveContainer(ContainerId),
    /// Remove a container that was made and, as far as is known, never started: unless it was.
    DiscardContainer {
        /// Which.
        id: ContainerId,
        /// Its name in the pod.
        name: String,
    },
    /// Everything has ended: take sandbox, network and volumes away.
    TearDown,
    /// Nothing is left on the node: let the API forget the pod.
    Forget,
}

/// Why a container is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// Its pod ends.
    PodEnds,
    /// Its liveness probe failed.
    Unhealthy,
    /// Its startup probe failed for too long.
    NeverStarted,
}

/// What to do, what to tell, and when to ask again.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// What to do.
    pub steps: Vec<Step>,
    /// The pod's status, as `v1 PodStatus`.
    pub status: Value,
    /// When something that was waited for is due.
    pub recheck_at: Option<Timestamp>,
}

struct Decider<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    now: Timestamp,
    policy: RestartPolicy,
    plan: Plan,
}

/// Decides what to do for a pod.
pub fn decide(pod: &Pod, observed: &Observed, node: &NodeFacts, now: Timestamp) -> Plan {
    let policy = pod.spec.as_ref().map_or(RestartPolicy::Always, RestartPolicy::of);
    let mut decider = Decider { pod, observed, now, policy, plan: Plan::default() };
    if status::must_end(pod, observed) {
        decider.end();
    } else {
        decider.live();
    }
    let mut plan = decider.plan;
    plan.status = status::render(pod, observed, node, now);
    plan
}

impl Decider<'_> {
    fn recheck(&mut self, at: Timestamp) {
        self.plan.recheck_at = Some(self.plan.recheck_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Whether something that failed may be tried again; otherwise when is noted.
    fn is_due(&mut self, until: Timestamp) -> bool {
        let due = until <= self.now;
        if !due {
            self.recheck(until);
        }
        due
    }

    fn live(&mut self) {
        match &self.observed.volumes {
            Volumes::None => self.plan.steps.push(Step::PrepareVolumes),
            Volumes::Failed(why) if self.is_due(why.until) => self.plan.steps.push(Step::PrepareVolumes),
            _ => {}
        }
        match &self.observed.sandbox {
            Sandbox::None => self.plan.steps.push(Step::StartSandbox),
            Sandbox::Failed(why) if self.is_due(why.until) => self.plan.steps.push(Step::StartSandbox),
            Sandbox::Lost => self.plan.steps.push(Step::RemoveSandbox),
            Sandbox::Ready(_) if self.observed.volumes == Volumes::Ready => self.containers(),
            _ => {}
        }
        self.forget_old_attempts();
    }

    fn containers(&mut self) {
        let (pod, observed) = (self.pod, self.observed);
        let inits = init_containers(pod);
        let reached = match init_progress(pod, observed) {
            InitProgress::Done => inits.len(),
            InitProgress::At(i) => {
                self.keep_running(&inits[i], if is_sidecar(&inits[i]) { RestartPolicy::Always } else { self.init_policy() });
                i
            }
            // The pod has failed: must_end says so.
            InitProgress::Failed(_) => return,
        };
        for sidecar in inits[..reached].iter().filter(|c| is_sidecar(c)) {
            self.keep_running(sidecar, RestartPolicy::Always);
        }
        if reached == inits.len() {
            for container in app_containers(pod) {
                self.keep_running(container, self.policy);
            }
        }
    }

    /// An init container that fails is tried again unless the pod never restarts anything.
    fn init_policy(&self) -> RestartPolicy {
        if self.policy == RestartPolicy::Never { RestartPolicy::Never } else { RestartPolicy::OnFailure }
    }

    fn keep_running(&mut self, container: &Container, policy: RestartPolicy) {
        let (observed, name) = (self.observed, container.name.as_str());
        if observed.busy.contains(name) {
            return;
        }
        if let Some(waiting) = observed.waiting.get(name)
            && !self.is_due(waiting.until)
        {
            return;
        }
        match observed.newest(name) {
            // It has ended, though nobody saw how: a pod that restarts nothing has failed.
            None if policy == RestartPolicy::Never && is_lost(self.pod, observed, name) => {}
            None => self.start(name),
            Some(newest) => match newest.state {
                // Made by an agent that ended before it started it: away with it, and again.
                ContainerState::Created => {
                    self.plan.steps.push(Step::DiscardContainer { id: newest.id.clone(), name: name.to_owned() });
                }
                ContainerState::Running => self.check_probes(container),
                ContainerState::Exited if !policy.restarts(newest) => {}
                ContainerState::Exited => {
                    let until = observed.backoff.get(name).map_or(Timestamp::default(), |b| b.until);
                    if self.is_due(until) {
                        self.start(name);
                    }
                }
            },
        }
    }

    fn start(&mut self, name: &str) {
        let attempt = next_attempt(self.pod, self.observed, name);
        self.plan.steps.push(Step::StartContainer { name: name.into(), attempt });
    }

    fn check_probes(&mut self, container: &Container) {
        let results = self.observed.probes.get(&container.name).copied().unwrap_or_default();
        let Some(newest) = self.observed.newest(&container.name).filter(|_| results.live == Some(false)) else { return };
        let never_started = container.startup_probe.is_some() && results.started != Some(true);
        let probe = if never_started { &container.startup_probe } else { &container.liveness_probe };
        let own = probe.as_ref().and_then(|p| p.termination_grace_period_seconds);
        let grace = own.unwrap_or_else(|| self.spec_grace());
        self.plan.steps.push(Step::StopContainer {
            id: newest.id.clone(),
            name: container.name.clone(),
            grace: Duration::from_secs(grace.max(0).unsigned_abs()),
            reason: if never_started { StopReason::NeverStarted } else { StopReason::Unhealthy },
        });
    }

    fn spec_grace(&self) -> i64 {
        self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30)
    }

    /// What is left of the time the pod may take to end.
    fn remaining_grace(&self) -> Duration {
        let metadata = &self.pod.metadata;
        match &metadata.deletion_timestamp {
            // The deletion time is when the grace is over.
            Some(at) => Timestamp(i64::try_from(at.0.as_nanosecond()).unwrap_or(i64::MAX)).since(self.now),
            None => Duration::from_secs(self.spec_grace().max(0).unsigned_abs()),
        }
    }

    fn end(&mut self) {
        let (pod, observed) = (self.pod, self.observed);
        let grace = self.remaining_grace();
        let is_app = |name: &str| !init_containers(pod).iter().any(|c| c.name == name && is_sidecar(c));
        let alive = |name: &String| observed.newest(name).is_some_and(|c| c.state != ContainerState::Exited);
        let names: Vec<&String> = observed.containers.keys().filter(|n| alive(n)).collect();
        let (apps, _): (Vec<&String>, Vec<&String>) = names.iter().partition(|n| is_app(n));
        // Sidecars outlive those they serve, and end in the reverse of the order they started in.
        let last_sidecar = init_containers(pod).iter().rev().map(|c| &c.name).find(|n| alive(n));
        let next: Vec<&String> = if apps.is_empty() { last_sidecar.into_iter().collect() } else { apps };
        for name in next.iter().filter(|n| !observed.busy.contains(**n)) {
            if let Some(newest) = observed.newest(name) {
                let (id, name) = (newest.id.clone(), (*name).clone());
                self.plan.steps.push(Step::StopContainer { id, name, grace, reason: StopReason::PodEnds });
            }
        }
        if !names.is_empty() || !observed.busy.is_empty() {
            return;
        }
        let deleted = pod.metadata.deletion_timestamp.is_some();
        match (&observed.sandbox, &observed.volumes) {
            (Sandbox::Busy, _) | (_, Volumes::Busy) => {}
            // A pod that has ended keeps its containers, stopped, for their logs, until it is deleted.
            (Sandbox::Ready(_), _) | (_, Volumes::Ready | Volumes::Failed(_)) => self.plan.steps.push(Step::TearDown),
            _ if deleted && (observed.sandbox != Sandbox::None || !observed.containers.is_empty()) => {
                self.plan.steps.push(Step::RemoveSandbox)
            }
            _ if deleted => self.plan.steps.push(Step::Forget),
            _ => {}
        }
    }

    /// Of each container the newest attempt stays, and the one before it for `logs --previous`.
    fn forget_old_attempts(&mut self) {
        for attempts in self.observed.containers.values().filter(|a| a.len() > 2) {
            let old = attempts[..attempts.len() - 2].iter().filter(|c| c.state == ContainerState::Exited);
            self.plan.steps.extend(old.map(|c| Step::RemoveContainer(c.id.clone())));
        }
    }
}
