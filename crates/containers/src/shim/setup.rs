//! From a new process to a serving shim: namespaces, shared memory, sockets.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::Path;

use gantry_ports::{Clock, RealClock};
use rustix::event::epoll;
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

use super::message_pair;
use super::server::{Server, Source};
use crate::linux::cgroup::Hierarchies;
use crate::linux::{files, init, passing, spawn};
use crate::state::{SandboxDir, ShimRecord};
use crate::{Error, NetworkNamespace, PidNamespace, Result, SandboxConfig};

const SHM_SIZE: u64 = 64 << 20;

/// Makes the calling process the sandbox's shim.
pub(super) fn prepare(directory: SandboxDir) -> Result<Server> {
    let config = directory.config()?;
    let clock = RealClock::new();
    become_background(&directory)?;
    // Its memory and descriptors are not for those inside, who may see it for a moment before their program runs.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).map_err(Error::system("protect memory"))?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).map_err(Error::system("become reaper"))?;
    enter_namespaces(&config)?;
    share_memory(&directory, &config)?;
    let hierarchies = Hierarchies::detect()?;
    let cgroup = directory.cgroup(&hierarchies)?;

    let signals = signal_descriptor()?;
    let pod_init = if config.pid == PidNamespace::Pod { Some(start_pod_init(&directory)?) } else { None };
    let host_pids = open(Path::new("/proc/self/ns/pid"))?;
    let listener = listen(&directory)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::system("make epoll"))?;
    let created_at = clock.now();
    directory.write_shim(&ShimRecord { pid: rustix::process::getpid().as_raw_nonzero().get(), created_at: created_at.0 })?;
    let mut server = Server {
        directory,
        config,
        cgroup,
        clock,
        created_at,
        epoll,
        signals,
        listener,
        host_pids,
        pod_init,
        sources: BTreeMap::new(),
        next_token: 0,
        containers: BTreeMap::new(),
        commands: BTreeMap::new(),
        clients: BTreeMap::new(),
        sinks: BTreeMap::new(),
        shutdown: None,
    };
    server.watch_listener(Source::Listener)?;
    server.watch_signals(Source::Signals)?;
    Ok(server)
}

/// A session of our own, no terminal, no directory held; panics go to a file.
fn become_background(directory: &SandboxDir) -> Result<()> {
    rustix::process::setsid().map_err(Error::system("start a session"))?;
    rustix::process::chdir("/").map_err(Error::path("change to", "/"))?;
    let _ = rustix::thread::set_name(c"gantry-shim");
    let null = rustix::fs::open("/dev/null", OFlags::RDWR, Mode::empty()).map_err(Error::path("open", "/dev/null"))?;
    let log = directory.0.join("shim.log");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    let errors = rustix::fs::open(&log, flags, Mode::from_raw_mode(0o600)).map_err(Error::path("open", &log))?;
    rustix::stdio::dup2_stdin(&null).map_err(Error::system("set stdin"))?;
    rustix::stdio::dup2_stdout(&null).map_err(Error::system("set stdout"))?;
    rustix::stdio::dup2_stderr(&errors).map_err(Error::system("set stderr"))
}

fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(Error::path("open", path))
}

/// Containers inherit these: whatever the shim is in, they are in.
fn enter_namespaces(config: &SandboxConfig) -> Result<()> {
    let mut new = UnshareFlags::empty();
    match &config.network {
        NetworkNamespace::Host => {}
        NetworkNamespace::New => new |= UnshareFlags::NEWNET,
        NetworkNamespace::Path(path) => {
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&open(path)?), Some(LinkNameSpaceType::Network))
                .map_err(Error::path("enter network namespace", path))?;
        }
    }
    let own_names = config.network != NetworkNamespace::Host;
    if own_names {
        new |= UnshareFlags::NEWUTS;
    }
    if !config.host_ipc {
        new |= UnshareFlags::NEWIPC;
    }
    // SAFETY: descriptors and memory stay shared with nobody; only namespaces change.
    unsafe { rustix::thread::unshare_unsafe(new) }.map_err(Error::system("unshare network, names or IPC"))?;
    if own_names && !config.hostname.is_empty() {
        rustix::system::sethostname(config.hostname.as_bytes()).map_err(Error::system("set hostname"))?;
    }
    for (name, value) in &config.sysctls {
        if name.contains("..") || name.starts_with('/') {
            return Err(Error::Invalid(format!("sysctl {name:?}")));
        }
        files::write(&Path::new("/proc/sys").join(name.replace('.', "/")), value)?;
    }
    Ok(())
}

/// One `/dev/shm` for all containers, on the host's side so that each can take it from there.
fn share_memory(directory: &SandboxDir, config: &SandboxConfig) -> Result<()> {
    if config.host_ipc {
        return Ok(());
    }
    let shm = directory.shm();
    fs::create_dir_all(&shm).map_err(Error::path("make", &shm))?;
    let size = config.shm_size.unwrap_or(SHM_SIZE);
    let options = CString::new(format!("mode=1777,size={size}")).expect("numbers hold no zero byte");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("shm", &shm, "tmpfs", flags, Some(options.as_c_str())).map_err(Error::path("mount shared memory at", &shm))
}

/// SIGCHLD as something to wait for. Blocked, so that none is lost.
fn signal_descriptor() -> Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use; signalfd makes a descriptor that is ours alone.
    let fd = unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(Error::system("block SIGCHLD")(io::Error::last_os_error()));
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(Error::system("make a signal descriptor")(io::Error::last_os_error()));
    }
    // SAFETY: just made, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The init of a process namespace that all containers share.
fn start_pod_init(directory: &SandboxDir) -> Result<spawn::Child> {
    let (ours, theirs) = message_pair()?;
    let child = spawn::spawn(spawn::NEW_MOUNTS | spawn::NEW_PROCESSES, None, || init::reaper(&directory.0, &theirs))
        .map_err(Error::system("start the pod's init"))?;
    drop(theirs);
    let mut message = vec![0; 4096];
    let length = passing::receive(&ours, &mut message, &mut Vec::new()).map_err(Error::system("wait for the pod's init"))?;
    match message[..length].split_first() {
        Some((&init::READY, _)) => Ok(child),
        Some((_, text)) => Err(Error::Start(String::from_utf8_lossy(text).into_owned())),
        None => Err(Error::Start("the pod's init ended while it started".to_owned())),
    }
}

/// Listens at `shim.sock`. By way of the directory's descriptor, since a socket's path may have 107 bytes only.
fn listen(directory: &SandboxDir) -> Result<OwnedFd> {
    let at = rustix::fs::open(&directory.0, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::path("open", &directory.0))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(Error::system("make a socket"))?;
    let address = crate::client::socket_address(&at)?;
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::net::bind(&socket, &address).and_then(|()| rustix::net::listen(&socket, 64)).map_err(Error::path("listen in", &directory.0))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    Ok(socket)
}
