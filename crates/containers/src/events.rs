//! State changes of all sandboxes through one epoll, without a task for each.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use gantry_object::Timestamp;
use gantry_ports::Clock;
use rustix::event::{Timespec, epoll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::api::{BoxFuture, Events};
use crate::client::{self, Answers};
use crate::linux::cgroup::Hierarchies;
use crate::linux::passing;
use crate::state::SandboxDir;
use crate::wire::{self, Reply, Request};
use crate::{Error, Event, Result};

/// Connections to all shims, for one listener.
pub(crate) struct Hub {
    epoll: AsyncFd<OwnedFd>,
    root: PathBuf,
    subscriptions: Mutex<BTreeMap<RawFd, Subscription>>,
}

struct Subscription {
    sandbox: String,
    socket: OwnedFd,
    answers: Answers,
}

impl Hub {
    pub(crate) fn new(root: PathBuf) -> Result<Arc<Self>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::system("make epoll"))?;
        // SAFETY: the descriptor is owned by the registration, and never replaced or closed before it.
        let epoll = unsafe { AsyncFd::register_with_interest(epoll, Interest::READABLE) }.map_err(Error::system("watch epoll"))?;
        Ok(Arc::new(Self { epoll, root, subscriptions: Mutex::default() }))
    }

    /// Listens to a sandbox's shim, which begins with all there is. `false` if there is no shim.
    pub(crate) fn subscribe(&self, sandbox: &str) -> Result<bool> {
        let shim = |act| move |source| Error::Shim { sandbox: sandbox.to_owned(), act, source };
        let socket = match client::connect(&self.root.join(sandbox)) {
            Ok(socket) => socket,
            Err(e) if client::is_dead(&e) => return Ok(false),
            Err(e) => return Err(shim("connect")(e)),
        };
        let frame = wire::encode(Request::Subscribe, 0);
        // A new socket's buffer takes so few bytes whole.
        passing::send(&socket, &frame, &[]).map_err(|e| shim("subscribe")(e.into()))?;
        let mut all = self.subscriptions.lock().expect("nothing panics while it holds this lock");
        let key = socket.as_raw_fd();
        epoll::add(self.epoll.get_ref(), &socket, epoll::EventData::new_u64(key as u64), epoll::EventFlags::IN)
            .map_err(Error::system("watch a shim"))?;
        all.insert(key, Subscription { sandbox: sandbox.to_owned(), socket, answers: Answers::default() });
        Ok(true)
    }

    /// Reads what there is. Tells which sandboxes' shims have closed.
    fn drain(&self, out: &mut VecDeque<Event>) -> Result<Vec<String>> {
        let mut events = Vec::with_capacity(64);
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        match epoll::wait(self.epoll.get_ref(), rustix::buffer::spare_capacity(&mut events), Some(&none)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(Error::system("wait for shims")(e)),
        }
        let mut closed = Vec::new();
        let mut all = self.subscriptions.lock().expect("nothing panics while it holds this lock");
        for event in events {
            let key = event.data.u64() as RawFd;
            let Some(s) = all.get_mut(&key) else { continue };
            let open = match s.answers.read(&s.socket) {
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => true,
                other => other.unwrap_or(false),
            };
            while let Some((reply, _)) = s.answers.take() {
                if let Reply::Event(event) = reply {
                    out.push_back(event);
                }
            }
            if !open && let Some(s) = all.remove(&key) {
                closed.push(s.sandbox);
            }
        }
        Ok(closed)
    }
}

/// One listener.
pub(crate) struct Listener {
    pub(crate) hub: Arc<Hub>,
    pub(crate) ready: VecDeque<Event>,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Listener {
    /// What became of a shim that hung up: told to end, gone, or only tired of us.
    fn closed(&mut self, sandbox: String, now: Timestamp) -> Result<()> {
        let directory = SandboxDir(self.hub.root.join(&sandbox));
        if !directory.is_whole() || directory.is_stopped() || self.hub.subscribe(&sandbox)? {
            return Ok(());
        }
        directory.bury(&self.hierarchies, now)?;
        for status in directory.container_statuses()? {
            self.ready.push_back(Event::Container(Box::new(status)));
        }
        self.ready.push_back(Event::SandboxLost { sandbox });
        Ok(())
    }
}

impl Events for Listener {
    fn next<'a>(&'a mut self) -> BoxFuture<'a, Result<Event>> {
        Box::pin(async move {
            loop {
                if let Some(event) = self.ready.pop_front() {
                    return Ok(event);
                }
                let hub = Arc::clone(&self.hub);
                let mut guard = hub.epoll.readable().await.map_err(Error::system("wait for shims"))?;
                // Cleared before reading: what arrives after is then seen as new.
                guard.clear_ready();
                let mut closed = hub.drain(&mut self.ready)?;
                while !closed.is_empty() {
                    for sandbox in closed {
                        self.closed(sandbox, self.clock.now())?;
                    }
                    closed = hub.drain(&mut self.ready)?;
                }
                // Emptied only when a look finds nothing: epoll is told of level, this descriptor of edges.
                loop {
                    let before = self.ready.len();
                    for sandbox in hub.drain(&mut self.ready)? {
                        self.closed(sandbox, self.clock.now())?;
                    }
                    if self.ready.len() == before {
                        break;
                    }
                }
            }
        })
    }
}
