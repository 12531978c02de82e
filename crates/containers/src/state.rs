//! What a runtime keeps on disk, so that any agent can tell what there is and clean up what is dead.
//!
//! `<root>/<sandbox>/` holds `sandbox.json`, `shim.json` once the shim serves, `shim.sock`, `shm/`, `stopped` once it
//! was told to stop, and `containers/<name>-<attempt>/` with `config.json`, `status.json`, `root/`, `upper/`, `work/`.

use std::fs;
use std::path::{Path, PathBuf};

use gantry_object::Timestamp;
use serde::{Deserialize, Serialize};

use crate::linux::cgroup::{Cgroup, Hierarchies};
use crate::linux::files;
use crate::{ContainerState, ContainerStatus, Error, ExitReason, Resources, Result, SandboxConfig, SandboxState, SandboxStatus};

/// What the shim says of itself once it serves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ShimRecord {
    pub(crate) pid: i32,
    pub(crate) created_at: i64,
}

impl SandboxConfig {
    /// What the sandbox of this id was made from, by a runtime whose root this is.
    ///
    /// # Errors
    /// When there is no such sandbox, or its directory cannot be read.
    pub fn read(root: &Path, id: &str) -> Result<Self> {
        SandboxDir(root.join(id)).config()
    }
}

/// A sandbox's directory.
#[derive(Clone, Debug)]
pub(crate) struct SandboxDir(pub(crate) PathBuf);

impl SandboxDir {
    pub(crate) fn config(&self) -> Result<SandboxConfig> {
        read_json(&self.0.join("sandbox.json"))
    }

    pub(crate) fn write_config(&self, config: &SandboxConfig) -> Result<()> {
        write_json(&self.0.join("sandbox.json"), config)
    }

    /// Says that the sandbox is whole. One without this was never finished.
    pub(crate) fn write_shim(&self, record: &ShimRecord) -> Result<()> {
        write_json(&self.0.join("shim.json"), record)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.0.join("shim.json").exists()
    }

    pub(crate) fn set_stopped(&self) -> Result<()> {
        files::replace(&self.0.join("stopped"), b"")
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.0.join("stopped").exists()
    }

    pub(crate) fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }

    pub(crate) fn container(&self, container: &str) -> ContainerDir {
        ContainerDir(self.0.join("containers").join(container))
    }

    /// Statuses of all containers, the oldest first.
    pub(crate) fn container_statuses(&self) -> Result<Vec<ContainerStatus>> {
        let directory = self.0.join("containers");
        let entries = match fs::read_dir(&directory) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            other => other.map_err(Error::path("list", &directory))?,
        };
        let mut all: Vec<_> = entries.flatten().filter_map(|entry| ContainerDir(entry.path()).status().ok()).collect();
        all.sort_by_key(|s| (s.created_at.0, s.id.clone()));
        Ok(all)
    }

    /// The pod's cgroup.
    pub(crate) fn cgroup(&self, hierarchies: &Hierarchies) -> Result<Cgroup> {
        let config = self.config()?;
        Cgroup::new(hierarchies, &config.cgroup_parent, &config.resources)
    }

    /// The sandbox as the disk tells it; for one whose shim doesn't answer.
    pub(crate) fn status_without_shim(&self) -> Result<SandboxStatus> {
        let record: ShimRecord = read_json(&self.0.join("shim.json"))?;
        Ok(status(&self.config()?, SandboxState::NotReady, Timestamp(record.created_at), None, self.container_statuses()?))
    }

    /// Ends what a dead shim has left: kills what runs and writes down that it ended. Does nothing the second time.
    pub(crate) fn bury(&self, hierarchies: &Hierarchies, now: Timestamp) -> Result<()> {
        self.cgroup(hierarchies)?.kill();
        for mut status in self.container_statuses()? {
            if status.state == ContainerState::Exited {
                continue;
            }
            status.state = ContainerState::Exited;
            status.pid = None;
            status.finished_at = Some(now);
            status.exit_code = Some(137);
            status.reason = Some(ExitReason::ContainerStatusUnknown);
            status.message = "the container's shim ended before it did".to_owned();
            self.container(&status.id.container).write_status(&status)?;
        }
        Ok(())
    }
}

/// Puts a sandbox's status together.
pub(crate) fn status(
    config: &SandboxConfig,
    state: SandboxState,
    created_at: Timestamp,
    shim_pid: Option<i32>,
    containers: Vec<ContainerStatus>,
) -> SandboxStatus {
    SandboxStatus {
        id: config.id.clone(),
        pod_name: config.pod_name.clone(),
        pod_namespace: config.pod_namespace.clone(),
        pod_uid: config.pod_uid.clone(),
        state,
        created_at,
        shim_pid,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        containers,
    }
}

/// A container's directory.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDir(pub(crate) PathBuf);

impl ContainerDir {
    pub(crate) fn status(&self) -> Result<ContainerStatus> {
        read_json(&self.0.join("status.json"))
    }

    pub(crate) fn write_status(&self, status: &ContainerStatus) -> Result<()> {
        write_json(&self.0.join("status.json"), status)
    }

    /// The container's cgroup below its pod's.
    pub(crate) fn cgroup(pod: &Cgroup, container: &str, resources: &Resources) -> Result<Cgroup> {
        pod.child(container, resources)
    }
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = fs::read(path).map_err(Error::path("read", path))?;
    serde_json::from_slice(&text).map_err(|e| Error::path("understand", path)(std::io::Error::from(e)))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec(value).expect("these types have string keys and write to memory");
    files::replace(path, &text)
}
