//! Starting things: containers, their programs, commands in them, and joining their streams.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType};

use super::container::{Command, Container, Output, Phase, Sink, Waiter};
use super::log::{Log, Stream};
use super::message_pair;
use super::server::{self, Server, Source};
use crate::linux::cgroup::Cgroup;
use crate::linux::init::{self, FAILED, GO, Program, READY, Streams};
use crate::linux::rootfs::Plan;
use crate::linux::{files, passing, spawn};
use crate::state::ContainerDir;
use crate::wire::{Failure, Reply};
use crate::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Error, ExecConfig, PidNamespace, Result, Rootfs, SandboxConfig,
    StdioConfig,
};

/// What the shim keeps of a container's streams.
#[derive(Default)]
struct NearEnds {
    input: Option<OwnedFd>,
    outputs: Vec<(Stream, OwnedFd)>,
}

/// What a message on a channel meant.
enum Message {
    Ready(Option<OwnedFd>),
    Failed(String),
    /// The channel closed: the program runs, or the process ended.
    Closed,
    Nothing,
}

fn receive(channel: &OwnedFd) -> Message {
    let (mut buffer, mut fds) = ([0; 4096], Vec::new());
    match passing::receive(channel, &mut buffer, &mut fds) {
        Ok(0) => Message::Closed,
        Ok(n) if buffer[0] == FAILED => Message::Failed(String::from_utf8_lossy(&buffer[1..n]).into_owned()),
        Ok(_) if buffer[0] == READY => Message::Ready(fds.pop()),
        Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Message::Nothing,
        Err(_) => Message::Closed,
    }
}

fn nonblocking(fd: &OwnedFd) -> Result<()> {
    rustix::io::ioctl_fionbio(fd, true).map_err(Error::system("make a descriptor non-blocking"))
}

fn null(flags: OFlags) -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", flags | OFlags::CLOEXEC, Mode::empty()).map_err(Error::path("open", "/dev/null"))
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))
}

/// Both ends of a container's streams.
fn streams(stdio: StdioConfig) -> Result<(Streams, NearEnds)> {
    if stdio.tty {
        return Ok((Streams::Terminal, NearEnds::default()));
    }
    let (input, near_input) = if stdio.stdin {
        let (read, write) = pipe()?;
        nonblocking(&write)?;
        (read, Some(write))
    } else {
        (null(OFlags::RDONLY)?, None)
    };
    let ((out, to_out), (err, to_err)) = (pipe()?, pipe()?);
    nonblocking(&out)?;
    nonblocking(&err)?;
    Ok((Streams::Plain([input, to_out, to_err]), NearEnds { input: near_input, outputs: vec![(Stream::Out, out), (Stream::Err, err)] }))
}

impl Server {
    /// Makes a container; answers once its first process has everything but its program.
    pub(super) fn create(&mut self, token: Waiter, config: ContainerConfig) -> Result<()> {
        let id = ContainerId::new(&self.config.id, &config.name, config.attempt);
        if self.shutdown.is_some() {
            return Err(Error::Invalid(format!("sandbox {} is stopped", self.config.id)));
        }
        if Path::new(&id.container).components().ne([Component::Normal(id.container.as_ref())]) {
            return Err(Error::Invalid(format!("container name {:?}", config.name)));
        }
        let directory = self.directory.container(&id.container);
        if self.containers.contains_key(&id.container) || directory.0.exists() {
            return Err(Error::AlreadyExists { kind: "container", id: id.to_string() });
        }
        let cgroup = ContainerDir::cgroup(&self.cgroup, &id.container, &config.resources)?;
        let made = self.launch(token, id.clone(), config, &directory, &cgroup);
        if made.is_err() {
            // The first error is the one to tell.
            let _ = cgroup.remove();
            let _ = files::remove_all(&directory.0);
        }
        made
    }

    fn launch(&mut self, token: Waiter, id: ContainerId, config: ContainerConfig, directory: &ContainerDir, cgroup: &Cgroup) -> Result<()> {
        make_directories(&config.rootfs, directory)?;
        cgroup.create(true)?;
        cgroup.apply(&config.resources, true)?;
        if !config.security.privileged {
            cgroup.restrict_devices()?;
        }
        let log_path = config.log_path.as_ref().map(|path| self.config.log_directory.join(path));
        let log = Log::open(log_path.as_deref()).map_err(Error::path("open log", log_path.clone().unwrap_or_default()))?;
        let (far, near) = streams(config.stdio)?;
        let (channel, theirs) = message_pair()?;
        let shm = self.directory.shm();
        let plan = Plan { config: &config, directory: &directory.0, shm: (!self.config.host_ipc).then_some(shm.as_path()), cgroup };
        let program = program(&config, &self.config, &config.args, &config.env, far);
        let (flags, namespace) = match self.config.pid {
            PidNamespace::Container => (spawn::NEW_MOUNTS | spawn::NEW_PROCESSES, None),
            PidNamespace::Host => (spawn::NEW_MOUNTS, None),
            PidNamespace::Pod => (spawn::NEW_MOUNTS, self.pod_init.as_ref().map(|init| init.pidfd.as_fd())),
        };
        let process = self.spawn_in(namespace, flags, cgroup, || init::container(&plan, program, &theirs))?;
        drop(theirs);
        nonblocking(&channel)?;
        let status = new_status(&config, id.clone(), process.pid, log_path, &self.clock);
        let channel_token = self.watch(channel.as_fd(), Source::Channel(id.container.clone()), EventFlags::IN)?;
        let mut outputs = Vec::new();
        for (stream, fd) in near.outputs {
            outputs.push(Output { token: self.watch(fd.as_fd(), Source::Output(id.container.clone()), EventFlags::IN)?, stream, fd });
        }
        let container = Container {
            config,
            status,
            directory: directory.clone(),
            cgroup: cgroup.clone(),
            process: Some(process),
            channel: Some((channel_token, channel)),
            phase: Phase::Making,
            starter: Some(token),
            outputs,
            input: near.input,
            log,
            deadline: None,
            stoppers: vec![],
            removers: vec![],
            retry: None,
            give_up: Duration::ZERO,
            attached: vec![],
        };
        self.containers.insert(id.container, container);
        Ok(())
    }

    /// Starts a child, in another process namespace if one is given, and in the cgroup from its birth where it can be.
    fn spawn_in(
        &self,
        namespace: Option<BorrowedFd<'_>>,
        flags: u64,
        cgroup: &Cgroup,
        body: impl FnOnce() -> std::convert::Infallible,
    ) -> Result<spawn::Child> {
        let birthplace = cgroup.birthplace()?;
        if let Some(namespace) = namespace {
            let kind = ThreadNameSpaceType::from_bits_retain(libc::CLONE_NEWPID.cast_unsigned());
            rustix::thread::move_into_thread_name_spaces(namespace, kind).map_err(Error::system("enter process namespace"))?;
        }
        let child = spawn::spawn(flags, birthplace.as_ref().map(AsFd::as_fd), body).map_err(Error::system("clone a process"));
        if namespace.is_some() {
            rustix::thread::move_into_link_name_space(self.host_pids.as_fd(), Some(LinkNameSpaceType::ProcessID))
                .map_err(Error::system("leave process namespace"))?;
        }
        child
    }

    /// Lets a container's program run; answers once it does.
    pub(super) fn start(&mut self, token: Waiter, container: &str) -> Result<()> {
        let c = self.find(container)?;
        let Some((_, channel)) = c.channel.as_ref().filter(|_| c.phase == Phase::Made && !c.is_over()) else {
            return Err(Error::Invalid(format!("container {} can't be started: it is {:?}", c.status.id, c.status.state)));
        };
        passing::send(channel, &[GO], &[]).map_err(Error::system("tell the container to start"))?;
        c.phase = Phase::Starting;
        c.starter = Some(token);
        Ok(())
    }

    /// Takes what a container's first process says.
    pub(super) fn progress(&mut self, name: &str) {
        loop {
            let now = gantry_ports::Clock::now(&self.clock);
            let Some(c) = self.containers.get_mut(name) else { return };
            let Some((token, channel)) = &c.channel else { return };
            let token = *token;
            match receive(channel) {
                Message::Nothing => return,
                Message::Ready(terminal) => {
                    c.phase = Phase::Made;
                    if let Some(terminal) = terminal {
                        self.keep_terminal(name, terminal);
                    }
                    self.answer(name, |id| Reply::Created(id.clone()));
                    self.publish(name);
                }
                Message::Failed(text) => {
                    c.status.message.clone_from(&text);
                    self.answer(name, |_| Reply::Failed(Failure::Start(text)));
                }
                Message::Closed => {
                    if let Some((_, channel)) = c.channel.take() {
                        let started = c.phase == Phase::Starting && c.status.message.is_empty();
                        if started {
                            c.phase = Phase::Started;
                            c.status.state = ContainerState::Running;
                            c.status.started_at = Some(now);
                        }
                        self.forget(token, channel.as_fd());
                        if started {
                            self.answer(name, |_| Reply::Done);
                            self.publish(name);
                        }
                    }
                    return;
                }
            }
        }
    }

    /// Answers whoever waits for the container to be made or started.
    fn answer(&mut self, name: &str, reply: impl FnOnce(&ContainerId) -> Reply) {
        if let Some(c) = self.containers.get_mut(name)
            && let Some(token) = c.starter.take()
        {
            let reply = reply(&c.status.id);
            self.reply(token, &reply, &[]);
        }
    }

    /// Forgets a container whose making failed.
    pub(super) fn discard(&mut self, name: &str) {
        self.answer(name, |_| Reply::Failed(Failure::Start("the container's process ended while it was made".to_owned())));
        let now = gantry_ports::Clock::monotonic(&self.clock);
        if let Some(c) = self.containers.get_mut(name) {
            // It has made nothing but its own overlay's directories.
            let _ = files::remove_all(&c.directory.0);
            c.give_up = now + Duration::from_secs(10);
        }
        self.try_remove(name);
    }

    fn keep_terminal(&mut self, name: &str, terminal: OwnedFd) {
        let kept = nonblocking(&terminal)
            .and_then(|()| terminal.try_clone().map_err(Error::system("duplicate a terminal")))
            .and_then(|input| Ok((input, self.watch(terminal.as_fd(), Source::Output(name.to_owned()), EventFlags::IN)?)));
        if let (Ok((input, token)), Some(c)) = (kept, self.containers.get_mut(name)) {
            c.input = Some(input);
            c.outputs.push(Output { token, stream: Stream::Out, fd: terminal });
        }
    }

    /// Adds a command to a running container; answers once its program runs.
    pub(super) fn exec(&mut self, token: Waiter, container: &str, config: &ExecConfig, mut fds: Vec<OwnedFd>) -> Result<()> {
        let c = self.find(container)?;
        let Some(first) = c.process.as_ref().filter(|_| c.phase == Phase::Started) else {
            return Err(Error::Invalid(format!("container {} isn't running", c.status.id)));
        };
        let expected = if config.tty { 0 } else { 2 + usize::from(config.stdin) };
        if fds.len() != expected {
            return Err(Error::Invalid(format!("a command with {expected} streams came with {}", fds.len())));
        }
        let far = match (config.tty, fds.pop(), fds.pop()) {
            (false, Some(err), Some(out)) => Streams::Plain([fds.pop().map_or_else(|| null(OFlags::RDONLY), Ok)?, out, err]),
            _ => Streams::Terminal,
        };
        let (channel, theirs) = message_pair()?;
        let first = first.pidfd.try_clone().map_err(Error::system("duplicate a process descriptor"))?;
        let (settings, cgroup) = (c.config.clone(), c.cgroup.clone());
        let env: Vec<_> = settings.env.iter().chain(&config.env).cloned().collect();
        let program = program(&settings, &self.config, &config.args, &env, far);
        let namespace = (self.config.pid != PidNamespace::Host).then(|| first.as_fd());
        let process = self.spawn_in(namespace, 0, &cgroup, || init::command(&cgroup, first.as_fd(), program, &theirs))?;
        drop(theirs);
        nonblocking(&channel)?;
        let id = self.watch(channel.as_fd(), Source::CommandChannel, EventFlags::IN)?;
        self.commands.insert(id, Command { client: token, process, channel: Some(channel), terminal: None });
        if let Some(client) = self.clients.get_mut(&token) {
            client.command = Some(id);
        }
        Ok(())
    }

    /// Takes what a command's process says.
    pub(super) fn command_progress(&mut self, id: u64) {
        loop {
            let Some(command) = self.commands.get_mut(&id) else { return };
            let Some(channel) = &command.channel else { return };
            let client = command.client;
            match receive(channel) {
                Message::Nothing => return,
                Message::Ready(terminal) => {
                    command.terminal = terminal;
                    // If it is gone, its end says so.
                    let _ = passing::send(channel, &[GO], &[]);
                }
                Message::Failed(text) => {
                    // Nobody is told of the exit that follows.
                    command.client = 0;
                    self.reply(client, &Reply::Failed(Failure::Start(text)), &[]);
                }
                Message::Closed => {
                    let (channel, terminal) = (command.channel.take(), command.terminal.take());
                    if let Some(channel) = channel {
                        self.forget(id, channel.as_fd());
                    }
                    let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
                    self.reply(client, &Reply::Started, &fds);
                    return;
                }
            }
        }
    }

    pub(super) fn signal_command(&mut self, token: Waiter, number: i32) {
        let command = self.clients.get(&token).and_then(|c| c.command).and_then(|id| self.commands.get(&id));
        if let Some(command) = command {
            server::signal_group(command.process.pid, number);
        }
    }

    /// Joins a container's streams.
    pub(super) fn attach(&mut self, token: Waiter, container: &str, fds: Vec<OwnedFd>) -> Result<()> {
        let c = self.find(container)?;
        if c.phase != Phase::Started || c.is_over() {
            return Err(Error::Invalid(format!("container {} isn't running", c.status.id)));
        }
        let expected = if c.config.stdio.tty { 1 } else { 2 };
        if fds.len() != expected {
            return Err(Error::Invalid(format!("attaching takes {expected} streams and came with {}", fds.len())));
        }
        let copy = c.input.as_ref().map(|fd| fd.try_clone().map_err(Error::system("duplicate the input"))).transpose()?;
        if c.config.stdio.stdin_once && !c.config.stdio.tty {
            c.input = None;
        }
        c.attached.push(token);
        for (stream, fd) in [Stream::Out, Stream::Err].into_iter().zip(fds) {
            nonblocking(&fd)?;
            let id = self.watch(fd.as_fd(), Source::Sink, EventFlags::empty())?;
            self.sinks.insert(id, Sink { container: container.to_owned(), stream, fd, pending: vec![], ending: false });
        }
        let fds: Vec<_> = copy.iter().map(AsFd::as_fd).collect();
        self.reply(token, &Reply::Started, &fds);
        Ok(())
    }
}

/// The container's own directories. An overlay's root looks as its upper layer does, so that is made to look like the
/// topmost lower one.
fn make_directories(rootfs: &Rootfs, directory: &ContainerDir) -> Result<()> {
    let make = |part: &str| {
        let path = directory.0.join(part);
        fs::create_dir_all(&path).map_err(Error::path("make", &path)).map(|()| path)
    };
    make("root")?;
    if let Rootfs::Overlay { lower, upper: None } = rootfs {
        let (upper, _) = (make("upper")?, make("work")?);
        if let Some(top) = lower.first() {
            let meta = fs::metadata(top).map_err(Error::path("look at layer", top))?;
            std::os::unix::fs::chown(&upper, Some(meta.uid()), Some(meta.gid())).map_err(Error::path("own", &upper))?;
            fs::set_permissions(&upper, meta.permissions()).map_err(Error::path("set mode of", &upper))?;
        }
    }
    Ok(())
}

fn program<'a>(
    config: &'a ContainerConfig,
    sandbox: &'a SandboxConfig,
    args: &'a [String],
    env: &'a [String],
    streams: Streams,
) -> Program<'a> {
    Program {
        args,
        env,
        cwd: &config.cwd,
        hostname: &sandbox.hostname,
        security: &config.security,
        oom_score_adj: config.oom_score_adj,
        streams,
    }
}

fn new_status(
    config: &ContainerConfig,
    id: ContainerId,
    pid: i32,
    log_path: Option<std::path::PathBuf>,
    clock: &dyn gantry_ports::Clock,
) -> ContainerStatus {
    ContainerStatus {
        id,
        name: config.name.clone(),
        attempt: config.attempt,
        image: config.image.clone(),
        image_id: config.image_id.clone(),
        state: ContainerState::Created,
        pid: Some(pid),
        created_at: clock.now(),
        started_at: None,
        finished_at: None,
        exit_code: None,
        reason: None,
        message: String::new(),
        log_path,
        tty: config.stdio.tty,
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
    }
}
