//! The control plane's process: it can be started on a disk, stepped, and dropped dead.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use gantry_apiserver::{Config, Parts, Server, User};
use gantry_client::informer::Start;
use gantry_client::{Api, Params, Request, Response, Watch, WatchStream};
use gantry_controllers::deployment::Deployments;
use gantry_controllers::replicaset::ReplicaSets;
use gantry_kinds::Registry;
use gantry_object::{Resource, Status, Timestamp};
use gantry_pki::TokenKey;
use gantry_ports::disk::SimDisk;
use gantry_ports::{Clock, Random, SeededRandom, SimulatedClock, Tasks};
use gantry_reconcile::{Controller, Machine, Recorder, perform};
use gantry_scheduler::{Machine as Scheduling, NODES, PODS};
use gantry_store::{Store, log};
use serde_json::json;

use crate::faults::{Fuse, Mortal};
use crate::node::NODE_NAMES;

const SERVICE_ACCOUNTS: Resource = Resource::namespaced("", "v1", "serviceaccounts", "ServiceAccount");

const BINDINGS: Resource = Resource::cluster("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding");

/// What lives longer than a process.
#[derive(Clone)]
pub(crate) struct Machinery {
    pub(crate) disk: SimDisk,
    pub(crate) clock: SimulatedClock,
    pub(crate) random: Arc<SeededRandom>,
}

pub(crate) struct Process {
    pub(crate) fuse: Fuse,
    pub(crate) store: Store,
    server: Server,
    log: log::LogStore,
    tasks: Tasks,
    controllers: Machine,
    voices: BTreeMap<&'static str, (Arc<dyn Api>, Recorder)>,
    scheduling: Scheduling,
    scheduler: (Arc<dyn Api>, Recorder),
    reader: Arc<dyn Api>,
    watches: BTreeMap<(Reader, Resource), WatchStream>,
    clock: SimulatedClock,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reader {
    Controllers,
    Scheduler,
}

fn options() -> log::Options {
    log::Options { segment_size: 64 << 10, checkpoint_after: 1 << 20, salt: 1, inline: true, ..log::Options::default() }
}

/// A disk on which a cluster has just been made: roles, namespaces, nodes. Made once.
pub(crate) async fn fresh_disk() -> Result<SimDisk, String> {
    static BASE: OnceLock<SimDisk> = OnceLock::new();
    if let Some(base) = BASE.get() {
        return Ok(base.duplicate());
    }
    let machinery = Machinery { disk: SimDisk::new(), clock: clock(), random: Arc::new(SeededRandom::new(0)) };
    let process = Process::start(&machinery)?;
    let failed = |status: Status| status.message;
    process.server.bootstrap().await.map_err(failed)?;
    let admin = process.admin();
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}});
    admin.call(Request::create(SERVICE_ACCOUNTS, "default", &account)).await.map_err(failed)?;
    // Nodes may do what the role of that name says; a node's own authorizer is not what is simulated here.
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node"});
    let subject = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"});
    let binding = json!({"apiVersion": BINDINGS.api_version(), "kind": BINDINGS.kind, "metadata": {"name": "sim:nodes"}, "roleRef": role, "subjects": [subject]});
    admin.call(Request::create(BINDINGS, "", &binding)).await.map_err(failed)?;
    for name in NODE_NAMES {
        let allocatable = json!({"cpu": "4", "memory": "8Gi", "pods": "20"});
        let condition = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played"});
        let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        admin.call(Request::create(NODES, "", &node)).await.map_err(failed)?;
        node["status"] = json!({"capacity": allocatable, "allocatable": allocatable, "conditions": [condition]});
        admin.call(Request::update(NODES, "", name, &node).on("status")).await.map_err(failed)?;
        // There is no node life cycle controller here to take away the taint that new nodes get.
        let untaint = json!({"spec": {"taints": null}});
        admin.call(Request::patch(NODES, "", name, gantry_client::PatchType::Merge, &untaint)).await.map_err(failed)?;
    }
    process.log.checkpoint().map_err(|e| e.to_string())?;
    Ok(BASE.get_or_init(|| machinery.disk.duplicate()).duplicate())
}

/// The clock of every run: it starts at the same time.
pub(crate) fn clock() -> SimulatedClock {
    SimulatedClock::at(Timestamp::from_seconds(1_700_000_000))
}

/// A server on a disk, without anything that works for it.
pub(crate) fn boot(machinery: &Machinery, tasks: &Tasks) -> Result<(Server, Store, log::LogStore), String> {
    let opened = log::open(Arc::new(machinery.disk.clone()), options());
    let (store, log) = opened.map_err(|e| format!("the store does not open: {e}"))?;
    let clock: Arc<dyn Clock> = Arc::new(machinery.clock.clone());
    let random: Arc<dyn Random> = machinery.random.clone();
    let token_key = TokenKey::load(token_key()?).map_err(|e| e.to_string())?;
    let server = Server::new(Parts {
        config: Config {
            cluster_id: "sim".into(),
            issuer: "https://sim".into(),
            advertised: SocketAddr::from(([10, 0, 0, 1], 6443)),
            service_network: (Ipv4Addr::new(10, 96, 0, 0), 16),
            pod_network: (Ipv4Addr::new(10, 244, 0, 0), 16),
            node_ports: 30000..=32767,
            authority: String::new(),
        },
        registry: registry(),
        store: store.clone(),
        token_key,
        clock,
        random,
        tasks: tasks.clone(),
        nodes: None,
    });
    Ok((server, store, log))
}

impl Process {
    pub(crate) fn start(machinery: &Machinery) -> Result<Self, String> {
        let tasks = Tasks::on(tokio::runtime::Handle::current());
        let (server, store, log) = boot(machinery, &tasks)?;
        let held: Arc<dyn Clock> = Arc::new(machinery.clock.clone());
        let fuse = Fuse::default();
        let client = |user: User| Mortal::client(Arc::new(server.client(user)), &fuse);
        let all: Vec<Arc<dyn Controller>> = vec![Arc::new(Deployments), Arc::new(ReplicaSets)];
        let voice = |name: &'static str| (client(User::service_account("kube-system", name)), Recorder::new(name, held.clone()));
        let voices = all.iter().map(|c| (c.name(), voice(c.name()))).collect();
        let scheduler = (client(User::authenticated("system:kube-scheduler", &[])), Recorder::new("default-scheduler", held.clone()));
        let reader = client(User::authenticated("system:kube-controller-manager", &[]));
        Ok(Self {
            fuse,
            store,
            log,
            tasks,
            controllers: Machine::new(all),
            voices,
            scheduling: Scheduling::new(),
            scheduler,
            reader,
            watches: BTreeMap::new(),
            clock: machinery.clock.clone(),
            server,
        })
    }

    /// A client of the administrator, whose process is another.
    pub(crate) fn admin(&self) -> Arc<dyn Api> {
        Arc::new(self.server.client(User::admin()))
    }

    /// A client of a node's agent, whose process is another.
    pub(crate) fn agent(&self, node: &str) -> Arc<dyn Api> {
        Arc::new(self.server.client(User::node(node)))
    }

    /// Whether it is to be taken for dead: it ran into its fuse, or lost its disk.
    pub(crate) fn is_dead(&self, disk: &SimDisk) -> bool {
        self.fuse.is_dead() || disk.is_dead()
    }

    /// Hands the machines what their watches have, beginning watches where there is none.
    pub(crate) async fn deliver(&mut self) -> Result<usize, Status> {
        let controllers = self.controllers.resources().into_iter().map(|r| (Reader::Controllers, r));
        let wanted: Vec<_> = controllers.chain([(Reader::Scheduler, PODS), (Reader::Scheduler, NODES)]).collect();
        for (reader, resource) in wanted {
            if !self.watches.contains_key(&(reader, resource)) {
                let stream = self.watch(reader, resource).await?;
                self.watches.insert((reader, resource), stream);
            }
        }
        // Lets the server's tasks move events from the store to the streams.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        let mut count = 0;
        for ((reader, resource), stream) in &mut self.watches {
            for event in stream.ready() {
                count += 1;
                match reader {
                    Reader::Controllers => self.controllers.take(resource, event),
                    Reader::Scheduler => self.scheduling.take(resource, event),
                }
            }
        }
        Ok(count)
    }

    async fn watch(&mut self, reader: Reader, resource: Resource) -> Result<WatchStream, Status> {
        let (start, api) = match reader {
            Reader::Controllers => (self.controllers.start(&resource), &self.reader),
            Reader::Scheduler => (self.scheduling.start(&resource), &self.scheduler.0),
        };
        let from = match start {
            Start::Initial => None,
            Start::After(revision) => Some(revision),
        };
        let initial_events = from.is_none();
        api.watch(Watch { resource, namespace: String::new(), params: Params::default(), from, initial_events }).await
    }

    /// Carries out one decision of a controller; says which, if there was one.
    pub(crate) async fn control(&mut self) -> Option<String> {
        let job = self.controllers.next(self.clock.monotonic(), self.clock.now())?;
        let (api, recorder) = self.voices.get(job.name).expect("every controller has a voice");
        let outcome = perform(api, recorder, &job.decision.actions).await;
        let failed = outcome.failed.as_ref().map(|s| format!(", failed: {}", s.message)).unwrap_or_default();
        let told = format!("{} on {}: {} actions, {} writes{failed}", job.name, job.key, job.decision.actions.len(), outcome.wrote.len());
        self.controllers.finish(&job, outcome, self.clock.monotonic());
        Some(told)
    }

    /// Schedules one pod; says what became of it, if there was one.
    pub(crate) async fn schedule(&mut self) -> Option<String> {
        let job = self.scheduling.next(self.clock.monotonic(), self.clock.now())?;
        let outcome = perform(&self.scheduler.0, &self.scheduler.1, &job.actions).await;
        let failed = outcome.failed.as_ref().map(|s| format!(", failed: {}", s.message)).unwrap_or_default();
        self.scheduling.finish(&job, outcome.failed.is_none());
        Some(format!("scheduler on {}: {}{failed}", job.pod, job.node.as_deref().unwrap_or("no node")))
    }

    /// The controllers and the scheduler forget everything, as when they run apart from the server and are restarted.
    pub(crate) fn restart_components(&mut self) {
        self.controllers = Machine::new(vec![Arc::new(Deployments), Arc::new(ReplicaSets)]);
        self.scheduling = Scheduling::new();
        self.watches.clear();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tasks.shutdown();
    }
}

/// The built-in kinds, read once: they are the same for every process.
fn registry() -> Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::builtin).clone()
}

/// One key for all runs: it signs nothing here.
fn token_key() -> Result<&'static [u8], String> {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key);
    }
    let (_, made) = TokenKey::generate().map_err(|e| e.to_string())?;
    Ok(KEY.get_or_init(|| made))
}

/// Reads a whole collection.
pub(crate) async fn list(api: &Arc<dyn Api>, request: Request) -> Result<Vec<gantry_object::Value>, Status> {
    match api.call(request).await? {
        Response::List { items, .. } => items.iter().map(|i| i.decode().map_err(Status::internal)).collect(),
        other => other.list().map(|_| Vec::new()),
    }
}
