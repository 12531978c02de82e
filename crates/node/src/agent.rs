//! The agent: a worker for each pod of its node, and the loops that keep them informed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_client::informer::{Change, Feed, Informer, Start, follow};
use gantry_client::{Api, Params, WatchEvent};
use gantry_containers::{Event, Runtime, SandboxStatus};
use gantry_object::{Encoded, Status};
use gantry_ports::{Clock, Tasks};
use gantry_reconcile::Recorder;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use crate::config::AgentConfig;
use crate::registration;
use crate::shared::{Images, PODS, PodNetwork, Shared, Traffic};
use crate::traffic;
use crate::worker::{Message, Worker};

/// How often the whole node status is told, when nothing in it changed.
const STATUS_EVERY: Duration = Duration::from_secs(300);
/// How long until something that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What an agent is made of.
pub struct AgentParts {
    /// What it is told about its node.
    pub config: AgentConfig,
    /// The API, as `system:node:NAME`.
    pub api: Arc<dyn Api>,
    /// Runs containers.
    pub runtime: Arc<dyn Runtime>,
    /// Gets images.
    pub images: Arc<dyn Images>,
    /// Attaches pods.
    pub network: Arc<dyn PodNetwork>,
    /// Leads traffic.
    pub traffic: Arc<dyn Traffic>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Runs the agent's tasks.
    pub tasks: Tasks,
}

/// A node's agent at work. End it by ending its tasks; its containers go on.
#[derive(Clone)]
pub struct Agent {
    pub(crate) shared: Arc<Shared>,
    workers: Arc<Mutex<Workers>>,
}

#[derive(Default)]
struct Workers {
    /// By the pod's uid.
    inboxes: BTreeMap<String, mpsc::UnboundedSender<Message>>,
    /// What the runtime had when the agent started, until a pod claims it.
    orphans: BTreeMap<String, SandboxStatus>,
    pods: BTreeMap<String, Arc<Pod>>,
}

impl Agent {
    /// Registers the node, takes up what runs on it, and starts.
    ///
    /// # Errors
    /// When the API refuses the node, or the runtime does not answer.
    pub async fn start(parts: AgentParts) -> Result<Self, Status> {
        let recorder = Recorder::new("kubelet", parts.clock.clone());
        let shared = Arc::new(Shared {
            config: parts.config,
            api: parts.api,
            runtime: parts.runtime,
            images: parts.images,
            network: parts.network,
            traffic: parts.traffic,
            clock: parts.clock,
            tasks: parts.tasks,
            recorder,
            services: Mutex::new(BTreeMap::new()),
            tokens: Mutex::new(BTreeMap::new()),
        });
        let events = shared.runtime.events().map_err(Status::internal)?;
        let sandboxes = shared.runtime.list().await.map_err(Status::internal)?;
        let orphans = sandboxes.into_iter().map(|s| (s.pod_uid.clone(), s)).collect();
        let agent = Self { shared, workers: Arc::new(Mutex::new(Workers { orphans, ..Workers::default() })) };
        registration::renew_lease(&agent.shared).await?;
        registration::register(&agent.shared).await?;
        agent.start_loops(events);
        Ok(agent)
    }

    /// The pods of this node, by uid.
    pub fn pods(&self) -> Vec<Arc<Pod>> {
        self.lock().pods.values().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Workers> {
        self.workers.lock().expect("nothing panics while it holds this lock")
    }

    fn start_loops(&self, events: Box<dyn gantry_containers::Events>) {
        let shared = &self.shared;
        let params = Params { field_selector: format!("spec.nodeName={}", shared.config.node_name), ..Params::default() };
        let feed = Arc::new(Mutex::new(PodFeed { agent: self.clone(), informer: Informer::new(project), first: true }));
        shared.tasks.spawn(follow(shared.api.clone(), PODS, String::new(), params, shared.clock.clone(), feed));
        traffic::start(shared);
        let agent = self.clone();
        shared.tasks.spawn(async move { agent.follow_runtime(events).await });
        let beating = shared.clone();
        shared.tasks.spawn(async move {
            loop {
                let wait = match registration::renew_lease(&beating).await {
                    Ok(()) => beating.config.heartbeat,
                    Err(status) => {
                        tracing::warn!(%status, "renewing the node's lease");
                        AGAIN
                    }
                };
                beating.clock.sleep(wait).await;
            }
        });
        let telling = shared.clone();
        shared.tasks.spawn(async move {
            loop {
                telling.clock.sleep(STATUS_EVERY).await;
                if let Err(status) = registration::register(&telling).await {
                    tracing::warn!(%status, "telling the node's status");
                }
            }
        });
    }

    async fn follow_runtime(&self, mut events: Box<dyn gantry_containers::Events>) {
        loop {
            match events.next().await {
                Ok(Event::Container(status)) => {
                    let uid = status.id.sandbox.clone();
                    self.tell(&uid, Message::Container(status));
                }
                Ok(Event::SandboxLost { sandbox }) => self.tell(&sandbox, Message::SandboxLost),
                Err(error) => {
                    tracing::warn!(error = gantry_object::chain(&error), "hearing from the runtime");
                    self.shared.clock.sleep(AGAIN).await;
                }
            }
        }
    }

    fn tell(&self, uid: &str, message: Message) {
        if let Some(inbox) = self.lock().inboxes.get(uid) {
            // A worker that has ended has nothing left that could change.
            let _ = inbox.send(message);
        }
    }

    /// A pod appeared or changed: its worker hears of it, and is made when there is none.
    fn pod_changed(&self, pod: Arc<Pod>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut workers = self.lock();
        workers.pods.insert(uid.clone(), pod.clone());
        let running = workers.inboxes.get(&uid).is_some_and(|inbox| inbox.send(Message::Pod(pod.clone())).is_ok());
        if running {
            return;
        }
        let adopted = workers.orphans.remove(&uid);
        let (inbox, messages) = mpsc::unbounded_channel();
        workers.inboxes.insert(uid.clone(), inbox.clone());
        let worker = Worker::new(self.shared.clone(), pod, adopted, messages, inbox);
        let agent = self.clone();
        self.shared.tasks.spawn(async move {
            worker.run().await;
            agent.lock().inboxes.remove(&uid);
        });
    }

    fn pod_gone(&self, uid: &str) {
        self.lock().pods.remove(uid);
        self.tell(uid, Message::Gone);
    }

    /// What runs here and belongs to no pod that the API knows is ended. Called once all pods are known.
    fn end_orphans(&self) {
        let (orphans, known): (Vec<String>, BTreeSet<String>) = {
            let mut workers = self.lock();
            let orphans = std::mem::take(&mut workers.orphans);
            (orphans.into_keys().collect(), workers.pods.keys().cloned().collect())
        };
        let shared = self.shared.clone();
        self.shared.tasks.spawn(async move {
            for uid in orphans {
                tracing::info!(uid, "ending a sandbox whose pod is gone");
                if let Err(error) = shared.runtime.remove_sandbox(&uid).await {
                    tracing::warn!(uid, error = gantry_object::chain(&error), "ending a sandbox");
                }
            }
            let (network, root) = (shared.network.clone(), shared.config.root.clone());
            shared.tasks.blocking(move || clean_up(&*network, &root, &known)).await;
        });
    }
}

/// Removes networks and directories of pods that are gone.
fn clean_up(network: &dyn PodNetwork, root: &std::path::Path, known: &BTreeSet<String>) {
    for uid in network.attached().iter().filter(|uid| !known.contains(*uid)) {
        if let Err(why) = network.detach(uid) {
            tracing::warn!(uid, why, "detaching a pod that is gone");
        }
    }
    for entry in std::fs::read_dir(root.join("pods")).into_iter().flatten().flatten() {
        if !known.contains(&*entry.file_name().to_string_lossy()) {
            let removed =
                gantry_volumes::remove_volumes(&entry.path().join("volumes")).and_then(|()| std::fs::remove_dir_all(entry.path()));
            if let Err(error) = removed {
                tracing::warn!(%error, path = %entry.path().display(), "removing a pod's directory");
            }
        }
    }
}

fn project(object: &Encoded) -> Result<Arc<Pod>, serde_json::Error> {
    object.decode().map(Arc::new)
}

struct PodFeed {
    agent: Agent,
    informer: Informer<Arc<Pod>>,
    first: bool,
}

impl Feed for PodFeed {
    fn start(&mut self) -> Start {
        self.informer.start()
    }

    fn failed(&mut self, status: &Status) {
        if status.is_expired() {
            self.informer.expire();
        }
    }

    fn take(&mut self, event: WatchEvent) {
        for change in self.informer.take(event) {
            let Change { old, new } = change;
            let uid = |item: &Arc<gantry_client::Item<Arc<Pod>>>| item.projection.metadata.uid.clone().unwrap_or_default();
            // A pod of the same name is another pod: the old one has ended.
            if let Some(old) = old.as_ref().filter(|old| new.as_ref().is_none_or(|new| uid(new) != uid(old))) {
                self.agent.pod_gone(&uid(old));
            }
            if let Some(new) = new {
                self.agent.pod_changed(new.projection.clone());
            }
        }
        if self.first && self.informer.is_synced() {
            self.first = false;
            self.agent.end_orphans();
        }
    }
}
