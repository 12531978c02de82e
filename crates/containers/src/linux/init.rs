//! The first steps of a container's process and of a command added to one, up to its program.
//!
//! These run in a child of the shim. They end in the program or in a report over the channel, never in a return.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::Signal;
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};

use super::capabilities::{self, Bits};
use super::cgroup::Cgroup;
use super::rootfs::{self, Plan};
use super::{mounts, passing, seccomp, spawn};
use crate::{Error, Result, Seccomp, SecurityContext};

/// What the child says once all is ready, with the terminal if there is one.
pub(crate) const READY: u8 = b'R';
/// What the child says before a text when something failed.
pub(crate) const FAILED: u8 = b'E';
/// What the parent says to let the program run.
pub(crate) const GO: u8 = b'G';

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The streams a process is given.
pub(crate) enum Streams {
    /// Input, output and errors.
    Plain([OwnedFd; 3]),
    /// A terminal of the container's own, made on the way.
    Terminal,
}

/// What is to be run, and as whom.
pub(crate) struct Program<'a> {
    pub(crate) args: &'a [String],
    pub(crate) env: &'a [String],
    pub(crate) cwd: &'a str,
    pub(crate) hostname: &'a str,
    pub(crate) security: &'a SecurityContext,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) streams: Streams,
}

/// A container's first process.
pub(crate) fn container(plan: &Plan<'_>, program: Program<'_>, channel: &OwnedFd) -> Infallible {
    finish(channel, || {
        begin(plan.cgroup, program.oom_score_adj)?;
        // SAFETY: only the cgroup namespace changes, which no descriptor or memory of ours depends on.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) }.map_err(Error::system("unshare cgroups"))?;
        rootfs::enter(plan)?;
        run(program, channel, true)
    })
}

/// A command added to a container whose first process this is.
pub(crate) fn command(cgroup: &Cgroup, first: BorrowedFd<'_>, program: Program<'_>, channel: &OwnedFd) -> Infallible {
    finish(channel, || {
        begin(cgroup, program.oom_score_adj)?;
        rustix::thread::move_into_thread_name_spaces(first, ThreadNameSpaceType::MOUNT | ThreadNameSpaceType::CONTROL_GROUP)
            .map_err(Error::system("enter the container's namespaces"))?;
        run(program, channel, false)
    })
}

/// The init of a pod whose containers share one process namespace: it sees nothing, may do nothing, and reaps.
pub(crate) fn reaper(directory: &Path, channel: &OwnedFd) -> Infallible {
    finish(channel, || {
        rustix::mount::mount_change("/", rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC)
            .map_err(Error::path("unshare mounts at", "/"))?;
        let empty =
            mounts::new("tmpfs", &[("size", "0k"), ("nr_inodes", "1")], mounts::RDONLY).map_err(Error::system("make an empty root"))?;
        let at = rustix::fs::open(directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(Error::path("open", directory))?;
        mounts::place(empty.as_fd(), at.as_fd()).map_err(Error::path("mount at", directory))?;
        rustix::process::fchdir(&empty).map_err(Error::system("enter the empty root"))?;
        rootfs::pivot()?;
        let _ = rustix::thread::set_name(c"pod-init");
        capabilities::limit_bounding(0).map_err(Error::system("drop capabilities"))?;
        capabilities::set(0).map_err(Error::system("drop capabilities"))?;
        reset_signals()?;
        die_with_parent()?;
        passing::send(channel, &[READY], &[]).map_err(Error::system("report"))?;
        // SAFETY: with SIGCHLD ignored the kernel reaps. This closes descriptors that only this copy of the process
        // has, and nothing after uses one.
        unsafe {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            libc::close_range(0, u32::MAX, 0);
        }
        loop {
            // SAFETY: `pause` takes nothing and only waits. Nothing but SIGKILL from outside ends an init without handlers.
            unsafe { libc::pause() };
        }
    })
}

/// Runs the steps; says what failed and ends.
fn finish(channel: &OwnedFd, steps: impl FnOnce() -> Result<Infallible>) -> Infallible {
    let error = match steps() {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let mut message = vec![FAILED];
    message.extend(gantry_object::chain(&error).bytes().take(4000));
    // If the parent is gone there is nobody to tell.
    let _ = passing::send(channel, &message, &[]);
    spawn::exit(127)
}

fn begin(cgroup: &Cgroup, oom_score_adj: Option<i32>) -> Result<()> {
    const JOIN_SESSION_KEYRING: i64 = 1;
    // SAFETY: a number and a null name. The agent's keys are not for those inside; a kernel without keys has none.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    if cgroup.birthplace()?.is_none() {
        cgroup.join()?;
    }
    if let Some(score) = oom_score_adj {
        // To lower it takes CAP_SYS_RESOURCE, which a host may lack; then it stays at ours.
        let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
    }
    Ok(())
}

fn run(program: Program<'_>, channel: &OwnedFd, wait: bool) -> Result<Infallible> {
    let security = program.security;
    let argv = c_strings(program.args)?;
    let env = c_strings(&environment(&program)?)?;
    rustix::process::setsid().map_err(Error::system("start a session"))?;
    let terminal = match program.streams {
        Streams::Plain(streams) => plain_streams(streams, security.uid)?,
        Streams::Terminal => Some(open_terminal(security)?),
    };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    change_directory(program.cwd, wait)?;
    let wanted = capabilities::wanted(security).map_err(Error::Invalid)? & capabilities::bounding();
    let filter = filter(security, wanted)?;
    passing::send(channel, &[READY], &terminal.iter().map(AsFd::as_fd).collect::<Vec<_>>()).map_err(Error::system("report"))?;
    drop(terminal);
    let mut byte = [0];
    if passing::receive(channel, &mut byte, &mut Vec::new()).map_err(Error::system("wait for the start"))? == 0 || byte[0] != GO {
        spawn::exit(0);
    }
    reset_signals()?;
    drop_privileges(security, wanted, filter.as_deref())?;
    die_with_parent()?;
    // SAFETY: only marks descriptors; 0 to 2 are the program's streams.
    unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    Err(execute(&argv, &env))
}

fn c_strings(list: &[String]) -> Result<Vec<CString>> {
    list.iter().map(|s| CString::new(s.as_str()).map_err(|_| Error::Invalid(format!("{s:?} holds a zero byte")))).collect()
}

/// What was given, and what every process expects to find.
fn environment(program: &Program<'_>) -> Result<Vec<String>> {
    let mut env: Vec<String> = Vec::new();
    for entry in program.env {
        let name = entry.split_once('=').map_or(entry.as_str(), |(n, _)| n);
        // The later of two counts.
        env.retain(|e| e.split_once('=').map_or(e.as_str(), |(n, _)| n) != name);
        env.push(entry.clone());
    }
    let has = |env: &[String], name: &str| env.iter().any(|e| e.split_once('=').is_some_and(|(n, _)| n == name));
    if !has(&env, "PATH") {
        env.push(format!("PATH={DEFAULT_PATH}"));
    }
    if !has(&env, "HOSTNAME") && !program.hostname.is_empty() {
        env.push(format!("HOSTNAME={}", program.hostname));
    }
    if !has(&env, "TERM") && matches!(program.streams, Streams::Terminal) {
        env.push("TERM=xterm".to_owned());
    }
    if !has(&env, "HOME") {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = program.security.uid.to_string();
        let home = passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f.get(2) == Some(&uid.as_str()));
        env.push(format!("HOME={}", home.and_then(|f| f.get(5).copied()).filter(|h| !h.is_empty()).unwrap_or("/")));
    }
    Ok(env)
}

/// Puts the streams in place and gives them to the user, so that `/dev/stdout` can be opened again.
fn plain_streams(streams: [OwnedFd; 3], uid: u32) -> Result<Option<OwnedFd>> {
    for fd in &streams {
        let shared = rustix::fs::fstat(fd).map(|s| rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::CharacterDevice);
        if uid != 0 && shared == Ok(false) {
            // A pipe that somebody else made may refuse; it can still be used.
            let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None);
        }
    }
    install(&streams)?;
    Ok(None)
}

fn install(streams: &[OwnedFd; 3]) -> Result<()> {
    // Copies above 2 first: a stream may itself lie at 0, 1 or 2.
    let copies = streams
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3))
        .collect::<Result<Vec<_>, Errno>>()
        .map_err(Error::system("duplicate a stream"))?;
    rustix::stdio::dup2_stdin(&copies[0]).map_err(Error::system("set stdin"))?;
    rustix::stdio::dup2_stdout(&copies[1]).map_err(Error::system("set stdout"))?;
    rustix::stdio::dup2_stderr(&copies[2]).map_err(Error::system("set stderr"))
}

/// Makes a terminal in the container's own `/dev/pts` and takes it as the controlling one. Returns its master.
fn open_terminal(security: &SecurityContext) -> Result<OwnedFd> {
    let read_write = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", read_write, Mode::empty()).map_err(Error::path("open", "/dev/pts/ptmx"))?;
    rustix::pty::unlockpt(&master).map_err(Error::system("unlock the terminal"))?;
    let slave = rustix::pty::ioctl_tiocgptpeer(&master, rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY)
        .map_err(Error::system("open the terminal"))?;
    rustix::fs::fchown(&slave, Some(Uid::from_raw(security.uid)), None).map_err(Error::system("own the terminal"))?;
    rustix::process::ioctl_tiocsctty(&slave).map_err(Error::system("take the terminal"))?;
    let copy = || slave.try_clone().map_err(Error::system("duplicate the terminal"));
    install(&[copy()?, copy()?, copy()?])?;
    place_console(slave.as_fd());
    Ok(master)
}

/// Shows the first terminal as `/dev/console`. A second one, or a read-only `/dev`, leaves it as it is.
fn place_console(slave: BorrowedFd<'_>) {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    if let Ok(console) = rustix::fs::open("/dev/console", flags, Mode::from_raw_mode(0o600))
        && let Ok(copy) = mounts::copy(slave, Path::new(""), false)
    {
        let _ = mounts::place(copy.as_fd(), console.as_fd());
    }
}

fn change_directory(cwd: &str, make: bool) -> Result<()> {
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    if make && !Path::new(cwd).exists() {
        fs::create_dir_all(cwd).map_err(Error::path("make working directory", cwd))?;
    }
    rustix::process::chdir(cwd).map_err(Error::path("change to working directory", cwd))
}

fn filter(security: &SecurityContext, held: Bits) -> Result<Option<Vec<libc::sock_filter>>> {
    let holds = |name: &str| capabilities::bit(name).is_some_and(|bit| held & bit != 0);
    let profile = match &security.seccomp {
        _ if security.privileged => return Ok(None),
        Seccomp::Unconfined => return Ok(None),
        Seccomp::RuntimeDefault => seccomp::default_profile(&holds),
        Seccomp::Localhost(json) => seccomp::parse(json, &holds).map_err(Error::Invalid)?,
    };
    Ok(Some(seccomp::assemble(&profile)))
}

/// The shim keeps signals blocked, and the Rust runtime ignores SIGPIPE; a program expects neither.
fn reset_signals() -> Result<()> {
    // SAFETY: the set is initialised by sigemptyset before it is read, and only dispositions of this process change.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) != 0 {
            return Err(Error::system("unblock signals")(io::Error::last_os_error()));
        }
    }
    Ok(())
}

fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(Error::system("tie to the shim"))
}

/// Becomes the user with its capabilities. The filter is loaded while CAP_SYS_ADMIN is still there, unless
/// `no_new_privs` makes that needless: then last, so that it needn't allow any of this.
fn drop_privileges(security: &SecurityContext, wanted: Bits, filter: Option<&[libc::sock_filter]>) -> Result<()> {
    let set = |bits: Bits| capabilities::set(bits).map_err(Error::system("set capabilities"));
    let load = |filter: Option<&[libc::sock_filter]>| {
        filter.map_or(Ok(()), |f| seccomp::load(f).map_err(Error::system("load the seccomp filter")))
    };
    capabilities::limit_bounding(wanted).map_err(Error::system("limit capabilities"))?;
    let groups: Vec<Gid> = security.supplemental_groups.iter().map(|g| Gid::from_raw(*g)).collect();
    rustix::thread::set_thread_groups(&groups).map_err(Error::system("set groups"))?;
    let (uid, gid) = (Uid::from_raw(security.uid), Gid::from_raw(security.gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(Error::system("set group"))?;
    rustix::thread::set_keep_capabilities(true).map_err(Error::system("keep capabilities"))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(Error::system("set user"))?;
    rustix::thread::set_keep_capabilities(false).map_err(Error::system("keep capabilities"))?;
    if security.no_new_privs {
        rustix::thread::set_no_new_privs(true).map_err(Error::system("set no_new_privs"))?;
        set(wanted)?;
        return load(filter);
    }
    set(wanted | capabilities::bit("SYS_ADMIN").unwrap_or(0))?;
    load(filter)?;
    set(wanted)
}

/// Becomes the program. Returns only with what went wrong.
fn execute(argv: &[CString], env: &[CString]) -> Error {
    let Some(name) = argv.first() else { return Error::Start("no command given".to_owned()) };
    let shown = name.to_string_lossy();
    if name.as_bytes().contains(&b'/') {
        return Error::Start(format!("exec: \"{shown}\": {}", exec(name, argv, env)));
    }
    let path = env.iter().find_map(|e| e.to_str().ok()?.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let mut denied = None;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let Ok(candidate) = CString::new(format!("{directory}/{shown}")) else { continue };
        match exec(&candidate, argv, env) {
            Errno::NOENT | Errno::NOTDIR => {}
            Errno::ACCESS => denied = Some(Errno::ACCESS),
            other => return Error::Start(format!("exec: \"{shown}\": {other}")),
        }
    }
    match denied {
        Some(e) => Error::Start(format!("exec: \"{shown}\": {e}")),
        None => Error::Start(format!("exec: \"{shown}\": executable file not found in $PATH")),
    }
}

fn exec(path: &CStr, argv: &[CString], env: &[CString]) -> Errno {
    let pointers = |list: &[CString]| list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both lists end in a null pointer and point to C strings that outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
