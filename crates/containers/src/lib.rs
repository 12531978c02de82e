//! Sandboxes and containers on Linux behind a trait shaped like CRI.
//!
//! [`Runtime`] is what the node talks to; [`LocalRuntime`] is the real one. A pod's sandbox is one small **shim** process
//! ([`shim::main`]): it holds the pod's namespaces, starts its containers, reaps them, writes their logs and keeps their
//! terminals, and goes on doing so while agents come and go. See `docs/decisions/0005-containers-by-our-own-code.md` for why containers are
//! created by our own code.
//!
//! Invariants: a shim has one thread. Nothing outside the configured state directory and cgroup parent is written.
//! This room knows nothing of pods' specs, images or networks: it is handed directories, a network namespace and numbers.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod client;
mod config;
mod error;
mod events;
mod linux;
mod local;
pub mod shim;
mod state;
mod status;
mod streams;
mod wire;

pub use api::{BoxFuture, Events, ExecSession, Resize, Runtime};
pub use config::{
    ContainerConfig, ExecConfig, Mount, MountKind, NetworkNamespace, PidNamespace, Propagation, Resources, Rootfs, SandboxConfig, Seccomp,
    SecurityContext, StdioConfig,
};
pub use error::{Error, Result};
pub use local::{LocalConfig, LocalRuntime};
pub use status::{ContainerId, ContainerState, ContainerStatus, Event, ExecResult, ExitReason, SandboxState, SandboxStatus, Stats};
