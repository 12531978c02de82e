//! What can go wrong.

use std::io;
use std::path::PathBuf;

use crate::Digest;

/// This room's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors name the act that failed. `NotFound`, `Name`, `Refused`, `WrongDigest` and `Dockerfile` are about what was
/// given; the rest are trouble with this machine, the network or the registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no image of that name or id here.
    #[error("image {0} not found")]
    NotFound(String),
    /// Not the name of an image.
    #[error("invalid image name {name:?}: {why}")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An archive or image that is damaged or would do harm.
    #[error("{what}: {why}")]
    Refused {
        /// Which part of it.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// Content that isn't what it was said to be.
    #[error("{what} has digest {found}, not {expected}")]
    WrongDigest {
        /// Which part.
        what: String,
        /// As announced.
        expected: Digest,
        /// As computed.
        found: Digest,
    },
    /// A Dockerfile, by line.
    #[error("{file}:{line}: {instruction}: {why}")]
    Dockerfile {
        /// Which file.
        file: String,
        /// The first line of the instruction, from 1.
        line: usize,
        /// The instruction's name.
        instruction: String,
        /// What is wrong.
        why: String,
    },
    /// The registry said no.
    #[error("registry {registry}: {act}: {why}")]
    Registry {
        /// Its host and port.
        registry: String,
        /// What was asked.
        act: String,
        /// What it said.
        why: String,
    },
    /// The registry can't be talked to.
    #[error("registry {registry}: {act}")]
    Connection {
        /// Its host and port.
        registry: String,
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
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
    /// A build's step could not be run.
    #[error("{act}")]
    Container {
        /// What was tried.
        act: &'static str,
        /// Why it failed.
        #[source]
        source: gantry_containers::Error,
    },
}

impl Error {
    pub(crate) fn path<E: Into<io::Error>>(act: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::Path { act, path, source: source.into() }
    }

    pub(crate) fn refused(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Refused { what: what.into(), why: why.into() }
    }
}
