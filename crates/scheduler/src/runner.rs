//! The shell around the machine.

use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use gantry_object::{Resource, Status};
use gantry_reconcile::informer::{Feed, Start, follow};
use gantry_reconcile::{Api, Clock, Params, Recorder, Tasks, WatchEvent, perform};
use tokio::sync::Notify;

use crate::machine::{Job, Machine, NODES, PODS};

/// How many pods are bound at once.
const WORKERS: usize = 256;

/// A scheduler at work. It ends with the `Tasks` it was started on.
#[derive(Clone)]
pub struct Scheduler(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    news: Notify,
    api: Arc<dyn Api>,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

struct State {
    machine: Machine,
    working: usize,
}

impl Scheduler {
    /// Starts scheduling under an identity (upstream: `system:kube-scheduler`).
    pub fn start(api: &Arc<dyn Api>, clock: Arc<dyn Clock>, tasks: &Tasks) -> Self {
        let recorder = Recorder::new("default-scheduler", clock.clone());
        let state = Mutex::new(State { machine: Machine::new(), working: 0 });
        let shared = Shared { state, news: Notify::new(), api: api.clone(), recorder, clock: clock.clone(), tasks: tasks.clone() };
        let scheduler = Self(Arc::new(shared));
        for resource in [NODES, PODS] {
            let feed = Arc::new(Mutex::new(Fed { scheduler: scheduler.clone(), resource }));
            tasks.spawn(follow(api.clone(), resource, String::new(), Params::default(), clock.clone(), feed));
        }
        let main = scheduler.clone();
        tasks.spawn(async move { main.run().await });
        scheduler
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no one panics while holding the machine")
    }

    async fn run(&self) {
        loop {
            while let Some(job) = self.next_job() {
                let scheduler = self.clone();
                self.0.tasks.spawn(async move { scheduler.carry_out(job).await });
            }
            let (due, full) = {
                let state = self.lock();
                (state.machine.next_due(), state.working >= WORKERS)
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

    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        if state.working >= WORKERS {
            return None;
        }
        let job = state.machine.next(self.0.clock.monotonic(), self.0.clock.now())?;
        state.working += 1;
        Some(job)
    }

    async fn carry_out(&self, job: Job) {
        let outcome = perform(&self.0.api, &self.0.recorder, &job.actions).await;
        if let Some(status) = &outcome.failed {
            tracing::debug!(pod = %job.pod, message = %status.message, "scheduling a pod failed");
        }
        let mut state = self.lock();
        state.machine.finish(&job, outcome.failed.is_none());
        state.working -= 1;
        drop(state);
        self.0.news.notify_one();
    }
}

struct Fed {
    scheduler: Scheduler,
    resource: Resource,
}

impl Feed for Fed {
    fn start(&mut self) -> Start {
        self.scheduler.lock().machine.start(&self.resource)
    }

    fn take(&mut self, event: WatchEvent) {
        self.scheduler.lock().machine.take(&self.resource, event);
        self.scheduler.0.news.notify_one();
    }

    fn failed(&mut self, status: &Status) {
        if status.is_expired() {
            self.scheduler.lock().machine.expire(&self.resource);
        }
    }
}
