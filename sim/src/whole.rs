//! Every controller and the scheduler in their own shells, over the real server: what a cluster does whose nodes are played.

use std::sync::Arc;
use std::time::Duration;

use gantry_apiserver::User;
use gantry_client::{Api, DeleteOptions, PatchType, Preconditions, Propagation, Request};
use gantry_controllers::certificates::{Signer, Subject};
use gantry_object::{ObjectName, Resource, Status, Timestamp, Value, meta};
use gantry_ports::{Clock, Random, SeededRandom, Tasks};
use gantry_scheduler::{NODES, PODS};
use gantry_store::Store;
use serde_json::json;

use crate::process::{Machinery, Process, Storage, clock, fresh_disk};

/// The nodes of the cluster.
const NODE_NAMES: [&str; 3] = ["node-1", "node-2", "node-3"];
const NAMESPACES: Resource = Resource::cluster("", "v1", "namespaces", "Namespace");
const DEPLOYMENTS: Resource = Resource::namespaced("apps", "v1", "deployments", "Deployment");
const SERVICES: Resource = Resource::namespaced("", "v1", "services", "Service");

struct NoSigner;

impl Signer for NoSigner {
    fn subject(&self, _: &str) -> Option<Subject> {
        None
    }

    fn sign(&self, _: &str, _: &str, _: &[String], _: Option<Duration>) -> Result<String, String> {
        Err("there is no authority here".into())
    }
}

struct Cluster {
    machinery: Machinery,
    store: Store,
    _process: Process,
    admin: Arc<dyn Api>,
    agents: Vec<Arc<dyn Api>>,
    chance: SeededRandom,
    _tasks: Tasks,
}

impl Cluster {
    async fn start() -> Self {
        let machinery = Machinery { disk: fresh_disk().await.unwrap(), clock: clock(), random: Arc::new(SeededRandom::new(1)) };
        let tasks = Tasks::on(tokio::runtime::Handle::current());
        let process = Process::start(&machinery, Storage::QUICK).unwrap();
        let (server, store) = (process.server.clone(), process.store.clone());
        let admin: Arc<dyn Api> = Arc::new(server.client(User::admin()));
        make_nodes(&admin).await;
        let clock: Arc<dyn Clock> = Arc::new(machinery.clock.clone());
        let settings = gantry_controllers::Settings {
            resources: server.deletable_resources(),
            root_ca: "PEM".into(),
            signer: Arc::new(NoSigner),
            // Nobody renews leases here.
            node_grace: Duration::from_secs(1_000_000),
            started: clock.now(),
            keep_finished_pods: 10,
        };
        let client = |user: User| -> Arc<dyn Api> { Arc::new(server.client(user)) };
        let voice = |name: &'static str| client(User::service_account("kube-system", name));
        let reader = client(User::authenticated("system:kube-controller-manager", &[]));
        gantry_reconcile::run(gantry_controllers::all(&settings), &reader, &voice, clock.clone(), &tasks);
        gantry_scheduler::run(&client(User::authenticated("system:kube-scheduler", &[])), clock, &tasks);
        let agents = NODE_NAMES.iter().map(|n| client(User::node(n))).collect();
        Self { admin, machinery, store, _process: process, agents, chance: SeededRandom::new(2), _tasks: tasks }
    }

    /// Lets everybody work until something holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..2000 {
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            if holds(self) {
                return;
            }
            for (name, agent) in NODE_NAMES.iter().zip(&self.agents) {
                play(agent, name, &self.chance, self.machinery.clock.now()).await;
            }
            self.machinery.clock.advance(Duration::from_millis(50));
        }
        panic!("never came true: {what}; there are {:?}", self.names("pods", None));
    }

    /// Nobody may write when there is nothing to do: controllers that answer each other's writes for ever are found here.
    async fn rests(&mut self) {
        let mut before = self.store.durable_revision();
        for _ in 0..20 {
            for _ in 0..40 {
                tokio::task::yield_now().await;
                self.machinery.clock.advance(Duration::from_millis(25));
            }
            let now = self.store.durable_revision();
            if now == before {
                return;
            }
            before = now;
        }
        panic!("something writes for ever: {:?}", self.names("endpointslices.discovery.k8s.io", None));
    }

    fn list(&self, resource: &str, namespace: Option<&str>) -> Vec<Value> {
        let snapshot = self.store.snapshot();
        snapshot.list(resource, namespace, None).map(|i| serde_json::from_slice(&i.object.body).unwrap()).collect()
    }

    fn names(&self, resource: &str, namespace: Option<&str>) -> Vec<String> {
        self.list(resource, namespace).iter().map(|o| meta::name(o).to_owned()).collect()
    }

    async fn create(&self, resource: Resource, namespace: &str, object: Value) {
        self.admin.call(Request::create(resource, namespace, &object)).await.unwrap();
    }
}

/// Reads a whole collection.
async fn list(api: &Arc<dyn Api>, request: Request) -> Result<Vec<Value>, Status> {
    let (items, _) = api.call(request).await?.list()?;
    items.iter().map(|i| i.decode().map_err(Status::internal)).collect()
}

async fn make_nodes(admin: &Arc<dyn Api>) {
    for name in NODE_NAMES {
        let amounts = json!({"cpu": "4", "memory": "8Gi", "pods": "20"});
        let condition = json!({"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "played"});
        let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}});
        admin.call(Request::create(NODES, "", &node)).await.unwrap();
        node["status"] = json!({"capacity": amounts, "allocatable": amounts, "conditions": [condition]});
        admin.call(Request::update(NODES, "", name, &node).on("status")).await.unwrap();
    }
}

/// Does one thing for one of the node's pods, drawn by lot; says what, if there was anything to do.
async fn play(api: &Arc<dyn Api>, node: &str, random: &dyn Random, now: Timestamp) -> Option<String> {
    let mut request = Request::list(PODS, "");
    request.params.field_selector = format!("spec.nodeName={node}");
    let pods = match list(api, request).await {
        Ok(pods) => pods,
        Err(status) => return Some(format!("{node} cannot list its pods: {}", status.message)),
    };
    let mut work: Vec<&Value> = pods.iter().filter(|p| meta::is_deleting(p) || !is_ready(p)).collect();
    if work.is_empty() {
        return None;
    }
    let pod = work.swap_remove(random.below(work.len() as u64) as usize);
    let name = meta::object_name(pod);
    let (what, result) = if meta::is_deleting(pod) {
        ("stopped", stop(api, pod, &name).await)
    } else if pod["status"]["phase"] != "Running" {
        ("started", tell(api, pod, &name, "False", now).await)
    } else {
        ("ready", tell(api, pod, &name, "True", now).await)
    };
    let failed = result.err().map(|s| format!(", failed: {}", s.message)).unwrap_or_default();
    Some(format!("{node}: {name} {what}{failed}"))
}

/// Whether a pod is ready.
fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

async fn tell(api: &Arc<dyn Api>, pod: &Value, name: &ObjectName, ready: &str, now: Timestamp) -> Result<(), Status> {
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "lastTransitionTime": now.rfc3339()});
    let conditions: Value = json!([condition("Ready", ready), condition("PodScheduled", "True")]);
    let patch = json!({"metadata": {"uid": meta::uid(pod)}, "status": {"phase": "Running", "conditions": conditions}});
    api.call(Request::patch(PODS, &name.namespace, &name.name, PatchType::Strategic, &patch).on("status")).await.map(drop)
}

async fn stop(api: &Arc<dyn Api>, pod: &Value, name: &ObjectName) -> Result<(), Status> {
    let preconditions = Some(Preconditions { uid: Some(meta::uid(pod).into()), ..Preconditions::default() });
    let options = DeleteOptions { grace_period_seconds: Some(0), preconditions, ..DeleteOptions::default() };
    api.call(Request::delete(PODS, &name.namespace, &name.name, &options)).await.map(drop)
}

fn deployment(name: &str, namespace: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 3, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "i"}]}},
        },
    })
}

#[tokio::test]
async fn from_a_deployment_to_endpoints_and_back_to_nothing() {
    let mut cluster = Cluster::start().await;
    let space = Some("shop");
    cluster.create(NAMESPACES, "", json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})).await;
    cluster
        .until("a namespace has its account and certificates", |c| {
            c.names("serviceaccounts", space) == ["default"] && c.names("configmaps", space) == ["kube-root-ca.crt"]
        })
        .await;
    cluster.create(DEPLOYMENTS, "shop", deployment("web", "shop")).await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}});
    cluster.create(SERVICES, "shop", service).await;
    let available = |c: &Cluster| c.list("deployments.apps", space).first().is_some_and(|d| d["status"]["availableReplicas"] == 3);
    cluster.until("the deployment is available", available).await;
    let nodes: std::collections::BTreeSet<String> =
        cluster.list("pods", space).iter().map(|p| p["spec"]["nodeName"].as_str().unwrap().to_owned()).collect();
    assert_eq!(nodes.len(), 3, "one pod on each node");
    cluster
        .until("the service has its slice and endpoints", |c| {
            c.names("endpointslices.discovery.k8s.io", space).len() == 1 && c.names("endpoints", space) == ["web"]
        })
        .await;

    cluster.rests().await;
    let lonely = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "lonely", "namespace": "shop"},
        "spec": {"selector": {"app": "nobody"}, "ports": [{"port": 80}]}});
    cluster.create(SERVICES, "shop", lonely).await;
    cluster.until("a service with nobody has a slice too", |c| c.names("endpointslices.discovery.k8s.io", space).len() == 2).await;
    cluster.rests().await;
    let foreground = DeleteOptions { propagation_policy: Some(Propagation::Foreground), ..DeleteOptions::default() };
    cluster.admin.call(Request::delete(DEPLOYMENTS, "shop", "web", &foreground)).await.unwrap();
    cluster
        .until("deployment, sets and pods are gone", |c| {
            ["deployments.apps", "replicasets.apps", "pods"].iter().all(|r| c.names(r, space).is_empty())
        })
        .await;

    cluster.create(DEPLOYMENTS, "shop", deployment("again", "shop")).await;
    cluster.until("there are pods again", |c| c.names("pods", space).len() == 3).await;
    cluster.admin.call(Request::delete(NAMESPACES, "", "shop", &DeleteOptions::default())).await.unwrap();
    cluster.until("the namespace is gone", |c| !c.names("namespaces", None).contains(&"shop".to_owned())).await;
    let snapshot = cluster.store.snapshot();
    let left: Vec<(&str, &str)> = snapshot.resources().flat_map(|r| snapshot.list(r, space, None).map(move |i| (r, i.path))).collect();
    assert_eq!(left, [], "nothing is left in it");
}

#[tokio::test]
async fn a_pod_that_fits_nowhere_says_so_and_one_of_a_lost_node_goes() {
    let mut cluster = Cluster::start().await;
    let pod = |name: &str, cpu: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
    };
    cluster.create(PODS, "default", pod("huge", "64")).await;
    cluster
        .until("the pod says why it waits", |c| {
            c.list("pods", None)[0]["status"]["conditions"][0]["message"] == "0/3 nodes are available: 3 Insufficient cpu."
        })
        .await;
    cluster.until("an event says so too", |c| c.list("events", None).iter().any(|e| e["reason"] == "FailedScheduling")).await;
    cluster.create(PODS, "default", pod("small", "1")).await;
    cluster.until("it runs", |c| c.list("pods", None).iter().any(is_ready)).await;
    let node = cluster.list("pods", None).iter().find_map(|p| p["spec"]["nodeName"].as_str().map(str::to_owned)).unwrap();
    cluster.agents.clear();
    cluster.admin.call(Request::delete(NODES, "", &node, &DeleteOptions::default())).await.unwrap();
    cluster.until("its pod goes with the node", |c| c.names("pods", None) == ["huge"]).await;
}
