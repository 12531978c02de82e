//! What all workers of one agent share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_client::{Api, PatchType, Request, Response};
use gantry_containers::Runtime;
use gantry_images::{ImageSpec, User};
use gantry_network::{Peer, ServiceTable};
use gantry_object::{ObjectName, Resource, Status, Timestamp, Value};
use gantry_ports::{BoxFuture, Clock, Tasks};
use gantry_reconcile::{Action, EventKind, Recorder, perform};
use gantry_volumes::{Facts, Fetched, Need};
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use crate::config::AgentConfig;
use crate::environment::ServiceLink;
use crate::lifecycle::NodeFacts;

pub(crate) const PODS: Resource = Resource::namespaced("", "v1", "pods", "Pod");
pub(crate) const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps", "ConfigMap");
pub(crate) const SECRETS: Resource = Resource::namespaced("", "v1", "secrets", "Secret");
pub(crate) const SERVICE_ACCOUNTS: Resource = Resource::namespaced("", "v1", "serviceaccounts", "ServiceAccount");

/// A pod's place in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its network namespace.
    pub namespace: PathBuf,
}

/// Gives pods their place in the network. Calls block.
pub trait PodNetwork: Send + Sync + 'static {
    /// Attaches a pod; the same answer again for the same uid.
    ///
    /// # Errors
    /// In words for the pod's events.
    fn attach(&self, pod_uid: &str) -> Result<PodLink, String>;

    /// Takes everything of a pod away. What isn't there is no error.
    ///
    /// # Errors
    /// In words for the log.
    fn detach(&self, pod_uid: &str) -> Result<(), String>;

    /// The pods that are attached.
    fn attached(&self) -> Vec<String>;
}

/// Leads traffic to services and other nodes' pods, and answers their names. Calls block.
pub trait Traffic: Send + Sync + 'static {
    /// Leads the services' traffic as the table says.
    ///
    /// # Errors
    /// In words for the log; the next call tries again.
    fn apply(&self, table: &ServiceTable) -> Result<(), String>;

    /// Leads to other nodes' pods.
    ///
    /// # Errors
    /// As [`Traffic::apply`].
    fn set_peers(&self, peers: &[Peer]) -> Result<(), String>;

    /// Answers a service's name from now on.
    fn set_name(&self, service: gantry_dns::Service);

    /// No longer answers a service's name.
    fn remove_name(&self, namespace: &str, name: &str);
}

/// Why an image can't be had, as a container's waiting state says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageError {
    /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`.
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// An image that is there.
#[derive(Clone, Debug)]
pub struct ReadyImage {
    /// What it holds.
    pub spec: ImageSpec,
    /// Whom it runs as.
    pub user: User,
    /// Whether it was fetched just now.
    pub pulled: bool,
}

/// Gets images.
pub trait Images: Send + Sync + 'static {
    /// Makes an image ready and keeps it for a container (`holder`: the pod's uid, `_` and the container's name): `policy` is the container's imagePullPolicy, `credentials` are registries'
    /// dockerconfigjson texts.
    fn ensure<'a>(
        &'a self,
        holder: &'a str,
        name: &'a str,
        policy: &'a str,
        credentials: &'a [String],
    ) -> BoxFuture<'a, Result<ReadyImage, ImageError>>;

    /// Keeps nothing for the containers of a pod any more.
    fn release<'a>(&'a self, pod_uid: &'a str) -> BoxFuture<'a, ()>;
}

/// A token's pod, audience and lifetime in seconds.
type TokenKey = (String, String, i64);

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) config: AgentConfig,
    pub(crate) api: Arc<dyn Api>,
    pub(crate) runtime: Arc<dyn Runtime>,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) network: Arc<dyn PodNetwork>,
    pub(crate) traffic: Arc<dyn Traffic>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) tasks: Tasks,
    pub(crate) recorder: Recorder,
    /// The services that pods' environments tell, by namespace.
    pub(crate) services: Mutex<BTreeMap<String, Vec<ServiceLink>>>,
    /// Tokens, by pod, audience and lifetime, with the time to ask for new ones.
    pub(crate) tokens: Mutex<BTreeMap<TokenKey, (String, Timestamp)>>,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn node_facts(&self) -> NodeFacts {
        NodeFacts { host_ips: self.host_ips() }
    }

    pub(crate) fn host_ips(&self) -> Vec<String> {
        self.config.host_ips.iter().map(ToString::to_string).collect()
    }

    pub(crate) fn facts(&self, pod_ips: &[String]) -> Facts {
        Facts {
            pod_ips: pod_ips.to_vec(),
            host_ips: self.host_ips(),
            allocatable_milli_cpu: crate::machine::cpus() as i64 * 1000,
            allocatable_memory: crate::machine::memory(),
        }
    }

    /// Where a pod's files lie.
    pub(crate) fn pod_directory(&self, uid: &str) -> PathBuf {
        self.config.root.join("pods").join(uid)
    }

    /// Where a pod's logs lie, named as upstream's are so that log shippers find them.
    pub(crate) fn log_directory(&self, pod: &Pod) -> PathBuf {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let m = &pod.metadata;
        self.config.root.join("logs").join(format!("{}_{}_{}", text(&m.namespace), text(&m.name), text(&m.uid)))
    }

    /// Records an event about a pod. Nobody waits for it.
    pub(crate) fn event(self: &Arc<Self>, pod: &Pod, kind: EventKind, reason: &'static str, message: String) {
        let m = &pod.metadata;
        let name = ObjectName::new(m.namespace.as_deref().unwrap_or(""), m.name.as_deref().unwrap_or(""));
        let event = Action::Event { resource: PODS, name, uid: m.uid.clone().unwrap_or_default(), kind, reason, message };
        let shared = self.clone();
        self.tasks.spawn(async move { drop(perform(&shared.api, &shared.recorder, &[event]).await) });
    }

    /// Writes a pod's status, if the pod is still the same one.
    pub(crate) async fn write_status(&self, pod: &Pod, status: &Value) -> Result<(), Status> {
        let m = &pod.metadata;
        let (namespace, name) = (m.namespace.as_deref().unwrap_or(""), m.name.as_deref().unwrap_or(""));
        let patch = crate::lifecycle::status_patch(pod, status);
        self.api.call(Request::patch(PODS, namespace, name, PatchType::Strategic, &patch).on("status")).await.map(drop)
    }

    /// Fetches what volumes and environments are made of.
    pub(crate) async fn fetch(&self, pod: &Pod, needs: impl IntoIterator<Item = Need>) -> Result<Fetched, Status> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("");
        let mut fetched = Fetched::default();
        for need in needs {
            match need {
                Need::ConfigMap(name) if !fetched.config_maps.contains_key(&name) => {
                    let object = self.get_optional(CONFIG_MAPS, namespace, &name).await?;
                    fetched.config_maps.insert(name, object);
                }
                Need::Secret(name) if !fetched.secrets.contains_key(&name) => {
                    let object = self.get_optional(SECRETS, namespace, &name).await?;
                    fetched.secrets.insert(name, object);
                }
                Need::Token { audience, seconds } => {
                    let token = self.token(pod, &audience, seconds).await?;
                    fetched.tokens.insert((audience, seconds), token);
                }
                _ => {}
            }
        }
        Ok(fetched)
    }

    async fn get_optional<T: serde::de::DeserializeOwned>(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, Status> {
        match self.api.call(Request::get(resource, namespace, name)).await {
            Ok(response) => response.object()?.decode().map(Some).map_err(Status::internal),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// A token for a pod's service account, new when the one there has passed four fifths of its time.
    async fn token(&self, pod: &Pod, audience: &str, seconds: i64) -> Result<String, Status> {
        let m = &pod.metadata;
        let uid = m.uid.clone().unwrap_or_default();
        let key = (uid.clone(), audience.to_owned(), seconds);
        let now = self.now();
        let kept = self.tokens.lock().expect("nothing panics while it holds this lock").get(&key).cloned();
        if let Some((token, _)) = kept.filter(|(_, renew_at)| *renew_at > now) {
            return Ok(token);
        }
        let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default();
        let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": m.name, "uid": uid});
        let audiences: Vec<&str> = Some(audience).filter(|a| !a.is_empty()).into_iter().collect();
        let spec = json!({"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound});
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
        let mut create = Request::create(SERVICE_ACCOUNTS, m.namespace.as_deref().unwrap_or(""), &request).on("token");
        create.name = account;
        let Response::Transient(answer) = self.api.call(create).await? else { return Err(Status::internal("no token in the answer")) };
        let answer: Value = serde_json::from_slice(&answer).map_err(Status::internal)?;
        let token = answer["status"]["token"].as_str().ok_or_else(|| Status::internal("no token in the answer"))?.to_owned();
        let renew_at = now.plus(Duration::from_secs(seconds.max(0).unsigned_abs()) * 4 / 5);
        self.tokens.lock().expect("nothing panics while it holds this lock").insert(key, (token.clone(), renew_at));
        Ok(token)
    }
}
