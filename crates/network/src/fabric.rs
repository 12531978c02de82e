use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::error::check_name;
use crate::names::{Names, check_range, mac};
use crate::network::{entries, forward_packets};
use crate::nft::expr::{Rule, Side};
use crate::nft::{Batch, Hook, Nft};
use crate::pod::{disconnect, pin_again};
use crate::proxy::remove_table;
use crate::rtnl::{End, LOOPBACK, Requests, Route, Rtnl, tolerate_gone};
use crate::{Error, Range, netns};

/// What a node's end of its link is called inside.
const INSIDE: &str = "eth0";

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
///
/// Dropping it takes nothing down. The host reaches nodes, pods, services and node ports; nodes and pods reach the host and what lies
/// beyond, masqueraded.
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
        let names = Names::new(&config.cluster_id)?;
        let fabric = Self::plan(config)?;
        fs::create_dir_all(&config.state_dir).map_err(Error::file("create", &config.state_dir))?;
        forward_packets()?;
        let mut rtnl = Rtnl::open()?;
        let bridge = add_bridge(&mut rtnl, &names.bridge(), fabric.host, config.node_cidr.prefix())?;
        for (index, node) in fabric.nodes.iter().enumerate() {
            add_node(&mut rtnl, &names.node_link(index), bridge, node, &fabric, config.node_cidr.prefix())?;
        }
        let metric = names.metric();
        let mut requests = Requests::default();
        let ranges = config.nodes.iter().map(|(_, range)| *range).zip(&fabric.nodes);
        for (to, node) in ranges.chain(fabric.nodes.first().map(|first| (config.service_cidr, first))) {
            requests.set_route(&Route { to, via: Some(node.address), device: Some(bridge), source: None, metric });
        }
        rtnl.run(requests)?;
        masquerade(&names, config.node_cidr)?;
        Ok(fabric)
    }

    fn plan(config: &FabricConfig) -> Result<Self, Error> {
        let small = || Error::Small { range: config.node_cidr, purpose: "the host and all nodes" };
        check_range(config.node_cidr, "the host and all nodes")?;
        let place = |(index, (name, _)): (usize, &(String, Range))| {
            check_name("node name", name, 253)?;
            // The last address is the broadcast address.
            let last = config.node_cidr.size() - 1;
            let address = config.node_cidr.nth(index as u32 + 2).filter(|_| (index as u64) + 2 < last).ok_or_else(small)?;
            Ok(FabricNode { name: name.clone(), address, netns: config.state_dir.join(name) })
        };
        let nodes = config.nodes.iter().enumerate().map(place).collect::<Result<_, Error>>()?;
        Ok(Self { host: config.node_cidr.nth(1).ok_or_else(small)?, nodes })
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
    /// Namespaces in which processes still run end with the last of them. Forwarding of packets stays on.
    ///
    /// # Errors
    /// When the kernel refuses; all that could be removed has been.
    pub fn delete(cluster_id: &str, state_dir: &Path) -> Result<(), Error> {
        let names = Names::new(cluster_id)?;
        let mut rtnl = Rtnl::open()?;
        let mut result = remove_table(&names.fabric_table());
        for link in rtnl.links(&names.prefix())?.iter().filter(|link| names.is_fabric_link(link)) {
            let mut requests = Requests::default();
            requests.delete_link(&link.name);
            result = result.and(tolerate_gone(rtnl.run(requests)));
        }
        for pin in entries(state_dir)? {
            result = result.and(netns::unpin(&pin));
        }
        if state_dir.exists() {
            result = result.and(fs::remove_dir(state_dir).map_err(Error::file("remove", state_dir)));
        }
        result
    }
}

fn add_bridge(rtnl: &mut Rtnl, name: &str, address: Ipv4Addr, prefix: u8) -> Result<u32, Error> {
    if rtnl.link(name)?.is_none() {
        let mut requests = Requests::default();
        requests.add_bridge(name, mac(address));
        rtnl.run(requests)?;
    }
    let index = rtnl.index_of(name)?;
    let mut requests = Requests::default();
    requests.set_up(index);
    requests.add_address(index, address, prefix, None);
    rtnl.run(requests)?;
    Ok(index)
}

fn add_node(rtnl: &mut Rtnl, link: &str, bridge: u32, node: &FabricNode, fabric: &Fabric, prefix: u8) -> Result<(), Error> {
    let mut inside = if netns::is_pinned(&node.netns) || pin_again(rtnl, &node.netns, link)? {
        netns::within(&node.netns, Rtnl::open)??
    } else {
        disconnect(rtnl, &node.netns, link)?;
        netns::create(&node.netns, Rtnl::open)??
    };
    if rtnl.link(link)?.is_none() {
        let namespace = File::open(&node.netns).map_err(Error::file("open", &node.netns))?;
        let [a, b, ..] = mac(node.address);
        let [_, _, c, d] = node.address.octets();
        let near = End { name: link, mac: [a, b, 0xff, 0, c, d], bridge: Some(bridge) };
        let mut requests = Requests::default();
        requests.add_veth(&near, &End { name: INSIDE, mac: mac(node.address), bridge: None }, namespace.as_fd());
        rtnl.run(requests)?;
    }
    let index = inside.index_of(INSIDE)?;
    let mut requests = Requests::default();
    requests.set_up(LOOPBACK);
    requests.set_up(index);
    requests.add_address(index, node.address, prefix, None);
    let everywhere = Range::new(Ipv4Addr::UNSPECIFIED, 0);
    requests.set_route(&Route { to: everywhere, via: Some(fabric.host), device: Some(index), source: None, metric: 0 });
    inside.run(requests)
}

/// Gives what leaves the machine the machine's address.
fn masquerade(names: &Names, nodes: Range) -> Result<(), Error> {
    let (table, chain) = (names.fabric_table(), "nat-postrouting");
    let mut batch = Batch::new(&table);
    batch.add_table();
    batch.add_chain(chain, Some(Hook { kind: "nat", number: libc::NF_INET_POST_ROUTING, priority: 100 }));
    batch.flush_chain(chain);
    batch.add_rule(chain, &Rule::default().when(Side::Source, true, nodes).when_not_over(&names.bridge()).masquerade());
    Nft::open()?.commit(batch).map_err(Error::kernel(format!("set up the nf_tables table {table}")))
}
