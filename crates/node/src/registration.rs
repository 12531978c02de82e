//! The node's own objects: its Node and its Lease.

use std::sync::Arc;

use gantry_client::{Api, PatchType, Request};
use gantry_network::Range;
use gantry_object::{Resource, Status, Timestamp, Value};
use serde_json::json;

use crate::config::AgentConfig;
use crate::machine;
use crate::shared::Shared;

const NODES: Resource = Resource::cluster("", "v1", "nodes", "Node");
const LEASES: Resource = Resource::namespaced("coordination.k8s.io", "v1", "leases", "Lease");
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How long others may take the node to be alive after its last word, in seconds.
const LEASE_SECONDS: u64 = 40;

fn capacity(config: &AgentConfig) -> Value {
    let storage = rustix::fs::statvfs(&config.root).map_or(0, |s| s.f_blocks * s.f_frsize);
    json!({
        "cpu": machine::cpus().to_string(),
        "memory": format!("{}Ki", machine::memory() / 1024),
        "pods": config.max_pods.to_string(),
        "ephemeral-storage": format!("{}Ki", storage / 1024),
        "hugepages-1Gi": "0", "hugepages-2Mi": "0",
    })
}

/// The Node as a new node registers itself.
fn node(config: &AgentConfig, now: Timestamp) -> Value {
    let name = &config.node_name;
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let mut labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "kubernetes.io/arch": arch,
        "beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": arch});
    for (key, value) in &config.labels {
        labels[key] = json!(value);
    }
    let spec = config.pod_cidr.map_or(json!({}), |range| json!({"podCIDR": range.to_string(), "podCIDRs": [range.to_string()]}));
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": spec, "status": status(config, now, false, None)})
}

/// The node's status; conditions keep the time at which they began to hold.
fn status(config: &AgentConfig, now: Timestamp, ready: bool, before: Option<&Value>) -> Value {
    let now = now.rfc3339();
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let told = before.and_then(|b| b["status"]["conditions"].as_array()).into_iter().flatten();
        let since =
            told.into_iter().find(|c| c["type"] == kind && c["status"] == status).map_or(json!(now), |c| c["lastTransitionTime"].clone());
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastHeartbeatTime": now, "lastTransitionTime": since})
    };
    let capacity = capacity(config);
    let mut addresses: Vec<Value> = config.host_ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip.to_string()})).collect();
    addresses.push(json!({"type": "Hostname", "address": config.node_name}));
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let version = concat!("v1.36.2+gantry", env!("CARGO_PKG_VERSION"));
    json!({
        "capacity": capacity, "allocatable": capacity, "addresses": addresses,
        "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
        "conditions": [
            condition("MemoryPressure", false, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
            condition("DiskPressure", false, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            condition("PIDPressure", false, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
            match ready {
                true => condition("Ready", true, "KubeletReady", "kubelet is posting ready status"),
                false => condition("Ready", false, "KubeletNotReady", "the node's network is being set up"),
            },
        ],
        "nodeInfo": {
            "machineID": machine::line("/etc/machine-id"), "systemUUID": machine::line("/sys/class/dmi/id/product_uuid"),
            "bootID": machine::line("/proc/sys/kernel/random/boot_id"), "kernelVersion": machine::line("/proc/sys/kernel/osrelease"),
            "osImage": machine::os_image(), "containerRuntimeVersion": concat!("gantry://", env!("CARGO_PKG_VERSION")),
            "kubeletVersion": version, "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": arch,
        },
    })
}

/// Makes the Node, not ready yet, and says which addresses its pods have.
///
/// # Errors
/// When the API refuses the node, or gives it no addresses.
pub async fn join(api: &Arc<dyn Api>, config: &AgentConfig, now: Timestamp) -> Result<Range, Status> {
    let name = &config.node_name;
    match api.call(Request::create(NODES, "", &node(config, now))).await {
        Err(status) if !status.is_already_exists() => return Err(status),
        _ => {}
    }
    let node: Value = api.call(Request::get(NODES, "", name)).await?.object()?.decode().map_err(Status::internal)?;
    let range = node["spec"]["podCIDR"].as_str().and_then(|c| c.parse().ok());
    range.ok_or_else(|| Status::internal(format_args!("node {name} was given no pod addresses")))
}

/// Brings the Node's status up to date; the node is ready from now on. A Node that was deleted comes back.
pub(crate) async fn register(shared: &Shared) -> Result<(), Status> {
    let (name, now) = (&shared.config.node_name, shared.now());
    let current = match shared.api.call(Request::get(NODES, "", name)).await {
        Err(status) if status.is_not_found() => shared.api.call(Request::create(NODES, "", &node(&shared.config, now))).await?.object()?,
        other => other?.object()?,
    };
    let current: Value = current.decode().map_err(Status::internal)?;
    let patch = json!({"status": status(&shared.config, now, true, Some(&current))});
    shared.api.call(Request::patch(NODES, "", name, PatchType::Strategic, &patch).on("status")).await.map(drop)
}

/// Says that the node is alive.
pub(crate) async fn renew_lease(shared: &Shared) -> Result<(), Status> {
    let name = &shared.config.node_name;
    let now = shared.now().rfc3339_micros();
    let patch = json!({"spec": {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}});
    match shared.api.call(Request::patch(LEASES, LEASE_NAMESPACE, name, PatchType::Merge, &patch)).await {
        Err(status) if status.is_not_found() => {
            let mut lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}});
            lease["spec"] = patch["spec"].clone();
            shared.api.call(Request::create(LEASES, LEASE_NAMESPACE, &lease)).await.map(drop)
        }
        other => other.map(drop),
    }
}
