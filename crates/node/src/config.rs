//! What an agent is told about its node.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// What an agent is told about its node.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// The node's name.
    pub node_name: String,
    /// Where the agent keeps its pods' volumes and logs: the kubelet directory.
    pub root: PathBuf,
    /// What hostPath volumes start from: `/` on a machine of its own.
    pub host_root: PathBuf,
    /// The cgroup under which all pods' lie, such as `/gantry-1a2b/n1`.
    pub cgroup_parent: String,
    /// The range its pods' addresses come from, when that was decided beforehand; otherwise the API decides.
    pub pod_cidr: Option<gantry_network::Range>,
    /// The node's own addresses.
    pub host_ips: Vec<Ipv4Addr>,
    /// Where pods find DNS.
    pub cluster_dns: Ipv4Addr,
    /// Where this node's own DNS listens.
    pub dns_listener: Ipv4Addr,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// The port of the node's own HTTPS API.
    pub port: u16,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// How often the node says that it is alive.
    pub heartbeat: Duration,
    /// Labels the node registers with, beside those every node has.
    pub labels: Vec<(String, String)>,
}
