//! What services, their endpoints and other nodes mean for this node: balancing, names, routes, and pods' environments.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_client::informer::{Feed, Informer, Start, follow};
use gantry_client::{Params, WatchEvent};
use gantry_dns::{Dns, Port, Target};
use gantry_network::{Endpoint, Network, Peer, Protocol, Range, ServicePort, ServiceSpec, ServiceTable};
use gantry_object::{Encoded, Resource, Status, Value};
use tokio::sync::Notify;

use crate::config::AgentConfig;
use crate::environment::ServiceLink;
use crate::shared::{PodLink, PodNetwork, Shared, Traffic};

const SERVICES: Resource = Resource::namespaced("", "v1", "services", "Service");
const SLICES: Resource = Resource::namespaced("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice");
const NODES: Resource = Resource::cluster("", "v1", "nodes", "Node");
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The Service by which the cluster's DNS is reached.
const DNS_SERVICE: (&str, &str) = ("kube-system", "kube-dns");
/// How long until a write to the kernel that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// A service's namespace and name.
type Key = (String, String);

/// What was heard, and what of it has not reached the kernel yet.
#[derive(Default)]
struct Heard {
    services: BTreeMap<Key, Arc<Value>>,
    /// By service, then by the slice's name.
    slices: BTreeMap<Key, BTreeMap<String, Arc<Value>>>,
    nodes: BTreeMap<String, Arc<Value>>,
    changed: BTreeSet<Key>,
    nodes_changed: bool,
    synced: BTreeSet<&'static str>,
}

/// Starts to follow services, endpoints and nodes.
pub(crate) fn start(shared: &Arc<Shared>) {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let news = Arc::new(Notify::new());
    for resource in [SERVICES, SLICES, NODES] {
        let feed = TrafficFeed { resource, informer: Informer::new(project), heard: heard.clone(), news: news.clone() };
        let feed = Arc::new(Mutex::new(feed));
        shared.tasks.spawn(follow(shared.api.clone(), resource, String::new(), Params::default(), shared.clock.clone(), feed));
    }
    let worker = shared.clone();
    shared.tasks.spawn(async move { keep_up(worker, heard, news).await });
}

fn project(object: &Encoded) -> Result<Arc<Value>, serde_json::Error> {
    serde_json::from_slice(&object.body).map(Arc::new)
}

struct TrafficFeed {
    resource: Resource,
    informer: Informer<Arc<Value>>,
    heard: Arc<Mutex<Heard>>,
    news: Arc<Notify>,
}

impl Feed for TrafficFeed {
    fn start(&mut self) -> Start {
        self.informer.start()
    }

    fn failed(&mut self, status: &Status) {
        if status.is_expired() {
            self.informer.expire();
        }
    }

    fn take(&mut self, event: WatchEvent) {
        let changes = self.informer.take(event);
        let mut heard = self.heard.lock().expect("nothing panics while it holds this lock");
        for change in changes {
            let name = change.name().clone();
            let new = change.new.as_ref().map(|item| item.projection.clone());
            match self.resource.plural {
                "services" => {
                    let key = (name.namespace, name.name);
                    heard.changed.insert(key.clone());
                    put(&mut heard.services, key, new);
                }
                "endpointslices" => {
                    let either = new.as_ref().or(change.old.as_ref().map(|o| &o.projection));
                    let service = either.and_then(|o| gantry_object::meta::label(o, SERVICE_NAME)).unwrap_or("").to_owned();
                    let key = (name.namespace, service);
                    heard.changed.insert(key.clone());
                    put(heard.slices.entry(key).or_default(), name.name, new);
                }
                _ => {
                    heard.nodes_changed = true;
                    put(&mut heard.nodes, name.name, new);
                }
            }
        }
        if self.informer.is_synced() {
            heard.synced.insert(self.resource.plural);
        }
        self.news.notify_one();
    }
}

fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(key, value)),
        None => drop(map.remove(&key)),
    }
}

/// Brings what was heard into the kernel, as soon as everything that existed has been told.
async fn keep_up(shared: Arc<Shared>, heard: Arc<Mutex<Heard>>, news: Arc<Notify>) {
    let mut table = ServiceTable::default();
    loop {
        news.notified().await;
        let (changes, peers) = {
            let mut heard = heard.lock().expect("nothing panics while it holds this lock");
            if heard.synced.len() < 3 {
                continue;
            }
            let changed = std::mem::take(&mut heard.changed);
            let changes: Vec<_> =
                changed.into_iter().map(|key| (heard.services.get(&key).cloned(), endpoints(&heard, &key), key)).collect();
            let peers = std::mem::take(&mut heard.nodes_changed).then(|| peers(&heard.nodes, &shared.config.node_name));
            (changes, peers)
        };
        let any = !changes.is_empty();
        for (service, mut rows, (namespace, name)) in changes {
            if let Some(own) = own_dns(&shared.config, &namespace, &name) {
                rows = vec![own];
            }
            match service {
                Some(service) => {
                    table.set(spec(&namespace, &name, &service), rows.iter().map(|r| r.endpoint.clone()).collect());
                    shared.traffic.set_name(names(&namespace, &name, &service, &rows));
                    remember(&shared, &namespace, &name, Some(&service));
                }
                None => {
                    table.remove(&namespace, &name);
                    shared.traffic.remove_name(&namespace, &name);
                    remember(&shared, &namespace, &name, None);
                }
            }
        }
        let (traffic, tasks, current) = (shared.traffic.clone(), shared.tasks.clone(), table.clone());
        let applied = tasks
            .blocking(move || {
                if let Some(peers) = peers {
                    traffic.set_peers(&peers)?;
                }
                if any { traffic.apply(&current) } else { Ok(()) }
            })
            .await;
        if let Err(why) = applied {
            tracing::warn!(why, "leading traffic");
            heard.lock().expect("nothing panics while it holds this lock").nodes_changed = true;
            shared.clock.sleep(AGAIN).await;
            let everything: BTreeSet<Key> =
                heard.lock().expect("nothing panics while it holds this lock").services.keys().cloned().collect();
            heard.lock().expect("nothing panics while it holds this lock").changed.extend(everything);
            news.notify_one();
        }
    }
}

/// One row of a slice, with what DNS wants to know of it.
struct Row {
    endpoint: Endpoint,
    hostname: Option<String>,
    protocols: BTreeMap<String, String>,
}

/// The cluster's DNS is answered by every node itself: its Service leads to the node's own listener.
fn own_dns(config: &AgentConfig, namespace: &str, name: &str) -> Option<Row> {
    if (namespace, name) != DNS_SERVICE {
        return None;
    }
    let ports = BTreeMap::from([("dns".to_owned(), 53), ("dns-tcp".to_owned(), 53)]);
    let node = Some(config.node_name.clone());
    let endpoint = Endpoint { address: config.dns_listener, ready: true, serving: true, terminating: false, node, ports };
    Some(Row { endpoint, hostname: None, protocols: BTreeMap::new() })
}

fn endpoints(heard: &Heard, key: &Key) -> Vec<Row> {
    let slices = heard.slices.get(key).into_iter().flat_map(BTreeMap::values).filter(|s| s["addressType"] == "IPv4");
    let mut rows = Vec::new();
    for slice in slices {
        let list = |member: &str| slice[member].as_array().cloned().unwrap_or_default();
        let mut ports = BTreeMap::new();
        let mut protocols = BTreeMap::new();
        for port in list("ports") {
            let name = port["name"].as_str().unwrap_or("").to_owned();
            if let Some(number) = port["port"].as_u64().and_then(|n| u16::try_from(n).ok()) {
                ports.insert(name.clone(), number);
                protocols.insert(name, port["protocol"].as_str().unwrap_or("TCP").to_lowercase());
            }
        }
        for row in list("endpoints") {
            let condition = |name: &str, default: bool| row["conditions"][name].as_bool().unwrap_or(default);
            let ready = condition("ready", true);
            let addresses = row["addresses"].as_array().into_iter().flatten().filter_map(|a| a.as_str()?.parse::<Ipv4Addr>().ok());
            rows.extend(addresses.map(|address| Row {
                endpoint: Endpoint {
                    address,
                    ready,
                    serving: condition("serving", ready),
                    terminating: condition("terminating", false),
                    node: row["nodeName"].as_str().map(str::to_owned),
                    ports: ports.clone(),
                },
                hostname: row["hostname"].as_str().map(str::to_owned),
                protocols: protocols.clone(),
            }));
        }
    }
    rows
}

fn ips(list: &Value) -> Vec<Ipv4Addr> {
    list.as_array().into_iter().flatten().filter_map(|a| a.as_str()?.parse().ok()).collect()
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n != 0)
}

fn spec(namespace: &str, name: &str, service: &Value) -> ServiceSpec {
    let spec = &service["spec"];
    let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|port| {
        Some(ServicePort {
            name: port["name"].as_str().unwrap_or("").into(),
            protocol: Protocol::from_name(port["protocol"].as_str())?,
            port: number(&port["port"])?,
            node_port: number(&port["nodePort"]),
        })
    });
    let mut external_ips = ips(&spec["externalIPs"]);
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array().into_iter().flatten();
    external_ips.extend(ingress.filter_map(|i| i["ip"].as_str()?.parse::<Ipv4Addr>().ok()));
    let affinity = (spec["sessionAffinity"] == "ClientIP")
        .then(|| spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"].as_u64().unwrap_or(10_800) as u32);
    ServiceSpec {
        namespace: namespace.into(),
        name: name.into(),
        cluster_ips: ips(&spec["clusterIPs"]),
        external_ips,
        ports: ports.collect(),
        affinity_seconds: affinity,
        internal_local: spec["internalTrafficPolicy"] == "Local",
        external_local: spec["externalTrafficPolicy"] == "Local",
    }
}

fn names(namespace: &str, name: &str, service: &Value, rows: &[Row]) -> gantry_dns::Service {
    let spec = &service["spec"];
    let target = if spec["type"] == "ExternalName" {
        Target::ExternalName(spec["externalName"].as_str().unwrap_or("").into())
    } else if spec["clusterIP"] == "None" {
        let publishes = spec["publishNotReadyAddresses"] == true;
        let shown = rows.iter().filter(|r| publishes || r.endpoint.ready);
        Target::Headless(shown.map(headless).collect())
    } else {
        let ports = spec["ports"].as_array().into_iter().flatten().filter_map(|p| {
            let protocol = p["protocol"].as_str().unwrap_or("TCP").to_lowercase();
            Some(Port { name: p["name"].as_str().unwrap_or("").into(), protocol, port: number(&p["port"])? })
        });
        Target::ClusterIps(ips(&spec["clusterIPs"]), ports.collect())
    };
    gantry_dns::Service { namespace: namespace.into(), name: name.into(), target }
}

fn headless(row: &Row) -> gantry_dns::Endpoint {
    let protocol = |name: &String| row.protocols.get(name).cloned().unwrap_or_else(|| "tcp".into());
    let ports = row.endpoint.ports.iter().map(|(name, port)| Port { name: name.clone(), protocol: protocol(name), port: *port });
    gantry_dns::Endpoint { address: row.endpoint.address, hostname: row.hostname.clone(), ports: ports.collect() }
}

fn peers(nodes: &BTreeMap<String, Arc<Value>>, own: &str) -> Vec<Peer> {
    let others = nodes.iter().filter(|(name, _)| *name != own);
    let peer = |(name, node): (&String, &Arc<Value>)| {
        let addresses = node["status"]["addresses"].as_array()?;
        let internal = addresses.iter().find(|a| a["type"] == "InternalIP")?["address"].as_str()?.parse().ok()?;
        let pod_cidr: Range = node["spec"]["podCIDR"].as_str()?.parse().ok()?;
        Some(Peer { node: name.clone(), pod_cidr, address: internal })
    };
    others.filter_map(peer).collect()
}

/// Keeps the services that pods' environments tell.
fn remember(shared: &Shared, namespace: &str, name: &str, service: Option<&Value>) {
    let mut services = shared.services.lock().expect("nothing panics while it holds this lock");
    let list = services.entry(namespace.into()).or_default();
    list.retain(|s| s.name != name);
    let Some(address) = service.and_then(|s| s["spec"]["clusterIP"].as_str()).filter(|a| !a.is_empty() && *a != "None") else { return };
    let ports = service.and_then(|s| s["spec"]["ports"].as_array()).into_iter().flatten();
    let text = |p: &Value, member: &str, default: &str| p[member].as_str().unwrap_or(default).to_owned();
    let ports = ports.map(|p| (text(p, "name", ""), p["port"].as_i64().unwrap_or(0) as i32, text(p, "protocol", "TCP"))).collect();
    list.push(ServiceLink { name: name.into(), address: address.into(), ports });
    list.sort_by(|a, b| a.name.cmp(&b.name));
}

/// The kernel's network and the node's DNS, as the agent uses them.
pub struct NodeNetwork {
    /// Links, routes and services.
    pub network: Network,
    /// Names.
    pub dns: Dns,
}

impl PodNetwork for NodeNetwork {
    fn attach(&self, pod_uid: &str) -> Result<PodLink, String> {
        let link = self.network.attach(pod_uid).map_err(|e| gantry_object::chain(&e))?;
        Ok(PodLink { addresses: link.addresses.iter().map(ToString::to_string).collect(), namespace: link.netns })
    }

    fn detach(&self, pod_uid: &str) -> Result<(), String> {
        self.network.detach(pod_uid).map_err(|e| gantry_object::chain(&e))
    }

    fn attached(&self) -> Vec<String> {
        self.network.list()
    }
}

impl Traffic for NodeNetwork {
    fn apply(&self, table: &ServiceTable) -> Result<(), String> {
        self.network.apply(table).map_err(|e| gantry_object::chain(&e))
    }

    fn set_peers(&self, peers: &[Peer]) -> Result<(), String> {
        self.network.set_peers(peers).map_err(|e| gantry_object::chain(&e))
    }

    fn set_name(&self, service: gantry_dns::Service) {
        self.dns.set(service);
    }

    fn remove_name(&self, namespace: &str, name: &str) {
        self.dns.remove(namespace, name);
    }
}
