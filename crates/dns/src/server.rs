use std::net::SocketAddr;
use std::sync::Arc;

use gantry_ports::{Clock, Random, Tasks};
use tokio::net::{TcpListener, UdpSocket};

use crate::Service;

/// What the DNS server of a node is made of.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// Who is asked for names outside of it, in this order; see [`crate::upstreams`].
    pub upstreams: Vec<SocketAddr>,
}

/// Answers the cluster's names, and forwards others.
#[derive(Clone)]
pub struct Dns {
    config: Arc<DnsConfig>,
}

impl Dns {
    /// A server that knows no service yet.
    pub fn new(config: DnsConfig, _clock: Arc<dyn Clock>, _random: Arc<dyn Random>) -> Self {
        Self { config: Arc::new(config) }
    }

    /// Puts a service in place of what was known under its name.
    pub fn set(&self, _service: Service) {}

    /// Takes a service away, if it is known.
    pub fn remove(&self, namespace: &str, name: &str) {
        tracing::debug!(namespace, name, domain = self.config.domain, "service gone");
    }

    /// Answers on these sockets until the tasks end. May be called for several addresses.
    pub fn serve(&self, _udp: UdpSocket, _tcp: TcpListener, _tasks: &Tasks) {}
}
