//! The trait the node is written against, shaped like CRI's runtime service but in process.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    ContainerConfig, ContainerId, ContainerStatus, Event, ExecConfig, ExecResult, Resources, Result, SandboxConfig, SandboxStatus, Stats,
};

/// A boxed future, so that the traits can be used as `dyn`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs sandboxes and the containers in them.
///
/// Methods may be called from any number of tasks. A future that is dropped leaves its request to be carried out or
/// not; ask for the status. Stop and remove are idempotent: what is gone already is no error.
pub trait Runtime: Send + Sync + 'static {
    /// Starts a sandbox. Fails with `AlreadyExists` if there is one of that id; what a failed start made is removed.
    fn run_sandbox<'a>(&'a self, config: &'a SandboxConfig) -> BoxFuture<'a, Result<SandboxStatus>>;

    /// Kills all of a sandbox's containers at once and lets its namespaces go. Logs and statuses stay.
    fn stop_sandbox<'a>(&'a self, sandbox: &'a str) -> BoxFuture<'a, Result<()>>;

    /// Stops it if need be and removes every trace besides logs.
    fn remove_sandbox<'a>(&'a self, sandbox: &'a str) -> BoxFuture<'a, Result<()>>;

    /// All sandboxes with their containers.
    fn list<'a>(&'a self) -> BoxFuture<'a, Result<Vec<SandboxStatus>>>;

    /// One sandbox with its containers.
    fn sandbox_status<'a>(&'a self, sandbox: &'a str) -> BoxFuture<'a, Result<SandboxStatus>>;

    /// Makes a container up to, but not including, its program's first instruction.
    fn create_container<'a>(&'a self, sandbox: &'a str, config: &'a ContainerConfig) -> BoxFuture<'a, Result<ContainerId>>;

    /// Runs its program. `Error::Start` if that can't be run; the container is then `Exited` with `StartError`.
    fn start_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>>;

    /// Sends its stop signal, and SIGKILL to all in it after `grace`; answers once it ended. A second call with less
    /// grace shortens the first's.
    fn stop_container<'a>(&'a self, id: &'a ContainerId, grace: Duration) -> BoxFuture<'a, Result<()>>;

    /// Kills it if it runs and removes its traces besides its log.
    fn remove_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>>;

    /// Removes a container that was made and never told to start; refuses one that was. For what a predecessor left, whose word to start
    /// may still be on its way.
    fn discard_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        self.remove_container(id)
    }

    /// One container.
    fn container_status<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ContainerStatus>>;

    /// Changes limits of a container while it runs; fields that are `None` stay.
    fn update_resources<'a>(&'a self, id: &'a ContainerId, resources: &'a Resources) -> BoxFuture<'a, Result<()>>;

    /// What it has used.
    fn container_stats<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<Stats>>;

    /// What the whole pod has used.
    fn sandbox_stats<'a>(&'a self, sandbox: &'a str) -> BoxFuture<'a, Result<Stats>>;

    /// Opens its log anew after the caller renamed it.
    fn reopen_log<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>>;

    /// Runs a command in it and hands back its streams. A session that is dropped closes them; the command itself
    /// goes on until that bothers it.
    fn exec<'a>(&'a self, id: &'a ContainerId, config: &'a ExecConfig) -> BoxFuture<'a, Result<ExecSession>>;

    /// Runs a command in it to its end. `Error::Timeout` if that takes longer than `timeout`; it is then killed.
    fn exec_sync<'a>(&'a self, id: &'a ContainerId, args: &'a [String], timeout: Option<Duration>) -> BoxFuture<'a, Result<ExecResult>>;

    /// Joins the streams of a running container; what it wrote before isn't shown.
    fn attach<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ExecSession>>;

    /// A stream of state changes of everything there is, now and later. May be called several times.
    fn events(&self) -> Result<Box<dyn Events>>;
}

/// State changes as they happen.
pub trait Events: Send {
    /// The next one. Cancelling loses nothing.
    fn next<'a>(&'a mut self) -> BoxFuture<'a, Result<Event>>;
}

/// The near ends of a process's streams.
pub struct ExecSession {
    /// To its input; dropping it ends the input. `None` if it has none.
    pub stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// From its output, or from its terminal.
    pub stdout: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// From its errors; `None` with a terminal.
    pub stderr: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its terminal, if it has one.
    pub terminal: Option<Box<dyn Resize>>,
    /// Its exit code once it ended. Output may still be on the way: read to the end of the streams too.
    pub exit: BoxFuture<'static, Result<i32>>,
}

/// A terminal whose size can be set.
pub trait Resize: Send + Sync {
    /// Columns and rows.
    fn resize(&self, width: u16, height: u16) -> io::Result<()>;
}
