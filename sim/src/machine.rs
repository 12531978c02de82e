//! A node's machine: sandboxes and containers, which outlive the agent, and end when the machine restarts.

use std::collections::BTreeMap;

use gantry_containers::{ContainerId, ContainerState, ContainerStatus, ExitReason};
use gantry_object::Timestamp;

/// What one pod has on the machine.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxed {
    pub(crate) address: String,
    pub(crate) containers: Vec<ContainerStatus>,
}

/// By the uid of their pods.
#[derive(Default)]
pub(crate) struct Machine {
    pub(crate) sandboxes: BTreeMap<String, Sandboxed>,
    addresses: u32,
}

impl Machine {
    pub(crate) fn start_sandbox(&mut self, uid: &str, node: usize) -> Result<String, String> {
        if self.sandboxes.contains_key(uid) {
            return Err(format!("pod {uid} gets a second sandbox"));
        }
        self.addresses += 1;
        let address = format!("10.{}.{}.{}", 100 + node, self.addresses / 250, self.addresses % 250 + 1);
        self.sandboxes.insert(uid.to_owned(), Sandboxed { address: address.clone(), containers: Vec::new() });
        Ok(address)
    }

    /// Starts a container. No container may run twice.
    pub(crate) fn start(&mut self, uid: &str, name: &str, attempt: u32, image: &str, now: Timestamp) -> Result<ContainerStatus, String> {
        let sandbox = self.sandboxes.get_mut(uid).ok_or_else(|| format!("container {name} of pod {uid} is started without a sandbox"))?;
        if sandbox.containers.iter().any(|c| c.name == name && c.state != ContainerState::Exited) {
            return Err(format!("container {name} of pod {uid} would run twice"));
        }
        if sandbox.containers.iter().any(|c| c.name == name && c.attempt >= attempt) {
            return Err(format!("container {name} of pod {uid} has attempt {attempt} again"));
        }
        let status = ContainerStatus {
            id: ContainerId::new(uid, name, attempt),
            name: name.into(),
            attempt,
            image: image.into(),
            image_id: format!("sha256:{image}"),
            state: ContainerState::Running,
            pid: Some(1),
            created_at: now,
            started_at: Some(now),
            finished_at: None,
            exit_code: None,
            reason: None,
            message: String::new(),
            log_path: None,
            tty: false,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        };
        sandbox.containers.push(status.clone());
        Ok(status)
    }

    /// Ends a container, by its own fault or by order.
    pub(crate) fn end(&mut self, id: &ContainerId, exit_code: i32, now: Timestamp) -> Option<ContainerStatus> {
        let containers = &mut self.sandboxes.get_mut(&id.sandbox)?.containers;
        let container = containers.iter_mut().find(|c| c.id == *id && c.state != ContainerState::Exited)?;
        container.state = ContainerState::Exited;
        container.finished_at = Some(now);
        container.exit_code = Some(exit_code);
        container.reason = Some(if exit_code == 0 { ExitReason::Completed } else { ExitReason::Error });
        container.pid = None;
        Some(container.clone())
    }

    pub(crate) fn remove(&mut self, id: &ContainerId) {
        if let Some(sandbox) = self.sandboxes.get_mut(&id.sandbox) {
            sandbox.containers.retain(|c| c.id != *id);
        }
    }

    /// Containers that run, of all pods.
    pub(crate) fn running(&self) -> Vec<ContainerId> {
        let all = self.sandboxes.values().flat_map(|s| &s.containers);
        all.filter(|c| c.state == ContainerState::Running).map(|c| c.id.clone()).collect()
    }
}
