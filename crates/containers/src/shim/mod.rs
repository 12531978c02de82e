//! The process that each sandbox is: it holds the pod's namespaces, starts containers, reaps them, writes their logs.
//!
//! It has a single thread and no runtime of its own, so that it may fork; see `docs/decisions/0005-containers-by-our-own-code.md`.

mod container;
mod launch;
mod log;
mod server;
mod setup;

use std::convert::Infallible;
use std::ffi::OsString;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::linux::{passing, spawn};
use crate::state::SandboxDir;
use crate::{Error, Result};

/// The shim's entry, for the binary's internal subcommand. `args` are what follows the subcommand: the sandbox's
/// directory. Returns once the shim serves from a child in the background, or with 1 after saying why not on stderr.
///
/// Call it before anything starts a thread.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let started = match args.into_iter().next() {
        Some(directory) => detach(SandboxDir(PathBuf::from(directory))).map_err(|e| gantry_object::chain(&e)),
        None => Err("no sandbox directory given".to_owned()),
    };
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            // Who can't be told can't be helped.
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::FAILURE
        }
    }
}

/// A pair of sockets that keep messages apart.
fn message_pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .map_err(Error::system("make a socket pair"))
}

/// Goes on in a child, which is nobody's once we return, and waits until it serves.
fn detach(directory: SandboxDir) -> Result<()> {
    let (ours, theirs) = message_pair()?;
    spawn::spawn(0, None, || serve(directory, &theirs)).map_err(Error::system("start the shim's child"))?;
    drop(theirs);
    let mut message = vec![0; 4096];
    let length = passing::receive(&ours, &mut message, &mut Vec::new()).map_err(Error::system("wait for the shim"))?;
    match message[..length].split_first() {
        Some((b'R', _)) => Ok(()),
        Some((_, text)) => Err(Error::Start(String::from_utf8_lossy(text).into_owned())),
        None => Err(Error::Start("the shim ended while it started".to_owned())),
    }
}

fn serve(directory: SandboxDir, channel: &OwnedFd) -> Infallible {
    let ready = || passing::send(channel, b"R", &[]).map(drop).map_err(Error::system("report"));
    let error = match setup::prepare(directory).and_then(|server| ready().map(|()| server)) {
        Ok(server) => server.run(),
        Err(error) => error,
    };
    let mut message = vec![b'E'];
    message.extend(gantry_object::chain(&error).bytes().take(4000));
    let _ = passing::send(channel, &message, &[]);
    spawn::exit(1)
}
