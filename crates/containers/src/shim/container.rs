//! What a shim knows of a container and of a command added to one.

use std::os::fd::OwnedFd;
use std::time::Duration;

use super::log::{Log, Stream};
use crate::linux::cgroup::Cgroup;
use crate::state::ContainerDir;
use crate::{ContainerConfig, ContainerState, ContainerStatus};

/// How far a container's first process got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It builds its surroundings.
    Making,
    /// It waits for the word to go.
    Made,
    /// It has the word and may still fail.
    Starting,
    /// It is its program.
    Started,
}

/// A connection that waits for an answer.
pub(super) type Waiter = u64;

/// One container.
pub(super) struct Container {
    pub(super) config: ContainerConfig,
    pub(super) status: ContainerStatus,
    pub(super) directory: ContainerDir,
    pub(super) cgroup: Cgroup,
    /// Its first process, until it is reaped.
    pub(super) process: Option<crate::linux::spawn::Child>,
    /// To its first process until that runs its program, and how far it got.
    pub(super) channel: Option<(u64, OwnedFd)>,
    pub(super) phase: Phase,
    /// Who waits for it to be made, or to start.
    pub(super) starter: Option<Waiter>,
    /// What it writes: plain streams, or its terminal as the first.
    pub(super) outputs: Vec<Output>,
    /// The way to its input, or its terminal.
    pub(super) input: Option<OwnedFd>,
    pub(super) log: Log,
    /// When it is killed.
    pub(super) deadline: Option<Duration>,
    /// Who waits for its end.
    pub(super) stoppers: Vec<Waiter>,
    /// Who waits for its removal; tried again at each `retry`.
    pub(super) removers: Vec<Waiter>,
    pub(super) retry: Option<Duration>,
    /// When removal is given up.
    pub(super) give_up: Duration,
    /// Who is attached.
    pub(super) attached: Vec<Waiter>,
}

impl Container {
    pub(super) fn is_over(&self) -> bool {
        self.status.state == ContainerState::Exited
    }
}

/// A stream that is read, logged and shown.
pub(super) struct Output {
    pub(super) token: u64,
    pub(super) stream: Stream,
    pub(super) fd: OwnedFd,
}

/// Somebody's copy of a container's output.
pub(super) struct Sink {
    pub(super) container: String,
    pub(super) stream: Stream,
    pub(super) fd: OwnedFd,
    /// What could not be written yet.
    pub(super) pending: Vec<u8>,
    /// Whether nothing more will come.
    pub(super) ending: bool,
}

/// A command added to a container. It belongs to the connection that started it, while that is there.
pub(super) struct Command {
    pub(super) client: Waiter,
    pub(super) process: crate::linux::spawn::Child,
    /// To the process until it runs its program.
    pub(super) channel: Option<OwnedFd>,
    /// What it said it has for a terminal.
    pub(super) terminal: Option<OwnedFd>,
}
