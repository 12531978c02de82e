use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong between the network's plans and the kernel.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a netlink request (no root, no such feature, a clash with somebody else's configuration).
    #[error("cannot {act}")]
    Kernel {
        /// What was being done, with the names concerned.
        act: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file, directory or mount of the network's state could not be handled.
    #[error("cannot {act} {path}")]
    File {
        /// What was being done.
        act: &'static str,
        /// To which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Every address of this node's pod range is in use: pods must leave before others can come.
    #[error("no free address is left in the pod range {0}")]
    Exhausted(crate::Range),
    /// A name from which files and interfaces would be derived holds characters that cannot be in one.
    #[error("{what} {name:?} must be 1 to {limit} characters of a-z, A-Z, 0-9, '-', '_' and '.'")]
    Name {
        /// What the name names.
        what: &'static str,
        /// The name given.
        name: String,
        /// The longest it may be, in bytes.
        limit: usize,
    },
    /// Text that is not an IPv4 range such as `10.244.0.0/24`.
    #[error("{0:?} is not an IPv4 range such as 10.244.0.0/24")]
    Range(String),
    /// A range has too few addresses for what it is to hold.
    #[error("range {range} is too small for {purpose}")]
    Small {
        /// The range given.
        range: crate::Range,
        /// What it was to hold.
        purpose: &'static str,
    },
}

impl Error {
    pub(crate) fn kernel(act: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let act = act.into();
        move |source| Self::Kernel { act, source }
    }

    pub(crate) fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { act, path, source }
    }
}

/// Checks a name that becomes part of file and interface names.
pub(crate) fn check_name(what: &'static str, name: &str, limit: usize) -> Result<(), Error> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if name.is_empty() || name.len() > limit || !plain || name.starts_with('.') {
        return Err(Error::Name { what, name: name.to_owned(), limit });
    }
    Ok(())
}
