//! What a caller asks for: plain data, kept on disk by the shim and sent over its socket.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which network a sandbox lives in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkNamespace {
    /// The host's own (really: the one the agent runs in). The UTS namespace is then the host's too.
    #[default]
    Host,
    /// A namespace pinned at this path by the network room.
    Path(PathBuf),
    /// A new, empty one that lives as long as the sandbox: loopback only, and down.
    New,
}

/// Which processes the containers of a sandbox see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidNamespace {
    /// Each container has its own.
    #[default]
    Container,
    /// One for all containers of the pod (`shareProcessNamespace`), with an init that reaps.
    Pod,
    /// The host's (`hostPID`).
    Host,
}

/// Limits of a cgroup. `None` leaves the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Relative weight as cgroup v1 counts it: 2 to 262144, 1024 for one CPU requested.
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time per period; 0 or negative means no limit.
    pub cpu_quota: Option<i64>,
    /// Length of a period in microseconds; 100 000 if not given.
    pub cpu_period: Option<u64>,
    /// Bytes of memory; 0 or negative means no limit. Swap is never added to it.
    pub memory_limit: Option<i64>,
    /// Number of tasks.
    pub pids_limit: Option<i64>,
    /// CPUs that may be used, such as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used.
    pub cpuset_mems: Option<String>,
}

/// A pod's shared surroundings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SandboxConfig {
    /// The sandbox's name for this runtime: the pod's uid, or any other string of letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// The pod's name.
    pub pod_name: String,
    /// The pod's namespace.
    pub pod_namespace: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The hostname containers see; ignored with the host's network.
    pub hostname: String,
    /// The network.
    pub network: NetworkNamespace,
    /// Who sees whose processes.
    pub pid: PidNamespace,
    /// Whether System V IPC and POSIX queues are the host's.
    pub host_ipc: bool,
    /// Kernel parameters of the pod's network and IPC namespaces, by dotted name.
    pub sysctls: BTreeMap<String, String>,
    /// The pod's cgroup below the hierarchy's root, such as `/gantry-1a2b/burstable/pod<uid>`.
    /// It must lie under the runtime's own parent.
    pub cgroup_parent: String,
    /// The pod's limits.
    pub resources: Resources,
    /// Bytes for the pod's `/dev/shm`; 64 MiB if not given.
    pub shm_size: Option<u64>,
    /// The directory that containers' relative log paths start from.
    pub log_directory: PathBuf,
    /// Handed back in [`crate::SandboxStatus`]; means nothing here.
    pub labels: BTreeMap<String, String>,
    /// Handed back in [`crate::SandboxStatus`]; means nothing here.
    pub annotations: BTreeMap<String, String>,
}

/// Where a container's root comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// Layers shared with others, and a private one for changes.
    Overlay {
        /// Read-only directories, the **topmost first**.
        lower: Vec<PathBuf>,
        /// Where changes go and the work directory beside it, both on one file system; `None`: in the runtime's own
        /// directory, removed with the container.
        upper: Option<(PathBuf, PathBuf)>,
    },
    /// A directory used as it is.
    Directory(PathBuf),
}

impl Default for Rootfs {
    fn default() -> Self {
        Self::Directory(PathBuf::new())
    }
}

/// How mounts made on one side show up on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all (`None`).
    #[default]
    Private,
    /// From the host into the container (`HostToContainer`).
    Slave,
    /// Both ways (`Bidirectional`).
    Shared,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A file or directory of the host. It must exist.
    Bind {
        /// Where it is on the host.
        source: PathBuf,
        /// Whether mounts below the source come along, and are made read-only with it.
        recursive: bool,
    },
    /// A new memory-backed directory.
    Tmpfs {
        /// Bytes at most; `None` is the kernel's default.
        size: Option<u64>,
        /// Permissions of its root, such as 0o1777.
        mode: u32,
    },
}

/// Something mounted into a container besides its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// An absolute path in the container; made if missing, never followed outside the root.
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
    /// Whether it can't be written.
    pub read_only: bool,
    /// How it propagates.
    pub propagation: Propagation,
}

/// Which system calls are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// Our default profile, which depends on the capabilities held.
    #[default]
    RuntimeDefault,
    /// None are.
    Unconfined,
    /// A profile in the OCI (Docker) JSON form.
    Localhost(String),
}

/// Who a process is and what it may do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecurityContext {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Other groups, the pod's fsGroup among them.
    pub supplemental_groups: Vec<u32>,
    /// All capabilities the agent has, all devices, nothing masked, no seccomp.
    pub privileged: bool,
    /// Capabilities besides the default set, with or without `CAP_`; `ALL` for all.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken from the default set; `ALL` for all. Additions win over `ALL`.
    pub drop_capabilities: Vec<String>,
    /// Whether `execve` can't add privileges.
    pub no_new_privs: bool,
    /// System calls.
    pub seccomp: Seccomp,
    /// Whether the container's root can't be written.
    pub read_only_rootfs: bool,
    /// `None`: the default list. An empty list masks nothing (`procMount: Unmasked`).
    pub masked_paths: Option<Vec<String>>,
    /// `None`: the default list.
    pub read_only_paths: Option<Vec<String>>,
}

/// Which streams a process gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StdioConfig {
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether its input is open; `/dev/null` otherwise.
    pub stdin: bool,
    /// Whether its input ends when the first who attached to it goes.
    pub stdin_once: bool,
}

/// A container of a sandbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The container's name in its pod.
    pub name: String,
    /// Which attempt this is, from 0. A sandbox never has two containers of one name and attempt.
    pub attempt: u32,
    /// The name of its image, handed back in its status.
    pub image: String,
    /// The id of its image, handed back in its status.
    pub image_id: String,
    /// Its root.
    pub rootfs: Rootfs,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// Where it starts; made if missing. `/` if empty.
    pub cwd: String,
    /// Who it is.
    pub security: SecurityContext,
    /// What is mounted besides `/proc`, `/sys`, `/dev` and what lies in them; in this order.
    pub mounts: Vec<Mount>,
    /// Its limits.
    pub resources: Resources,
    /// -1000 (never killed for memory) to 1000; a lower one than ours is tried and not insisted on.
    pub oom_score_adj: Option<i32>,
    /// Its streams.
    pub stdio: StdioConfig,
    /// The log, below the sandbox's log directory or absolute; `None` for none.
    pub log_path: Option<PathBuf>,
    /// The signal that asks it to stop, such as `SIGQUIT` or `3`; SIGTERM if empty.
    pub stop_signal: String,
    /// Handed back in its status; means nothing here.
    pub labels: BTreeMap<String, String>,
    /// Handed back in its status; means nothing here.
    pub annotations: BTreeMap<String, String>,
}

/// A process added to a running container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ExecConfig {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// Added to the container's environment.
    pub env: Vec<String>,
    /// Whether it has a terminal; then there is no stderr apart from stdout.
    pub tty: bool,
    /// Whether its input is open.
    pub stdin: bool,
}
