//! A cluster's directory: its identity, its keys, and what lies where.

use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gantry_object::Timestamp;
use gantry_pki::{Authority, TokenKey};
use gantry_ports::Random;
use serde::{Deserialize, Serialize};

use crate::cli::{Failure, ServerArgs};

/// What a cluster is on its host. Chosen at the first start and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterIdentity {
    /// Eight characters that name the cluster's tables, interfaces and cgroups on this host.
    pub(crate) id: String,
    /// The API's port.
    pub(crate) port: u16,
    /// The port of the node's own API, when the host itself is the node.
    pub(crate) kubelet_port: u16,
    /// How many nodes it has on this host: with one, the host itself is the node.
    #[serde(default = "one")]
    pub(crate) nodes: u16,
    /// The address others reach the API at.
    pub(crate) advertise_address: Ipv4Addr,
    /// The Services' addresses.
    pub(crate) service_cidr: Cidr,
    /// The pods' addresses.
    pub(crate) pod_cidr: Cidr,
}

fn one() -> u16 {
    1
}

/// Where the API listens unless told otherwise.
const DEFAULT_PORT: u16 = 6443;
/// The default ranges of services and of pods are 10.(this + slot).0.0/16.
const SERVICES: u8 = 96;
const PODS: u8 = 160;
const SLOTS: u8 = 32;

impl ClusterIdentity {
    /// The segment that several nodes of one host share: the last of the pods' ranges, which no node gets.
    pub(crate) fn segment(&self) -> Cidr {
        segment_of(self.pod_cidr)
    }

    /// The names and pod ranges of this host's nodes, when there are several.
    pub(crate) fn local_nodes(&self) -> Vec<(String, Cidr)> {
        let range = |i: u16| Cidr { network: Ipv4Addr::from(u32::from(self.pod_cidr.network) + (u32::from(i) << 8)), length: 24 };
        (0..self.nodes).map(|i| (format!("node-{}", i + 1), range(i))).collect()
    }
}

fn segment_of(pods: Cidr) -> Cidr {
    let last = u32::from(pods.network) | (u32::MAX >> pods.length);
    Cidr { network: Ipv4Addr::from(last & !0xff), length: 24 }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Cidr {
    pub(crate) network: Ipv4Addr,
    pub(crate) length: u8,
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.length)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

impl TryFrom<String> for Cidr {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(n, l)| Some((n.parse::<Ipv4Addr>().ok()?, l.parse::<u8>().ok()?)));
        match parsed {
            Some((network, length)) if (8..=28).contains(&length) => {
                let mask = u32::MAX << (32 - length);
                if u32::from(network) & !mask != 0 {
                    return Err(format!("{text} is not a range: {network} has bits beyond the first {length}"));
                }
                Ok(Self { network, length })
            }
            _ => Err(format!("{text:?} is not a range of addresses, such as 10.96.0.0/16")),
        }
    }
}

/// The port of the node's own API: the usual one for a cluster on the usual port, where it is free; otherwise some free port, by chance, so
/// that clusters that start at the same moment choose differently.
fn free_kubelet_port(port: u16, random: &dyn Random) -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, *port)).is_ok();
    let usual = (port == DEFAULT_PORT).then_some(10_250);
    let others = (0..100).map(|_| 20_000 + random.below(10_000) as u16);
    usual.into_iter().chain(others).find(is_free).unwrap_or(10_250)
}

/// Whether this host has an address of another cluster in a range: that of a node, or its own beside several. A cluster without pods has no
/// routes, but it has these.
fn is_inhabited(slot: u8) -> bool {
    let addresses = (0..15).map(|node| Ipv4Addr::new(10, PODS + slot, node, 1)).chain([Ipv4Addr::new(10, PODS + slot, 255, 1)]);
    addresses.into_iter().any(|address| std::net::UdpSocket::bind((address, 0)).is_ok())
}

/// Which of the default ranges to take: the first, beginning anywhere, to which no route of this host leads, neither that of its services nor
/// that of its pods. `routes` is as `/proc/net/route` shows them.
fn free_slot(routes: &str, is_inhabited: fn(u8) -> bool, random: &dyn Random) -> u8 {
    // Destinations are hexadecimal in the order of memory: the last two digits are an address's first number.
    let taken = |slot: u8| {
        let ranges = [SERVICES + slot, PODS + slot].map(|second| format!("{second:02X}0A"));
        let destinations = || routes.lines().skip(1).filter_map(|l| l.split_whitespace().nth(1));
        destinations().any(|d| ranges.iter().any(|r| d.ends_with(r.as_str())))
    };
    let first = random.below(u64::from(SLOTS)) as u8;
    (0..SLOTS).map(|i| (first + i) % SLOTS).find(|slot| !taken(*slot) && !is_inhabited(*slot)).unwrap_or(first)
}

/// The address this host would send from: that of its default route, or loopback where it has none. Sends nothing.
fn own_address() -> Ipv4Addr {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|s| s.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).and_then(|()| s.local_addr()));
    match socket {
        Ok(std::net::SocketAddr::V4(address)) if !address.ip().is_unspecified() => *address.ip(),
        _ => Ipv4Addr::LOCALHOST,
    }
}

/// A cluster's directory.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
}

/// The cluster's secrets.
pub(crate) struct Keys {
    pub(crate) authority: Authority,
    pub(crate) token_key: TokenKey,
}

impl DataDir {
    /// A relative one is meant from here; shims and agents have other working directories.
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: std::path::absolute(root).unwrap_or_else(|_| root.into()) }
    }

    /// Where the store keeps its log.
    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// The directory itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where images are kept, for all of the cluster's nodes.
    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    /// What a node of this host keeps.
    pub(crate) fn node(&self, name: &str) -> PathBuf {
        self.root.join("nodes").join(name)
    }

    /// The nodes that have kept something on this host.
    pub(crate) fn nodes(&self) -> Vec<String> {
        let entries = fs::read_dir(self.root.join("nodes")).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// The process that runs the cluster writes its number here and holds a lock on it.
    pub(crate) fn lock_file(&self) -> PathBuf {
        self.root.join("run/server.pid")
    }

    /// What the background process writes.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.root.join("log/server.log")
    }

    /// The identity, if the cluster has one yet.
    pub(crate) fn known_identity(&self) -> Option<ClusterIdentity> {
        serde_json::from_slice(&fs::read(self.identity_file()).ok()?).ok()
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    fn identity_file(&self) -> PathBuf {
        self.root.join("cluster.json")
    }

    /// The cluster's identity: read, or chosen now from what the operator says.
    pub(crate) fn identity(&self, args: &ServerArgs, nodes: Option<u16>, random: &dyn Random) -> Result<ClusterIdentity, Failure> {
        let given = |text: &Option<String>| text.clone().map(Cidr::try_from).transpose().map_err(Failure::usage);
        let (service_cidr, pod_cidr) = (given(&args.service_cidr)?, given(&args.pod_cidr)?);
        let file = self.identity_file();
        if let Ok(bytes) = fs::read(&file) {
            let kept: ClusterIdentity = serde_json::from_slice(&bytes).map_err(|e| {
                Failure::act(format!("{} is damaged; restore it, or remove the data directory to start anew", file.display()), e)
            })?;
            let differs = args.port.is_some_and(|p| p != kept.port)
                || args.advertise_address.is_some_and(|a| a != kept.advertise_address)
                || service_cidr.is_some_and(|c| c != kept.service_cidr)
                || pod_cidr.is_some_and(|c| c != kept.pod_cidr)
                || nodes.is_some_and(|n| n != kept.nodes);
            if differs {
                return Err(Failure::usage(format!(
                    "{} holds a cluster with other settings (port {}, address {}, services {}, pods {}); leave those flags out, or use another --data-dir",
                    self.root.display(),
                    kept.port,
                    kept.advertise_address,
                    kept.service_cidr,
                    kept.pod_cidr
                )));
            }
            return Ok(kept);
        }
        // Clusters that start at the same moment get different ranges with a high chance, and the operator can always choose.
        let slot = free_slot(&fs::read_to_string("/proc/net/route").unwrap_or_default(), is_inhabited, random);
        let range = |base: u8| Cidr { network: Ipv4Addr::new(10, base + slot, 0, 0), length: 16 };
        let pods = pod_cidr.unwrap_or_else(|| range(PODS));
        if nodes.is_some_and(|n| n > 1) && pods.length > 20 {
            return Err(Failure::usage(format!("--pod-cidr {pods} is too small for several nodes: a /20 or larger")));
        }
        let port = args.port.unwrap_or(DEFAULT_PORT);
        let identity = ClusterIdentity {
            id: random.name_suffix(8),
            port,
            kubelet_port: free_kubelet_port(port, random),
            nodes: nodes.unwrap_or(1),
            // Several nodes reach the API at the host's address on the segment they share.
            advertise_address: args.advertise_address.unwrap_or_else(|| match nodes {
                Some(n) if n > 1 => Ipv4Addr::from(u32::from(segment_of(pods).network) + 1),
                _ => own_address(),
            }),
            service_cidr: service_cidr.unwrap_or_else(|| range(SERVICES)),
            pod_cidr: pods,
        };
        let json = serde_json::to_vec_pretty(&identity).expect("an identity has only text keys");
        self.write(&file, 0o600, &json)?;
        Ok(identity)
    }

    /// The authority's certificate.
    pub(crate) fn authority_pem(&self) -> Result<String, Failure> {
        let path = self.root.join("pki/ca.crt");
        fs::read_to_string(&path).map_err(|e| Failure::act(format!("reading {}", path.display()), e))
    }

    /// The cluster's keys: read, or made now.
    pub(crate) fn keys(&self, now: Timestamp, random: &dyn Random) -> Result<Keys, Failure> {
        let (certificate, key, token) = (self.root.join("pki/ca.crt"), self.root.join("pki/ca.key"), self.root.join("pki/token.key"));
        if !token.exists() {
            let authority = Authority::generate("gantry", now, random).map_err(|e| Failure::act("making the cluster's authority", e))?;
            let (_, pkcs8) = TokenKey::generate().map_err(|e| Failure::act("making the token key", e))?;
            self.write(&certificate, 0o644, authority.certificate_pem().as_bytes())?;
            self.write(&key, 0o600, authority.key_pem().as_bytes())?;
            // Last, since its presence says that all is there.
            self.write(&token, 0o600, &pkcs8)?;
        }
        let read = |path: &Path| fs::read(path).map_err(|e| Failure::act(format!("reading {}", path.display()), e));
        let text = |path: &Path| read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
        let damaged = |e| Failure::act(format!("the keys in {} are damaged", self.root.join("pki").display()), e);
        let authority = Authority::load(&text(&certificate)?, &text(&key)?).map_err(damaged)?;
        let token_key = TokenKey::load(&read(&token)?).map_err(damaged)?;
        Ok(Keys { authority, token_key })
    }

    /// Writes a file whole or not at all.
    pub(crate) fn write(&self, path: &Path, mode: u32, contents: &[u8]) -> Result<(), Failure> {
        let failed = |e| Failure::act(format!("writing {}", path.display()), e);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let temporary = path.with_extension("new");
        let _ = fs::remove_file(&temporary);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).map_err(failed)?;
        file.write_all(contents).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&temporary, path).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use gantry_ports::SeededRandom;

    use super::*;

    #[test]
    fn ranges_that_this_host_has_routes_to_are_passed_over() {
        let line = |second: u8| format!("lo 0000{second:02X}0A 00000000\n");
        let all_but = |free: u8| -> String {
            let taken = (0..SLOTS).filter(|s| *s != free).map(|s| line(if s % 2 == 0 { SERVICES + s } else { PODS + s }));
            std::iter::once("Iface Destination Gateway\n".to_owned()).chain(taken).collect()
        };
        for free in [0, 7, 31] {
            assert_eq!(free_slot(&all_but(free), |_| false, &SeededRandom::new(u64::from(free))), free);
        }
        let elsewhere = "Iface Destination Gateway\neth0 00000000 010200C0\neth0 0002A8C0 00000000\n";
        assert!(free_slot(elsewhere, |_| false, &SeededRandom::new(1)) < SLOTS);
    }
}
