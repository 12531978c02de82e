//! API priority and fairness: flow schemas sort requests into priority levels, which share the server's seats; who finds none waits its
//! turn or is sent away.
//!
//! What happens to a request is decided without I/O in [`schema`] (which flow), [`queues`] (whose turn at one level) and [`levels`]
//! (which level has seats). Here is the shell around them: objects followed, requests suspended and woken. Components in this process are
//! not queued: each does a few requests at a time and waits for the answers.
//!
//! See the concept "API Priority and Fairness" of Kubernetes' documentation, and KEP-1040.

mod levels;
mod queues;
mod schema;
mod series;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use gantry_object::{Encoded, Status};
use gantry_ports::HashMap;
use gantry_transport::Response;
use http::HeaderValue;
use tokio::sync::oneshot;

use self::levels::{Levels, PriorityLevel, Seat};
use self::queues::{Full, Ticket};
use self::schema::FlowSchema;
use self::series::Series;
use crate::authorize::{Attributes, Follow, Follower};
use crate::server::Server;
use crate::user::User;

/// How many requests a server executes at once: as many as upstream's limits on reading and on mutating requests allow together.
const SEATS: u32 = 400 + 200;
/// How long a request may wait for a seat: a quarter of the minute that it may take in all.
const PATIENCE: Duration = Duration::from_secs(15);
/// How many objects of a list make a seat, and the most seats a list takes.
const OBJECTS_PER_SEAT: usize = 100;
const WIDEST_LIST: u32 = 10;
/// After how many seconds one who was sent away may try again.
const RETRY_AFTER: i32 = 1;

const SCHEMAS: &str = "flowschemas.flowcontrol.apiserver.k8s.io";
const LEVELS: &str = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io";

/// The stored objects.
#[derive(Default)]
struct Objects {
    schemas: BTreeMap<String, FlowSchema>,
    levels: BTreeMap<String, PriorityLevel>,
    changed: bool,
}

impl Follow for Objects {
    const RESOURCES: &'static [&'static str] = &[SCHEMAS, LEVELS];

    fn apply(&mut self, resource: &str, path: &str, object: Option<&Encoded>) {
        self.changed = true;
        // What was validated decodes; what does not would sort nothing.
        if resource == SCHEMAS {
            self.schemas.remove(path);
            self.schemas.extend(object.and_then(|o| o.decode().ok()).map(|s| (path.to_owned(), s)));
        } else {
            self.levels.remove(path);
            self.levels.extend(object.and_then(|o| o.decode().ok()).map(|l| (path.to_owned(), l)));
        }
    }
}

/// A schema whose level exists.
struct Sorted {
    schema: FlowSchema,
    class: Class,
    series: usize,
}

/// What an answer says of how its request was sorted.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    schema: HeaderValue,
    level: HeaderValue,
}

impl Class {
    /// Says so in an answer.
    pub(crate) fn mark(self, response: &mut Response) {
        response.headers_mut().insert("x-kubernetes-pf-flowschema-uid", self.schema);
        response.headers_mut().insert("x-kubernetes-pf-prioritylevel-uid", self.level);
    }
}

struct State {
    objects: Follower<Objects>,
    /// In the order in which they are asked.
    schemas: Vec<Arc<Sorted>>,
    levels: Levels,
    series: Series,
    waiting: HashMap<Ticket, oneshot::Sender<Seat>>,
    next: Ticket,
}

/// Sorts requests and gives out seats.
pub(crate) struct Fairness(Mutex<State>);

/// A request that has its seat. Dropping it gives the seat back.
pub(crate) struct Permit {
    server: Server,
    seat: Seat,
    series: usize,
    watch: bool,
    began: Duration,
}

/// A request that waits. Dropping it gives up.
struct Waiting {
    server: Server,
    level: Arc<str>,
    ticket: Ticket,
    receive: oneshot::Receiver<Seat>,
    series: usize,
    seats: u32,
    since: Duration,
}

impl Fairness {
    pub(crate) fn new(store: &gantry_store::Store) -> Self {
        Self(Mutex::new(State {
            objects: Follower::new(store),
            schemas: Vec::new(),
            levels: Levels::new(SEATS),
            series: Series::default(),
            waiting: HashMap::default(),
            next: 0,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds this lock")
    }

    /// Everything counted, as text.
    pub(crate) fn write(&self, out: &mut String) {
        let state = self.state();
        state.series.write(out, &state.levels);
    }
}

impl State {
    /// Takes up the objects as they are now.
    fn refresh(&mut self, store: &gantry_store::Store) {
        let objects = self.objects.current(store);
        if !std::mem::take(&mut objects.changed) {
            return;
        }
        self.levels.configure(objects.levels.values());
        self.schemas.clear();
        for schema in objects.schemas.values() {
            let level = &schema.spec.priority_level_configuration.name;
            let uid = |uid: &str| HeaderValue::from_str(uid).ok();
            let level_uid = objects.levels.get(&**level).and_then(|l| uid(&l.metadata.uid));
            // A schema of a level that does not exist sorts nothing.
            let (Some(level_uid), Some(schema_uid)) = (level_uid, uid(&schema.metadata.uid)) else { continue };
            let series = self.series.number(level, &schema.metadata.name);
            let class = Class { schema: schema_uid, level: level_uid };
            self.schemas.push(Arc::new(Sorted { schema: schema.clone(), class, series }));
        }
        self.schemas.sort_by_cached_key(|s| s.schema.order());
        self.wake();
    }

    /// Lets those go on who may.
    fn wake(&mut self) {
        for (ticket, seat) in self.levels.next() {
            // Who gives up leaves the levels and this map at once, so there is somebody to take it.
            if let Some(sender) = self.waiting.remove(&ticket) {
                let _ = sender.send(seat);
            }
        }
    }
}

impl Server {
    /// Sorts a request and gives it a seat, now or when it is its turn.
    ///
    /// The sort is in `class` whatever happens. Without any schema (a cluster that is only being made) there is nothing to wait for.
    ///
    /// # Errors
    /// When there is none and it may not wait, or has waited too long.
    pub(crate) async fn enter(
        &self,
        user: &User,
        what: &Attributes,
        limit: usize,
        class: &mut Option<Class>,
    ) -> Result<Option<Permit>, Status> {
        let now = self.clock().monotonic();
        let watch = what.verb == "watch";
        let (waiting, sorted) = {
            let mut state = self.fairness().state();
            state.refresh(self.store());
            let Some(sorted) = state.schemas.iter().find(|s| s.schema.matches(user, what)).cloned() else { return Ok(None) };
            *class = Some(sorted.class.clone());
            let level = &sorted.schema.spec.priority_level_configuration.name;
            let seats = self.width(what, limit).min(state.levels.widest(level));
            let flow = sorted.schema.flow(user, what);
            state.next += 1;
            let ticket = state.next;
            state.series.flow(sorted.series).arrived(seats);
            match state.levels.arrive(level, ticket, flow, seats) {
                Ok(Some(seat)) => {
                    state.series.flow(sorted.series).began(seats);
                    return Ok(Some(Permit { server: self.clone(), seat, series: sorted.series, watch, began: now }));
                }
                Err(full) => {
                    let why = if full == Full::QueueFull { "queue-full" } else { "concurrency-limit" };
                    state.series.flow(sorted.series).rejected(why);
                    return Err(too_many());
                }
                Ok(None) => {}
            }
            let (send, receive) = oneshot::channel();
            state.waiting.insert(ticket, send);
            let length = state.waiting.len();
            state.series.flow(sorted.series).queued(seats, length);
            let (level, series) = (level.clone(), sorted.series);
            (Waiting { server: self.clone(), level, ticket, receive, series, seats, since: now }, sorted)
        };
        let permit = waiting.seat(watch).await;
        if permit.is_none() {
            self.fairness().state().series.flow(sorted.series).rejected("time-out");
        }
        permit.map(Some).ok_or_else(too_many)
    }

    /// How many seats a request takes: a list takes more the more objects it gives.
    fn width(&self, what: &Attributes, limit: usize) -> u32 {
        if what.verb != "list" || !what.name.is_empty() {
            return 1;
        }
        let resource = gantry_object::GroupResource::new(&what.group, &what.resource).to_string();
        let stored = self.store().snapshot().count(&resource, None, None);
        let given = if limit == 0 { stored } else { stored.min(limit) };
        u32::try_from(given.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(WIDEST_LIST).clamp(1, WIDEST_LIST)
    }
}

fn too_many() -> Status {
    Status::too_many_requests("Too many requests, please try again later.", RETRY_AFTER)
}

impl Waiting {
    /// Waits for a seat, but not for ever.
    async fn seat(mut self, watch: bool) -> Option<Permit> {
        let sleep = self.server.clock().sleep(PATIENCE);
        let seat = gantry_ports::select! {
            seat = &mut self.receive => seat.ok(),
            () = sleep => None,
        }?;
        Some(self.take(seat, watch))
    }

    fn take(&self, seat: Seat, watch: bool) -> Permit {
        let now = self.server.clock().monotonic();
        let mut state = self.server.fairness().state();
        let flow = state.series.flow(self.series);
        flow.unqueued(self.seats, now.saturating_sub(self.since), true);
        flow.began(self.seats);
        Permit { server: self.server.clone(), seat, series: self.series, watch, began: now }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It was given its seat and took it, or is given none any more once the lock is had.
        let mut state = self.server.fairness().state();
        let late = self.receive.try_recv();
        match late {
            Ok(seat) => state.levels.finish(&seat, Duration::ZERO),
            Err(oneshot::error::TryRecvError::Empty) => {
                state.waiting.remove(&self.ticket);
                state.levels.abandon(&self.level, self.ticket);
            }
            Err(oneshot::error::TryRecvError::Closed) => return,
        }
        let waited = self.server.clock().monotonic().saturating_sub(self.since);
        state.series.flow(self.series).unqueued(self.seats, waited, false);
        state.wake();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let took = self.server.clock().monotonic().saturating_sub(self.began);
        let mut state = self.server.fairness().state();
        state.series.flow(self.series).ended(self.seat.width(), took, self.watch);
        state.levels.finish(&self.seat, took);
        state.wake();
    }
}
