//! Controllers and scheduler, each in a process of its own or several in one: caches fed by unreliable watches, decisions carried out
//! through the real API while other things happen.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_apiserver::User;
use gantry_client::informer::Start;
use gantry_client::{Api, Params, WatchEvent};
use gantry_controllers::deployment::Deployments;
use gantry_controllers::endpointslice::EndpointSlices;
use gantry_controllers::garbage::Garbage;
use gantry_controllers::nodelifecycle::{NodeLifecycle, TaintEvictions};
use gantry_controllers::podgc::PodGc;
use gantry_controllers::replicaset::ReplicaSets;
use gantry_object::{Resource, Timestamp};
use gantry_ports::{Clock, Random, SimulatedClock, Tasks};
use gantry_reconcile::{Action, Controller, Machine, Outcome, Recorder, Work, perform};
use gantry_scheduler::{Machine as Scheduling, NODES, PODS};

use crate::acts;
use crate::feed::{Fed, Feed, Weather};
use crate::flight::Flight;
use crate::net::{Fuse, Net};
use crate::trace::{Sort, Trace};

/// How many decisions of one process are carried out at once.
const WORKERS: usize = 3;
/// A node that is silent for so long counts as unreachable.
const NODE_GRACE: Duration = Duration::from_secs(30);

pub(crate) const DEPLOYMENTS: Resource = Resource::namespaced("apps", "v1", "deployments", "Deployment");
pub(crate) const SETS: Resource = Resource::namespaced("apps", "v1", "replicasets", "ReplicaSet");
pub(crate) const SERVICES: Resource = Resource::namespaced("", "v1", "services", "Service");

/// The processes that work for the cluster, by name: each controller alone, or all in one as in the binary.
pub(crate) fn names(together: bool) -> &'static [&'static str] {
    match together {
        true => &["controllers", "scheduler"],
        false => &["deployment", "replicaset", "garbage", "nodelifecycle", "taints", "podgc", "endpointslice", "scheduler"],
    }
}

fn controllers(name: &str, started: Timestamp) -> Vec<Arc<dyn Controller>> {
    let collected = [DEPLOYMENTS, SETS, PODS, SERVICES];
    let all: Vec<(&str, Arc<dyn Controller>)> = vec![
        ("deployment", Arc::new(Deployments)),
        ("replicaset", Arc::new(ReplicaSets)),
        ("garbage", Arc::new(Garbage::new(&collected))),
        ("nodelifecycle", Arc::new(NodeLifecycle::new(NODE_GRACE, started))),
        ("taints", Arc::new(TaintEvictions)),
        ("podgc", Arc::new(PodGc::new(10))),
        ("endpointslice", Arc::new(EndpointSlices)),
    ];
    all.into_iter().filter(|(n, _)| name == "controllers" || *n == name).map(|(_, c)| c).collect()
}

/// What a component knows. The scheduler's machine is another than the controllers'.
enum Brain {
    Controllers(Box<Machine>),
    Scheduler(Box<Scheduling>),
}

impl Fed for Brain {
    fn start(&mut self, resource: &Resource) -> Start {
        match self {
            Self::Controllers(machine) => machine.start(resource),
            Self::Scheduler(machine) => machine.start(resource),
        }
    }

    fn take(&mut self, resource: &Resource, event: WatchEvent) {
        match self {
            Self::Controllers(machine) => machine.take(resource, event),
            Self::Scheduler(machine) => machine.take(resource, event),
        }
    }

    fn expire(&mut self, resource: &Resource) {
        match self {
            Self::Controllers(machine) => machine.expire(resource),
            Self::Scheduler(machine) => machine.expire(resource),
        }
    }
}

enum Job {
    Control(gantry_reconcile::Job),
    Schedule(gantry_scheduler::Job),
}

/// A decision that is being carried out.
pub(crate) struct Act {
    pub(crate) told: String,
    /// Whether it takes pods away that no rollout would have taken.
    pub(crate) disrupts: bool,
}

type Voice = (Arc<dyn Api>, Arc<Recorder>);

pub(crate) struct Component {
    pub(crate) name: &'static str,
    pub(crate) fuse: Fuse,
    brain: Brain,
    feeds: Vec<Feed>,
    flights: Vec<(Job, Flight<Outcome>)>,
    reader: Arc<dyn Api>,
    voices: BTreeMap<&'static str, Voice>,
    tasks: Tasks,
    clock: SimulatedClock,
    trace: Trace,
}

impl Component {
    /// A process that has just been started.
    pub(crate) fn start(name: &'static str, net: &Net, clock: &SimulatedClock, trace: &Trace) -> Self {
        let fuse = Fuse::default();
        let held: Arc<dyn Clock> = Arc::new(clock.clone());
        let voice = |voice: &'static str, user: User| (net.line(name, user, &fuse), Arc::new(Recorder::new(voice, held.clone())));
        let scheduler = User::authenticated("system:kube-scheduler", &[]);
        let (brain, resources, voices, reader) = if name == "scheduler" {
            let voices = BTreeMap::from([("scheduler", voice("default-scheduler", scheduler.clone()))]);
            (Brain::Scheduler(Box::default()), vec![PODS, NODES], voices, scheduler)
        } else {
            let all = controllers(name, clock.now());
            let account = |c: &Arc<dyn Controller>| (c.name(), voice(c.name(), User::service_account("kube-system", c.name())));
            let voices = all.iter().map(account).collect();
            let machine = Machine::new(all);
            let resources = machine.resources();
            (Brain::Controllers(Box::new(machine)), resources, voices, User::authenticated("system:kube-controller-manager", &[]))
        };
        Self {
            name,
            reader: net.line(name, reader, &fuse),
            fuse,
            brain,
            feeds: resources.into_iter().map(|r| Feed::new(r, Params::default())).collect(),
            flights: Vec::new(),
            voices,
            tasks: Tasks::on(tokio::runtime::Handle::current()),
            clock: clock.clone(),
            trace: trace.clone(),
        }
    }

    /// Begins watches and takes in what has arrived. Says whether anything happened.
    pub(crate) fn pull(&mut self) -> bool {
        let mut any = false;
        for feed in &mut self.feeds {
            any |= feed.pull(&self.reader, &self.tasks, &mut self.brain);
        }
        any
    }

    /// Hands on some events of one resource.
    pub(crate) fn deliver(&mut self, weather: &Weather, chance: &dyn Random) -> Option<String> {
        let at = chance.below(self.feeds.len() as u64) as usize;
        let feed = &mut self.feeds[at];
        let count = feed.deliver(&mut self.brain, weather, chance, self.clock.monotonic(), &self.trace);
        (count > 0).then(|| format!("{}: {count} events of {}", self.name, self.feeds[at].resource.plural))
    }

    /// Hands on everything; says how much that was.
    pub(crate) fn deliver_all(&mut self) -> usize {
        self.feeds.iter_mut().map(|feed| feed.deliver_all(&mut self.brain)).sum()
    }

    pub(crate) fn calm(&mut self) {
        self.fuse.put_out();
        self.feeds.iter_mut().for_each(Feed::calm);
    }

    /// Begins to carry out one decision, if there is one and a worker is free. Looks at the decision first.
    pub(crate) fn act(&mut self) -> Result<Option<Act>, String> {
        if self.flights.len() >= WORKERS {
            return Ok(None);
        }
        let (monotonic, now) = (self.clock.monotonic(), self.clock.now());
        let (job, voice, actions, told) = match &mut self.brain {
            Brain::Controllers(machine) => {
                let Some(mut job) = machine.next(monotonic, now) else { return Ok(None) };
                acts::check(&job, machine.view(), &self.trace)?;
                let told = format!("{} on {}: {}", job.name, job.key, summary(&job.decision.actions));
                let (voice, actions) = (job.name, std::mem::take(&mut job.decision.actions));
                (Job::Control(job), voice, actions, told)
            }
            Brain::Scheduler(machine) => {
                let Some(mut job) = machine.next(monotonic, now) else { return Ok(None) };
                let told = format!("scheduler on {}: {}", job.pod, job.node.as_deref().unwrap_or("no node"));
                let actions = std::mem::take(&mut job.actions);
                (Job::Schedule(job), "scheduler", actions, told)
            }
        };
        self.count(voice, &actions);
        let takes_pods = |a: &Action| matches!(a, Action::Patch { resource, .. } | Action::Delete { resource, .. } if *resource == PODS);
        let disrupts = voice == "node-controller" && actions.iter().any(takes_pods);
        let (api, recorder) = self.voices.get(voice).cloned().ok_or("a controller has no voice")?;
        let flight = Flight::launch(&self.tasks, async move { perform(&api, &recorder, &actions).await });
        self.flights.push((job, flight));
        Ok(Some(Act { told, disrupts }))
    }

    /// Notes how decisions ended that were carried out meanwhile.
    pub(crate) fn land(&mut self) -> usize {
        let mut landed = 0;
        let mut at = 0;
        while at < self.flights.len() {
            let Some(outcome) = self.flights[at].1.take() else {
                at += 1;
                continue;
            };
            let (job, _) = self.flights.remove(at);
            landed += 1;
            let failed = outcome.failed.as_ref().map(|s| s.message.clone());
            match (&mut self.brain, job) {
                (Brain::Controllers(machine), Job::Control(job)) => {
                    machine.finish(&job, outcome, self.clock.monotonic());
                    failed.iter().for_each(|why| self.trace.line(format_args!("{} on {} failed: {why}", job.name, job.key)));
                }
                (Brain::Scheduler(machine), Job::Schedule(job)) => {
                    machine.finish(&job, outcome, self.clock.monotonic());
                    failed.iter().for_each(|why| self.trace.line(format_args!("binding {} failed: {why}", job.pod)));
                }
                _ => {}
            }
        }
        landed
    }

    pub(crate) fn is_working(&self) -> bool {
        !self.flights.is_empty()
    }

    /// When it will have something to do without any news.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        match &self.brain {
            Brain::Controllers(machine) => machine.next_due(),
            Brain::Scheduler(machine) => machine.next_due(),
        }
    }

    /// What its keys wait for.
    pub(crate) fn waiting_on(&self) -> Vec<String> {
        match &self.brain {
            Brain::Controllers(machine) => {
                machine.waiting_on().map(|(name, key, why)| format!("{name} on {key}: {}", why.join(", "))).collect()
            }
            Brain::Scheduler(_) => Vec::new(),
        }
    }

    fn count(&self, voice: &str, actions: &[Action]) {
        for action in actions {
            let what = match action {
                Action::Create { subresource: Some(_), .. } => "bind",
                Action::Create { resource, .. } if *resource == SETS => "create replica set",
                Action::Create { .. } => "create other",
                Action::CreateFor { .. } => "create pod",
                Action::Update { resource, subresource: None, .. } if *resource == SETS => "resize replica set",
                Action::Update { subresource: Some(_), .. } => "update status",
                Action::Patch { patch, .. } if patch["metadata"].get("ownerReferences").is_some() => "adopt or release",
                Action::Patch { .. } => "patch",
                Action::Delete { .. } if voice == "generic-garbage-collector" => "collect garbage",
                Action::Delete { .. } if voice == "node-controller" => "evict from a tainted node",
                Action::Delete { .. } => "delete",
                Action::Update { .. } => "update",
                _ => continue,
            };
            self.trace.count(Sort::Act, what);
        }
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        self.tasks.shutdown();
    }
}

fn summary(actions: &[Action]) -> String {
    let word = |action: &Action| match action {
        Action::Create { resource, .. } | Action::CreateFor { resource, .. } => format!("create {}", resource.plural),
        Action::Update { resource, subresource, base, change } => {
            let name = crate::feed::path_of(base).unwrap_or_default();
            let size = change["spec"]["replicas"].as_i64().map(|n| format!(" to {n}")).unwrap_or_default();
            format!("update {} {name}{size} {}", resource.plural, subresource.unwrap_or(""))
        }
        Action::Patch { resource, name, .. } => format!("patch {} {name}", resource.plural),
        Action::Delete { resource, name, .. } => format!("delete {} {name}", resource.plural),
        Action::Event { reason, .. } => format!("event {reason}"),
        other => format!("{other:?}").split([' ', '{']).next().unwrap_or_default().to_owned(),
    };
    actions.iter().map(|a| word(a).trim_end().to_owned()).collect::<Vec<_>>().join("; ")
}
