//! What a caller is told.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use gantry_object::Timestamp;
use serde::{Deserialize, Serialize};

/// Names one container of one runtime.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerId {
    /// Its sandbox.
    pub sandbox: String,
    /// Its name in the pod and its attempt, as `name-0`: unique in the sandbox.
    pub container: String,
}

impl ContainerId {
    /// The id that `create_container` gives.
    pub fn new(sandbox: &str, name: &str, attempt: u32) -> Self {
        Self { sandbox: sandbox.to_owned(), container: format!("{name}-{attempt}") }
    }

    /// Reads what Display wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (sandbox, container) = text.split_once('_')?;
        (!sandbox.is_empty() && !container.is_empty()).then(|| Self { sandbox: sandbox.to_owned(), container: container.to_owned() })
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.sandbox, self.container)
    }
}

/// How far a container got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Made, its program not yet run.
    Created,
    /// Its program runs.
    Running,
    /// Its program ended.
    Exited,
}

/// Why a container ended, with the words of CRI and the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitReason {
    /// Exit code 0.
    Completed,
    /// Another exit code, or a signal.
    Error,
    /// It, or a process in it, was killed for want of memory.
    #[allow(clippy::upper_case_acronyms, reason = "the API's spelling")]
    OOMKilled,
    /// Its program could not be run: see the message.
    StartError,
    /// Its shim was gone: what became of it isn't known, and what was left of it was killed.
    ContainerStatusUnknown,
}

impl ExitReason {
    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Error => "Error",
            Self::OOMKilled => "OOMKilled",
            Self::StartError => "StartError",
            Self::ContainerStatusUnknown => "ContainerStatusUnknown",
        }
    }
}

/// A container as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Which.
    pub id: ContainerId,
    /// Its name in the pod.
    pub name: String,
    /// Its attempt.
    pub attempt: u32,
    /// Its image's name as given.
    pub image: String,
    /// Its image's id as given.
    pub image_id: String,
    /// How far it got.
    pub state: ContainerState,
    /// The host's number of its first process while it has one.
    pub pid: Option<i32>,
    /// When it was made.
    #[serde(with = "nanos")]
    pub created_at: Timestamp,
    /// When its program was run.
    #[serde(with = "optional_nanos")]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(with = "optional_nanos")]
    pub finished_at: Option<Timestamp>,
    /// 0 to 255, 128 and the signal's number if one killed it; only when `Exited`.
    pub exit_code: Option<i32>,
    /// Only when `Exited`.
    pub reason: Option<ExitReason>,
    /// What there is to say about the reason; may be empty.
    pub message: String,
    /// Where its log is.
    pub log_path: Option<PathBuf>,
    /// Its streams' kind: whether it has a terminal.
    pub tty: bool,
    /// As given.
    pub labels: BTreeMap<String, String>,
    /// As given.
    pub annotations: BTreeMap<String, String>,
}

/// How a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxState {
    /// Containers can be made in it.
    Ready,
    /// It was stopped, or its shim is gone; it can only be removed.
    NotReady,
}

/// A sandbox as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxStatus {
    /// As given.
    pub id: String,
    /// As given.
    pub pod_name: String,
    /// As given.
    pub pod_namespace: String,
    /// As given.
    pub pod_uid: String,
    /// How it is.
    pub state: SandboxState,
    /// When it was made.
    #[serde(with = "nanos")]
    pub created_at: Timestamp,
    /// The shim's process; its `/proc/<pid>/ns/{net,uts,ipc}` are the pod's.
    pub shim_pid: Option<i32>,
    /// As given.
    pub labels: BTreeMap<String, String>,
    /// As given.
    pub annotations: BTreeMap<String, String>,
    /// Its containers, in the order they were made.
    pub containers: Vec<ContainerStatus>,
}

/// Something that happened. Events repeat and coalesce: what counts is the status they carry, which is the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A container was made, started or ended.
    Container(Box<ContainerStatus>),
    /// A sandbox's shim is gone. Its containers' processes were killed.
    SandboxLost {
        /// Which sandbox.
        sandbox: String,
    },
}

/// The end of a command that was waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    /// 0 to 255.
    pub exit_code: i32,
    /// What it wrote, at most 16 MiB each.
    pub stdout: Vec<u8>,
    /// What it wrote.
    pub stderr: Vec<u8>,
}

/// What a cgroup has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// CPU time since it was made, in nanoseconds.
    pub cpu_usage: u64,
    /// Bytes charged.
    pub memory_usage: u64,
    /// Bytes charged that can't be given back at once: usage less inactive file pages.
    pub memory_working_set: u64,
    /// Bytes of anonymous memory.
    pub memory_rss: u64,
    /// Page faults, and those that waited for a disk.
    pub page_faults: u64,
    /// Page faults that waited for a disk.
    pub major_page_faults: u64,
    /// Tasks.
    pub pids: u64,
}

mod nanos {
    use gantry_object::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(t: &Timestamp, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_i64(t.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(d).map(Timestamp)
    }
}

mod optional_nanos {
    use gantry_object::Timestamp;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(t: &Option<Timestamp>, s: S) -> Result<S::Ok, S::Error> {
        t.map(|t| t.0).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(d)?.map(Timestamp))
    }
}
