//! A node: the agent's own decisions about pods over a simulated machine. Volumes and images are not simulated, only that they fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gantry_apiserver::User;
use gantry_client::informer::{Informer, Start};
use gantry_client::{Api, Params, PatchType, Request, WatchEvent};
use gantry_object::{Resource, Status, Timestamp, Value};
use gantry_ports::{Clock, Random, SimulatedClock, Tasks};
use gantry_scheduler::{NODES, PODS};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::audit::Capacity;
use crate::feed::{Fed, Feed, Weather};
use crate::flight::Flight;
use crate::machine::Machine;
use crate::net::{Fuse, Net};
use crate::trace::{Sort, Trace};
use crate::worker::Worker;

const LEASES: Resource = Resource::namespaced("coordination.k8s.io", "v1", "leases", "Lease");
/// How often a node says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What goes wrong on machines, each in so many of a hundred attempts.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wear {
    pub(crate) no_sandbox: u64,
    pub(crate) no_start: u64,
    pub(crate) not_ready: u64,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    number: usize,
    pub(crate) agent: Option<Agent>,
}

/// The agent's process.
pub(crate) struct Agent {
    pub(crate) fuse: Fuse,
    api: Arc<dyn Api>,
    feed: Feed,
    known: Known,
    workers: BTreeMap<String, Worker>,
    /// What ran here before this agent did, and no pod has claimed.
    orphans: bool,
    beat: Option<Flight<Result<(), Status>>>,
    beat_due: Duration,
    tasks: Tasks,
    clock: SimulatedClock,
    trace: Trace,
}

/// The pods that the API has for the node.
struct Known {
    informer: Informer<Arc<Pod>>,
    news: Vec<gantry_client::informer::Change<Arc<Pod>>>,
}

impl Fed for Known {
    fn start(&mut self, _: &Resource) -> Start {
        self.informer.start()
    }

    fn take(&mut self, _: &Resource, event: WatchEvent) {
        self.news.extend(self.informer.take(event));
    }

    fn expire(&mut self, _: &Resource) {
        self.informer.expire();
    }
}

impl Node {
    pub(crate) fn new(number: usize) -> Self {
        Self { name: format!("node-{number}"), machine: Machine::default(), number, agent: None }
    }

    /// Starts the agent, which knows nothing but what the machine holds.
    pub(crate) fn start(&mut self, net: &Net, clock: &SimulatedClock, trace: &Trace) {
        let fuse = Fuse::default();
        let params = Params { field_selector: format!("spec.nodeName={}", self.name), ..Params::default() };
        self.agent = Some(Agent {
            api: net.line(&self.name, User::node(&self.name), &fuse),
            fuse,
            feed: Feed::new(PODS, params),
            known: Known { informer: Informer::new(|object| object.decode().map(Arc::new)), news: Vec::new() },
            workers: BTreeMap::new(),
            orphans: true,
            beat: None,
            beat_due: Duration::ZERO,
            tasks: Tasks::on(tokio::runtime::Handle::current()),
            clock: clock.clone(),
            trace: trace.clone(),
        });
    }

    /// The machine restarts: everything that ran on it is gone, without a word.
    pub(crate) fn reboot(&mut self, net: &Net, clock: &SimulatedClock, trace: &Trace) {
        self.machine.sandboxes.clear();
        self.start(net, clock, trace);
    }

    pub(crate) fn pull(&mut self) -> bool {
        let Some(agent) = &mut self.agent else { return false };
        agent.feed.pull(&agent.api, &agent.tasks, &mut agent.known)
    }

    /// Hands on some of the news of the node's pods.
    pub(crate) fn deliver(&mut self, weather: &Weather, chance: &dyn Random) -> Option<String> {
        let agent = self.agent.as_mut()?;
        let count = agent.feed.deliver(&mut agent.known, weather, chance, agent.clock.monotonic(), &agent.trace);
        self.hear();
        (count > 0).then(|| format!("{}: {count} events", self.name))
    }

    pub(crate) fn deliver_all(&mut self) -> usize {
        let Some(agent) = &mut self.agent else { return 0 };
        let count = agent.feed.deliver_all(&mut agent.known);
        self.hear();
        count
    }

    /// What the agent has to say of a pod.
    pub(crate) fn tell_of(&self, uid: &str) -> Option<String> {
        Some(self.agent.as_ref()?.workers.get(uid)?.tell())
    }

    pub(crate) fn calm(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.fuse.put_out();
            agent.feed.calm();
        }
    }

    /// Tells the workers what is new.
    fn hear(&mut self) {
        let Some(agent) = &mut self.agent else { return };
        for change in agent.known.news.drain(..) {
            let old = change.old.map(|o| o.projection.clone());
            let new = change.new.map(|n| n.projection.clone());
            let uid = |pod: &Arc<Pod>| pod.metadata.uid.clone().unwrap_or_default();
            if let Some(old) = old.filter(|old| new.as_ref().is_none_or(|new| uid(new) != uid(old)))
                && let Some(worker) = agent.workers.get_mut(&uid(&old))
            {
                worker.forget();
            }
            if let Some(new) = new {
                let machine = &self.machine;
                let fresh = || Worker::new(new.clone(), machine.sandboxes.get(&uid(&new)));
                agent.workers.entry(uid(&new)).or_insert_with(fresh).hear(new.clone());
            }
        }
        if agent.orphans && agent.known.informer.is_synced() {
            // What runs here and belongs to no pod that the API knows is ended.
            agent.orphans = false;
            self.machine.sandboxes.retain(|uid, _| agent.workers.contains_key(uid));
        }
    }

    /// Says that the node lives, when that is due.
    pub(crate) fn beat(&mut self) -> Option<String> {
        let agent = self.agent.as_mut()?;
        let now = agent.clock.monotonic();
        if let Some(beat) = &mut agent.beat {
            let result = beat.take()?;
            agent.beat = None;
            agent.beat_due = now + if result.is_ok() { HEARTBEAT } else { Duration::from_secs(1) };
            return result.err().map(|status| format!("{} cannot say that it lives: {}", self.name, status.message));
        }
        if now < agent.beat_due {
            return None;
        }
        agent.trace.count(Sort::Act, "heartbeat");
        let (api, name, time) = (agent.api.clone(), self.name.clone(), agent.clock.now());
        agent.beat = Some(Flight::launch(&agent.tasks, async move { say_alive(&api, &name, time).await }));
        Some(format!("{} says that it lives", self.name))
    }

    /// Does one thing for one of the node's pods.
    pub(crate) fn work(&mut self, wear: &Wear, chance: &dyn Random) -> Result<Option<String>, String> {
        let Some(agent) = &mut self.agent else { return Ok(None) };
        let count = agent.workers.len();
        if count == 0 || agent.fuse.is_dead() {
            return Ok(None);
        }
        let from = chance.below(count as u64) as usize;
        let uids: Vec<String> = agent.workers.keys().cycle().skip(from).take(count).cloned().collect();
        for uid in uids {
            let Some(worker) = agent.workers.get_mut(&uid) else { continue };
            let (clock, trace) = (&agent.clock, &agent.trace);
            let mut bench = crate::worker::Bench {
                machine: &mut self.machine,
                node: self.number,
                api: &agent.api,
                tasks: &agent.tasks,
                clock,
                trace,
                wear,
                chance,
            };
            let done = worker.work(&mut bench)?;
            if worker.is_over(&self.machine) {
                agent.workers.remove(&uid);
            }
            if let Some(what) = done {
                return Ok(Some(format!("{}: {what}", self.name)));
            }
        }
        Ok(None)
    }

    /// A container of this node's ends by itself.
    pub(crate) fn lose_container(&mut self, chance: &dyn Random, now: Timestamp) -> Option<String> {
        let running = self.machine.running();
        if running.is_empty() {
            return None;
        }
        let id = &running[chance.below(running.len() as u64) as usize];
        let ended = self.machine.end(id, 1, now)?;
        if let Some(worker) = self.agent.as_mut().and_then(|a| a.workers.get_mut(&id.sandbox)) {
            worker.ended(ended);
        }
        Some(format!("{}: {id} died", self.name))
    }

    /// When something is due here without any news.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let agent = self.agent.as_ref()?;
        let now = agent.clock.now();
        let waits = agent.workers.values().filter_map(|w| w.due()).map(|at| agent.clock.monotonic() + at.since(now));
        waits.chain([agent.beat_due]).min()
    }

    pub(crate) fn is_working(&self) -> bool {
        self.agent.as_ref().is_some_and(|a| a.beat.is_some() || a.workers.values().any(Worker::is_writing))
    }
}

/// The Node as the administrator makes it: agents may not set their own taints.
pub(crate) fn object(name: &str, capacity: &Capacity) -> Value {
    let taint = json!([{"key": "sim/reserved", "effect": "NoSchedule"}]);
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": capacity.labels},
        "spec": {"taints": if capacity.tainted { taint } else { json!([]) }},
    })
}

/// What the node has, as the administrator notes it at the beginning.
pub(crate) fn status(capacity: &Capacity) -> Value {
    let amounts = json!({"cpu": format!("{}m", capacity.cpu), "memory": "64Gi", "pods": capacity.pods.to_string()});
    json!({"status": {"capacity": amounts, "allocatable": amounts}})
}

/// Renews the lease, and says that the node is ready.
async fn say_alive(api: &Arc<dyn Api>, name: &str, now: Timestamp) -> Result<(), Status> {
    let patch = json!({"spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now.rfc3339_micros()}});
    match api.call(Request::patch(LEASES, "kube-node-lease", name, PatchType::Merge, &patch)).await {
        Err(status) if status.is_not_found() => {
            let lease = json!({"apiVersion": LEASES.api_version(), "kind": LEASES.kind, "metadata": {"name": name}, "spec": patch["spec"]});
            api.call(Request::create(LEASES, "kube-node-lease", &lease)).await?;
        }
        other => drop(other?),
    }
    let node: Value = api.call(Request::get(NODES, "", name)).await?.object()?.decode().map_err(Status::internal)?;
    let ready = node["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
    let conditions: Vec<Value> = match ready.filter(|c| c["status"] == "True") {
        Some(_) => return Ok(()),
        None => vec![json!({
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "simulated",
            "lastHeartbeatTime": now.rfc3339(), "lastTransitionTime": now.rfc3339(),
        })],
    };
    let patch = json!({"status": {"conditions": conditions}});
    api.call(Request::patch(NODES, "", name, PatchType::Strategic, &patch).on("status")).await.map(drop)
}
