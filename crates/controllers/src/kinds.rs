//! What controllers need to see of each kind: one small, read-only projection for all of them.

use std::collections::BTreeMap;

use gantry_object::labels::Selector;
use gantry_object::{Resource, Timestamp, Value};
use gantry_reconcile::{Kind, time};
use serde::{Deserialize, Deserializer};

/// Annotations in full.
pub(crate) type Annotations = BTreeMap<String, String>;

/// Metadata of which only the annotations count.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Annotated {
    pub(crate) annotations: Annotations,
}

/// A condition of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Condition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    pub(crate) message: String,
    #[serde(deserialize_with = "time")]
    pub(crate) last_transition_time: Option<Timestamp>,
}

/// Finds a condition by its type.
pub(crate) fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.kind == kind)
}

/// A label selector; an absent or malformed one selects nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct LabelSelector(pub(crate) Option<Selector>);

impl<'de> Deserialize<'de> for LabelSelector {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        Ok(Self(Selector::from_label_selector(&value).ok().flatten()))
    }
}

impl LabelSelector {
    /// Whether labels are selected. A selector without any condition selects nothing here: no controller may own everything.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.as_ref().is_some_and(|s| !s.is_empty() && s.matches(labels))
    }

    /// Whether it has no condition.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_some_and(Selector::is_empty)
    }
}

/// A pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pod {
    pub(crate) metadata: PodMeta,
    pub(crate) spec: PodSpec,
    pub(crate) status: PodStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodMeta {
    pub(crate) annotations: PodAnnotations,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodAnnotations {
    #[serde(rename = "controller.kubernetes.io/pod-deletion-cost")]
    pub(crate) deletion_cost: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodSpec {
    pub(crate) node_name: String,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) restart_policy: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerPort {
    pub(crate) name: String,
    pub(crate) container_port: i32,
    pub(crate) protocol: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Toleration {
    pub(crate) key: String,
    pub(crate) operator: String,
    pub(crate) value: String,
    pub(crate) effect: String,
    pub(crate) toleration_seconds: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PodStatus {
    pub(crate) phase: String,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: String,
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Vec<PodIp>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodIp {
    pub(crate) ip: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub(crate) restart_count: i32,
}

impl Kind for Pod {
    const RESOURCE: Resource = Resource::namespaced("", "v1", "pods", "Pod");

    /// The node it runs on; empty before it is scheduled.
    fn index(&self) -> Option<&str> {
        Some(&self.spec.node_name)
    }
}

impl Pod {
    /// Whether it has ended for good.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// Since when it is ready.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        let ready = condition(&self.status.conditions, "Ready").filter(|c| c.status == "True")?;
        Some(ready.last_transition_time.unwrap_or_default())
    }

    /// Whether it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready_since().is_some()
    }

    /// The most restarts of any of its containers.
    pub(crate) fn restarts(&self) -> i32 {
        self.status.container_statuses.iter().map(|c| c.restart_count).max().unwrap_or(0)
    }
}

/// A replica set.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicaSet {
    pub(crate) metadata: Annotated,
    pub(crate) spec: ReplicaSetSpec,
    pub(crate) status: ReplicaSetStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReplicaSetSpec<S = LabelSelector> {
    pub(crate) replicas: Option<i32>,
    pub(crate) min_ready_seconds: i32,
    pub(crate) selector: S,
    pub(crate) template: Value,
}

/// A selector that is no more than the labels it asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct LabelMap(LabelSelector);

impl<'de> Deserialize<'de> for LabelMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let labels = Value::deserialize(deserializer)?;
        let selector = serde_json::json!({"matchLabels": labels});
        Ok(Self(LabelSelector(Selector::from_label_selector(&selector).ok().flatten())))
    }
}

impl AsRef<LabelSelector> for LabelMap {
    fn as_ref(&self) -> &LabelSelector {
        &self.0
    }
}

impl AsRef<LabelSelector> for LabelSelector {
    fn as_ref(&self) -> &LabelSelector {
        self
    }
}

/// A replication controller.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ReplicationController {
    pub(crate) spec: ReplicaSetSpec<LabelMap>,
}

impl Kind for ReplicationController {
    const RESOURCE: Resource = Resource::namespaced("", "v1", "replicationcontrollers", "ReplicationController");
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ReplicaSetStatus {
    pub(crate) replicas: i32,
    pub(crate) ready_replicas: i32,
    pub(crate) available_replicas: i32,
    pub(crate) observed_generation: i64,
    pub(crate) conditions: Vec<Condition>,
}

impl Kind for ReplicaSet {
    const RESOURCE: Resource = Resource::namespaced("apps", "v1", "replicasets", "ReplicaSet");
}

impl ReplicaSet {
    /// How many pods are wanted.
    pub(crate) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }
}

/// A deployment.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Deployment {
    pub(crate) metadata: Annotated,
    pub(crate) spec: DeploymentSpec,
    pub(crate) status: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DeploymentSpec {
    pub(crate) replicas: Option<i32>,
    pub(crate) min_ready_seconds: i32,
    pub(crate) paused: bool,
    pub(crate) progress_deadline_seconds: Option<i32>,
    pub(crate) revision_history_limit: Option<i32>,
    pub(crate) selector: LabelSelector,
    pub(crate) strategy: Strategy,
    pub(crate) template: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Strategy {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) rolling_update: RollingUpdate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RollingUpdate {
    pub(crate) max_surge: Value,
    pub(crate) max_unavailable: Value,
}

impl Kind for Deployment {
    const RESOURCE: Resource = Resource::namespaced("apps", "v1", "deployments", "Deployment");
}

impl Deployment {
    /// How many pods are wanted.
    pub(crate) fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }
}

/// A service.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Service {
    pub(crate) spec: ServiceSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServiceSpec {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(rename = "clusterIP")]
    pub(crate) cluster_ip: String,
    pub(crate) selector: Option<BTreeMap<String, String>>,
    pub(crate) ports: Vec<ServicePort>,
    pub(crate) publish_not_ready_addresses: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ServicePort {
    pub(crate) name: String,
    pub(crate) protocol: String,
    pub(crate) port: i32,
    pub(crate) target_port: Value,
    pub(crate) app_protocol: Option<String>,
}

impl Kind for Service {
    const RESOURCE: Resource = Resource::namespaced("", "v1", "services", "Service");
}

impl Service {
    /// The labels of the pods it stands for; `None` when its endpoints are nobody's here.
    pub(crate) fn selector(&self) -> Option<&BTreeMap<String, String>> {
        self.spec.selector.as_ref().filter(|s| !s.is_empty() && self.spec.kind != "ExternalName")
    }

    /// Whether it stands for pods with these labels.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector().is_some_and(|s| s.iter().all(|(k, v)| labels.get(k) == Some(v)))
    }

    /// Whether it has no address of its own.
    pub(crate) fn is_headless(&self) -> bool {
        matches!(self.spec.cluster_ip.as_str(), "" | "None")
    }
}

/// Declares a kind of which only the metadata counts, or whose rest is read when needed.
macro_rules! bare_kind {
    ($($(#[$doc:meta])* $name:ident = $constructor:ident($group:literal, $version:literal, $plural:literal);)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        pub(crate) struct $name {}

        impl Kind for $name {
            const RESOURCE: Resource = Resource::$constructor($group, $version, $plural, stringify!($name));
        }
    )*};
}

bare_kind! {
    /// An endpoint slice; the controller that owns it reads the rest.
    EndpointSlice = namespaced("discovery.k8s.io", "v1", "endpointslices");
    /// The older form of endpoint slices.
    Endpoints = namespaced("", "v1", "endpoints");
    /// A service account.
    ServiceAccount = namespaced("", "v1", "serviceaccounts");
    /// A config map.
    ConfigMap = namespaced("", "v1", "configmaps");
}

/// A role of the whole cluster, as far as it gathers others; their rules are read when they are gathered.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClusterRole {
    pub(crate) aggregation_rule: Option<AggregationRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct AggregationRule {
    pub(crate) cluster_role_selectors: Vec<Value>,
}

impl Kind for ClusterRole {
    const RESOURCE: Resource = Resource::cluster("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole");
}

impl ClusterRole {
    /// Whether it gathers the rules of roles with these labels.
    pub(crate) fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        let selectors = self.aggregation_rule.iter().flat_map(|rule| &rule.cluster_role_selectors);
        selectors.filter_map(|s| Selector::from_label_selector(s).ok().flatten()).any(|s| s.matches(labels))
    }
}

/// A namespace.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Namespace {
    pub(crate) spec: NamespaceSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NamespaceSpec {
    pub(crate) finalizers: Vec<String>,
}

impl Kind for Namespace {
    const RESOURCE: Resource = Resource::cluster("", "v1", "namespaces", "Namespace");
}

/// A node.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub(crate) spec: NodeSpec,
    pub(crate) status: NodeStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeSpec {
    pub(crate) taints: Vec<Taint>,
    pub(crate) unschedulable: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) effect: String,
    #[serde(deserialize_with = "time")]
    pub(crate) time_added: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    pub(crate) conditions: Vec<NodeCondition>,
    pub(crate) addresses: Vec<NodeAddress>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NodeCondition {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) status: String,
    #[serde(deserialize_with = "time")]
    pub(crate) last_heartbeat_time: Option<Timestamp>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeAddress {
    pub(crate) address: String,
}

impl Kind for Node {
    const RESOURCE: Resource = Resource::cluster("", "v1", "nodes", "Node");
}

/// A lease.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Lease {
    pub(crate) spec: LeaseSpec,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct LeaseSpec {
    #[serde(deserialize_with = "time")]
    pub(crate) renew_time: Option<Timestamp>,
}

impl Kind for Lease {
    const RESOURCE: Resource = Resource::namespaced("coordination.k8s.io", "v1", "leases", "Lease");
}

/// A certificate signing request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CertificateSigningRequest {
    pub(crate) spec: CsrSpec,
    pub(crate) status: CsrStatus,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct CsrSpec {
    pub(crate) request: String,
    pub(crate) signer_name: String,
    pub(crate) usages: Vec<String>,
    pub(crate) username: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: Value,
    pub(crate) expiration_seconds: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CsrStatus {
    pub(crate) certificate: String,
    pub(crate) conditions: Vec<Condition>,
}

impl Kind for CertificateSigningRequest {
    const RESOURCE: Resource = Resource::cluster("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest");
}
