//! New processes by clone3(2).
//!
//! Only for a process with a single thread: the child goes on in a copy of the caller's memory, locks and all.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// A mount namespace of its own.
pub(crate) const NEW_MOUNTS: u64 = 0x0002_0000;
/// A process namespace of its own, of which the child is the init.
pub(crate) const NEW_PROCESSES: u64 = 0x2000_0000;

/// `struct clone_args` of linux/sched.h.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child as its parent sees it.
#[derive(Debug)]
pub(crate) struct Child {
    /// Its number here.
    pub(crate) pid: i32,
    /// Stays its, even when the number is used again.
    pub(crate) pidfd: OwnedFd,
}

/// Starts a child that runs `body`, which never returns. With `cgroup` (version 2) it is born there.
pub(crate) fn spawn(flags: u64, cgroup: Option<BorrowedFd<'_>>, body: impl FnOnce() -> std::convert::Infallible) -> io::Result<Child> {
    let mut pidfd: i32 = -1;
    let args = CloneArgs {
        flags: flags | CLONE_PIDFD | if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 },
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
        ..CloneArgs::default()
    };
    // SAFETY: `args` is a whole clone_args of its size and lives through the call. No stack is given and no memory
    // shared, so both go on as after fork; the caller has a single thread, so no lock is left held in the child.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        #[allow(unreachable_code, reason = "the empty match gives the arm its type")]
        0 => match body() {},
        pid => {
            // SAFETY: the kernel stored a new descriptor there, which is ours alone.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: pid as i32, pidfd })
        }
    }
}

/// Ends the calling process at once, without running anything of a copied parent's.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` takes any number and touches no memory.
    unsafe { libc::_exit(code) }
}
