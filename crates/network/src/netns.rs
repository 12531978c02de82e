//! Network namespaces that outlive us: each held by a bind mount of its handle, as `ip netns` holds its own.
//!
//! A namespace is made or entered on a thread of its own that ends right after: no other thread of the process ever changes place.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

use crate::Error;

/// Where a thread finds its own network namespace.
const OWN: &str = "/proc/thread-self/ns/net";
/// What `statfs` calls the file system of namespace handles (`NSFS_MAGIC` in linux/magic.h).
const NSFS: u64 = 0x6e73_6673;

/// Whether a file holds a namespace. After a reboot it is an empty file instead.
pub(crate) fn is_pinned(pin: &Path) -> bool {
    rustix::fs::statfs(pin).is_ok_and(|found| found.f_type as u64 == NSFS)
}

/// Makes a network namespace, pins it at a path, and runs `inside` in it.
pub(crate) fn create<T: Send>(pin: &Path, inside: impl FnOnce() -> T + Send) -> Result<T, Error> {
    File::create(pin).map_err(Error::file("create", pin))?;
    on_thread(|| {
        // SAFETY: only the network namespace is unshared; no file descriptor table or other memory-safety relevant state changes.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        mount_bind(OWN, pin)?;
        Ok(inside())
    })
    .map_err(Error::file("make a network namespace at", pin))
}

/// Pins the namespace that a process is in, given by its handle in `/proc`.
pub(crate) fn pin(handle: &Path, pin: &Path) -> Result<(), Error> {
    File::create(pin).map_err(Error::file("create", pin))?;
    mount_bind(handle, pin).map_err(io::Error::from).map_err(Error::file("pin a network namespace at", pin))
}

/// Runs something inside a pinned namespace.
pub(crate) fn within<T: Send>(pin: &Path, inside: impl FnOnce() -> T + Send) -> Result<T, Error> {
    let namespace = File::open(pin).map_err(Error::file("open", pin))?;
    on_thread(|| {
        move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(LinkNameSpaceType::Network))?;
        Ok(inside())
    })
    .map_err(Error::file("enter the network namespace", pin))
}

/// Lets go of a namespace: it ends once no process is in it. Does nothing when the path is gone.
pub(crate) fn unpin(pin: &Path) -> Result<(), Error> {
    while is_pinned(pin) {
        unmount(pin, UnmountFlags::DETACH).map_err(io::Error::from).map_err(Error::file("unmount", pin))?;
    }
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", pin)(error)),
        _ => Ok(()),
    }
}

fn on_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
