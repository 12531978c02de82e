//! The shim's loop: one thread, one epoll, and what is done about each thing that happens.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use gantry_object::Timestamp;
use gantry_ports::{Clock, RealClock};
use rustix::event::{Timespec, epoll};
use rustix::net::SocketFlags;
use rustix::process::{Pid, Signal, WaitOptions};

use super::container::{Command, Container, Phase, Sink, Waiter};
use super::log::Stream;
use crate::linux::cgroup::Cgroup;
use crate::linux::{passing, spawn};
use crate::state::{self, SandboxDir};
use crate::wire::{self, Failure, Inbox, Reply, Request};
use crate::{ContainerState, Error, Event, ExitReason, Result, SandboxConfig, SandboxState};

/// How long removal waits for processes that were killed to be gone.
const REMOVAL: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(5);
/// What an onlooker may be behind before being let go.
const BEHIND: usize = 256 * 1024;

/// What a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Listener,
    Signals,
    Client,
    /// The channel to a container's first process.
    Channel(String),
    Output(String),
    Sink,
    /// The channel to a command's process.
    CommandChannel,
}

pub(super) struct Client {
    stream: OwnedFd,
    inbox: Inbox,
    subscribed: bool,
    /// The command it started.
    pub(super) command: Option<u64>,
}

pub(super) struct Server {
    pub(super) directory: SandboxDir,
    pub(super) config: SandboxConfig,
    pub(super) cgroup: Cgroup,
    pub(super) clock: RealClock,
    pub(super) created_at: Timestamp,
    pub(super) epoll: OwnedFd,
    pub(super) signals: OwnedFd,
    pub(super) listener: OwnedFd,
    /// The shim's own process namespace.
    pub(super) host_pids: OwnedFd,
    pub(super) pod_init: Option<spawn::Child>,
    pub(super) sources: BTreeMap<u64, Source>,
    pub(super) next_token: u64,
    pub(super) containers: BTreeMap<String, Container>,
    pub(super) commands: BTreeMap<u64, Command>,
    pub(super) clients: BTreeMap<Waiter, Client>,
    pub(super) sinks: BTreeMap<u64, Sink>,
    /// Who asked for the end.
    pub(super) shutdown: Option<Waiter>,
}

impl Server {
    /// Serves until told to end. Returns only with what makes going on impossible.
    pub(super) fn run(mut self) -> Error {
        let mut events = Vec::with_capacity(16);
        loop {
            events.clear();
            let timeout = self.next_deadline().map(|at| {
                let left = at.saturating_sub(self.clock.monotonic());
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
            });
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Error::system("wait for events")(e),
            }
            for event in &events {
                let (token, flags) = (event.data.u64(), event.flags);
                // One that was dropped by an event before it.
                if let Some(source) = self.sources.get(&token).cloned() {
                    self.handle(token, &source, flags);
                }
            }
            self.expire();
            if let Some(waiter) = self.shutdown
                && self.containers.values().all(Container::is_over)
            {
                self.reply(waiter, &Reply::Done, &[]);
                spawn::exit(0);
            }
        }
    }

    fn handle(&mut self, token: u64, source: &Source, flags: epoll::EventFlags) {
        match source {
            Source::Listener => self.accept(),
            Source::Signals => self.reap(),
            Source::Client => self.serve(token),
            Source::Channel(container) => self.progress(container),
            Source::Output(container) => self.copy_output(container, token),
            Source::Sink => self.flush_sink(token, flags),
            Source::CommandChannel => self.command_progress(token),
        }
    }

    pub(super) fn watch_listener(&mut self, source: Source) -> Result<()> {
        let token = self.token(source);
        epoll::add(&self.epoll, &self.listener, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
            .map_err(Error::system("watch the socket"))
    }

    pub(super) fn watch_signals(&mut self, source: Source) -> Result<()> {
        let token = self.token(source);
        epoll::add(&self.epoll, &self.signals, epoll::EventData::new_u64(token), epoll::EventFlags::IN)
            .map_err(Error::system("watch signals"))
    }

    fn token(&mut self, source: Source) -> u64 {
        self.next_token += 1;
        self.sources.insert(self.next_token, source);
        self.next_token
    }

    /// Watches a descriptor; whoever owns it forgets the token with it.
    pub(super) fn watch(&mut self, fd: BorrowedFd<'_>, source: Source, flags: epoll::EventFlags) -> Result<u64> {
        let token = self.token(source);
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags).map_err(Error::system("watch a descriptor"))?;
        Ok(token)
    }

    pub(super) fn forget(&mut self, token: u64, fd: BorrowedFd<'_>) {
        self.sources.remove(&token);
        // A copy elsewhere would keep it watched after it is closed here.
        let _ = epoll::delete(&self.epoll, fd);
    }

    fn accept(&mut self) {
        while let Ok(stream) = rustix::net::accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            if let Ok(token) = self.watch(stream.as_fd(), Source::Client, epoll::EventFlags::IN) {
                self.clients.insert(token, Client { stream, inbox: Inbox::default(), subscribed: false, command: None });
            }
        }
    }

    fn serve(&mut self, token: Waiter) {
        let mut buffer = [0; 16 * 1024];
        let open = loop {
            let Some(client) = self.clients.get_mut(&token) else { return };
            match passing::receive(&client.stream, &mut buffer, &mut client.inbox.descriptors) {
                Ok(0) => break false,
                Ok(n) => client.inbox.bytes.extend_from_slice(&buffer[..n]),
                Err(rustix::io::Errno::AGAIN) => break true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => break false,
            }
        };
        self.answer_requests(token);
        // Who hung up after asking still has asked.
        if !open {
            self.drop_client(token);
        }
    }

    fn answer_requests(&mut self, token: Waiter) {
        loop {
            let Some(client) = self.clients.get_mut(&token) else { return };
            match client.inbox.next::<Request>() {
                Ok(None) => return,
                Ok(Some((envelope, fds))) => self.dispatch(token, envelope.body, fds),
                Err(text) => {
                    self.reply(
                        token,
                        &Reply::Failed(Failure::Invalid(format!("not understood by protocol {}: {text}", wire::VERSION))),
                        &[],
                    );
                    return self.drop_client(token);
                }
            }
        }
    }

    fn drop_client(&mut self, token: Waiter) {
        if let Some(client) = self.clients.remove(&token) {
            self.forget(token, client.stream.as_fd());
        }
    }

    /// Answers. Who doesn't take it is let go: an agent that lives reads, and asks again after a break.
    pub(super) fn reply(&mut self, token: Waiter, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        let Some(client) = self.clients.get(&token) else { return };
        let frame = wire::encode(reply, fds.len());
        if passing::send(&client.stream, &frame, fds) != Ok(frame.len()) {
            self.drop_client(token);
        }
    }

    fn dispatch(&mut self, token: Waiter, request: Request, fds: Vec<OwnedFd>) {
        let answered_later = match request {
            Request::Status => {
                self.reply(token, &Reply::Status(Box::new(self.status())), &[]);
                Ok(())
            }
            Request::Subscribe => {
                self.subscribe(token);
                Ok(())
            }
            Request::Create(config) => self.create(token, *config),
            Request::Start { container } => self.start(token, &container),
            Request::Stop { container, grace_ms } => self.stop(token, &container, Duration::from_millis(grace_ms)),
            Request::Remove { container, unstarted } => self.remove(token, &container, unstarted),
            Request::Exec { container, config } => self.exec(token, &container, &config, fds),
            Request::Signal(number) => {
                self.signal_command(token, number);
                Ok(())
            }
            Request::Attach { container } => self.attach(token, &container, fds),
            Request::ReopenLog { container } => self.reopen_log(token, &container),
            Request::Shutdown => self.begin_shutdown(token),
        };
        if let Err(error) = answered_later {
            self.reply(token, &Reply::Failed(Failure::from(&error)), &[]);
        }
    }

    fn status(&self) -> crate::SandboxStatus {
        let mut containers: Vec<_> = self.containers.values().filter(|c| c.phase != Phase::Making).map(|c| c.status.clone()).collect();
        containers.sort_by_key(|s| (s.created_at.0, s.id.clone()));
        let state = if self.shutdown.is_some() { SandboxState::NotReady } else { SandboxState::Ready };
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        state::status(&self.config, state, self.created_at, Some(pid), containers)
    }

    fn subscribe(&mut self, token: Waiter) {
        if let Some(client) = self.clients.get_mut(&token) {
            client.subscribed = true;
        }
        for status in self.status().containers {
            self.reply(token, &Reply::Event(Event::Container(Box::new(status))), &[]);
        }
    }

    /// Writes a changed status down and tells those who listen.
    pub(super) fn publish(&mut self, container: &str) {
        let Some(c) = self.containers.get(container) else { return };
        // On a full disk the status lives on in memory, as long as we do.
        let _ = c.directory.write_status(&c.status);
        let reply = Reply::Event(Event::Container(Box::new(c.status.clone())));
        let listeners: Vec<_> = self.clients.iter().filter(|(_, c)| c.subscribed).map(|(token, _)| *token).collect();
        for token in listeners {
            self.reply(token, &reply, &[]);
        }
    }

    pub(super) fn find(&mut self, container: &str) -> Result<&mut Container> {
        let sandbox = &self.config.id;
        self.containers.get_mut(container).ok_or_else(|| Error::NotFound { kind: "container", id: format!("{sandbox}_{container}") })
    }

    fn stop(&mut self, token: Waiter, container: &str, grace: Duration) -> Result<()> {
        let deadline = self.clock.monotonic() + grace;
        let c = self.find(container)?;
        if c.is_over() {
            self.reply(token, &Reply::Done, &[]);
            return Ok(());
        }
        c.stoppers.push(token);
        if c.phase != Phase::Started || grace.is_zero() {
            c.cgroup.kill();
            return Ok(());
        }
        if c.deadline.is_none()
            && let Some(process) = &c.process
        {
            let signal = signal_number(&c.config.stop_signal);
            // It may have ended this moment; its end is on the way then.
            let _ = send_signal(process.pidfd.as_fd(), signal);
        }
        c.deadline = Some(c.deadline.map_or(deadline, |d| d.min(deadline)));
        Ok(())
    }

    fn remove(&mut self, token: Waiter, container: &str, unstarted: bool) -> Result<()> {
        let now = self.clock.monotonic();
        let c = self.find(container)?;
        if unstarted && matches!(c.phase, Phase::Starting | Phase::Started) {
            return Err(Error::Invalid(format!("container {} was started", c.status.id)));
        }
        c.removers.push(token);
        c.give_up = now + REMOVAL;
        if c.is_over() {
            self.try_remove(container);
        } else {
            c.cgroup.kill();
        }
        Ok(())
    }

    /// Removes the cgroup and forgets the container; the agent removes its directory.
    pub(super) fn try_remove(&mut self, container: &str) {
        let now = self.clock.monotonic();
        let Some(c) = self.containers.get_mut(container) else { return };
        c.cgroup.kill();
        let outcome = match c.cgroup.remove() {
            Err(_) if now < c.give_up => {
                c.retry = Some(now + RETRY);
                return;
            }
            other => other,
        };
        let removers = std::mem::take(&mut c.removers);
        c.retry = None;
        let reply = match outcome {
            Ok(()) => {
                self.containers.remove(container);
                Reply::Done
            }
            Err(e) => Reply::Failed(Failure::from(&e)),
        };
        for token in removers {
            self.reply(token, &reply, &[]);
        }
    }

    fn reopen_log(&mut self, token: Waiter, container: &str) -> Result<()> {
        let c = self.find(container)?;
        let path = c.status.log_path.clone().unwrap_or_default();
        c.log.reopen().map_err(Error::path("open log", path))?;
        self.reply(token, &Reply::Done, &[]);
        Ok(())
    }

    fn begin_shutdown(&mut self, token: Waiter) -> Result<()> {
        self.directory.set_stopped()?;
        self.shutdown = Some(token);
        self.cgroup.kill();
        Ok(())
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.containers.values().flat_map(|c| [c.deadline, c.retry]).flatten().min()
    }

    fn expire(&mut self) {
        let now = self.clock.monotonic();
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let names: Vec<_> = self.containers.iter().filter(|(_, c)| due(c.deadline) || due(c.retry)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(c) = self.containers.get_mut(&name) else { continue };
            if due(c.deadline) {
                c.cgroup.kill();
                // What forked meanwhile is found again, until the first process is reaped.
                c.deadline = Some(now + RETRY);
            }
            if due(c.retry) {
                self.try_remove(&name);
            }
        }
    }

    /// Takes note of all that ended.
    fn reap(&mut self) {
        let mut buffer = [0; 1024];
        while rustix::io::read(&self.signals, &mut buffer).is_ok() {}
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let code = status.exit_status().or(status.terminating_signal().map(|s| 128 + s)).unwrap_or(255);
            self.ended(pid, code);
        }
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        let pid = pid.as_raw_nonzero().get();
        let is = |child: &spawn::Child| child.pid == pid;
        if let Some(name) = self.containers.iter().find(|(_, c)| c.process.as_ref().is_some_and(is)).map(|(name, _)| name.clone()) {
            self.progress(&name);
            self.container_ended(&name, code);
        } else if let Some(token) = self.commands.iter().find(|(_, c)| is(&c.process)).map(|(token, _)| *token) {
            self.command_progress(token);
            if let Some(command) = self.commands.remove(&token) {
                if let Some(channel) = command.channel {
                    self.forget(token, channel.as_fd());
                }
                self.reply(command.client, &Reply::Exited(code), &[]);
            }
        }
    }

    fn container_ended(&mut self, name: &str, code: i32) {
        let now = self.clock.now();
        let Some(c) = self.containers.get_mut(name) else { return };
        c.process = None;
        c.deadline = None;
        c.cgroup.kill();
        let out_of_memory = code != 0 && c.cgroup.oom_kills() > 0;
        let outputs: Vec<_> = c.outputs.iter().map(|o| o.token).collect();
        for token in outputs {
            self.copy_output(name, token);
            self.close_output(name, token);
        }
        self.end_sinks(name);
        let Some(c) = self.containers.get_mut(name) else { return };
        c.input = None;
        let s = &mut c.status;
        (s.state, s.pid, s.finished_at) = (ContainerState::Exited, None, Some(now));
        let failed_to_start = c.phase == Phase::Starting;
        s.exit_code = Some(if failed_to_start { 128 } else { code });
        s.reason = Some(match code {
            _ if failed_to_start => ExitReason::StartError,
            _ if out_of_memory => ExitReason::OOMKilled,
            0 => ExitReason::Completed,
            _ => ExitReason::Error,
        });
        let (stoppers, attached) = (std::mem::take(&mut c.stoppers), std::mem::take(&mut c.attached));
        let removing = !c.removers.is_empty();
        if c.phase == Phase::Making {
            self.discard(name);
            return;
        }
        self.publish(name);
        for token in stoppers {
            self.reply(token, &Reply::Done, &[]);
        }
        for token in attached {
            self.reply(token, &Reply::Exited(code), &[]);
        }
        if removing {
            self.try_remove(name);
        }
    }

    /// Reads what a container wrote, as far as it goes.
    pub(super) fn copy_output(&mut self, name: &str, token: u64) {
        let mut buffer = [0; 16 * 1024];
        loop {
            let now = self.clock.now();
            let Some(c) = self.containers.get_mut(name) else { return };
            let Some(output) = c.outputs.iter().find(|o| o.token == token) else { return };
            let stream = output.stream;
            match rustix::io::read(&output.fd, &mut buffer) {
                Ok(n) if n > 0 => {
                    c.log.add(stream, &buffer[..n], now);
                    self.show(name, stream, &buffer[..n]);
                }
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                // A terminal that nobody has open any more says EIO.
                Ok(_) | Err(_) => return self.close_output(name, token),
            }
        }
    }

    fn close_output(&mut self, name: &str, token: u64) {
        let now = self.clock.now();
        let Some(c) = self.containers.get_mut(name) else { return };
        let Some(at) = c.outputs.iter().position(|o| o.token == token) else { return };
        let output = c.outputs.remove(at);
        c.log.end(output.stream, now);
        self.forget(token, output.fd.as_fd());
    }

    fn show(&mut self, name: &str, stream: Stream, bytes: &[u8]) {
        let tokens: Vec<_> = self.sinks.iter().filter(|(_, s)| s.container == name && s.stream == stream).map(|(t, _)| *t).collect();
        for token in tokens {
            if let Some(sink) = self.sinks.get_mut(&token) {
                sink.pending.extend_from_slice(bytes);
            }
            self.flush_sink(token, epoll::EventFlags::empty());
        }
    }

    fn end_sinks(&mut self, name: &str) {
        let tokens: Vec<_> = self.sinks.iter().filter(|(_, s)| s.container == name).map(|(t, _)| *t).collect();
        for token in tokens {
            if let Some(sink) = self.sinks.get_mut(&token) {
                sink.ending = true;
            }
            self.flush_sink(token, epoll::EventFlags::empty());
        }
    }

    /// Writes what a sink takes, and lets go of one that is gone, done or too far behind.
    fn flush_sink(&mut self, token: u64, flags: epoll::EventFlags) {
        let Some(sink) = self.sinks.get_mut(&token) else { return };
        let mut over = flags.intersects(epoll::EventFlags::ERR);
        while !over && !sink.pending.is_empty() {
            match rustix::io::write(&sink.fd, &sink.pending) {
                Ok(n) => drop(sink.pending.drain(..n)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(_) => over = true,
            }
        }
        if over || sink.pending.len() > BEHIND || (sink.ending && sink.pending.is_empty()) {
            if let Some(sink) = self.sinks.remove(&token) {
                self.forget(token, sink.fd.as_fd());
            }
            return;
        }
        let interest = if sink.pending.is_empty() { epoll::EventFlags::empty() } else { epoll::EventFlags::OUT };
        let _ = epoll::modify(&self.epoll, &sink.fd, epoll::EventData::new_u64(token), interest);
    }
}

/// The number of a signal given as `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`; SIGTERM for what isn't known.
fn signal_number(name: &str) -> i32 {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
        "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = |prefix: &str, base: i32, sign: i32| {
        let rest = bare.strip_prefix(prefix)?;
        let offset = if rest.is_empty() { 0 } else { rest.strip_prefix(['+', '-'])?.parse::<i32>().ok()? };
        Some(base + sign * offset)
    };
    let number = bare.parse().ok();
    let named = NAMES.iter().position(|n| *n == bare).map(|i| i as i32 + 1);
    number
        .or(named)
        .or_else(|| real_time("RTMIN", 34, 1))
        .or_else(|| real_time("RTMAX", 64, -1))
        .filter(|n| (1..=64).contains(n))
        .unwrap_or(15)
}

/// Sends any signal by number, real-time ones too, which rustix has no names for.
pub(super) fn send_signal(pidfd: BorrowedFd<'_>, number: i32) -> std::io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: numbers and a null pointer, which stands for no further information.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), number, std::ptr::null::<libc::siginfo_t>(), 0) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Kills a whole group, as a command is in its own.
pub(super) fn signal_group(leader: i32, number: i32) {
    if let (Some(pid), Some(signal)) = (Pid::from_raw(leader), Signal::from_named_raw(number)) {
        // The group may be gone.
        let _ = rustix::process::kill_process_group(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_are_named_in_many_ways() {
        for (name, number) in
            [("SIGQUIT", 3), ("int", 2), ("9", 9), ("", 15), ("SIGRTMIN+3", 37), ("RTMAX", 64), ("SIGRTMAX-1", 63), ("NOPE", 15)]
        {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
