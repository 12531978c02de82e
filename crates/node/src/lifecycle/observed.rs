//! What a worker has seen of its pod.

use std::collections::{BTreeMap, BTreeSet};

use gantry_containers::{ContainerState, ContainerStatus};
use gantry_object::Timestamp;

use super::BackOff;

/// Everything known about a pod on this node, apart from what the API says.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its sandbox.
    pub sandbox: Sandbox,
    /// Its volumes.
    pub volumes: Volumes,
    /// Its containers as the runtime has them, by name, in the order of their attempts.
    pub containers: BTreeMap<String, Vec<ContainerStatus>>,
    /// Containers that a step is under way for. Nothing more is asked of them until it ends.
    pub busy: BTreeSet<String>,
    /// Why a container's last start did not come to a container.
    pub waiting: BTreeMap<String, Waiting>,
    /// When a container that keeps ending may start again.
    pub backoff: BTreeMap<String, BackOff>,
    /// What its probes found, of its newest attempt.
    pub probes: BTreeMap<String, ProbeResults>,
}

/// A pod's surroundings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// There are none.
    #[default]
    None,
    /// They are being made or taken away.
    Busy,
    /// They are there, with these addresses.
    Ready(Vec<String>),
    /// Their shim is gone: what is left has to be removed.
    Lost,
    /// Making them failed; they are tried again at this time.
    Failed(Waiting),
}

/// A pod's volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Volumes {
    /// There are none yet.
    #[default]
    None,
    /// They are being made.
    Busy,
    /// They are there.
    Ready,
    /// Making them failed; they are tried again at this time.
    Failed(Waiting),
}

/// Why something is not there yet, as a container's waiting state says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// In one word: `ErrImagePull`.
    pub reason: String,
    /// For a person.
    pub message: String,
    /// When it is tried again.
    pub until: Timestamp,
}

/// What the probes of a running container found. `None`: no probe, or no result yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeResults {
    /// Whether the startup probe passed.
    pub started: Option<bool>,
    /// Whether the readiness probe passes.
    pub ready: Option<bool>,
    /// Whether the liveness probe still passes, or the startup probe may still pass.
    pub live: Option<bool>,
}

impl Observed {
    /// The newest attempt of a container.
    pub fn newest(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers.get(name)?.last()
    }

    /// Whether the newest attempt of a container runs.
    pub fn is_running(&self, name: &str) -> bool {
        self.newest(name).is_some_and(|c| c.state == ContainerState::Running)
    }

    /// Whether anything of any container has not ended.
    pub fn anything_alive(&self) -> bool {
        self.containers.values().flatten().any(|c| c.state != ContainerState::Exited)
    }
}
