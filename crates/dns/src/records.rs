//! What the cluster's zone is made of, as plain values that the node makes from API objects.

use std::net::Ipv4Addr;

/// A named port of a service or endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The port's name; a port without one has no SRV record of its own.
    pub name: String,
    /// `tcp`, `udp` or `sctp`, in lower case.
    pub protocol: String,
    /// Its number.
    pub port: u16,
}

/// An address behind a headless service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is.
    pub address: Ipv4Addr,
    /// The pod's `hostname`, when its `subdomain` is the service; names the endpoint `hostname.service.namespace.svc.…`.
    pub hostname: Option<String>,
    /// Its ports.
    pub ports: Vec<Port>,
}

/// How a service's name is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// With its virtual addresses.
    ClusterIps(Vec<Ipv4Addr>, Vec<Port>),
    /// With the addresses of its endpoints. The caller leaves out those that are not ready, unless the service publishes them.
    Headless(Vec<Endpoint>),
    /// With an alias for a name elsewhere.
    ExternalName(String),
}

/// All that the zone says of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How its name is answered.
    pub target: Target,
}
