use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use crate::conntrack::Conntrack;
use crate::error::check_name;
use crate::ipam::Ipam;
use crate::names::{Names, check_range};
use crate::proxy::{Proxy, ProxyConfig, remove_table};
use crate::rtnl::{LOOPBACK, Requests, Route, Rtnl, tolerate_gone};
use crate::{Error, Range, ServiceTable, netns, pod};

/// What a node's network is made of.
#[derive(Clone, Debug)]
pub struct NetworkConfig {
    /// At most 8 characters that tell clusters on one machine apart; part of the names of interfaces and tables.
    pub cluster_id: String,
    /// The node's name, as endpoints carry it.
    pub node_name: String,
    /// A directory of this node alone; the network keeps pinned namespaces and addresses in it.
    pub state_dir: PathBuf,
    /// The pod addresses of this node. The first usable one is the node's own, see [`Network::gateway`].
    pub pod_cidr: Range,
    /// The pod addresses of all nodes. Traffic from pods to other places is masqueraded.
    pub cluster_cidr: Range,
    /// The virtual addresses of services.
    pub service_cidr: Range,
}

/// Another node of the cluster, on the same network segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The other node's name.
    pub node: String,
    /// Its pod addresses.
    pub pod_cidr: Range,
    /// Where to send packets for them.
    pub address: Ipv4Addr,
}

/// A pod's place on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    /// The pod's addresses.
    pub addresses: Vec<Ipv4Addr>,
    /// A file that holds the pod's network namespace: open it and `setns`.
    pub netns: PathBuf,
}

/// The network of one node, in the network namespace in which [`Network::start`] was called.
///
/// All methods block on the kernel, for milliseconds; call them away from async threads. Dropping it takes nothing down: pods keep
/// their links while an agent is restarted. Addresses and interfaces of an earlier agent are picked up by `start`.
#[derive(Debug)]
pub struct Network {
    config: NetworkConfig,
    names: Names,
    gateway: Ipv4Addr,
    pods: Mutex<Pods>,
    /// Links are removed through a socket of their own: the kernel takes tens of milliseconds for each, and others want to come.
    removal: Mutex<Rtnl>,
    proxy: Mutex<Proxy>,
    conntrack: Mutex<Conntrack>,
}

#[derive(Debug)]
struct Pods {
    rtnl: Rtnl,
    ipam: Ipam,
}

impl Network {
    /// Sets up the node's side: forwarding, the gateway address, the nftables table; picks up what an earlier agent left.
    ///
    /// Services that an earlier agent programmed go on until the first [`Network::apply`].
    ///
    /// # Errors
    /// When the configuration makes no sense, or the kernel refuses (say so to the user: it needs root, veth and nf_tables).
    pub fn start(config: NetworkConfig) -> Result<Self, Error> {
        let names = Names::new(&config.cluster_id)?;
        check_range(config.pod_cidr, "the pods of a node")?;
        let gateway = config.pod_cidr.nth(1).ok_or(Error::Small { range: config.pod_cidr, purpose: "the pods of a node" })?;
        let pins = pins(&config.state_dir);
        fs::create_dir_all(&pins).map_err(Error::file("create", &pins))?;
        let mut ipam = Ipam::open(&config.state_dir.join("pods"), config.pod_cidr)?;
        let mut rtnl = Rtnl::open()?;
        forward_packets()?;
        set_up_node(&mut rtnl, &names, &config, gateway)?;
        sweep(&mut rtnl, &mut ipam, &names, &pins)?;
        let pods: Vec<Ipv4Addr> = ipam.pods().values().copied().collect();
        let proxy = ProxyConfig {
            table: names.table(),
            node: config.node_name.clone(),
            gateway,
            pod_cidr: config.pod_cidr,
            cluster_cidr: config.cluster_cidr,
            service_cidr: config.service_cidr,
        };
        let proxy = Proxy::start(proxy, &pods)?;
        let (pods, proxy) = (Mutex::new(Pods { rtnl, ipam }), Mutex::new(proxy));
        let (removal, conntrack) = (Mutex::new(Rtnl::open()?), Mutex::new(Conntrack::open()?));
        Ok(Self { config, names, gateway, pods, removal, proxy, conntrack })
    }

    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().expect("nothing panics while it holds this lock")
    }

    fn proxy(&self) -> MutexGuard<'_, Proxy> {
        self.proxy.lock().expect("nothing panics while it holds this lock")
    }

    /// The node's own address in its pod range: pods can always reach it, DNS listens on it.
    pub fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    fn link(&self, pod_uid: &str, address: Ipv4Addr) -> PodLink {
        PodLink { addresses: vec![address], netns: pins(&self.config.state_dir).join(pod_uid) }
    }

    /// Gives a pod a network namespace, an address and a link to the node. For a pod that has them, says which.
    ///
    /// # Errors
    /// When no address is free, or the kernel refuses; nothing is left then.
    pub fn attach(&self, pod_uid: &str) -> Result<PodLink, Error> {
        check_name("pod uid", pod_uid, 128)?;
        let mut pods = self.pods();
        if let Some(address) = pods.ipam.get(pod_uid) {
            return Ok(self.link(pod_uid, address));
        }
        let address = pods.ipam.free()?;
        let link = self.link(pod_uid, address);
        let name = self.names.pod_link(address);
        let made = pod::connect(&mut pods.rtnl, &link.netns, &name, address, self.gateway)
            .and_then(|()| self.proxy().add_pod(address))
            .and_then(|()| pods.ipam.record(pod_uid, address));
        if let Err(error) = made {
            // Whatever stays nevertheless, the next start sweeps away: it is not on record.
            let undone = pod::disconnect(&mut pods.rtnl, &link.netns, &name).and_then(|()| self.proxy().remove_pod(address));
            if let Err(leftover) = undone {
                tracing::warn!(pod_uid, %leftover, "half a pod link stays until the next start");
            }
            return Err(error);
        }
        Ok(link)
    }

    /// Takes away a pod's link, address and namespace. Does nothing for a pod that has none.
    ///
    /// Other pods may be attached meanwhile; the same one must not be.
    ///
    /// # Errors
    /// When the kernel refuses; call again.
    pub fn detach(&self, pod_uid: &str) -> Result<(), Error> {
        check_name("pod uid", pod_uid, 128)?;
        let Some(link) = self.find(pod_uid) else { return Ok(()) };
        for &address in &link.addresses {
            let mut rtnl = self.removal.lock().expect("nothing panics while it holds this lock");
            pod::disconnect(&mut rtnl, &link.netns, &self.names.pod_link(address))?;
            drop(rtnl);
            self.proxy().remove_pod(address)?;
        }
        // Only now may another pod get the address.
        self.pods().ipam.release(pod_uid)
    }

    /// The uids of all attached pods, in order.
    pub fn list(&self) -> Vec<String> {
        self.pods().ipam.pods().keys().cloned().collect()
    }

    /// The place of a pod that is attached.
    pub fn find(&self, pod_uid: &str) -> Option<PodLink> {
        self.pods().ipam.get(pod_uid).map(|address| self.link(pod_uid, address))
    }

    /// Makes these the other nodes: routes to their pods come, routes of nodes no longer named go.
    ///
    /// # Errors
    /// When the kernel refuses a route, say because an address is on no segment of ours; the other routes are in place then.
    pub fn set_peers(&self, peers: &[Peer]) -> Result<(), Error> {
        let metric = self.names.metric();
        let wanted: BTreeSet<Range> =
            peers.iter().map(|peer| peer.pod_cidr).chain([self.config.pod_cidr, self.config.service_cidr]).collect();
        let rtnl = &mut self.pods().rtnl;
        for gone in rtnl.routes(metric)?.into_iter().filter(|route| !wanted.contains(route)) {
            let mut requests = Requests::default();
            requests.delete_route(gone, metric);
            tolerate_gone(rtnl.run(requests))?;
        }
        let mut requests = Requests::default();
        for peer in peers.iter().filter(|peer| peer.pod_cidr != self.config.pod_cidr) {
            requests.set_route(&Route { to: peer.pod_cidr, via: Some(peer.address), device: None, source: None, metric });
        }
        rtnl.run(requests)
    }

    /// Makes the kernel balance these services. Only the difference to the last call is sent, in one atomic batch.
    ///
    /// # Errors
    /// When the kernel refuses; the next call starts from nothing then.
    pub fn apply(&self, table: &ServiceTable) -> Result<(), Error> {
        let change = self.proxy().apply(table)?;
        if change.gone_udp.is_empty() {
            return Ok(());
        }
        self.conntrack.lock().expect("nothing panics while it holds this lock").forget_udp(&change.gone_udp)
    }

    /// Takes down everything: pods' links and namespaces, routes, addresses, the table.
    ///
    /// # Errors
    /// When the kernel refuses; call [`Network::purge`] to try again.
    pub fn teardown(self) -> Result<(), Error> {
        Self::purge(&self.config.cluster_id, &self.config.state_dir)
    }

    /// Like [`Network::teardown`], for a network whose agent is gone: finds all by name, in the current network namespace.
    ///
    /// Forwarding of packets, which others may rely on by now, stays on.
    ///
    /// # Errors
    /// When the kernel refuses; all that could be removed has been.
    pub fn purge(cluster_id: &str, state_dir: &Path) -> Result<(), Error> {
        let names = Names::new(cluster_id)?;
        let mut rtnl = Rtnl::open()?;
        let mut result = remove_table(&names.table());
        for link in rtnl.links(&names.prefix())?.iter().filter(|link| names.is_pod_link(link)) {
            let mut requests = Requests::default();
            requests.delete_link(&link.name);
            result = result.and(tolerate_gone(rtnl.run(requests)));
        }
        for address in rtnl.addresses(&names.label())? {
            let mut requests = Requests::default();
            requests.delete_address(address.index, address.address, address.prefix);
            result = result.and(tolerate_gone(rtnl.run(requests)));
        }
        for route in rtnl.routes(names.metric())? {
            let mut requests = Requests::default();
            requests.delete_route(route, names.metric());
            result = result.and(tolerate_gone(rtnl.run(requests)));
        }
        for pin in entries(&pins(state_dir))? {
            result = result.and(netns::unpin(&pin));
        }
        for dir in [pins(state_dir), state_dir.join("pods")] {
            if dir.exists() {
                result = result.and(fs::remove_dir_all(&dir).map_err(Error::file("remove", &dir)));
            }
        }
        result
    }
}

fn pins(state_dir: &Path) -> PathBuf {
    state_dir.join("netns")
}

/// The paths in a directory; none when it is not there.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::file("read", dir)(error)),
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path()).map_err(Error::file("read", dir))).collect(),
    }
}

/// Lets the kernel forward packets between links, if it does not yet.
pub(crate) fn forward_packets() -> Result<(), Error> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    let now = fs::read_to_string(path).map_err(Error::file("read", path))?;
    if now.trim() == "1" { Ok(()) } else { fs::write(path, "1").map_err(Error::file("write", path)) }
}

/// The gateway's address, and routes for what nobody answers.
fn set_up_node(rtnl: &mut Rtnl, names: &Names, config: &NetworkConfig, gateway: Ipv4Addr) -> Result<(), Error> {
    for stale in rtnl.addresses(&names.label())?.iter().filter(|found| found.address != gateway) {
        let mut requests = Requests::default();
        requests.delete_address(stale.index, stale.address, stale.prefix);
        tolerate_gone(rtnl.run(requests))?;
    }
    let metric = names.metric();
    let mut requests = Requests::default();
    requests.set_up(LOOPBACK);
    requests.add_address(LOOPBACK, gateway, 32, Some(&names.label()));
    // Pods' own routes are narrower; an address without a pod is refused at once.
    requests.set_route(&Route { to: config.pod_cidr, via: None, device: None, source: None, metric });
    // Services need a route so that packets get as far as to be translated, and the node's own processes a source that pods can answer.
    requests.set_route(&Route { to: config.service_cidr, via: None, device: Some(LOOPBACK), source: Some(gateway), metric });
    rtnl.run(requests)
}

/// Removes what an agent that was killed left half made, and forgets pods whose link or namespace did not survive (a reboot).
fn sweep(rtnl: &mut Rtnl, ipam: &mut Ipam, names: &Names, pins: &Path) -> Result<(), Error> {
    let links: BTreeSet<String> =
        rtnl.links(&names.prefix())?.into_iter().filter(|link| names.is_pod_link(link)).map(|link| link.name).collect();
    let mut kept = BTreeSet::new();
    for (uid, address) in ipam.pods().clone() {
        let (pin, link) = (pins.join(&uid), names.pod_link(address));
        if links.contains(&link) && (netns::is_pinned(&pin) || pod::pin_again(rtnl, &pin, &link)?) {
            kept.extend([pin.into_os_string(), link.into()]);
        } else {
            ipam.release(&uid)?;
        }
    }
    for link in links.iter().filter(|link| !kept.contains(std::ffi::OsStr::new(link))) {
        let mut requests = Requests::default();
        requests.delete_link(link);
        tolerate_gone(rtnl.run(requests))?;
    }
    entries(pins)?.iter().filter(|pin| !kept.contains(pin.as_os_str())).try_for_each(|pin| netns::unpin(pin))
}
