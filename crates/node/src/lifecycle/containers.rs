//! What a pod's containers are for: the order in which they start and end.

use gantry_containers::{ContainerState, ContainerStatus};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::Observed;

/// A pod's restart policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

impl RestartPolicy {
    pub(super) fn of(spec: &PodSpec) -> Self {
        match spec.restart_policy.as_deref() {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    /// Whether a container that ended so starts again.
    pub(super) fn restarts(self, ended: &ContainerStatus) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => !succeeded(ended),
            Self::Never => false,
        }
    }
}

pub(super) fn succeeded(ended: &ContainerStatus) -> bool {
    ended.state == ContainerState::Exited && ended.exit_code == Some(0)
}

/// Whether an init container goes on running beside those after it.
pub(super) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub(super) fn init_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().and_then(|s| s.init_containers.as_deref()).unwrap_or_default()
}

pub(super) fn app_containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map(|s| s.containers.as_slice()).unwrap_or_default()
}

/// How often a container has started again, as far as the runtime or the API remembers.
pub(super) fn restart_count(pod: &Pod, observed: &Observed, name: &str) -> u32 {
    let told = api_status(pod, name).map_or(0, |s| u32::try_from(s.restart_count).unwrap_or(0));
    observed.newest(name).map_or(told, |c| c.attempt.max(told))
}

/// The attempt that a start of the container would be.
pub(super) fn next_attempt(pod: &Pod, observed: &Observed, name: &str) -> u32 {
    let was_started = |s: &k8s_openapi::api::core::v1::ContainerStatus| s.container_id.as_ref().is_some_and(|id| !id.is_empty());
    match observed.newest(name) {
        Some(_) => restart_count(pod, observed, name) + 1,
        // The runtime forgot what it ran: its shim was lost, or the machine restarted.
        None if api_status(pod, name).is_some_and(was_started) => restart_count(pod, observed, name) + 1,
        None => 0,
    }
}

/// Whether a container ran when the API last heard of it, and the runtime knows nothing of it: its node was taken down, or its shim was lost.
pub(super) fn is_lost(pod: &Pod, observed: &Observed, name: &str) -> bool {
    let ran = api_status(pod, name).and_then(|s| s.state.as_ref()).is_some_and(|s| s.running.is_some());
    ran && observed.newest(name).is_none()
}

/// What the API last heard of a container.
pub(super) fn api_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a k8s_openapi::api::core::v1::ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().find(|s| s.name == name)
}

/// Whether a running container counts as started: it has no startup probe, or passed it.
pub(super) fn has_started(container: &Container, observed: &Observed) -> bool {
    let passed = observed.probes.get(&container.name).and_then(|p| p.started) == Some(true);
    observed.is_running(&container.name) && (container.startup_probe.is_none() || passed)
}

/// Whether a running container is ready: it has started, and has no readiness probe or passes it.
pub(super) fn is_ready(container: &Container, observed: &Observed) -> bool {
    let passed = observed.probes.get(&container.name).and_then(|p| p.ready) == Some(true);
    has_started(container, observed) && (container.readiness_probe.is_none() || passed)
}

/// How far a pod's init containers got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InitProgress {
    /// All that must end has ended, all that must run has started.
    Done,
    /// The one at this place is next, or under way.
    At(usize),
    /// The one at this place failed, and nothing starts it again.
    Failed(usize),
}

pub(super) fn init_progress(pod: &Pod, observed: &Observed) -> InitProgress {
    let policy = pod.spec.as_ref().map_or(RestartPolicy::Always, RestartPolicy::of);
    // Once a container of the pod proper was started, initialisation is behind it, also after the sandbox was lost and made anew
    // within this life of the agent: then nothing of the pod is left, and it begins from the start.
    if app_containers(pod).iter().any(|c| observed.newest(&c.name).is_some()) {
        return InitProgress::Done;
    }
    for (i, container) in init_containers(pod).iter().enumerate() {
        let newest = observed.newest(&container.name);
        let done = match newest {
            _ if is_sidecar(container) => has_started(container, observed),
            Some(ended) if ended.state == ContainerState::Exited => {
                if !succeeded(ended) && policy == RestartPolicy::Never {
                    return InitProgress::Failed(i);
                }
                succeeded(ended)
            }
            _ => false,
        };
        if policy == RestartPolicy::Never && is_lost(pod, observed, &container.name) {
            return InitProgress::Failed(i);
        }
        if !done {
            return InitProgress::At(i);
        }
    }
    InitProgress::Done
}
