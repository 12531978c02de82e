//! The shell around a machine that decides: watches in, actions out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;
use std::time::Duration;

use gantry_client::informer::{Feed, Start, follow};
use gantry_client::{Api, Params, WatchEvent};
use gantry_object::{Resource, Status, Timestamp};
use gantry_ports::{AbortHandle, Clock, Tasks};
use tokio::sync::Notify;

use crate::{Action, Following, Outcome, Recorder, perform};

/// What a [`Shell`] drives. It is fed with events, asked for jobs, and told how they ended; it does no I/O and knows no clock.
pub trait Work: Send + 'static {
    /// Something to be carried out.
    type Job: Send + Sync + 'static;

    /// How a resource is to be followed from here.
    fn start(&mut self, resource: &Resource) -> Start;

    /// Takes an event of a resource.
    fn take(&mut self, resource: &Resource, event: WatchEvent);

    /// What is to be followed as well, or no more, since this was last asked.
    fn following(&mut self) -> Vec<Following> {
        Vec::new()
    }

    /// The server refused to tell about a resource; it will be asked again.
    fn refused(&mut self, _resource: &Resource) {}

    /// A resource's history is gone: it is listed anew.
    fn expire(&mut self, resource: &Resource);

    /// The next job, given the time on both clocks.
    fn next(&mut self, monotonic: Duration, now: Timestamp) -> Option<Self::Job>;

    /// When there may be a job without news.
    fn next_due(&self) -> Option<Duration>;

    /// Whose voice a job is carried out in, and what is done.
    fn actions(job: &Self::Job) -> (&'static str, &[Action]);

    /// Says how a job went.
    fn finish(&mut self, job: &Self::Job, outcome: Outcome, monotonic: Duration);
}

/// Who speaks: an identity's client, and its events.
#[derive(Clone)]
pub struct Voice {
    api: Arc<dyn Api>,
    recorder: Arc<Recorder>,
}

impl Voice {
    /// The voice of a component that records events under this name.
    pub fn new(api: Arc<dyn Api>, name: &'static str, clock: Arc<dyn Clock>) -> Self {
        Self { api, recorder: Arc::new(Recorder::new(name, clock)) }
    }
}

/// A machine at work. Dropping it stops nothing: end the `Tasks` it was started on.
pub struct Shell<W: Work>(Arc<Shared<W>>);

impl<W: Work> Clone for Shell<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Shared<W> {
    state: Mutex<State<W>>,
    news: Notify,
    workers: usize,
    voices: BTreeMap<&'static str, Voice>,
    reader: Arc<dyn Api>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

struct State<W> {
    work: W,
    working: usize,
    /// What is followed for as long as it is served.
    follows: BTreeMap<Resource, AbortHandle>,
}

impl<W: Work> Shell<W> {
    /// Sets a machine to work: it is fed with these resources through `reader`, and so many of its jobs are carried out at once.
    pub fn start(
        work: W,
        workers: usize,
        resources: Vec<Resource>,
        reader: &Arc<dyn Api>,
        voices: BTreeMap<&'static str, Voice>,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Self {
        let state = Mutex::new(State { work, working: 0, follows: BTreeMap::new() });
        let (reader, tasks) = (reader.clone(), tasks.clone());
        let shell = Self(Arc::new(Shared { state, news: Notify::new(), workers, voices, reader, clock, tasks: tasks.clone() }));
        for resource in resources {
            shell.follow(resource);
        }
        let main = shell.clone();
        tasks.spawn(async move { main.run().await });
        shell
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.0.state.lock().expect("no one panics while holding the machine")
    }

    fn follow(&self, resource: Resource) -> AbortHandle {
        let shared = &self.0;
        let feed = Arc::new(Mutex::new(Fed { shell: self.clone(), resource }));
        shared.tasks.spawn(follow(shared.reader.clone(), resource, String::new(), Params::default(), shared.clock.clone(), feed))
    }

    async fn run(&self) {
        loop {
            while let Some(job) = self.next_job() {
                let shell = self.clone();
                self.0.tasks.spawn(async move { shell.carry_out(job).await });
            }
            let (due, full) = {
                let state = self.lock();
                (state.work.next_due(), state.working >= self.0.workers)
            };
            let Some(due) = due.filter(|_| !full) else {
                self.0.news.notified().await;
                continue;
            };
            let wait = due.saturating_sub(self.0.clock.monotonic());
            if wait.is_zero() {
                continue;
            }
            let mut news = std::pin::pin!(self.0.news.notified());
            let mut sleep = self.0.clock.sleep(wait);
            std::future::poll_fn(|cx| if news.as_mut().poll(cx).is_ready() { Poll::Ready(()) } else { sleep.as_mut().poll(cx) }).await;
        }
    }

    fn next_job(&self) -> Option<W::Job> {
        let mut state = self.lock();
        if state.working >= self.0.workers {
            return None;
        }
        let job = state.work.next(self.0.clock.monotonic(), self.0.clock.now())?;
        state.working += 1;
        Some(job)
    }

    async fn carry_out(&self, job: W::Job) {
        let (name, actions) = W::actions(&job);
        let voice = self.0.voices.get(name).expect("whoever has jobs was given a voice");
        let outcome = perform(&voice.api, &voice.recorder, actions).await;
        let mut state = self.lock();
        state.work.finish(&job, outcome, self.0.clock.monotonic());
        state.working -= 1;
        drop(state);
        self.0.news.notify_one();
    }
}

struct Fed<W: Work> {
    shell: Shell<W>,
    resource: Resource,
}

impl<W: Work> Feed for Fed<W> {
    fn start(&mut self) -> Start {
        self.shell.lock().work.start(&self.resource)
    }

    fn take(&mut self, event: WatchEvent) {
        let mut state = self.shell.lock();
        state.work.take(&self.resource, event);
        for change in state.work.following() {
            match change {
                Following::Begins(resource) => {
                    let task = self.shell.follow(resource);
                    state.follows.insert(resource, task);
                }
                Following::Ends(resource) => {
                    state.follows.remove(&resource).iter().for_each(AbortHandle::abort);
                }
            }
        }
        drop(state);
        self.shell.0.news.notify_one();
    }

    fn failed(&mut self, status: &Status) {
        match status.is_expired() {
            true => self.shell.lock().work.expire(&self.resource),
            false => self.shell.lock().work.refused(&self.resource),
        }
    }
}
