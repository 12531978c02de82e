//! How things in the kernel are called, so that each is found again by the cluster's id alone.

use std::net::Ipv4Addr;

use crate::error::check_name;
use crate::rtnl::{Link, Mac};
use crate::{Error, Range};

/// Names of one cluster's things in one network namespace.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    id: String,
}

impl Names {
    /// Checks the id and makes names of it.
    pub(crate) fn new(cluster_id: &str) -> Result<Self, Error> {
        check_name("cluster id", cluster_id, 8)?;
        Ok(Self { id: cluster_id.to_owned() })
    }

    /// The table of nf_tables that a node's network owns.
    pub(crate) fn table(&self) -> String {
        format!("gantry-{}", self.id)
    }

    /// The table of nf_tables that a fabric owns.
    pub(crate) fn fabric_table(&self) -> String {
        format!("gantry-fabric-{}", self.id)
    }

    /// The label of the gateway's address on the loopback device; at most 15 characters, and the kernel wants the device's name first.
    pub(crate) fn label(&self) -> String {
        format!("lo:g{}", self.id)
    }

    /// What all links of the cluster begin with.
    pub(crate) fn prefix(&self) -> String {
        format!("g{}", self.id)
    }

    /// The host's end of a pod's link: the pod's address makes it unique on the node, since a pod range is a /8 at most.
    pub(crate) fn pod_link(&self, address: Ipv4Addr) -> String {
        format!("g{}{:06x}", self.id, address.to_bits() & 0xff_ffff)
    }

    /// Whether a link is the host's end of a pod's link.
    pub(crate) fn is_pod_link(&self, link: &Link) -> bool {
        let rest = link.name.strip_prefix(&self.prefix());
        rest.is_some_and(|rest| rest.len() == 6 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }

    /// The fabric's bridge.
    pub(crate) fn bridge(&self) -> String {
        format!("g{}-br", self.id)
    }

    /// The host's end of a node's link.
    pub(crate) fn node_link(&self, index: usize) -> String {
        format!("g{}-n{index:03}", self.id)
    }

    /// Whether a link is the fabric's.
    pub(crate) fn is_fabric_link(&self, link: &Link) -> bool {
        let rest = link.name.strip_prefix(&self.prefix());
        rest.is_some_and(|rest| rest == "-br" || rest.len() == 5 && rest.starts_with("-n"))
    }

    /// The metric by which the cluster's routes are known; clusters on one machine do not replace each other's then.
    pub(crate) fn metric(&self) -> u32 {
        hash(&self.id) | 1 << 16
    }
}

/// The hardware address of whatever has an IPv4 address of ours.
pub(crate) fn mac(address: Ipv4Addr) -> Mac {
    let [a, b, c, d] = address.octets();
    [0x02, 0x67, a, b, c, d]
}

/// Checks that a range has addresses to give.
pub(crate) fn check_range(range: Range, purpose: &'static str) -> Result<(), Error> {
    if (8..=30).contains(&range.prefix()) { Ok(()) } else { Err(Error::Small { range, purpose }) }
}

/// FNV-1a of 32 bits (RFC 9923): short, and the same in every run.
pub(crate) fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_other_clusters_are_not_ours() {
        let names = Names::new("abcd1234").unwrap();
        let link = |name: &str| Link { index: 9, name: name.to_owned() };
        let own = names.pod_link("10.244.3.9".parse().unwrap());
        assert_eq!(own, "gabcd1234f40309");
        assert!(names.is_pod_link(&link(&own)) && !names.is_fabric_link(&link(&own)));
        assert!(names.is_fabric_link(&link(&names.bridge())) && names.is_fabric_link(&link(&names.node_link(0))));
        assert!(!Names::new("abcd123").unwrap().is_pod_link(&link(&own)));
        assert!(!Names::new("abcd1234").unwrap().is_pod_link(&link("gabcd1234-br")));
        for wrong in ["", "toolong12", "a/b", "a b"] {
            assert!(Names::new(wrong).is_err());
        }
        assert!(names.node_link(0).len() <= 15 && names.label().len() <= 15);
    }
}
