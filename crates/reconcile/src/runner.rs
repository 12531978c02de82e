//! The shell around the machine: watches in, actions out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use gantry_client::informer::{Feed, Start, follow};
use gantry_client::{Api, Params, WatchEvent};
use gantry_object::{Resource, Status};
use gantry_ports::{Clock, Tasks};
use tokio::sync::Notify;

use crate::{Controller, Job, Machine, Recorder, perform};

/// How many decisions are carried out at once, of all controllers together.
const WORKERS: usize = 64;

/// Gives each controller its own voice: from its name to an `Api` under its service account.
pub type Writers<'a> = &'a dyn Fn(&'static str) -> Arc<dyn Api>;

/// Controllers at work. Dropping it stops nothing: end the `Tasks` it was started on.
#[derive(Clone)]
pub struct Runner(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    news: Notify,
    voices: BTreeMap<&'static str, Voice>,
    clock: Arc<dyn Clock>,
    tasks: Tasks,
}

struct State {
    machine: Machine,
    working: usize,
}

#[derive(Clone)]
struct Voice {
    api: Arc<dyn Api>,
    recorder: Arc<Recorder>,
}

impl Runner {
    /// Starts controllers. All watches go through `reader` (upstream: `system:kube-controller-manager`), each controller's writes through
    /// its own voice.
    pub fn start(
        controllers: Vec<Arc<dyn Controller>>,
        reader: &Arc<dyn Api>,
        writers: Writers<'_>,
        clock: Arc<dyn Clock>,
        tasks: &Tasks,
    ) -> Self {
        let voice = |c: &Arc<dyn Controller>| Voice { api: writers(c.name()), recorder: Arc::new(Recorder::new(c.name(), clock.clone())) };
        let voices = controllers.iter().map(|c| (c.name(), voice(c))).collect();
        let state = Mutex::new(State { machine: Machine::new(controllers), working: 0 });
        let runner = Self(Arc::new(Shared { state, news: Notify::new(), voices, clock: clock.clone(), tasks: tasks.clone() }));
        let resources = runner.lock().machine.resources();
        for resource in resources {
            let feed = Arc::new(Mutex::new(Fed { runner: runner.clone(), resource }));
            tasks.spawn(follow(reader.clone(), resource, String::new(), Params::default(), clock.clone(), feed));
        }
        let main = runner.clone();
        tasks.spawn(async move { main.run().await });
        runner
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no one panics while holding the machine")
    }

    /// Looks at the machine, for example at what keys wait for.
    pub fn with<T>(&self, look: impl FnOnce(&mut Machine) -> T) -> T {
        let result = look(&mut self.lock().machine);
        self.0.news.notify_one();
        result
    }

    async fn run(&self) {
        loop {
            while let Some(job) = self.next_job() {
                let runner = self.clone();
                self.0.tasks.spawn(async move { runner.carry_out(job).await });
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
        let voice = self.0.voices.get(job.name).expect("every controller was given a voice");
        let outcome = perform(&voice.api, &voice.recorder, &job.decision.actions).await;
        let mut state = self.lock();
        state.machine.finish(&job, outcome, self.0.clock.monotonic());
        state.working -= 1;
        drop(state);
        self.0.news.notify_one();
    }
}

struct Fed {
    runner: Runner,
    resource: Resource,
}

impl Feed for Fed {
    fn start(&mut self) -> Start {
        self.runner.lock().machine.start(&self.resource)
    }

    fn take(&mut self, event: WatchEvent) {
        self.runner.lock().machine.take(&self.resource, event);
        self.runner.0.news.notify_one();
    }

    fn failed(&mut self, status: &Status) {
        if status.is_expired() {
            self.runner.lock().machine.expire(&self.resource);
        }
    }
}
