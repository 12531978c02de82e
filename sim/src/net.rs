//! The way to the API server: an [`Api`] that goes on across the server's deaths, and along which things go wrong.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};

use gantry_apiserver::User;
use gantry_client::{Api, PatchType, Request, Response, Verb, Watch, WatchStream};
use gantry_object::{Revision, Status};
use gantry_ports::BoxFuture;
use serde_json::json;

use crate::process::Process;
use crate::trace::{Sort, Trace};

/// Who can reach the server, and which server that is. Clones share it.
#[derive(Clone)]
pub(crate) struct Net {
    state: Arc<Mutex<State>>,
    trace: Trace,
}

#[derive(Default)]
struct State {
    process: Option<Arc<Process>>,
    cut_off: BTreeSet<String>,
    /// The latest revision that anybody was told of.
    acknowledged: Revision,
    broken_promise: Option<String>,
    meddled: u64,
}

impl Net {
    pub(crate) fn new(trace: &Trace) -> Self {
        Self { state: Arc::default(), trace: trace.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no one panics while holding the net")
    }

    /// Connects everybody to a server, or to none.
    pub(crate) fn connect(&self, process: Option<Arc<Process>>) {
        self.lock().process = process;
    }

    pub(crate) fn process(&self) -> Option<Arc<Process>> {
        self.lock().process.clone()
    }

    /// Takes somebody off the network, or back on.
    pub(crate) fn cut_off(&self, who: &str, cut: bool) {
        let mut state = self.lock();
        if cut {
            state.cut_off.insert(who.to_owned());
        } else {
            state.cut_off.remove(who);
        }
    }

    /// The latest revision that anybody was told was written.
    pub(crate) fn acknowledged(&self) -> Revision {
        self.lock().acknowledged
    }

    /// An acknowledgement of something that was not durable, if there was one.
    pub(crate) fn broken_promise(&self) -> Option<String> {
        self.lock().broken_promise.take()
    }

    /// A client of somebody who lives in a process of their own, which dies when the fuse says so.
    pub(crate) fn line(&self, who: &str, user: User, fuse: &Fuse) -> Arc<dyn Api> {
        Arc::new(Line { net: self.clone(), who: who.to_owned(), user, fuse: fuse.clone() })
    }

    /// The administrator's client, which nothing happens to but what happens to the server.
    pub(crate) fn admin(&self) -> Arc<dyn Api> {
        self.line("admin", User::admin(), &Fuse::default())
    }

    fn reach(&self, who: &str) -> Result<Arc<Process>, Status> {
        let state = self.lock();
        match &state.process {
            Some(process) if !state.cut_off.contains(who) => Ok(process.clone()),
            _ => Err(Status::unavailable("the server cannot be reached")),
        }
    }

    fn note(&self, verb: Verb, response: &Response, durable: Revision) {
        let Response::Object(object) = response else { return };
        let mut state = self.lock();
        if object.revision > durable {
            let what = format!("{verb:?} was answered with revision {} while {durable} is durable", object.revision);
            state.broken_promise.get_or_insert(what);
        }
        state.acknowledged = state.acknowledged.max(object.revision);
    }

    /// Somebody else changes the object that a request is about, just before it.
    async fn meddle(&self, process: &Process, request: &Request) {
        let number = {
            let mut state = self.lock();
            state.meddled += 1;
            state.meddled.to_string()
        };
        let patch = json!({"metadata": {"annotations": {"sim/meddled": number}}});
        let touch = Request::patch(request.resource, &request.namespace, &request.name, PatchType::Merge, &patch);
        // The object may be gone, or the disk: then there is nothing to meddle with.
        if process.server.client(User::admin()).call(touch).await.is_ok() {
            self.trace.count(Sort::Fault, "conflict");
        }
    }
}

/// When somebody's process dies, and when somebody else is faster. Shared by all their clients.
#[derive(Clone, Default)]
pub(crate) struct Fuse(Arc<Mutex<Burning>>);

#[derive(Default)]
struct Burning {
    calls_left: Option<u64>,
    answer_lost: bool,
    dead: bool,
    meddle: bool,
}

enum Fate {
    Fine,
    DeadBefore,
    DeadAfter,
}

impl Fuse {
    fn lock(&self) -> MutexGuard<'_, Burning> {
        self.0.lock().expect("no one panics while holding the fuse")
    }

    /// The process dies at the call after so many; `answer_lost` says whether that call is still carried out.
    pub(crate) fn light(&self, calls: u64, answer_lost: bool) {
        let mut burning = self.lock();
        burning.calls_left = Some(calls);
        burning.answer_lost = answer_lost;
    }

    /// The next write to an object finds that somebody else has just written it.
    pub(crate) fn meddle(&self) {
        self.lock().meddle = true;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Takes back what has not happened yet.
    pub(crate) fn put_out(&self) {
        *self.lock() = Burning::default();
    }

    fn burn(&self) -> Fate {
        let mut burning = self.lock();
        if burning.dead {
            return Fate::DeadBefore;
        }
        match &mut burning.calls_left {
            Some(0) => {
                burning.dead = true;
                if burning.answer_lost { Fate::DeadAfter } else { Fate::DeadBefore }
            }
            Some(left) => {
                *left -= 1;
                Fate::Fine
            }
            None => Fate::Fine,
        }
    }

    fn takes_meddling(&self, request: &Request) -> bool {
        let strikes = matches!(request.verb, Verb::Update | Verb::Patch(_) | Verb::Delete)
            && ["pods", "replicasets", "deployments"].contains(&request.resource.plural);
        strikes && std::mem::take(&mut self.lock().meddle)
    }
}

struct Line {
    net: Net,
    who: String,
    user: User,
    fuse: Fuse,
}

fn died() -> Status {
    Status::unavailable("the process has died")
}

impl Api for Line {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async move {
            let fate = self.fuse.burn();
            if matches!(fate, Fate::DeadBefore) {
                return Err(died());
            }
            let process = self.net.reach(&self.who)?;
            let meddled = self.fuse.takes_meddling(&request);
            let verb = request.verb;
            let client = process.server.client(self.user.clone());
            let mut end = process.end();
            let answer = async {
                if meddled {
                    self.net.meddle(&process, &request).await;
                }
                client.call(request).await
            };
            let answer = gantry_ports::select! {
                answer = answer => answer,
                () = end.wait() => Err(Status::unavailable("the server died before it answered")),
            };
            if let Ok(response) = &answer {
                self.net.note(verb, response, process.store.durable_revision());
            }
            match fate {
                // Carried out or refused: nobody will know.
                Fate::DeadAfter => Err(died()),
                _ => answer,
            }
        })
    }

    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(async move {
            if self.fuse.is_dead() {
                return Err(died());
            }
            let process = self.net.reach(&self.who)?;
            let client = process.server.client(self.user.clone());
            let mut end = process.end();
            gantry_ports::select! {
                stream = client.watch(watch) => stream,
                () = end.wait() => Err(Status::unavailable("the server died before it answered")),
            }
        })
    }
}
