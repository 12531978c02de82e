//! Cluster DNS answered on each node.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod records;
mod server;

use std::net::{IpAddr, SocketAddr};

pub use records::{Endpoint, Port, Service, Target};
pub use server::{Dns, DnsConfig};

/// The name servers that a resolv.conf names, for [`DnsConfig::upstreams`]; `own` addresses are left out, lest we ask ourselves.
pub fn upstreams(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses.filter(|address| !own.contains(address)).map(|address| SocketAddr::new(address, 53)).collect()
}
