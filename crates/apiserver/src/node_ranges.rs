//! Pod addresses: each node gets a range of its own when it registers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Mutex;

use gantry_object::{Encoded, Value};
use gantry_store::Store;
use serde_json::json;

use crate::authorize::{Follow, Follower};
use crate::server::{Config, Server};

/// The prefix length of a node's range.
const NODE_PREFIX: u8 = 24;

/// The ranges that nodes have, by the nodes' names.
#[derive(Default)]
struct InUse(BTreeMap<String, String>);

impl Follow for InUse {
    const RESOURCES: &'static [&'static str] = &["nodes"];

    fn apply(&mut self, _resource: &str, path: &str, object: Option<&Encoded>) {
        self.0.remove(path);
        let node = object.and_then(|o| o.decode::<Value>().ok());
        if let Some(range) = node.as_ref().and_then(|n| n["spec"]["podCIDR"].as_str()) {
            self.0.insert(path.into(), range.into());
        }
    }
}

/// Gives nodes their ranges.
pub(crate) struct NodeRanges {
    network: (Ipv4Addr, u8),
    state: Mutex<(Follower<InUse>, BTreeSet<String>)>,
}

impl NodeRanges {
    pub(crate) fn new(config: &Config, store: &Store) -> Self {
        Self { network: config.pod_network, state: Mutex::new((Follower::new(store), BTreeSet::new())) }
    }

    /// Gives a new node the lowest free range, unless it comes with one or none is left.
    pub(crate) fn assign(&self, server: &Server, node: &mut Value) {
        if node["spec"]["podCIDR"].as_str().is_some_and(|c| !c.is_empty()) {
            return;
        }
        let (network, prefix) = self.network;
        let count = 1u32 << NODE_PREFIX.saturating_sub(prefix);
        let mut state = self.state.lock().expect("nothing panics while it holds this lock");
        let (in_use, given) = &mut *state;
        let taken: BTreeSet<&String> = in_use.current(server.store()).0.values().collect();
        let range = |i: u32| format!("{}/{NODE_PREFIX}", Ipv4Addr::from(u32::from(network) + (i << (32 - NODE_PREFIX))));
        // A range that was given to a node whose creation then failed stays unused until the next start.
        let Some(free) = (0..count).map(range).find(|r| !taken.contains(r) && !given.contains(r)) else { return };
        given.insert(free.clone());
        node["spec"]["podCIDR"] = json!(free);
        node["spec"]["podCIDRs"] = json!([free]);
    }
}
