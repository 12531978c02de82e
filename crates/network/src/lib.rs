//! Pod links, routes, service proxy and policy: pure tables, one writer to the kernel.
//!
//! [`Network`] is one node's network: pods are attached to it, peers are other nodes, services are balanced by nf_tables.
//! [`Fabric`] puts several nodes on one machine, each in a network namespace. The kernel is programmed through netlink only.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod conntrack;
mod error;
mod fabric;
mod ipam;
mod names;
mod netlink;
mod netns;
mod network;
mod nft;
mod pod;
mod proxy;
mod range;
mod rtnl;
mod service;

pub use error::Error;
pub use fabric::{Fabric, FabricConfig, FabricNode};
pub use network::{Network, NetworkConfig, Peer, PodLink};
pub use range::Range;
pub use service::{Endpoint, Protocol, ServicePort, ServiceSpec, ServiceTable};
