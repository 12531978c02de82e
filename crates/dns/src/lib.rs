//! Cluster DNS answered on each node.
//!
//! [`Dns`] knows the cluster's services and answers for them at once; names outside of the cluster's domain are asked of upstreams.
//! What names mean is a pure function of the services. Nothing is kept of what upstreams said: their servers do that.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod records;
mod server;
mod upstream;
mod zone;

use std::net::{IpAddr, SocketAddr};

pub use records::{Endpoint, Port, Service, Target};
pub use server::{Dns, DnsConfig};

/// The name servers that a resolv.conf names, for [`DnsConfig::upstreams`]; `own` addresses are left out, lest we ask ourselves.
pub fn upstreams(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = servers.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses.filter(|address| !own.contains(address)).map(|address| SocketAddr::new(address, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_read_from_a_resolv_conf() {
        let text = "# a comment\nsearch example.org\nnameserver 192.0.2.1\n nameserver\t2001:db8::1 \nnameserver 10.0.0.1\nnameserver x\n";
        let found = upstreams(text, &["10.0.0.1".parse().unwrap()]);
        assert_eq!(found, ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()]);
    }
}
