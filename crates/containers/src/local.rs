//! The real runtime: shims on this machine, found again by what they keep on disk.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::pin::pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures_util::future::{Either, select};
use gantry_ports::Clock;
use rustix::fs::{CWD, FlockOperation};
use rustix::mount::UnmountFlags;
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::api::{BoxFuture, Events, ExecSession, Runtime};
use crate::client::Connection;
use crate::events::{Hub, Listener};
use crate::linux::cgroup::{Cgroup, Hierarchies};
use crate::linux::{files, mounts};
use crate::state::{ContainerDir, SandboxDir};
use crate::streams::{self, Terminal};
use crate::wire::{Reply, Request};
use crate::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Error, ExecConfig, ExecResult, Resources, Result, SandboxConfig,
    SandboxStatus, Stats,
};

/// What a runtime needs to know.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// Where everything about sandboxes is kept; belongs to one runtime at a time, and to its successors.
    pub state_dir: PathBuf,
    /// The cgroup under which all of this runtime's lie, such as `/gantry-1a2b`.
    pub cgroup_parent: String,
    /// The program that calls [`crate::shim::main`].
    pub shim_program: PathBuf,
    /// What it is given before the sandbox's directory, such as the name of an internal subcommand.
    pub shim_args: Vec<OsString>,
}

/// Runs sandboxes on this machine, each as a shim process. Must be used inside a tokio runtime with I/O.
pub struct LocalRuntime {
    config: LocalConfig,
    hierarchies: Hierarchies,
    clock: Arc<dyn Clock>,
    /// The shim's program in a read-only mount of its own: a container that gets hold of it can't write it.
    program: OwnedFd,
    hubs: Mutex<Vec<Weak<Hub>>>,
    /// Keeps a second runtime off the directory.
    _lock: File,
}

/// Most that is kept of a waited-for command's output.
const MOST_OUTPUT: u64 = 16 << 20;
/// How often the kernel is asked whether killed processes are gone, and how long.
const POLL: Duration = Duration::from_millis(2);
const POLLS: u32 = 5000;
/// How long a command's output is read after its end, if something else still holds it open.
const LAST_WORDS: Duration = Duration::from_millis(200);

impl LocalRuntime {
    /// Takes up a state directory: shims that live are left alone, what dead ones left is ended, and half-made
    /// sandboxes are removed.
    pub async fn open(config: LocalConfig, clock: Arc<dyn Clock>) -> Result<Self> {
        fs::create_dir_all(&config.state_dir).map_err(Error::path("make", &config.state_dir))?;
        let lock_path = config.state_dir.join("lock");
        let lock = File::create(&lock_path).map_err(Error::path("make", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(Error::path("lock", &lock_path))?;
        let program =
            mounts::copy(CWD, &config.shim_program, false).map_err(Error::path("take the shim's program", &config.shim_program))?;
        mounts::change(program.as_fd(), mounts::RDONLY, None, false).map_err(Error::system("protect the shim's program"))?;
        let runtime = Self { config, hierarchies: Hierarchies::detect()?, clock, program, hubs: Mutex::default(), _lock: lock };
        for directory in runtime.directories()? {
            if !directory.is_whole() {
                // It would go on, and take the place of the next shim of this sandbox.
                runtime.end_unborn_shim(&directory).await;
                runtime.dispose(&directory).await?;
            } else if crate::client::connect(&directory.0).is_err_and(|e| crate::client::is_dead(&e)) {
                directory.bury(&runtime.hierarchies, runtime.clock.now())?;
            }
        }
        Ok(runtime)
    }

    /// Removes the cgroup parent once all sandboxes are removed.
    pub fn remove_cgroups(&self) -> Result<()> {
        Cgroup::new(&self.hierarchies, &self.config.cgroup_parent, &Resources::default())?.remove()
    }

    /// Makes a cgroup between the parent and pods', such as `/gantry-1a2b/burstable`, or changes its limits.
    pub fn apply_cgroup(&self, path: &str, resources: &Resources) -> Result<()> {
        let cgroup = self.cgroup(path, resources)?;
        cgroup.create(false)?;
        cgroup.apply(resources, false)
    }

    /// What all containers of this runtime together have used.
    pub fn total_stats(&self) -> Result<Stats> {
        Ok(Cgroup::new(&self.hierarchies, &self.config.cgroup_parent, &Resources::default())?.stats())
    }

    fn cgroup(&self, path: &str, resources: &Resources) -> Result<Cgroup> {
        let inside =
            path.trim_matches('/').strip_prefix(self.config.cgroup_parent.trim_matches('/')).is_some_and(|rest| rest.starts_with('/'));
        if !inside {
            return Err(Error::Invalid(format!("cgroup {path:?} isn't below {:?}", self.config.cgroup_parent)));
        }
        Cgroup::new(&self.hierarchies, path, resources)
    }

    fn directories(&self) -> Result<Vec<SandboxDir>> {
        let entries = fs::read_dir(&self.config.state_dir).map_err(Error::path("list", &self.config.state_dir))?;
        let mut all: Vec<_> = entries.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| SandboxDir(e.path())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    /// The directory of a sandbox that exists.
    fn directory(&self, sandbox: &str) -> Result<SandboxDir> {
        let directory = self.place(sandbox)?;
        if directory.is_whole() { Ok(directory) } else { Err(Error::NotFound { kind: "sandbox", id: sandbox.to_owned() }) }
    }

    fn place(&self, sandbox: &str) -> Result<SandboxDir> {
        let plain = !sandbox.is_empty() && sandbox.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !plain || sandbox.starts_with('.') || sandbox.len() > 200 || sandbox == "lock" || sandbox.contains('_') {
            return Err(Error::Invalid(format!("sandbox id {sandbox:?}")));
        }
        Ok(SandboxDir(self.config.state_dir.join(sandbox)))
    }

    /// A connection to a sandbox's shim; `None` if the sandbox exists and its shim doesn't.
    fn shim(&self, sandbox: &str) -> Result<Option<Connection>> {
        Connection::open(sandbox, &self.directory(sandbox)?.0)
    }

    fn live_shim(&self, sandbox: &str) -> Result<Connection> {
        self.shim(sandbox)?.ok_or_else(|| Error::Invalid(format!("sandbox {sandbox} isn't ready: its shim is gone")))
    }

    async fn start_shim(&self, directory: &SandboxDir, config: &SandboxConfig) -> Result<()> {
        directory.write_config(config)?;
        let cgroup = self.cgroup(&config.cgroup_parent, &config.resources)?;
        cgroup.create(false)?;
        cgroup.apply(&config.resources, false)?;
        // By way of the descriptor: it is looked up in the child before the program replaces it.
        let output = tokio::process::Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()))
            .arg0("gantry-shim")
            .args(&self.config.shim_args)
            .arg(&directory.0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .await
            .map_err(Error::path("run the shim's program", &self.config.shim_program))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Start(format!("sandbox {}: {}", config.id, String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// Ends a shim that was being made when the agent that made it was killed. It is in no cgroup, and is known by its arguments alone.
    async fn end_unborn_shim(&self, directory: &SandboxDir) {
        for _ in 0..POLLS {
            let shims = processes_with(directory.0.as_os_str().as_encoded_bytes());
            if shims.is_empty() {
                return;
            }
            for pid in shims {
                // It may be gone by now.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            self.clock.sleep(POLL).await;
        }
    }

    /// Ends and removes all there is of a sandbox, whatever state it is in.
    async fn dispose(&self, directory: &SandboxDir) -> Result<()> {
        if let Ok(cgroup) = directory.cgroup(&self.hierarchies) {
            let mut tries = 0;
            loop {
                cgroup.kill();
                match cgroup.remove() {
                    Err(_) if tries < POLLS => self.clock.sleep(POLL).await,
                    other => break other?,
                }
                tries += 1;
            }
        }
        match rustix::mount::unmount(directory.shm(), UnmountFlags::DETACH) {
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
            Err(e) => return Err(Error::path("unmount", directory.shm())(e)),
        }
        files::remove_all(&directory.0)
    }

    /// Those who listen, the gone ones dropped.
    fn hubs(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Hub>>> {
        let mut hubs = self.hubs.lock().expect("nothing panics while it holds this lock");
        hubs.retain(|hub| hub.strong_count() > 0);
        hubs
    }

    async fn run(&self, config: &SandboxConfig) -> Result<SandboxStatus> {
        let directory = self.place(&config.id)?;
        match fs::create_dir(&directory.0) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::AlreadyExists { kind: "sandbox", id: config.id.clone() });
            }
            other => other.map_err(Error::path("make", &directory.0))?,
        }
        if let Err(error) = self.start_shim(&directory, config).await {
            // The first error is the one to tell; what is left is found when the directory is taken up again.
            let _ = self.dispose(&directory).await;
            return Err(error);
        }
        for hub in self.hubs().iter().filter_map(Weak::upgrade) {
            hub.subscribe(&config.id)?;
        }
        self.status(&config.id).await
    }

    async fn status(&self, sandbox: &str) -> Result<SandboxStatus> {
        let directory = self.directory(sandbox)?;
        if let Some(mut shim) = Connection::open(sandbox, &directory.0)? {
            match shim.call(&Request::Status, vec![]).await {
                Ok((Reply::Status(status), _)) => return Ok(*status),
                Ok((other, _)) => return Err(shim.unexpected(&other)),
                // It ended between the question and the answer.
                Err(Error::Shim { .. }) if self.shim(sandbox)?.is_none() => {}
                Err(e) => return Err(e),
            }
        }
        directory.bury(&self.hierarchies, self.clock.now())?;
        directory.status_without_shim()
    }

    async fn container(&self, id: &ContainerId) -> Result<ContainerStatus> {
        let status = self.status(&id.sandbox).await?;
        let found = status.containers.into_iter().find(|c| c.id == *id);
        found.ok_or_else(|| Error::NotFound { kind: "container", id: id.to_string() })
    }

    async fn stop(&self, sandbox: &str) -> Result<()> {
        let directory = match self.directory(sandbox) {
            Err(Error::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        if let Some(mut shim) = Connection::open(sandbox, &directory.0)? {
            match shim.act(&Request::Shutdown).await {
                // It ended before, or instead of, answering.
                Ok(()) | Err(Error::Shim { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        directory.set_stopped()?;
        directory.bury(&self.hierarchies, self.clock.now())
    }

    async fn remove(&self, id: &ContainerId, unstarted: bool) -> Result<()> {
        let directory = match self.directory(&id.sandbox) {
            Err(Error::NotFound { .. }) => return Ok(()),
            other => other?,
        };
        let container = directory.container(&id.container);
        if let Some(mut shim) = Connection::open(&id.sandbox, &directory.0)? {
            match shim.act(&Request::Remove { container: id.container.clone(), unstarted }).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(e) => return Err(e),
            }
        } else if container.0.exists() {
            let cgroup = ContainerDir::cgroup(&directory.cgroup(&self.hierarchies)?, &id.container, &Resources::default())?;
            let mut tries = 0;
            while cgroup.remove().is_err() && tries < POLLS {
                cgroup.kill();
                self.clock.sleep(POLL).await;
                tries += 1;
            }
        }
        files::remove_all(&container.0)
    }

    fn container_cgroup(&self, id: &ContainerId, resources: &Resources) -> Result<Cgroup> {
        let directory = self.directory(&id.sandbox)?;
        if !directory.container(&id.container).0.exists() {
            return Err(Error::NotFound { kind: "container", id: id.to_string() });
        }
        ContainerDir::cgroup(&directory.cgroup(&self.hierarchies)?, &id.container, resources)
    }

    async fn start_command(&self, id: &ContainerId, config: &ExecConfig) -> Result<(Connection, Streams)> {
        let mut shim = self.live_shim(&id.sandbox)?;
        let request = Request::Exec { container: id.container.clone(), config: config.clone() };
        let (mut fds, mut near) = (Vec::new(), Streams::default());
        if !config.tty {
            if config.stdin {
                let (far, stdin) = streams::to_process()?;
                fds.push(far);
                near.stdin = Some(stdin);
            }
            let ((out, stdout), (err, stderr)) = (streams::from_process()?, streams::from_process()?);
            fds.extend([out, err]);
            (near.stdout, near.stderr) = (Some(stdout), Some(stderr));
        }
        near.terminal = started(&mut shim, &request, fds).await?.map(Terminal::new).transpose()?;
        Ok((shim, near))
    }

    async fn wait_for_command(&self, id: &ContainerId, args: &[String], timeout: Option<Duration>) -> Result<ExecResult> {
        let config = ExecConfig { args: args.to_vec(), ..ExecConfig::default() };
        let deadline = timeout.map(|t| self.clock.sleep(t));
        let (mut shim, near) = self.start_command(id, &config).await?;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let read = |stream: Option<tokio::net::unix::pipe::Receiver>| stream.map(|s| s.take(MOST_OUTPUT));
        let (mut out, mut err) = (read(near.stdout), read(near.stderr));
        let reading = async {
            let first = async { if let Some(s) = &mut out { s.read_to_end(&mut stdout).await } else { Ok(0) } };
            let second = async { if let Some(s) = &mut err { s.read_to_end(&mut stderr).await } else { Ok(0) } };
            tokio::join!(first, second)
        };
        let ended = async {
            match shim.receive().await? {
                (Reply::Exited(code), _) => Ok(code),
                (other, _) => Err(shim.unexpected(&other)),
            }
        };
        let work = async {
            // What a command leaves in the background may hold the streams open for ever: its end is what counts.
            match select(pin!(ended), pin!(reading)).await {
                Either::Left((code, reading)) => {
                    select(reading, self.clock.sleep(LAST_WORDS)).await;
                    code
                }
                Either::Right((_, ended)) => ended.await,
            }
        };
        let Some(deadline) = deadline else { return work.await.map(|exit_code| ExecResult { exit_code, stdout, stderr }) };
        let outcome = match select(pin!(work), deadline).await {
            Either::Left((code, _)) => Some(code?),
            Either::Right(_) => None,
        };
        match outcome {
            Some(exit_code) => Ok(ExecResult { exit_code, stdout, stderr }),
            None => {
                shim.send(&Request::Signal(libc::SIGKILL), vec![]).await?;
                Err(Error::Timeout(timeout.unwrap_or_default().as_secs()))
            }
        }
    }

    async fn join(&self, id: &ContainerId) -> Result<ExecSession> {
        let status = self.container(id).await?;
        if status.state != ContainerState::Running {
            return Err(Error::Invalid(format!("container {id} isn't running")));
        }
        let mut shim = self.live_shim(&id.sandbox)?;
        let request = Request::Attach { container: id.container.clone() };
        let (out, stdout) = streams::from_process()?;
        let mut near = Streams { stdout: Some(stdout), ..Streams::default() };
        let mut fds = vec![out];
        if !status.tty {
            let (err, stderr) = streams::from_process()?;
            fds.push(err);
            near.stderr = Some(stderr);
        }
        let back = started(&mut shim, &request, fds).await?;
        let mut session = ExecSession { stdin: None, stdout: None, stderr: None, terminal: None, exit: Box::pin(shim.exit_code()) };
        match back {
            Some(fd) if status.tty => {
                let terminal = Terminal::new(fd)?;
                session.stdin = Some(Box::new(terminal.clone()));
                session.terminal = Some(Box::new(terminal));
            }
            Some(fd) => {
                let sender = tokio::net::unix::pipe::Sender::from_owned_fd(fd).map_err(Error::system("watch a pipe"))?;
                session.stdin = Some(Box::new(sender));
            }
            None => {}
        }
        session.stdout = near.stdout.map(|s| Box::new(s) as _);
        session.stderr = near.stderr.map(|s| Box::new(s) as _);
        Ok(session)
    }

    fn listen(&self) -> Result<Box<dyn Events>> {
        let hub = Hub::new(self.config.state_dir.clone())?;
        // First, so that none is missed between the list and the registration; twice is no harm, as events repeat.
        self.hubs().push(Arc::downgrade(&hub));
        let mut ready = VecDeque::new();
        for directory in self.directories()? {
            let name = directory.0.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            if directory.is_whole() && !hub.subscribe(&name)? && !directory.is_stopped() {
                ready.push_back(crate::Event::SandboxLost { sandbox: name });
            }
        }
        Ok(Box::new(Listener { hub, ready, hierarchies: self.hierarchies.clone(), clock: Arc::clone(&self.clock) }))
    }
}

/// Processes that have exactly this among their arguments. One that has ended has no arguments.
fn processes_with(argument: &[u8]) -> Vec<rustix::process::Pid> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.split(|b| *b == 0).any(|a| a == argument));
    pids.filter(has).filter_map(rustix::process::Pid::from_raw).collect()
}

/// Our ends of a command's streams.
#[derive(Default)]
struct Streams {
    stdin: Option<tokio::net::unix::pipe::Sender>,
    stdout: Option<tokio::net::unix::pipe::Receiver>,
    stderr: Option<tokio::net::unix::pipe::Receiver>,
    terminal: Option<Terminal>,
}

/// Asks for something that is answered by `Started`, perhaps with a descriptor.
async fn started(shim: &mut Connection, request: &Request, fds: Vec<OwnedFd>) -> Result<Option<OwnedFd>> {
    match shim.call(request, fds).await? {
        (Reply::Started, mut fds) => Ok(fds.pop()),
        (other, _) => Err(shim.unexpected(&other)),
    }
}

fn session(shim: Connection, near: Streams, stdin: bool) -> ExecSession {
    let exit = Box::pin(shim.exit_code());
    if let Some(terminal) = near.terminal {
        let input: Option<Box<dyn AsyncWrite + Send + Unpin>> = if stdin { Some(Box::new(terminal.clone())) } else { None };
        return ExecSession {
            stdin: input,
            stdout: Some(Box::new(terminal.clone())),
            stderr: None,
            terminal: Some(Box::new(terminal)),
            exit,
        };
    }
    ExecSession {
        stdin: near.stdin.map(|s| Box::new(s) as _),
        stdout: near.stdout.map(|s| Box::new(s) as _),
        stderr: near.stderr.map(|s| Box::new(s) as _),
        terminal: None,
        exit,
    }
}

impl Runtime for LocalRuntime {
    fn run_sandbox<'a>(&'a self, config: &'a SandboxConfig) -> BoxFuture<'a, Result<SandboxStatus>> {
        Box::pin(self.run(config))
    }

    fn stop_sandbox<'a>(&'a self, sandbox: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.stop(sandbox))
    }

    fn remove_sandbox<'a>(&'a self, sandbox: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            self.stop(sandbox).await?;
            self.dispose(&self.place(sandbox)?).await
        })
    }

    fn list<'a>(&'a self) -> BoxFuture<'a, Result<Vec<SandboxStatus>>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for directory in self.directories()? {
                let name = directory.0.file_name().and_then(|n| n.to_str()).unwrap_or_default();
                match self.status(name).await {
                    Ok(status) => all.push(status),
                    // Half made, or removed meanwhile.
                    Err(Error::NotFound { .. }) => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(all)
        })
    }

    fn sandbox_status<'a>(&'a self, sandbox: &'a str) -> BoxFuture<'a, Result<SandboxStatus>> {
        Box::pin(self.status(sandbox))
    }

    fn create_container<'a>(&'a self, sandbox: &'a str, config: &'a ContainerConfig) -> BoxFuture<'a, Result<ContainerId>> {
        Box::pin(async move {
            let mut shim = self.live_shim(sandbox)?;
            match shim.call(&Request::Create(Box::new(config.clone())), vec![]).await? {
                (Reply::Created(id), _) => Ok(id),
                (other, _) => Err(shim.unexpected(&other)),
            }
        })
    }

    fn start_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.live_shim(&id.sandbox)?.act(&Request::Start { container: id.container.clone() }).await })
    }

    fn stop_container<'a>(&'a self, id: &'a ContainerId, grace: Duration) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move {
            let shim = match self.shim(&id.sandbox) {
                Err(Error::NotFound { .. }) => return Ok(()),
                other => other?,
            };
            let Some(mut shim) = shim else { return self.directory(&id.sandbox)?.bury(&self.hierarchies, self.clock.now()) };
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX / 2);
            match shim.act(&Request::Stop { container: id.container.clone(), grace_ms }).await {
                Err(Error::NotFound { .. }) => Ok(()),
                other => other,
            }
        })
    }

    fn remove_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.remove(id, false))
    }

    fn discard_container<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(self.remove(id, true))
    }

    fn container_status<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ContainerStatus>> {
        Box::pin(self.container(id))
    }

    fn update_resources<'a>(&'a self, id: &'a ContainerId, resources: &'a Resources) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.container_cgroup(id, resources)?.apply(resources, true) })
    }

    fn container_stats<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<Stats>> {
        Box::pin(async move { Ok(self.container_cgroup(id, &Resources::default())?.stats()) })
    }

    fn sandbox_stats<'a>(&'a self, sandbox: &'a str) -> BoxFuture<'a, Result<Stats>> {
        Box::pin(async move { Ok(self.directory(sandbox)?.cgroup(&self.hierarchies)?.stats()) })
    }

    fn reopen_log<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { self.live_shim(&id.sandbox)?.act(&Request::ReopenLog { container: id.container.clone() }).await })
    }

    fn exec<'a>(&'a self, id: &'a ContainerId, config: &'a ExecConfig) -> BoxFuture<'a, Result<ExecSession>> {
        Box::pin(async move {
            let (shim, near) = self.start_command(id, config).await?;
            Ok(session(shim, near, config.stdin))
        })
    }

    fn exec_sync<'a>(&'a self, id: &'a ContainerId, args: &'a [String], timeout: Option<Duration>) -> BoxFuture<'a, Result<ExecResult>> {
        Box::pin(self.wait_for_command(id, args, timeout))
    }

    fn attach<'a>(&'a self, id: &'a ContainerId) -> BoxFuture<'a, Result<ExecSession>> {
        Box::pin(self.join(id))
    }

    fn events(&self) -> Result<Box<dyn Events>> {
        self.listen()
    }
}
