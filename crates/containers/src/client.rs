//! Talking to one shim: a connection, its requests and their answers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::linux::passing;
use crate::wire::{self, Inbox, Reply, Request};
use crate::{Error, Result};

/// The address of `shim.sock` in an open directory, which is short however long the directory's path is.
pub(crate) fn socket_address(directory: &OwnedFd) -> Result<SocketAddrUnix> {
    let path = format!("/proc/self/fd/{}/shim.sock", directory.as_raw_fd());
    SocketAddrUnix::new(path).map_err(Error::system("name the shim's socket"))
}

/// Connects to the shim of the sandbox in this directory. `NotFound` and `ConnectionRefused` mean that there is none.
pub(crate) fn connect(directory: &Path) -> io::Result<OwnedFd> {
    let at = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let address = socket_address(&at).map_err(io::Error::other)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}

/// Whether a failed connection means that no shim listens.
pub(crate) fn is_dead(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Answers that have come, for one who reads without waiting.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    inbox: Inbox,
    ready: VecDeque<(Reply, Vec<OwnedFd>)>,
}

impl Answers {
    /// Reads once from a non-blocking socket. `Ok(false)` is the end.
    pub(crate) fn read(&mut self, socket: impl AsFd) -> io::Result<bool> {
        let mut buffer = [0; 16 * 1024];
        let n = passing::receive(socket, &mut buffer, &mut self.inbox.descriptors)?;
        self.inbox.bytes.extend_from_slice(&buffer[..n]);
        while let Some((envelope, fds)) = self.inbox.next::<Reply>().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))? {
            self.ready.push_back((envelope.body, fds));
        }
        Ok(n > 0)
    }

    pub(crate) fn take(&mut self) -> Option<(Reply, Vec<OwnedFd>)> {
        self.ready.pop_front()
    }
}

/// A connection to a shim.
pub(crate) struct Connection {
    sandbox: String,
    stream: UnixStream,
    answers: Answers,
}

impl Connection {
    /// Connects; `None` if no shim listens. Needs a tokio runtime around it.
    pub(crate) fn open(sandbox: &str, directory: &Path) -> Result<Option<Self>> {
        let shim = |act| move |source| Error::Shim { sandbox: sandbox.to_owned(), act, source };
        match connect(directory) {
            Ok(socket) => {
                let stream = UnixStream::from_std(StdUnixStream::from(socket)).map_err(shim("watch the socket"))?;
                Ok(Some(Self { sandbox: sandbox.to_owned(), stream, answers: Answers::default() }))
            }
            Err(e) if is_dead(&e) => Ok(None),
            Err(e) => Err(shim("connect")(e)),
        }
    }

    fn error(&self, act: &'static str, source: io::Error) -> Error {
        Error::Shim { sandbox: self.sandbox.clone(), act, source }
    }

    /// Asks, handing over descriptors.
    pub(crate) async fn send(&mut self, request: &Request, fds: Vec<OwnedFd>) -> Result<()> {
        let frame = wire::encode(request, fds.len());
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut sent = 0;
        while sent < frame.len() {
            let with = if sent == 0 { borrowed.as_slice() } else { &[] };
            let act = || passing::send(&self.stream, &frame[sent..], with).map_err(io::Error::from);
            sent += self.stream.async_io(Interest::WRITABLE, act).await.map_err(|e| self.error("send", e))?;
        }
        Ok(())
    }

    /// The next answer. A failure told by the shim comes as that error.
    pub(crate) async fn receive(&mut self) -> Result<(Reply, Vec<OwnedFd>)> {
        loop {
            if let Some((reply, fds)) = self.answers.take() {
                return match reply {
                    Reply::Failed(failure) => Err(failure.into_error()),
                    reply => Ok((reply, fds)),
                };
            }
            let (stream, answers) = (&self.stream, &mut self.answers);
            let more = stream.async_io(Interest::READABLE, || answers.read(stream)).await;
            match more {
                Ok(true) => {}
                Ok(false) => return Err(self.error("answer", io::ErrorKind::UnexpectedEof.into())),
                Err(e) => return Err(self.error("answer", e)),
            }
        }
    }

    /// Asks and takes the answer.
    pub(crate) async fn call(&mut self, request: &Request, fds: Vec<OwnedFd>) -> Result<(Reply, Vec<OwnedFd>)> {
        self.send(request, fds).await?;
        self.receive().await
    }

    /// Asks for something that is answered by `Done`.
    pub(crate) async fn act(&mut self, request: &Request) -> Result<()> {
        match self.call(request, vec![]).await? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(self.unexpected(&other)),
        }
    }

    /// Waits for a command's or container's end.
    pub(crate) async fn exit_code(mut self) -> Result<i32> {
        match self.receive().await? {
            (Reply::Exited(code), _) => Ok(code),
            (other, _) => Err(self.unexpected(&other)),
        }
    }

    pub(crate) fn unexpected(&self, reply: &Reply) -> Error {
        Error::Protocol { sandbox: self.sandbox.clone(), what: format!("unexpected answer {reply:?}") }
    }
}
