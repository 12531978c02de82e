//! What the kernel's table must hold for the services, and what must change in it: pure, one service at a time.
//!
//! Each port of a service that has endpoints gets a chain, which picks one of `count` numbered endpoints by looking up
//! `(id, number)` in a map. So the change of one endpoint among many changes two elements and one rule. The map is split in some,
//! since for each new rule the kernel walks the map that it looks into.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::Range;
use crate::nft::Value;
use crate::nft::expr::Verdict;
use crate::service::{Endpoint, Protocol, Service, ServiceKey, ServicePort, ServiceTable};

/// Sets and maps whose elements follow the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Set {
    /// (cluster IP, protocol, port) → chain
    ClusterIps,
    /// (external IP, protocol, port) → chain
    ExternalIps,
    /// (protocol, port) → chain
    NodePorts,
    /// As `ExternalIps`, asked first for traffic from outside the cluster: services that stay on the node.
    LocalExternalIps,
    /// As `NodePorts`, likewise.
    LocalNodePorts,
    /// (id, number) → (address, port); one of [`SHARDS`], by id
    Endpoints(u8),
    /// (id, address, port): which endpoints a client may still be bound to.
    Members,
    /// (address, protocol, port) of endpoints that are no pods.
    HostEndpoints,
    /// (external IP, protocol, port) without an endpoint
    NoEndpoints,
    /// (protocol, port) of node ports without an endpoint
    NoEndpointPorts,
}

impl Set {
    /// Whether several services may claim the same element: external IPs at will, the rest while a port or address changes hands.
    fn is_shared(self) -> bool {
        !matches!(self, Self::Endpoints(_) | Self::Members)
    }
}

/// Into how many maps the endpoints are split.
pub(crate) const SHARDS: u8 = 64;

/// The map that has the endpoints of a chain.
pub(crate) fn endpoints_of(id: u32) -> Set {
    Set::Endpoints((id % u32::from(SHARDS)) as u8)
}

/// A set and a key in it.
pub(crate) type Place = (Set, Vec<u8>);
/// Address and port.
pub(crate) type Target = (Ipv4Addr, u16);

/// How a chain picks an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) id: u32,
    pub(crate) count: u32,
    pub(crate) affinity_seconds: Option<u32>,
}

/// What must change in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// Chains to be made.
    pub(crate) new_chains: Vec<String>,
    /// Chains whose rules are to be made anew.
    pub(crate) balances: Vec<(String, Balance)>,
    /// Chains to be removed, after the elements that lead to them.
    pub(crate) gone_chains: Vec<String>,
    /// Elements to be removed, before the new ones come.
    pub(crate) gone: BTreeSet<Place>,
    /// Elements to be added.
    pub(crate) new: BTreeMap<Place, Value>,
    /// UDP endpoints that must not be spoken to any longer.
    pub(crate) gone_udp: BTreeSet<Target>,
}

/// One service as the kernel has it.
#[derive(Debug, Default)]
struct Planned {
    source: Option<Arc<Service>>,
    chains: BTreeMap<String, Chain>,
    elements: BTreeMap<Place, Value>,
}

#[derive(Clone, Debug)]
struct Chain {
    id: u32,
    affinity_seconds: Option<u32>,
    udp: bool,
    slots: Vec<Target>,
}

impl Chain {
    fn balance(&self) -> Balance {
        Balance { id: self.id, count: self.slots.len() as u32, affinity_seconds: self.affinity_seconds }
    }
}

/// Remembers what was planned, and plans the difference.
#[derive(Debug)]
pub(crate) struct Planner {
    node: String,
    cluster_cidr: Range,
    services: BTreeMap<ServiceKey, Planned>,
    ids: BTreeSet<u32>,
    /// For elements that several services may claim: who does. One of them has it, and another inherits it.
    claims: BTreeMap<Place, BTreeMap<ServiceKey, Value>>,
}

impl Planner {
    /// A planner for a node, of an empty table.
    pub(crate) fn new(node: &str, cluster_cidr: Range) -> Self {
        Self { node: node.to_owned(), cluster_cidr, services: BTreeMap::new(), ids: BTreeSet::new(), claims: BTreeMap::new() }
    }

    /// Plans all that must change for the table to hold.
    pub(crate) fn change(&mut self, table: &ServiceTable) -> Change {
        let mut change = Change::default();
        let gone: Vec<ServiceKey> = self.services.keys().filter(|key| !table.services.contains_key(*key)).cloned().collect();
        for key in gone {
            self.replace(&key, Planned::default(), &mut change);
        }
        for (key, service) in &table.services {
            let same = self.services.get(key).and_then(|planned| planned.source.as_ref());
            if same.is_some_and(|same| Arc::ptr_eq(same, service) || same == service) {
                continue;
            }
            let planned = self.render(key, service);
            self.replace(key, planned, &mut change);
        }
        change
    }

    fn replace(&mut self, key: &ServiceKey, new: Planned, change: &mut Change) {
        let old = self.services.remove(key).unwrap_or_default();
        for (name, chain) in &new.chains {
            let before = old.chains.get(name);
            if before.is_none() {
                change.new_chains.push(name.clone());
            }
            if before.is_none_or(|before| before.balance() != chain.balance()) {
                change.balances.push((name.clone(), chain.balance()));
            }
        }
        for (name, chain) in &old.chains {
            let after = new.chains.get(name);
            if after.is_none() {
                change.gone_chains.push(name.clone());
                self.ids.remove(&chain.id);
            }
            if chain.udp {
                let kept: BTreeSet<&Target> = after.iter().flat_map(|after| &after.slots).collect();
                change.gone_udp.extend(chain.slots.iter().filter(|target| !kept.contains(target)));
            }
        }
        for (place, value) in &old.elements {
            if new.elements.get(place) != Some(value) {
                self.unclaim(key, place, change);
            }
        }
        for (place, value) in &new.elements {
            if old.elements.get(place) != Some(value) {
                self.claim(key, place, value, change);
            }
        }
        if new.source.is_some() {
            self.services.insert(key.clone(), new);
        }
    }

    fn claim(&mut self, key: &ServiceKey, place: &Place, value: &Value, change: &mut Change) {
        if place.0.is_shared() {
            let claims = self.claims.entry(place.clone()).or_default();
            claims.insert(key.clone(), value.clone());
            if claims.len() > 1 {
                return; // whoever came first keeps it
            }
        }
        change.new.insert(place.clone(), value.clone());
    }

    fn unclaim(&mut self, key: &ServiceKey, place: &Place, change: &mut Change) {
        if change.new.remove(place).is_none() {
            change.gone.insert(place.clone());
        }
        let Some(claims) = self.claims.get_mut(place) else { return };
        claims.remove(key);
        match claims.values().next() {
            Some(heir) => drop(change.new.insert(place.clone(), heir.clone())),
            None => drop(self.claims.remove(place)),
        }
    }

    fn render(&mut self, key: &ServiceKey, service: &Arc<Service>) -> Planned {
        let mut planned = Planned { source: Some(service.clone()), ..Planned::default() };
        let spec = &service.spec;
        for port in &spec.ports {
            let exposed = port.node_port.is_some() || !spec.external_ips.is_empty();
            if !exposed && spec.cluster_ips.is_empty() {
                continue; // headless: nothing leads there
            }
            let all = usable(&service.endpoints, port, |_| true);
            let here = usable(&service.endpoints, port, |endpoint| endpoint.node.as_deref() == Some(&self.node));
            let base = format!("{}/{}/{}/{}", spec.namespace, spec.name, port.protocol.lower(), port.port);
            let needs_here = spec.internal_local || spec.external_local && exposed;
            let everywhere = self.chain(key, service, port, format!("svc-{base}"), &all, &mut planned);
            let local = if needs_here { self.chain(key, service, port, format!("local-{base}"), &here, &mut planned) } else { None };
            let local = local.or_else(|| everywhere.is_some().then_some(Verdict::Drop));
            planned.addresses(service, port, everywhere, local);
            for target in all.iter().filter(|target| exposed && !self.cluster_cidr.contains(target.0)) {
                planned.elements.insert((Set::HostEndpoints, place(target.0, port.protocol, target.1)), Value::Nothing);
            }
        }
        planned
    }

    /// Plans a chain for these targets, if there are any, and says how to get there.
    fn chain(
        &mut self,
        key: &ServiceKey,
        service: &Service,
        port: &ServicePort,
        name: String,
        targets: &BTreeSet<Target>,
        planned: &mut Planned,
    ) -> Option<Verdict> {
        if targets.is_empty() {
            return None;
        }
        let old = self.services.get(key).and_then(|planned| planned.chains.get(&name));
        let slots = reslot(old.map(|old| old.slots.as_slice()).unwrap_or_default(), targets);
        let id = old.map(|old| old.id).unwrap_or_else(|| claim_id(&mut self.ids, &name));
        for (number, &(address, to_port)) in slots.iter().enumerate() {
            let key = [id.to_ne_bytes(), (number as u32).to_ne_bytes()].concat();
            let data = [address.octets(), padded(to_port)].concat();
            if service.spec.affinity_seconds.is_some() {
                planned.elements.insert((Set::Members, [&id.to_ne_bytes()[..], &data].concat()), Value::Nothing);
            }
            planned.elements.insert((endpoints_of(id), key), Value::Data(data));
        }
        let chain = Chain { id, affinity_seconds: service.spec.affinity_seconds, udp: port.protocol == Protocol::Udp, slots };
        planned.chains.insert(name.clone(), chain);
        Some(Verdict::Goto(name))
    }
}

impl Planned {
    /// Leads the addresses of one port to its chains: `everywhere` to all endpoints, `local` to those on this node.
    fn addresses(&mut self, service: &Service, port: &ServicePort, everywhere: Option<Verdict>, local: Option<Verdict>) {
        let spec = &service.spec;
        let inside = if spec.internal_local { &local } else { &everywhere };
        for &address in &spec.cluster_ips {
            self.lead(Set::ClusterIps, place(address, port.protocol, port.port), inside);
        }
        let outside = local.filter(|_| spec.external_local);
        for &address in &spec.external_ips {
            let key = place(address, port.protocol, port.port);
            if everywhere.is_none() {
                self.elements.insert((Set::NoEndpoints, key.clone()), Value::Nothing);
            }
            self.lead(Set::ExternalIps, key.clone(), &everywhere);
            self.lead(Set::LocalExternalIps, key, &outside);
        }
        if let Some(node_port) = port.node_port {
            let key = place(Ipv4Addr::UNSPECIFIED, port.protocol, node_port)[4..].to_vec();
            if everywhere.is_none() {
                self.elements.insert((Set::NoEndpointPorts, key.clone()), Value::Nothing);
            }
            self.lead(Set::NodePorts, key.clone(), &everywhere);
            self.lead(Set::LocalNodePorts, key, &outside);
        }
    }

    fn lead(&mut self, set: Set, key: Vec<u8>, to: &Option<Verdict>) {
        if let Some(verdict) = to {
            self.elements.insert((set, key), Value::Verdict(verdict.clone()));
        }
    }
}

/// The endpoints that get traffic: the ready ones, or else those on their way out that still serve.
fn usable(endpoints: &[Endpoint], port: &ServicePort, wanted: impl Fn(&Endpoint) -> bool) -> BTreeSet<Target> {
    let pick = |condition: fn(&Endpoint) -> bool| -> BTreeSet<Target> {
        let picked = endpoints.iter().filter(|endpoint| wanted(endpoint) && condition(endpoint));
        picked.filter_map(|endpoint| Some((endpoint.address, *endpoint.ports.get(&port.name)?))).collect()
    };
    let ready = pick(|endpoint| endpoint.ready);
    if ready.is_empty() { pick(|endpoint| endpoint.serving && endpoint.terminating) } else { ready }
}

/// Gives each target a number, moving as few as possible of those that have one.
fn reslot(old: &[Target], targets: &BTreeSet<Target>) -> Vec<Target> {
    let had: BTreeSet<&Target> = old.iter().collect();
    let mut fresh = targets.iter().filter(|target| !had.contains(target)).copied();
    let mut slots: Vec<Option<Target>> = old.iter().map(|target| targets.contains(target).then_some(*target)).collect();
    for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
        *slot = fresh.next();
    }
    slots.extend(fresh.map(Some));
    let mut at = 0;
    while at < slots.len() {
        if slots[at].is_none() {
            slots.swap_remove(at);
        } else {
            at += 1;
        }
    }
    slots.into_iter().flatten().collect()
}

/// A number for a chain: the same in each run unless two names clash, so that clients stay bound when an agent is restarted.
fn claim_id(ids: &mut BTreeSet<u32>, name: &str) -> u32 {
    let mut id = crate::names::hash(name);
    while !ids.insert(id) {
        id = id.wrapping_add(1);
    }
    id
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// Address, protocol and port as a key.
fn place(address: Ipv4Addr, protocol: Protocol, port: u16) -> Vec<u8> {
    [address.octets(), [protocol.number(), 0, 0, 0], padded(port)].concat()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
