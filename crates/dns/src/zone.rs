//! What the cluster's names mean: pure, after the Kubernetes DNS specification 1.1.0.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::records::{Endpoint, Port, Service, Target};

/// Seconds for which answers may be kept, refusals too: short, since endpoints come and go.
const TTL: u32 = 5;
/// The version of the specification, which clusters tell.
const SPECIFICATION: &str = "1.1.0";

/// What the zone has to say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// These records, and others the client will want to know.
    Records { answers: Vec<Record>, additionals: Vec<Record> },
    /// The name stands for another, which is still to be asked for.
    Alias { record: Box<Record>, target: Name },
    /// The name exists, but has no record of this type.
    NoData,
    /// The name does not exist.
    NoSuchName,
    /// The name belongs to somebody else.
    NotOurs,
}

/// The cluster's zone, and the reverse zones as far as its addresses go.
#[derive(Debug)]
pub(crate) struct Zone {
    domain: Name,
    namespaces: BTreeMap<String, BTreeMap<String, Service>>,
    /// Names under the domain by address, with the service that gave them.
    reverse: BTreeMap<Ipv4Addr, BTreeMap<(String, String), String>>,
    serial: u32,
}

impl Zone {
    /// An empty zone.
    pub(crate) fn new(domain: &str) -> Self {
        let mut domain = Name::from_str_relaxed(domain).unwrap_or_else(|_| Name::root());
        domain.set_fqdn(true);
        Self { domain: domain.to_lowercase(), namespaces: BTreeMap::new(), reverse: BTreeMap::new(), serial: 1 }
    }

    /// Puts a service in place of what was known under its name.
    pub(crate) fn set(&mut self, service: Service) {
        self.remove(&service.namespace, &service.name);
        let key = (service.namespace.clone(), service.name.clone());
        for (address, name) in reverse_names(&service) {
            self.reverse.entry(address).or_default().insert(key.clone(), name);
        }
        self.namespaces.entry(key.0).or_default().insert(key.1, service);
    }

    /// Takes a service away, if it is known.
    pub(crate) fn remove(&mut self, namespace: &str, name: &str) {
        self.serial = self.serial.wrapping_add(1);
        let Some(services) = self.namespaces.get_mut(namespace) else { return };
        let Some(old) = services.remove(name) else { return };
        if services.is_empty() {
            self.namespaces.remove(namespace);
        }
        let key = (old.namespace.clone(), old.name.clone());
        for (address, _) in reverse_names(&old) {
            if let Some(names) = self.reverse.get_mut(&address) {
                names.remove(&key);
                if names.is_empty() {
                    self.reverse.remove(&address);
                }
            }
        }
    }

    /// What there is for a name and type.
    pub(crate) fn answer(&self, name: &Name, kind: RecordType) -> Outcome {
        if !self.domain.is_root() && self.domain.zone_of(name) {
            return self.answer_own(name, kind);
        }
        match address_of(name).and_then(|address| self.reverse.get(&address)) {
            Some(names) if kind == RecordType::PTR => {
                let pointers = names.values().filter_map(|name| self.under(name)).map(|target| RData::PTR(PTR(target)));
                records(name, pointers.collect())
            }
            Some(_) => Outcome::NoData,
            None => Outcome::NotOurs,
        }
    }

    fn answer_own(&self, name: &Name, kind: RecordType) -> Outcome {
        let labels = usize::from(name.num_labels()).saturating_sub(usize::from(self.domain.num_labels()));
        let labels: Vec<String> = name.iter().take(labels).map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        match labels[..] {
            [] => match kind {
                RecordType::SOA => records(name, vec![self.authority().data]),
                RecordType::NS => records(name, vec![RData::NS(NS(self.server()))]),
                _ => Outcome::NoData,
            },
            ["dns-version"] if kind == RecordType::TXT => records(name, vec![RData::TXT(TXT::new(vec![SPECIFICATION.to_owned()]))]),
            ["svc" | "pod" | "dns-version"] => Outcome::NoData,
            [_, "pod"] => Outcome::NoData,
            [address, _, "pod"] => match address.replace('-', ".").parse() {
                Ok(address) if kind == RecordType::A => records(name, vec![a(address)]),
                Ok(_) => Outcome::NoData,
                Err(_) => Outcome::NoSuchName,
            },
            [namespace, "svc"] => {
                if self.namespaces.contains_key(namespace) {
                    Outcome::NoData
                } else {
                    Outcome::NoSuchName
                }
            }
            [ref inner @ .., service, namespace, "svc"] => {
                match self.namespaces.get(namespace).and_then(|services| services.get(service)) {
                    Some(service) => self.answer_service(name, kind, service, inner),
                    None => Outcome::NoSuchName,
                }
            }
            _ => Outcome::NoSuchName,
        }
    }

    fn answer_service(&self, name: &Name, kind: RecordType, service: &Service, inner: &[&str]) -> Outcome {
        if let Target::ExternalName(target) = &service.target {
            let target = Name::from_str_relaxed(target).ok().filter(|_| inner.is_empty());
            return target.map_or(Outcome::NoSuchName, |mut target| {
                target.set_fqdn(true);
                alias(name, target, kind)
            });
        }
        match *inner {
            [] if kind == RecordType::SRV => self.servers(name, service, |_| true),
            [] => addresses(name, kind, own_addresses(service)),
            [port, protocol] => {
                let (Some(port), Some(protocol)) = (port.strip_prefix('_'), protocol.strip_prefix('_')) else { return Outcome::NoSuchName };
                let wanted = |found: &Port| found.name == port && found.protocol == protocol;
                match self.servers(name, service, wanted) {
                    Outcome::Records { .. } if kind != RecordType::SRV => Outcome::NoData,
                    Outcome::NoData => Outcome::NoSuchName,
                    servers => servers,
                }
            }
            ["_tcp" | "_udp" | "_sctp"] => Outcome::NoData,
            [host] => {
                let Target::Headless(endpoints) = &service.target else { return Outcome::NoSuchName };
                let named: Vec<Ipv4Addr> = endpoints.iter().filter(|each| host_name(each) == host).map(|each| each.address).collect();
                if named.is_empty() { Outcome::NoSuchName } else { addresses(name, kind, named) }
            }
            _ => Outcome::NoSuchName,
        }
    }

    /// Where the ports of a service are served.
    fn servers(&self, name: &Name, service: &Service, wanted: impl Fn(&Port) -> bool) -> Outcome {
        let base = base_name(service);
        let found: Vec<(String, u16, Vec<Ipv4Addr>)> = match &service.target {
            Target::ClusterIps(addresses, ports) => {
                ports.iter().filter(|port| wanted(port)).map(|port| (base.clone(), port.port, addresses.clone())).collect()
            }
            Target::Headless(endpoints) => {
                let each = endpoints.iter().flat_map(|endpoint| endpoint.ports.iter().map(move |port| (endpoint, port)));
                let each = each.filter(|(_, port)| wanted(port));
                each.map(|(endpoint, port)| (format!("{}.{base}", host_name(endpoint)), port.port, vec![endpoint.address])).collect()
            }
            Target::ExternalName(_) => Vec::new(),
        };
        let weight = (100 / found.len().max(1)).max(1) as u16;
        let mut answers = Vec::new();
        let mut additionals: Vec<Record> = Vec::new();
        for (target, port, addresses) in found {
            let Some(target) = self.under(&target) else { continue };
            answers.push(RData::SRV(SRV::new(0, weight, port, target.clone())));
            let known = additionals.iter().any(|record| record.name == target);
            additionals.extend(addresses.into_iter().filter(|_| !known).map(|address| Record::from_rdata(target.clone(), TTL, a(address))));
        }
        match records(name, answers) {
            Outcome::Records { answers, .. } => Outcome::Records { answers, additionals },
            none => none,
        }
    }

    /// The record that says for how long a refusal holds.
    pub(crate) fn authority(&self) -> Record {
        let server = self.server();
        let contact = self.under("hostmaster").unwrap_or_else(|| self.domain.clone());
        Record::from_rdata(self.domain.clone(), TTL, RData::SOA(SOA::new(server, contact, self.serial, 7200, 1800, 86400, TTL)))
    }

    /// The service by which clusters make their DNS known.
    fn server(&self) -> Name {
        self.under("kube-dns.kube-system.svc").unwrap_or_else(|| self.domain.clone())
    }

    /// A name under the cluster's domain, unless it is too long to be one.
    fn under(&self, name: &str) -> Option<Name> {
        let name = Name::from_labels(name.split('.').map(str::as_bytes)).ok()?;
        name.append_domain(&self.domain).ok()
    }
}

fn base_name(service: &Service) -> String {
    format!("{}.{}.svc", service.name, service.namespace)
}

/// What an endpoint is called under its service.
fn host_name(endpoint: &Endpoint) -> String {
    endpoint.hostname.as_ref().map_or_else(|| endpoint.address.to_string().replace('.', "-"), |name| name.to_lowercase())
}

fn own_addresses(service: &Service) -> Vec<Ipv4Addr> {
    match &service.target {
        Target::ClusterIps(addresses, _) => addresses.clone(),
        Target::Headless(endpoints) => endpoints.iter().map(|endpoint| endpoint.address).collect(),
        Target::ExternalName(_) => Vec::new(),
    }
}

fn reverse_names(service: &Service) -> Vec<(Ipv4Addr, String)> {
    let base = base_name(service);
    match &service.target {
        Target::ClusterIps(addresses, _) => addresses.iter().map(|address| (*address, base.clone())).collect(),
        Target::Headless(endpoints) => endpoints.iter().map(|each| (each.address, format!("{}.{base}", host_name(each)))).collect(),
        Target::ExternalName(_) => Vec::new(),
    }
}

fn alias(name: &Name, target: Name, kind: RecordType) -> Outcome {
    let record = Record::from_rdata(name.clone(), TTL, RData::CNAME(CNAME(target.clone())));
    if kind == RecordType::CNAME {
        Outcome::Records { answers: vec![record], additionals: Vec::new() }
    } else {
        Outcome::Alias { record: Box::new(record), target }
    }
}

fn a(address: Ipv4Addr) -> RData {
    RData::A(A(address))
}

/// Addresses for whom asks for them. A name whose addresses are not there right now exists all the same.
fn addresses(name: &Name, kind: RecordType, mut addresses: Vec<Ipv4Addr>) -> Outcome {
    addresses.sort_unstable();
    addresses.dedup();
    let wanted = matches!(kind, RecordType::A | RecordType::ANY);
    records(name, addresses.into_iter().filter(|_| wanted).map(a).collect())
}

fn records(name: &Name, data: Vec<RData>) -> Outcome {
    if data.is_empty() {
        return Outcome::NoData;
    }
    let answers = data.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data)).collect();
    Outcome::Records { answers, additionals: Vec::new() }
}

/// The address that a name in `in-addr.arpa` stands for.
fn address_of(name: &Name) -> Option<Ipv4Addr> {
    let labels: Vec<String> = name.iter().map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
    let [d, c, b, a, "in-addr", "arpa"] = *labels.iter().map(String::as_str).collect::<Vec<_>>() else { return None };
    format!("{a}.{b}.{c}.{d}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, port: u16) -> Port {
        Port { name: name.to_owned(), protocol: "tcp".to_owned(), port }
    }

    fn endpoint(address: &str, hostname: Option<&str>) -> Endpoint {
        Endpoint { address: address.parse().unwrap(), hostname: hostname.map(str::to_owned), ports: vec![port("db", 5432)] }
    }

    fn service(name: &str, target: Target) -> Service {
        Service { namespace: "shop".to_owned(), name: name.to_owned(), target }
    }

    fn zone() -> Zone {
        let mut zone = Zone::new("cluster.local");
        zone.set(service("web", Target::ClusterIps(vec!["10.96.0.7".parse().unwrap()], vec![port("http", 80), port("", 81)])));
        zone.set(service("db", Target::Headless(vec![endpoint("10.244.1.5", Some("db-0")), endpoint("10.244.1.6", None)])));
        zone.set(service("none", Target::Headless(Vec::new())));
        zone.set(service("far", Target::ExternalName("Example.ORG".to_owned())));
        zone
    }

    fn show(zone: &Zone, name: &str, kind: RecordType) -> String {
        let text = |records: Vec<Record>| records.iter().map(|record| record.data.to_string()).collect::<Vec<_>>().join(", ");
        match zone.answer(&Name::from_ascii(name).unwrap(), kind) {
            Outcome::Records { answers, additionals } if additionals.is_empty() => text(answers),
            Outcome::Records { answers, additionals } => format!("{} + {}", text(answers), text(additionals)),
            Outcome::Alias { target, .. } => format!("-> {target}"),
            Outcome::NoData => "nothing".to_owned(),
            Outcome::NoSuchName => "no such name".to_owned(),
            Outcome::NotOurs => "not ours".to_owned(),
        }
    }

    #[test]
    fn names_mean_what_the_specification_says() {
        use RecordType as T;
        let zone = zone();
        for (name, kind, expected) in [
            ("web.shop.svc.cluster.local.", T::A, "10.96.0.7"),
            ("WEB.Shop.svc.CLUSTER.local.", T::A, "10.96.0.7"),
            ("web.shop.svc.cluster.local.", T::AAAA, "nothing"),
            ("web.shop.svc.cluster.local.", T::TXT, "nothing"),
            ("_http._tcp.web.shop.svc.cluster.local.", T::SRV, "0 100 80 web.shop.svc.cluster.local. + 10.96.0.7"),
            ("_http._tcp.web.shop.svc.cluster.local.", T::A, "nothing"),
            ("_tcp.web.shop.svc.cluster.local.", T::A, "nothing"),
            ("_http._udp.web.shop.svc.cluster.local.", T::SRV, "no such name"),
            ("_none._tcp.web.shop.svc.cluster.local.", T::SRV, "no such name"),
            ("host.web.shop.svc.cluster.local.", T::A, "no such name"),
            ("db.shop.svc.cluster.local.", T::A, "10.244.1.5, 10.244.1.6"),
            ("db-0.db.shop.svc.cluster.local.", T::A, "10.244.1.5"),
            ("DB-0.db.shop.svc.cluster.local.", T::A, "10.244.1.5"),
            ("db-0.db.shop.svc.cluster.local.", T::AAAA, "nothing"),
            ("10-244-1-6.db.shop.svc.cluster.local.", T::A, "10.244.1.6"),
            ("db-9.db.shop.svc.cluster.local.", T::A, "no such name"),
            (
                "_db._tcp.db.shop.svc.cluster.local.",
                T::SRV,
                "0 50 5432 db-0.db.shop.svc.cluster.local., 0 50 5432 10-244-1-6.db.shop.svc.cluster.local. + 10.244.1.5, 10.244.1.6",
            ),
            ("none.shop.svc.cluster.local.", T::A, "nothing"),
            ("far.shop.svc.cluster.local.", T::A, "-> example.org."),
            ("far.shop.svc.cluster.local.", T::CNAME, "example.org."),
            ("1-2-3-4.shop.pod.cluster.local.", T::A, "1.2.3.4"),
            ("1-2-3-4.shop.pod.cluster.local.", T::AAAA, "nothing"),
            ("1-2-3.shop.pod.cluster.local.", T::A, "no such name"),
            ("missing.shop.svc.cluster.local.", T::A, "no such name"),
            ("web.missing.svc.cluster.local.", T::A, "no such name"),
            ("shop.svc.cluster.local.", T::A, "nothing"),
            ("missing.svc.cluster.local.", T::A, "no such name"),
            ("svc.cluster.local.", T::A, "nothing"),
            ("cluster.local.", T::A, "nothing"),
            ("cluster.local.", T::NS, "kube-dns.kube-system.svc.cluster.local."),
            ("dns-version.cluster.local.", T::TXT, "1.1.0"),
            ("example.com.shop.svc.cluster.local.", T::A, "no such name"),
            ("other.cluster.local.", T::A, "no such name"),
            ("7.0.96.10.in-addr.arpa.", T::PTR, "web.shop.svc.cluster.local."),
            ("5.1.244.10.in-addr.arpa.", T::PTR, "db-0.db.shop.svc.cluster.local."),
            ("6.1.244.10.in-addr.arpa.", T::PTR, "10-244-1-6.db.shop.svc.cluster.local."),
            ("8.8.8.8.in-addr.arpa.", T::PTR, "not ours"),
            ("example.com.", T::A, "not ours"),
            ("local.", T::A, "not ours"),
        ] {
            assert_eq!(show(&zone, name, kind), expected, "{name} {kind}");
        }
    }

    #[test]
    fn a_service_that_changes_or_goes_leaves_no_name_behind() {
        let mut zone = zone();
        let serial = zone.serial;
        zone.set(service("web", Target::ClusterIps(vec!["10.96.0.8".parse().unwrap()], Vec::new())));
        assert_eq!(show(&zone, "7.0.96.10.in-addr.arpa.", RecordType::PTR), "not ours");
        assert_eq!(show(&zone, "8.0.96.10.in-addr.arpa.", RecordType::PTR), "web.shop.svc.cluster.local.");
        assert_ne!(zone.serial, serial);
        for name in ["web", "db", "none", "far", "far"] {
            zone.remove("shop", name);
        }
        assert_eq!(show(&zone, "shop.svc.cluster.local.", RecordType::A), "no such name");
        assert!(zone.reverse.is_empty() && zone.namespaces.is_empty());
    }
}
