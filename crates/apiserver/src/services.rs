//! Cluster IPs and node ports: each Service gets what it asks for or something free, and nobody else gets the same.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Mutex;

use gantry_object::field::{Error, Path};
use gantry_object::{Encoded, Status, Value};
use gantry_store::Store;
use serde_json::json;

use crate::authorize::{Follow, Follower};
use crate::call::Call;
use crate::server::{Config, Server};
use crate::verbs::change::invalid;

/// What Services have now, by their paths.
#[derive(Default)]
struct InUse {
    services: std::collections::BTreeMap<String, (Vec<Ipv4Addr>, Vec<u16>)>,
    addresses: BTreeSet<Ipv4Addr>,
    ports: BTreeSet<u16>,
}

impl Follow for InUse {
    const RESOURCES: &'static [&'static str] = &["services"];

    fn apply(&mut self, _resource: &str, path: &str, object: Option<&Encoded>) {
        if let Some((addresses, ports)) = self.services.remove(path) {
            self.addresses.retain(|a| !addresses.contains(a));
            self.ports.retain(|p| !ports.contains(p));
        }
        let Some(service) = object.and_then(|o| o.decode::<Value>().ok()) else { return };
        let has = (addresses(&service), ports(&service));
        self.addresses.extend(&has.0);
        self.ports.extend(&has.1);
        self.services.insert(path.into(), has);
    }
}

fn addresses(service: &Value) -> Vec<Ipv4Addr> {
    service["spec"]["clusterIP"].as_str().and_then(|ip| ip.parse().ok()).into_iter().collect()
}

fn ports(service: &Value) -> Vec<u16> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let numbers = ports.map(|p| &p["nodePort"]).chain([&service["spec"]["healthCheckNodePort"]]);
    numbers.filter_map(Value::as_u64).filter_map(|p| u16::try_from(p).ok()).filter(|p| *p != 0).collect()
}

/// Gives out cluster IPs and node ports.
pub(crate) struct Allocator {
    network: (Ipv4Addr, u8),
    node_ports: RangeInclusive<u16>,
    state: Mutex<State>,
}

struct State {
    in_use: Follower<InUse>,
    /// Given out to Services that are not durable yet.
    claimed_addresses: BTreeSet<Ipv4Addr>,
    claimed_ports: BTreeSet<u16>,
}

/// What a write under way has been given. Hold it until the write is durable: from then on the Service itself holds them.
pub(crate) struct Claim<'a> {
    allocator: &'a Allocator,
    addresses: Vec<Ipv4Addr>,
    ports: Vec<u16>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.allocator.state.lock().expect("nothing panics while it holds this lock");
        state.claimed_addresses.retain(|a| !self.addresses.contains(a));
        state.claimed_ports.retain(|p| !self.ports.contains(p));
    }
}

impl Allocator {
    pub(crate) fn new(config: &Config, store: &Store) -> Self {
        let state = State { in_use: Follower::new(store), claimed_addresses: BTreeSet::new(), claimed_ports: BTreeSet::new() };
        Self { network: config.service_network, node_ports: config.node_ports.clone(), state: Mutex::new(state) }
    }

    /// The first address of the network: the API server's own Service.
    pub(crate) fn first(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network.0) + 1)
    }

    /// The tenth address: the cluster's DNS.
    pub(crate) fn dns(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network.0) + 10)
    }

    fn size(&self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.network.1)).unwrap_or(u32::MAX)
    }

    fn contains(&self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.network.0));
        // Network and broadcast address are nobody's.
        offset > 0 && offset < self.size() - 1
    }

    /// Gives a Service that is about to be written what it needs. Does nothing for other kinds.
    pub(crate) fn claim(&self, server: &Server, call: &Call, service: &mut Value, old: &Value) -> Result<Claim<'_>, Status> {
        let mut claim = Claim { allocator: self, addresses: Vec::new(), ports: Vec::new() };
        if call.kind.plural != "services" || !call.kind.group.is_empty() || !call.subresource.is_empty() {
            return Ok(claim);
        }
        carry_over(service, old);
        let refuse = |service: &Value, error: Error| Err(invalid(call, service, &vec![error]));
        if let Err(error) = self.claim_address(server, service, old, &mut claim) {
            return refuse(service, error);
        }
        if let Err(error) = self.claim_ports(server, service, old, &mut claim) {
            return refuse(service, error);
        }
        Ok(claim)
    }

    fn claim_address(&self, server: &Server, service: &mut Value, old: &Value, claim: &mut Claim<'_>) -> Result<(), Error> {
        let spec = &mut service["spec"];
        if spec["type"] == "ExternalName" {
            return Ok(());
        }
        let path = Path::new("spec").child("clusterIPs");
        let failed = |given: &str, why: &str| Error::invalid(&path, json!([given]), &format!("failed to allocate IP {given}: {why}"));
        let given = spec["clusterIP"].as_str().unwrap_or("").to_owned();
        let address = match given.as_str() {
            "None" => None,
            "" => {
                let found = self.free_address(server);
                Some(found.ok_or_else(|| Error::internal(&path, "failed to allocate a serviceIP: range is full"))?)
            }
            // What is no address is for validation to refuse.
            given => given.parse().ok(),
        };
        if let Some(address) = address.filter(|a| !addresses(old).contains(a)) {
            if !self.contains(address) {
                let (network, length) = self.network;
                let why = format!("the provided IP ({address}) is not in the valid range. The range of valid IPs is {network}/{length}");
                return Err(failed(&given, &why));
            }
            let mut state = self.state.lock().expect("nothing panics while it holds this lock");
            let taken = state.in_use.current(server.store()).addresses.contains(&address);
            if taken || !state.claimed_addresses.insert(address) {
                return Err(failed(&given, "provided IP is already allocated"));
            }
            claim.addresses.push(address);
        }
        let text = address.map_or_else(|| given.clone(), |a| a.to_string());
        spec["clusterIP"] = json!(text);
        spec["clusterIPs"] = json!([text]);
        for (member, value) in [("ipFamilies", json!(["IPv4"])), ("ipFamilyPolicy", json!("SingleStack"))] {
            if spec.get(member).is_none_or(Value::is_null) {
                spec[member] = value;
            }
        }
        Ok(())
    }

    fn free_address(&self, server: &Server) -> Option<Ipv4Addr> {
        let size = self.size();
        // The lower part is left to those who choose their address, as upstream does.
        let reserved = (size / 16).clamp(16, 256).min(size - 2);
        let start = server.random().below(u64::from(size - 1 - reserved).max(1)) as u32;
        let mut state = self.state.lock().expect("nothing panics while it holds this lock");
        let claimed = state.claimed_addresses.clone();
        let in_use = state.in_use.current(server.store());
        let upper = (0..size - 1 - reserved).map(|i| reserved + (start + i) % (size - 1 - reserved));
        let candidates = upper.chain(1..reserved).map(|offset| Ipv4Addr::from(u32::from(self.network.0) + offset));
        candidates.filter(|a| *a != self.first()).find(|a| self.contains(*a) && !in_use.addresses.contains(a) && !claimed.contains(a))
    }

    fn claim_ports(&self, server: &Server, service: &mut Value, old: &Value, claim: &mut Claim<'_>) -> Result<(), Error> {
        let spec = &mut service["spec"];
        let wants = match spec["type"].as_str() {
            Some("NodePort") => true,
            Some("LoadBalancer") => spec["allocateLoadBalancerNodePorts"] != false,
            _ => false,
        };
        let kept = ports(old);
        let (low, high) = (*self.node_ports.start(), *self.node_ports.end());
        let mut state = self.state.lock().expect("nothing panics while it holds this lock");
        for (i, port) in spec["ports"].as_array_mut().into_iter().flatten().enumerate() {
            let path = Path::new("spec").child("ports").index(i).child("nodePort");
            let given = port["nodePort"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(0);
            if given == 0 && !wants || kept.contains(&given) {
                continue;
            }
            let State { in_use, claimed_ports, .. } = &mut *state;
            let in_use = in_use.current(server.store());
            let number = if given == 0 {
                let count = u64::from(high - low) + 1;
                let start = server.random().below(count);
                let candidates = (0..count).map(|i| low + ((start + i) % count) as u16);
                let free = candidates.into_iter().find(|p| !in_use.ports.contains(p) && !claimed_ports.contains(p));
                free.ok_or_else(|| Error::internal(&path, "failed to allocate a nodePort: range is full"))?
            } else {
                given
            };
            if !self.node_ports.contains(&number) {
                let why = format!("provided port is not in the valid range. The range of valid ports is {low}-{high}");
                return Err(Error::invalid(&path, number, &why));
            }
            // The same number may serve another protocol of the same Service.
            if in_use.ports.contains(&number) || (!claimed_ports.insert(number) && !claim.ports.contains(&number)) {
                return Err(Error::invalid(&path, number, "provided port is already allocated"));
            }
            claim.ports.push(number);
            port["nodePort"] = json!(number);
        }
        Ok(())
    }
}

/// What an update leaves out and the Service had stays: its address and its node ports.
fn carry_over(service: &mut Value, old: &Value) {
    let (spec, before) = (&mut service["spec"], &old["spec"]);
    let kind = spec["type"].as_str().unwrap_or("ClusterIP").to_owned();
    if kind == "ExternalName" {
        // An address must be given up by saying so, as upstream has it; one that is still named is for validation to refuse.
        return;
    }
    if before["type"] != "ExternalName" {
        for member in ["clusterIP", "clusterIPs"] {
            if spec.get(member).is_none_or(|v| v.is_null() || v == "") && !before[member].is_null() {
                spec[member] = before[member].clone();
            }
        }
    }
    let has_ports = kind == "NodePort" || kind == "LoadBalancer";
    let before_ports = before["ports"].as_array().cloned().unwrap_or_default();
    for port in spec["ports"].as_array_mut().into_iter().flatten() {
        let same = |p: &&Value| p["port"] == port["port"] && p["protocol"] == port["protocol"];
        let number = |p: &Value| p["nodePort"].as_u64().unwrap_or(0);
        let earlier = before_ports.iter().find(same).map_or(0, number);
        if has_ports && number(port) == 0 && earlier != 0 {
            port["nodePort"] = json!(earlier);
        }
        // A port that came with the old type goes with it.
        if !has_ports
            && number(port) == earlier
            && let Some(members) = port.as_object_mut()
        {
            members.remove("nodePort");
        }
    }
}
