//! What agents and shims say to each other: frames of a four-byte big-endian length and JSON, descriptors beside them.
//!
//! An agent may be newer than a shim it finds, so the words below change only by addition, and each side passes over
//! fields it doesn't know. A shim refuses a version it can't serve.

use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{ContainerConfig, ContainerId, Error, Event, ExecConfig, SandboxStatus};

/// The version spoken here.
pub(crate) const VERSION: u32 = 1;
/// Longest frame that is taken.
const LONGEST: usize = 8 << 20;

/// What goes over the socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Envelope<T> {
    /// The sender's version.
    pub(crate) v: u32,
    /// How many of the descriptors that have come belong to this.
    #[serde(default)]
    pub(crate) fds: usize,
    pub(crate) body: T,
}

/// What an agent asks. Containers are named by their part of the id.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Answered by `Status`.
    Status,
    /// Answered by `Created` or `Failed`.
    Create(Box<ContainerConfig>),
    /// Answered by `Done` or `Failed` once the program runs.
    Start { container: String },
    /// Answered by `Done` once the container has ended.
    Stop { container: String, grace_ms: u64 },
    /// Answered by `Done` once nothing is left. With `unstarted`, one that was told to start is left alone, and `Failed` says so.
    Remove {
        container: String,
        #[serde(default)]
        unstarted: bool,
    },
    /// With the far ends of stdin (if it has one), stdout and stderr, unless with a terminal. Answered by `Started`,
    /// with the terminal if there is one, then `Exited`.
    Exec { container: String, config: ExecConfig },
    /// To the command that this connection started, and its group.
    Signal(i32),
    /// With where stdout and stderr (without a terminal) go. Answered by `Started` with the way to stdin if it is open,
    /// or with the terminal; then `Exited`.
    Attach { container: String },
    /// Answered by `Done`.
    ReopenLog { container: String },
    /// Answered by an `Event` for each container, and for each change.
    Subscribe,
    /// Ends all containers, answers `Done` and ends the shim.
    Shutdown,
}

/// What a shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Status(Box<SandboxStatus>),
    Created(ContainerId),
    Started,
    Exited(i32),
    Event(Event),
    Failed(Failure),
}

/// An error that keeps its kind on the way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Failure {
    NotFound(String),
    AlreadyExists(String),
    Invalid(String),
    Start(String),
    Other(String),
}

impl Failure {
    pub(crate) fn from(error: &Error) -> Self {
        match error {
            Error::NotFound { id, .. } => Self::NotFound(id.clone()),
            Error::AlreadyExists { id, .. } => Self::AlreadyExists(id.clone()),
            Error::Invalid(text) => Self::Invalid(text.clone()),
            Error::Start(text) => Self::Start(text.clone()),
            other => Self::Other(gantry_object::chain(&other)),
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::NotFound(id) => Error::NotFound { kind: "container", id },
            Self::AlreadyExists(id) => Error::AlreadyExists { kind: "container", id },
            Self::Invalid(text) => Error::Invalid(text),
            Self::Start(text) | Self::Other(text) => Error::Start(text),
        }
    }
}

/// One frame.
pub(crate) fn encode<T: Serialize>(body: T, fds: usize) -> Vec<u8> {
    let mut frame = vec![0; 4];
    let envelope = Envelope { v: VERSION, fds, body };
    serde_json::to_writer(&mut frame, &envelope).expect("these types have string keys and write to memory");
    let length = (frame.len() - 4) as u32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A frame and its descriptors.
pub(crate) type Message<T> = (Envelope<T>, Vec<OwnedFd>);

/// Bytes and descriptors that have come and not yet been understood.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) bytes: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Inbox {
    /// Takes the next whole frame with its descriptors; `None` until there is one.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Message<T>>, String> {
        let Some(head) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*head) as usize;
        if length > LONGEST {
            return Err(format!("a frame of {length} bytes"));
        }
        let Some(text) = self.bytes.get(4..4 + length) else { return Ok(None) };
        let envelope: Envelope<T> = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        if envelope.fds > self.descriptors.len() {
            return Err(format!("{} descriptors announced and {} sent", envelope.fds, self.descriptors.len()));
        }
        let descriptors = self.descriptors.drain(..envelope.fds).collect();
        self.bytes.drain(..4 + length);
        Ok(Some((envelope, descriptors)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let mut inbox = Inbox::default();
        let frame = encode(Request::Stop { container: "a-0".into(), grace_ms: 5 }, 0);
        for byte in &frame[..frame.len() - 1] {
            inbox.bytes.push(*byte);
            assert!(inbox.next::<Request>().unwrap().is_none());
        }
        inbox.bytes.push(frame[frame.len() - 1]);
        inbox.bytes.extend(encode(Request::Subscribe, 0));
        assert!(matches!(inbox.next::<Request>().unwrap().unwrap().0.body, Request::Stop { grace_ms: 5, .. }));
        assert!(matches!(inbox.next::<Request>().unwrap().unwrap().0.body, Request::Subscribe));
        assert!(inbox.bytes.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        let check = |bytes: &[u8]| Inbox { bytes: bytes.to_vec(), descriptors: vec![] }.next::<Request>().unwrap_err();
        assert!(check(&[0xff, 0xff, 0xff, 0xff]).contains("bytes"));
        assert!(!check(&[0, 0, 0, 2, b'{', b'}']).is_empty());
        assert!(check(&encode(Request::Subscribe, 1)).contains("descriptors"));
    }
}
