//! What the service proxy is told: services and their endpoints, as plain values that the node makes from API objects.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// The transport protocols a service port can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol of an API object's `protocol` field; nothing means TCP.
    pub fn from_name(name: Option<&str>) -> Option<Self> {
        match name {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub(crate) fn lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The port's name; empty when it has none. Endpoints give their port under the same name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the service's addresses.
    pub port: u16,
    /// The port on every node's addresses, for services that have one.
    pub node_port: Option<u16>,
}

/// A service as the proxy sees it. One without cluster IPs, external IPs and node ports (headless, ExternalName) does nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The virtual addresses inside the cluster; leave `None` (headless) out.
    pub cluster_ips: Vec<Ipv4Addr>,
    /// Addresses from outside that the service answers on, external IPs and load balancer ingress alike.
    pub external_ips: Vec<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// With `sessionAffinity: ClientIP`: for how many seconds a client stays with its endpoint.
    pub affinity_seconds: Option<u32>,
    /// `internalTrafficPolicy: Local`: cluster IPs lead to endpoints on this node only.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`: traffic from outside the cluster is led to endpoints on this node only.
    pub external_local: bool,
}

/// One address behind a service: a row of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: Ipv4Addr,
    /// Whether it should get traffic.
    pub ready: bool,
    /// Whether it could get traffic, terminating or not.
    pub serving: bool,
    /// Whether it is on its way out. Serving, terminating endpoints get traffic only while no endpoint is ready.
    pub terminating: bool,
    /// The node it is on.
    pub node: Option<String>,
    /// Its ports by the name of the service port.
    pub ports: BTreeMap<String, u16>,
}

/// A service with its endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) spec: ServiceSpec,
    pub(crate) endpoints: Vec<Endpoint>,
}

/// Namespace and name.
pub(crate) type ServiceKey = (String, String);

/// All services of the cluster. Copies are cheap enough to hand one to [`crate::Network::apply`] after each change.
#[derive(Clone, Debug, Default)]
pub struct ServiceTable {
    pub(crate) services: BTreeMap<ServiceKey, Arc<Service>>,
}

impl ServiceTable {
    /// Puts a service in place of what was known under its name.
    pub fn set(&mut self, spec: ServiceSpec, endpoints: Vec<Endpoint>) {
        let key = (spec.namespace.clone(), spec.name.clone());
        self.services.insert(key, Arc::new(Service { spec, endpoints }));
    }

    /// Takes a service away, if it is known.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        self.services.remove(&(namespace.to_owned(), name.to_owned()));
    }
}
