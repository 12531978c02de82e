//! One pod on its node: asks the agent's own `decide`, does one of the steps on the simulated machine, and writes the status.

use std::sync::Arc;
use std::time::Duration;

use gantry_client::{Api, DeleteOptions, PatchType, Preconditions, Request};
use gantry_containers::{ContainerState, ContainerStatus};
use gantry_node::lifecycle::{BackOff, NodeFacts, Observed, Plan, ProbeResults, Sandbox, Step, Volumes, Waiting, decide, status_patch};
use gantry_object::{Status, Timestamp, Value};
use gantry_ports::{Clock, Random, SimulatedClock, Tasks};
use gantry_scheduler::PODS;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::flight::Flight;
use crate::machine::{Machine, Sandboxed};
use crate::node::Wear;
use crate::trace::{Sort, Trace};

/// How long until something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What a worker works with.
pub(crate) struct Bench<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) node: usize,
    pub(crate) api: &'a Arc<dyn Api>,
    pub(crate) tasks: &'a Tasks,
    pub(crate) clock: &'a SimulatedClock,
    pub(crate) trace: &'a Trace,
    pub(crate) wear: &'a Wear,
    pub(crate) chance: &'a dyn Random,
}

impl Bench<'_> {
    fn fails(&self, percent: u64, what: &'static str) -> bool {
        let fails = self.chance.below(100) < percent;
        if fails {
            self.trace.count(Sort::Fault, what);
        }
        fails
    }
}

pub(crate) struct Worker {
    pod: Arc<Pod>,
    observed: Observed,
    written: Option<Value>,
    writing: Option<(Value, Flight<Result<(), Status>>)>,
    forgetting: Option<Flight<Result<(), Status>>>,
    /// Whether the API has forgotten the pod.
    gone: bool,
    /// Nothing has changed since the last decision, which had nothing to do.
    idle: bool,
    recheck: Option<Timestamp>,
    write_after: Timestamp,
}

impl Worker {
    /// A worker for a pod of which the machine may already hold something.
    pub(crate) fn new(pod: Arc<Pod>, there: Option<&Sandboxed>) -> Self {
        let mut observed = Observed::default();
        if let Some(there) = there {
            observed.sandbox = Sandbox::Ready(vec![there.address.clone()]);
            for container in &there.containers {
                if container.state == ContainerState::Running {
                    // Readiness holds on across an agent's restart.
                    let ready = told_ready(&pod, &container.name);
                    observed.probes.insert(container.name.clone(), ProbeResults { ready: Some(ready), ..ProbeResults::default() });
                }
                observed.containers.entry(container.name.clone()).or_default().push(container.clone());
            }
        }
        let time = Timestamp::default();
        Self { pod, observed, written: None, writing: None, forgetting: None, gone: false, idle: false, recheck: None, write_after: time }
    }

    pub(crate) fn hear(&mut self, pod: Arc<Pod>) {
        self.pod = pod;
        self.idle = false;
    }

    /// The API has forgotten the pod: what runs of it ends at once.
    pub(crate) fn forget(&mut self) {
        self.gone = true;
        self.idle = false;
        if self.pod.metadata.deletion_timestamp.is_none() {
            let mut pod = (*self.pod).clone();
            pod.metadata.deletion_timestamp = Some(Time(Default::default()));
            self.pod = Arc::new(pod);
        }
    }

    pub(crate) fn is_over(&self, machine: &Machine) -> bool {
        self.gone && !machine.sandboxes.contains_key(&self.uid()) && self.forgetting.is_none()
    }

    /// What it is at, in words.
    pub(crate) fn tell(&self) -> String {
        let at = match (&self.writing, &self.forgetting) {
            (Some(_), _) => "writes the status",
            (_, Some(_)) => "asks the API to forget the pod",
            _ if self.gone => "knows that the pod is gone",
            _ if self.idle => "has nothing to do",
            _ => "has something to do",
        };
        let due = self.due().map_or_else(|| "never".into(), |at| at.rfc3339());
        format!("whose agent {at}, looks again {due}, runs {:?}", self.observed.containers.keys().collect::<Vec<_>>())
    }

    pub(crate) fn is_writing(&self) -> bool {
        self.writing.is_some() || self.forgetting.is_some()
    }

    pub(crate) fn due(&self) -> Option<Timestamp> {
        let write = (self.write_after > Timestamp::default()).then_some(self.write_after);
        self.recheck.into_iter().chain(write).min()
    }

    fn uid(&self) -> String {
        self.pod.metadata.uid.clone().unwrap_or_default()
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or("")
    }

    /// A container has ended.
    pub(crate) fn ended(&mut self, ended: ContainerStatus) {
        self.idle = false;
        let (name, started) = (ended.name.clone(), ended.started_at.unwrap_or(ended.created_at));
        let finished = ended.finished_at.unwrap_or(started);
        let before: BackOff = self.observed.backoff.get(&name).copied().unwrap_or_default();
        self.observed.backoff.insert(name.clone(), before.after(started, finished));
        self.observed.probes.remove(&name);
        if let Some(known) = self.observed.containers.get_mut(&name).and_then(|all| all.iter_mut().find(|c| c.id == ended.id)) {
            *known = ended;
        }
    }

    /// Does the next thing; says what, if there was anything.
    pub(crate) fn work(&mut self, bench: &mut Bench<'_>) -> Result<Option<String>, String> {
        self.land(bench);
        let now = bench.clock.now();
        if self.write_after > Timestamp::default() && self.write_after <= now {
            self.write_after = Timestamp::default();
            self.idle = false;
        }
        if self.gone && self.is_over(bench.machine) {
            return Ok(None);
        }
        if let Some(what) = self.probe(bench) {
            return Ok(Some(what));
        }
        if self.idle && self.due().is_none_or(|at| now < at) {
            return Ok(None);
        }
        let facts = NodeFacts { host_ips: vec![format!("10.0.0.{}", 10 + bench.node)] };
        let Plan { mut steps, status, recheck_at } = decide(&self.pod, &self.observed, &facts, now);
        self.recheck = recheck_at;
        steps.retain(|s| !matches!(s, Step::Forget) || (self.forgetting.is_none() && !self.gone && self.write_after <= now));
        self.idle = false;
        if !steps.is_empty() {
            let step = steps.swap_remove(bench.chance.below(steps.len() as u64) as usize);
            return self.perform(step, bench).map(Some);
        }
        let written = self.write(status, bench);
        self.idle = written.is_none();
        Ok(written)
    }

    /// Takes note of what became of writes.
    fn land(&mut self, bench: &Bench<'_>) {
        let now = bench.clock.now();
        if let Some((_, flight)) = &mut self.writing
            && let Some(result) = flight.take()
        {
            let written = self.writing.take().map(|(status, _)| status);
            self.idle = false;
            match result {
                Ok(()) => self.written = written,
                Err(_) => self.write_after = now.plus(AGAIN),
            }
        }
        if let Some(result) = self.forgetting.as_mut().and_then(Flight::take) {
            self.forgetting = None;
            self.idle = false;
            match result {
                Err(status) if !status.is_not_found() && !status.is_conflict() => self.write_after = now.plus(AGAIN),
                _ => self.gone = true,
            }
        }
    }

    /// A readiness probe comes to its first verdict, or changes it.
    fn probe(&mut self, bench: &Bench<'_>) -> Option<String> {
        let container = self.pod.spec.as_ref()?.containers.first()?;
        container.readiness_probe.as_ref()?;
        if !self.observed.is_running(&container.name) || self.pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let results = self.observed.probes.entry(container.name.clone()).or_default();
        if results.ready == Some(true) || bench.fails(bench.wear.not_ready, "container not ready") {
            return None;
        }
        results.ready = Some(true);
        self.idle = false;
        bench.trace.count(Sort::Act, "container ready");
        Some(format!("{} is ready", self.name()))
    }

    fn write(&mut self, status: Value, bench: &Bench<'_>) -> Option<String> {
        if self.is_writing() || self.gone || self.write_after > bench.clock.now() || self.written.as_ref() == Some(&status) {
            return None;
        }
        self.write_after = Timestamp::default();
        bench.trace.count(Sort::Act, "write pod status");
        let m = &self.pod.metadata;
        let told = format!("{} is {}", self.name(), status["phase"].as_str().unwrap_or("?"));
        let patch = status_patch(&self.pod, &status);
        let request = Request::patch(PODS, m.namespace.as_deref().unwrap_or(""), self.name(), PatchType::Strategic, &patch).on("status");
        let api = bench.api.clone();
        self.writing = Some((status, Flight::launch(bench.tasks, async move { api.call(request).await.map(drop) })));
        Some(told)
    }

    fn perform(&mut self, step: Step, bench: &mut Bench<'_>) -> Result<String, String> {
        let (uid, now) = (self.uid(), bench.clock.now());
        let told = format!("{}: {step:?}", self.name());
        match step {
            Step::PrepareVolumes => self.observed.volumes = Volumes::Ready,
            Step::StartSandbox if bench.fails(bench.wear.no_sandbox, "sandbox not made") => {
                self.observed.sandbox = Sandbox::Failed(waiting("CreatePodSandboxError", now));
            }
            Step::StartSandbox => {
                bench.trace.count(Sort::Act, "start sandbox");
                self.observed.sandbox = Sandbox::Ready(vec![bench.machine.start_sandbox(&uid, bench.node)?]);
            }
            Step::StartContainer { name, .. } if bench.fails(bench.wear.no_start, "container not started") => {
                self.observed.waiting.insert(name, waiting("ErrImagePull", now));
            }
            Step::StartContainer { name, attempt } => {
                bench.trace.count(Sort::Act, if attempt == 0 { "start container" } else { "restart container" });
                let image = self.pod.spec.as_ref().and_then(|s| s.containers.first()?.image.clone()).unwrap_or_default();
                let status = bench.machine.start(&uid, &name, attempt, &image, now)?;
                self.observed.waiting.remove(&name);
                self.observed.probes.remove(&name);
                self.observed.containers.entry(name).or_default().push(status);
            }
            Step::StopContainer { id, .. } => {
                bench.trace.count(Sort::Act, "stop container");
                bench.machine.end(&id, 0, now).into_iter().for_each(|ended| self.ended(ended));
            }
            Step::RemoveContainer(id) | Step::DiscardContainer { id, .. } => {
                bench.machine.remove(&id);
                self.observed.containers.values_mut().for_each(|all| all.retain(|c| c.id != id));
                self.observed.containers.retain(|_, all| !all.is_empty());
            }
            Step::TearDown => {
                let deleted = self.pod.metadata.deletion_timestamp.is_some();
                self.observed.sandbox = if deleted { Sandbox::Lost } else { Sandbox::None };
                self.observed.volumes = Volumes::None;
                bench.machine.sandboxes.remove(&uid);
            }
            Step::RemoveSandbox => {
                bench.machine.sandboxes.remove(&uid);
                self.observed.sandbox = Sandbox::None;
                self.observed.containers.clear();
                self.observed.probes.clear();
            }
            Step::Forget => self.let_go(bench),
        }
        Ok(told)
    }

    /// Nothing is left here: the API may forget the pod.
    fn let_go(&mut self, bench: &Bench<'_>) {
        bench.trace.count(Sort::Act, "let the API forget a pod");
        self.write_after = Timestamp::default();
        let m = &self.pod.metadata;
        let preconditions = Some(Preconditions { uid: m.uid.clone(), resource_version: None });
        let options = DeleteOptions { grace_period_seconds: Some(0), preconditions, ..DeleteOptions::default() };
        let request = Request::delete(PODS, m.namespace.as_deref().unwrap_or(""), self.name(), &options);
        let api = bench.api.clone();
        self.forgetting = Some(Flight::launch(bench.tasks, async move { api.call(request).await.map(drop) }));
    }
}

fn waiting(reason: &str, now: Timestamp) -> Waiting {
    Waiting { reason: reason.into(), message: "simulated".into(), until: now.plus(Duration::from_secs(5)) }
}

fn told_ready(pod: &Pod, container: &str) -> bool {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.into_iter().flatten().any(|s| s.name == container && s.ready)
}
