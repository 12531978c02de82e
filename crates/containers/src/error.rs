//! What can go wrong.

use std::io;
use std::path::PathBuf;

/// This room's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors name the act that failed. Only `NotFound`, `AlreadyExists`, `Invalid`, `Start` and `Timeout` are answers to
/// the caller's question; the rest are trouble with this machine.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such sandbox or container. For stop and remove the callers may take it for success.
    #[error("{kind} {id} not found")]
    NotFound {
        /// `sandbox` or `container`.
        kind: &'static str,
        /// Which.
        id: String,
    },
    /// A sandbox of that id, or a container of that name and attempt, exists.
    #[error("{kind} {id} exists already")]
    AlreadyExists {
        /// `sandbox` or `container`.
        kind: &'static str,
        /// Which.
        id: String,
    },
    /// What was asked makes no sense or can't be done in this state.
    #[error("{0}")]
    Invalid(String),
    /// The container or command could not be started; the text says what failed.
    #[error("{0}")]
    Start(String),
    /// A command took longer than allowed and was killed.
    #[error("command timed out after {0} s")]
    Timeout(u64),
    /// The shim of a sandbox does not answer.
    #[error("shim of sandbox {sandbox}: {act}")]
    Shim {
        /// Which sandbox.
        sandbox: String,
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The shim said something that isn't understood.
    #[error("shim of sandbox {sandbox} broke the protocol: {what}")]
    Protocol {
        /// Which sandbox.
        sandbox: String,
        /// What was wrong.
        what: String,
    },
    /// A file or directory.
    #[error("{act} {path}", path = path.display())]
    Path {
        /// What was tried.
        act: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A system call without a file.
    #[error("{act}")]
    System {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No cgroup hierarchy that can hold containers.
    #[error("no usable cgroup hierarchy is mounted: {0}")]
    NoCgroups(String),
}

impl Error {
    /// For `map_err` beside a file.
    pub(crate) fn path<E: Into<io::Error>>(act: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Path { act, path, source: source.into() }
    }

    /// For `map_err` without a file.
    pub(crate) fn system<E: Into<io::Error>>(act: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { act, source: source.into() }
    }
}
