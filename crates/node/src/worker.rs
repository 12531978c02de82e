//! One pod's worker: takes in what happens, decides, performs steps, tells the API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_client::{DeleteOptions, Preconditions, Request};
use gantry_containers::{ContainerState, ContainerStatus, SandboxState};
use gantry_object::{Status, Timestamp, Value};
use gantry_reconcile::EventKind;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::lifecycle::{BackOff, Observed, ProbeResults, Sandbox, Step, Volumes, Waiting, decide};
use crate::probe::{Counter, ProbeKind, ask};
use crate::shared::{PODS, Shared};
use crate::steps::{Steps, find_container};

/// How long until a write that failed is tried again.
const WRITE_AGAIN: Duration = Duration::from_secs(1);

/// Something a worker hears.
#[derive(Debug)]
pub(crate) enum Message {
    /// The pod as the API has it now.
    Pod(Arc<Pod>),
    /// The API has forgotten the pod.
    Gone,
    /// A container changed.
    Container(Box<ContainerStatus>),
    /// The sandbox's shim is gone.
    SandboxLost,
    /// A step ended.
    Done(Outcome),
    /// A probe came to a verdict about an attempt of a container.
    Verdict { name: String, attempt: u32, kind: ProbeKind, passed: bool },
    /// The status was written, or not.
    Written(Result<Value, Box<Status>>),
}

/// How a step ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Volumes(Result<(), Waiting>),
    Sandbox(Result<Vec<String>, Waiting>),
    SandboxRemoved(Result<(), String>),
    Started(String, Result<Option<Box<ContainerStatus>>, Waiting>),
    Stopped(String, Option<Box<ContainerStatus>>),
    Removed(gantry_containers::ContainerId),
    /// What was never started is gone.
    Discarded(String, gantry_containers::ContainerId),
    TornDown(Result<(), String>),
    Forgotten(Result<(), String>),
}

/// What the API last heard of a container.
fn told_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a k8s_openapi::api::core::v1::ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses];
    lists.into_iter().flatten().flatten().find(|s| s.name == name)
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    observed: Observed,
    inbox: mpsc::UnboundedReceiver<Message>,
    own: mpsc::UnboundedSender<Message>,
    written: Option<Value>,
    writing: bool,
    write_after: Timestamp,
    probes: BTreeMap<String, (u32, Vec<AbortHandle>)>,
    refresh_volumes_at: Option<Timestamp>,
    /// Set while a deletion is being reported, so that it happens once.
    forgetting: bool,
    gone: bool,
    tearing: bool,
}

impl Worker {
    /// A worker for a pod; `adopted` is what the runtime had of it when the agent started.
    pub(crate) fn new(
        shared: Arc<Shared>,
        pod: Arc<Pod>,
        adopted: Option<gantry_containers::SandboxStatus>,
        inbox: mpsc::UnboundedReceiver<Message>,
        own: mpsc::UnboundedSender<Message>,
    ) -> Self {
        let mut observed = Observed::default();
        if let Some(sandbox) = adopted {
            let told = pod.status.as_ref().and_then(|s| s.pod_ips.clone()).unwrap_or_default();
            observed.sandbox = match sandbox.state {
                SandboxState::Ready => Sandbox::Ready(told.into_iter().map(|ip| ip.ip).collect()),
                SandboxState::NotReady => Sandbox::Lost,
            };
            for container in sandbox.containers {
                // Readiness holds on until the probes say otherwise: an agent's restart must not take a pod out of its services.
                if let Some(told) = told_of(&pod, &container.name).filter(|_| container.state == ContainerState::Running) {
                    let results = ProbeResults { started: told.started, ready: Some(told.ready), live: None };
                    observed.probes.insert(container.name.clone(), results);
                }
                observed.containers.entry(container.name.clone()).or_default().push(container);
            }
        }
        Self {
            shared,
            pod,
            observed,
            inbox,
            own,
            written: None,
            writing: false,
            write_after: Timestamp::default(),
            probes: BTreeMap::new(),
            refresh_volumes_at: None,
            forgetting: false,
            gone: false,
            tearing: false,
        }
    }

    /// Lives as long as the pod has anything on the node.
    pub(crate) async fn run(mut self) {
        // An adopted sandbox's addresses are asked for again: the status may never have been written.
        if matches!(&self.observed.sandbox, Sandbox::Ready(_)) {
            self.look_again().await;
        }
        if matches!(&self.observed.sandbox, Sandbox::Ready(_)) {
            self.adopt_network().await;
            let running: Vec<ContainerStatus> = self.observed.containers.values().filter_map(|a| a.last()).cloned().collect();
            running.iter().filter(|c| c.state == ContainerState::Running).for_each(|c| self.start_probes(c));
        }
        loop {
            let wake = self.act();
            if self.gone && self.observed.sandbox == Sandbox::None && self.observed.containers.is_empty() && !self.tearing {
                return;
            }
            let message = match wake {
                None => self.inbox.recv().await,
                Some(at) => {
                    let pause = self.shared.clock.sleep(at.since(self.shared.now()).max(Duration::from_millis(1)));
                    gantry_ports::select! {
                        message = self.inbox.recv() => message,
                        () = pause => continue,
                    }
                }
            };
            let Some(message) = message else { return };
            self.hear(message);
            while let Ok(more) = self.inbox.try_recv() {
                self.hear(more);
            }
        }
    }

    /// What was adopted was seen when the agent started, and what happened since was told to nobody: a container that its predecessor had just
    /// asked for may run by now.
    async fn look_again(&mut self) {
        match self.shared.runtime.sandbox_status(&self.uid()).await {
            Ok(sandbox) => {
                if sandbox.state == SandboxState::NotReady {
                    self.observed.sandbox = Sandbox::Lost;
                }
                for container in sandbox.containers {
                    let attempts = self.observed.containers.entry(container.name.clone()).or_default();
                    attempts.retain(|c| c.attempt != container.attempt);
                    attempts.push(container);
                    attempts.sort_by_key(|c| c.attempt);
                }
            }
            Err(error) => tracing::warn!(pod = self.uid(), error = gantry_object::chain(&error), "looking at an adopted sandbox"),
        }
    }

    async fn adopt_network(&mut self) {
        let host_network = self.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let ips = match host_network {
            true => Ok(self.shared.host_ips()),
            false => {
                let (network, uid) = (self.shared.network.clone(), self.uid());
                self.shared.tasks.blocking(move || network.attach(&uid)).await.map(|l| l.addresses)
            }
        };
        match ips {
            Ok(ips) => self.observed.sandbox = Sandbox::Ready(ips),
            Err(why) => tracing::warn!(pod = self.uid(), why, "adopting a pod's network"),
        }
    }

    fn uid(&self) -> String {
        self.pod.metadata.uid.clone().unwrap_or_default()
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => {
                let (old, new) = (&self.pod.metadata, &pod.metadata);
                if self.refresh_volumes_at.is_some() && (&old.labels, &old.annotations) != (&new.labels, &new.annotations) {
                    // Volumes may show these, and touching an annotation is how one asks for a look at the others.
                    self.refresh_volumes_at = Some(self.shared.now());
                }
                self.pod = pod;
            }
            Message::Gone => {
                self.gone = true;
                if self.pod.metadata.deletion_timestamp.is_none() {
                    // Forced out of the API: what runs here ends at once.
                    let mut pod = (*self.pod).clone();
                    pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Default::default()));
                    self.pod = Arc::new(pod);
                }
            }
            Message::Container(status) => self.container_changed(*status),
            Message::SandboxLost => {
                self.observed.sandbox = Sandbox::Lost;
                self.stop_probes();
            }
            Message::Done(outcome) => self.step_done(outcome),
            Message::Verdict { name, attempt, kind, passed } => self.verdict(&name, attempt, kind, passed),
            Message::Written(Ok(status)) => {
                self.writing = false;
                self.written = Some(status);
            }
            Message::Written(Err(status)) => {
                self.writing = false;
                if !status.is_not_found() && !status.is_conflict() {
                    tracing::warn!(pod = self.uid(), %status, "writing a pod's status");
                }
                self.write_after = self.shared.now().plus(WRITE_AGAIN);
            }
        }
    }

    fn steps(&self) -> Steps {
        let pod_ips = match &self.observed.sandbox {
            Sandbox::Ready(ips) => ips.clone(),
            _ => Vec::new(),
        };
        Steps { shared: self.shared.clone(), pod: self.pod.clone(), pod_ips }
    }

    fn container_changed(&mut self, mut status: ContainerStatus) {
        if status.state == ContainerState::Exited && status.message.is_empty() {
            status.message = self.steps().last_words(&status);
        }
        let name = status.name.clone();
        let attempts = self.observed.containers.entry(name.clone()).or_default();
        let known = attempts.iter().position(|c| c.attempt == status.attempt);
        let was_running = known.is_some_and(|i| attempts[i].state != ContainerState::Exited) || known.is_none();
        match known {
            // News may arrive out of order; what has ended does not run again.
            Some(i) if attempts[i].state == ContainerState::Exited => return,
            Some(i) if attempts[i].state == ContainerState::Running && status.state == ContainerState::Created => return,
            Some(i) => attempts[i] = status.clone(),
            None => {
                attempts.push(status.clone());
                attempts.sort_by_key(|c| c.attempt);
            }
        }
        match status.state {
            ContainerState::Exited if was_running => {
                let backoff = self.observed.backoff.get(&name).copied().unwrap_or_default();
                let started = status.started_at.unwrap_or(status.created_at);
                let next: BackOff = backoff.after(started, status.finished_at.unwrap_or(self.shared.now()));
                self.observed.backoff.insert(name.clone(), next);
                self.observed.probes.remove(&name);
                self.probes.remove(&name).into_iter().flat_map(|(_, tasks)| tasks).for_each(|t| t.abort());
            }
            ContainerState::Running => self.start_probes(&status),
            _ => {}
        }
    }

    /// What a step saw of a container when it ended: the runtime's own event may still be on its way.
    fn container_known(&mut self, status: Option<Box<ContainerStatus>>) {
        if let Some(status) = status {
            self.container_changed(*status);
        }
    }

    fn forget_container(&mut self, id: &gantry_containers::ContainerId) {
        for attempts in self.observed.containers.values_mut() {
            attempts.retain(|c| c.id != *id);
        }
        self.observed.containers.retain(|_, attempts| !attempts.is_empty());
    }

    fn stop_probes(&mut self) {
        for (_, (_, tasks)) in std::mem::take(&mut self.probes) {
            tasks.iter().for_each(AbortHandle::abort);
        }
    }

    fn step_done(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Volumes(result) => {
                self.observed.volumes = result.map_or_else(Volumes::Failed, |()| Volumes::Ready);
                self.refresh_volumes_at = self.steps().refreshes_volumes();
            }
            Outcome::Sandbox(result) => self.observed.sandbox = result.map_or_else(Sandbox::Failed, Sandbox::Ready),
            Outcome::SandboxRemoved(Ok(())) => {
                self.observed.sandbox = Sandbox::None;
                self.observed.containers.clear();
                self.observed.probes.clear();
            }
            Outcome::Started(name, result) => {
                self.observed.busy.remove(&name);
                match result {
                    Ok(status) => {
                        self.observed.waiting.remove(&name);
                        self.container_known(status);
                    }
                    Err(waiting) => self.wait_longer(name, waiting),
                }
            }
            Outcome::Stopped(name, status) => {
                self.observed.busy.remove(&name);
                self.container_known(status);
            }
            Outcome::Removed(id) => self.forget_container(&id),
            Outcome::Discarded(name, id) => {
                self.observed.busy.remove(&name);
                self.forget_container(&id);
            }
            Outcome::TornDown(result) => {
                self.tearing = false;
                match result {
                    // The runtime keeps what it knows of the containers; there is nothing more to take away.
                    Ok(()) => {
                        self.observed.sandbox = Sandbox::None;
                        self.observed.volumes = Volumes::None;
                        if self.pod.metadata.deletion_timestamp.is_some() {
                            self.observed.sandbox = Sandbox::Lost;
                        }
                    }
                    Err(why) => self.try_again("taking a pod away", &why),
                }
            }
            Outcome::SandboxRemoved(Err(why)) => {
                self.observed.sandbox = Sandbox::Lost;
                self.try_again("removing a sandbox", &why);
            }
            Outcome::Forgotten(result) => {
                self.forgetting = false;
                match result {
                    Ok(()) => self.gone = true,
                    Err(why) => self.try_again("removing a pod's last traces", &why),
                }
            }
        }
    }

    /// A start that fails again and again is tried less and less often.
    fn wait_longer(&mut self, name: String, mut waiting: Waiting) {
        let pulls = waiting.reason == "ErrImagePull";
        let before = self.observed.waiting.get(&name).filter(|w| w.reason == waiting.reason || pulls && w.reason == "ImagePullBackOff");
        if before.is_some() {
            let backoff = self.observed.backoff.entry(name.clone()).or_default();
            *backoff = backoff.after(self.shared.now(), self.shared.now());
            waiting.until = backoff.until.max(waiting.until);
            if pulls {
                waiting.reason = "ImagePullBackOff".into();
                waiting.message = format!("Back-off pulling image: {}", waiting.message);
            }
        }
        self.observed.waiting.insert(name, waiting);
    }

    fn try_again(&mut self, what: &str, why: &str) {
        tracing::warn!(pod = self.uid(), why, "{what} failed and is tried again");
        self.write_after = self.shared.now().plus(WRITE_AGAIN);
    }

    fn verdict(&mut self, name: &str, attempt: u32, kind: ProbeKind, passed: bool) {
        if self.observed.newest(name).is_none_or(|c| c.attempt != attempt || c.state != ContainerState::Running) {
            return;
        }
        let results = self.observed.probes.entry(name.to_owned()).or_default();
        match (kind, passed) {
            (ProbeKind::Startup, true) => results.started = Some(true),
            (ProbeKind::Startup, false) => results.live = Some(false),
            (ProbeKind::Readiness, passed) => results.ready = Some(passed),
            (ProbeKind::Liveness, passed) => results.live = Some(passed),
        }
    }

    /// Starts the probes of a container that runs, each as a task of its own.
    fn start_probes(&mut self, status: &ContainerStatus) {
        if self.probes.get(&status.name).is_some_and(|(attempt, _)| *attempt == status.attempt) {
            return;
        }
        let Some(container) = find_container(&self.pod, &status.name).cloned() else { return };
        let mut tasks = Vec::new();
        for kind in [ProbeKind::Startup, ProbeKind::Readiness, ProbeKind::Liveness] {
            let Some(probe) = kind.of(&container).cloned() else { continue };
            let (steps, own, container, status) = (self.steps(), self.own.clone(), container.clone(), status.clone());
            // The others wait until the container has started.
            let waits_for_startup = kind != ProbeKind::Startup && container.startup_probe.is_some();
            tasks.push(self.shared.tasks.spawn(async move {
                let seconds =
                    |s: Option<i32>, least: i32, default: i32| Duration::from_secs(s.unwrap_or(default).max(least).unsigned_abs().into());
                let shared = steps.shared.clone();
                if waits_for_startup {
                    let startup = container.startup_probe.clone().unwrap_or_default();
                    while ask(&shared, &steps.pod_ips, &container, &status.id, &startup).await.is_err() {
                        shared.clock.sleep(seconds(startup.period_seconds, 1, 10)).await;
                    }
                }
                shared.clock.sleep(seconds(probe.initial_delay_seconds, 0, 0)).await;
                let mut counter = Counter::default();
                loop {
                    let result = ask(&shared, &steps.pod_ips, &container, &status.id, &probe).await;
                    if let Err(why) = &result {
                        let message = format!("{} probe failed: {why}", kind.name());
                        shared.event(&steps.pod, EventKind::Warning, "Unhealthy", message);
                    }
                    if let Some(passed) = counter.take(result.is_ok(), &probe) {
                        let (name, attempt) = (status.name.clone(), status.attempt);
                        let ends = kind == ProbeKind::Startup && passed;
                        if own.send(Message::Verdict { name, attempt, kind, passed }).is_err() || ends {
                            return;
                        }
                    }
                    shared.clock.sleep(seconds(probe.period_seconds, 1, 10)).await;
                }
            }));
        }
        self.probes.insert(status.name.clone(), (status.attempt, tasks));
    }

    /// Decides, starts the steps, writes the status; says when to look again.
    fn act(&mut self) -> Option<Timestamp> {
        let now = self.shared.now();
        if self.observed.volumes == Volumes::Ready && self.refresh_volumes_at.is_some_and(|at| at <= now) {
            self.refresh_volumes_at = None;
            self.spawn(|steps| async move { Outcome::Volumes(steps.prepare_volumes().await) });
        }
        let plan = decide(&self.pod, &self.observed, &self.shared.node_facts(), now);
        for step in plan.steps {
            self.begin(step);
        }
        let mut wake = plan.recheck_at;
        let mut at = |t: Option<Timestamp>| {
            if let Some(t) = t {
                wake = Some(wake.map_or(t, |w| w.min(t)));
            }
        };
        at(self.refresh_volumes_at);
        if self.write_after > now {
            at(Some(self.write_after));
        } else {
            self.write(plan.status);
        }
        wake
    }

    fn write(&mut self, status: Value) {
        if self.writing || self.gone || self.forgetting || self.written.as_ref() == Some(&status) {
            return;
        }
        self.writing = true;
        let (shared, pod, own) = (self.shared.clone(), self.pod.clone(), self.own.clone());
        self.shared.tasks.spawn(async move {
            let written = shared.write_status(&pod, &status).await.map(|()| status).map_err(Box::new);
            // A worker that is gone needs no answer.
            let _ = own.send(Message::Written(written));
        });
    }

    fn spawn<F: Future<Output = Outcome> + Send + 'static>(&self, step: impl FnOnce(Steps) -> F) {
        let (work, own) = (step(self.steps()), self.own.clone());
        self.shared.tasks.spawn(async move {
            let outcome = work.await;
            let _ = own.send(Message::Done(outcome));
        });
    }

    fn begin(&mut self, step: Step) {
        if self.write_after > self.shared.now() && matches!(step, Step::TearDown | Step::RemoveSandbox | Step::Forget) {
            return;
        }
        match step {
            Step::PrepareVolumes => {
                self.observed.volumes = Volumes::Busy;
                self.spawn(|steps| async move { Outcome::Volumes(steps.prepare_volumes().await) });
            }
            Step::StartSandbox => {
                self.observed.sandbox = Sandbox::Busy;
                self.spawn(|steps| async move { Outcome::Sandbox(steps.start_sandbox().await) });
            }
            Step::RemoveSandbox => {
                self.observed.sandbox = Sandbox::Busy;
                self.spawn(|steps| async move { Outcome::SandboxRemoved(steps.remove_sandbox().await) });
            }
            Step::StartContainer { name, attempt } => {
                self.observed.busy.insert(name.clone());
                self.spawn(|steps| async move {
                    let result = steps.start_container(&name, attempt).await;
                    Outcome::Started(name, result)
                });
            }
            Step::StopContainer { id, name, grace, reason } => {
                self.observed.busy.insert(name.clone());
                self.spawn(|steps| async move {
                    steps.stop_container(&id, &name, grace, reason).await;
                    let status = steps.shared.runtime.container_status(&id).await.ok().map(Box::new);
                    Outcome::Stopped(name, status)
                });
            }
            Step::RemoveContainer(id) => self.spawn(|steps| async move {
                if let Err(error) = steps.shared.runtime.remove_container(&id).await {
                    tracing::warn!(container = %id, error = gantry_object::chain(&error), "removing a container");
                }
                Outcome::Removed(id)
            }),
            Step::DiscardContainer { id, name } => {
                self.observed.busy.insert(name.clone());
                self.spawn(|steps| async move {
                    match steps.shared.runtime.discard_container(&id).await {
                        Ok(()) => Outcome::Discarded(name, id),
                        // It was told to start after all: by now it may be known how it is.
                        Err(error) => {
                            tracing::info!(container = %id, error = gantry_object::chain(&error), "leaving a container of an earlier agent");
                            Outcome::Stopped(name, steps.shared.runtime.container_status(&id).await.ok().map(Box::new))
                        }
                    }
                });
            }
            Step::TearDown if !self.tearing => {
                self.tearing = true;
                self.stop_probes();
                self.spawn(|steps| async move { Outcome::TornDown(steps.tear_down().await) });
            }
            Step::Forget if !self.forgetting && !self.gone => self.forget(),
            Step::TearDown | Step::Forget => {}
        }
    }

    /// Removes the last traces, then lets the API forget the pod.
    fn forget(&mut self) {
        self.forgetting = true;
        self.spawn(|steps| async move {
            if let Err(why) = steps.erase().await {
                return Outcome::Forgotten(Err(why));
            }
            let m = &steps.pod.metadata;
            let preconditions = Preconditions { uid: m.uid.clone(), resource_version: None };
            let options = DeleteOptions { grace_period_seconds: Some(0), preconditions: Some(preconditions), ..DeleteOptions::default() };
            let request = Request::delete(PODS, m.namespace.as_deref().unwrap_or(""), m.name.as_deref().unwrap_or(""), &options);
            Outcome::Forgotten(match steps.shared.api.call(request).await {
                Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status.message),
                _ => Ok(()),
            })
        });
    }
}
