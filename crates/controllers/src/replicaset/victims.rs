//! Which pods go first when there are too many.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use gantry_object::Timestamp;
use gantry_reconcile::{Kind, Object, View};

use crate::kinds::Pod;

/// Chooses so many pods: first those whose loss costs least. The order is upstream's: not on a node, not running, not ready, cheap by
/// annotation, on a node with many of their kind, ready for a short time, often restarted, young.
pub(crate) fn choose<S: Kind>(set: &Object<S>, pods: &[Object<Pod>], count: usize, view: &View, now: Timestamp) -> Vec<Object<Pod>> {
    let crowd = crowd(set, view);
    let mut ranked: Vec<&Object<Pod>> = pods.iter().collect();
    ranked.sort_by(|a, b| compare(a, b, &crowd, now));
    ranked.into_iter().take(count).cloned().collect()
}

/// How many pods of the same deployment run on each node.
fn crowd<S: Kind>(set: &Object<S>, view: &View) -> BTreeMap<String, usize> {
    let siblings: Vec<String> = match set.meta().controller() {
        Some(owner) => view.owned_by::<S>(&owner.uid).map(|s| s.meta().uid.clone()).collect(),
        None => vec![set.meta().uid.clone()],
    };
    let mut crowd = BTreeMap::new();
    for pod in siblings.iter().flat_map(|uid| view.owned_by::<Pod>(uid)).filter(|p| !p.is_finished() && !p.meta().is_deleting()) {
        *crowd.entry(pod.spec.node_name.clone()).or_default() += 1;
    }
    crowd
}

fn compare(a: &Object<Pod>, b: &Object<Pod>, crowd: &BTreeMap<String, usize>, now: Timestamp) -> Ordering {
    let key = |pod: &Object<Pod>| {
        let node = &pod.spec.node_name;
        let phase = match pod.status.phase.as_str() {
            "Running" => 2,
            "Unknown" => 1,
            _ => 0,
        };
        let cost: i64 = pod.metadata.annotations.deletion_cost.as_deref().and_then(|c| c.parse().ok()).unwrap_or(0);
        let age = |since: Timestamp| magnitude(now.since(since).as_secs());
        let ready_for = pod.ready_since().map_or(0, age);
        let old = pod.meta().creation_timestamp.map_or(0, age);
        (
            (!node.is_empty(), phase, pod.is_ready(), cost),
            (Reverse(crowd.get(node).copied().unwrap_or(0)), ready_for, Reverse(pod.restarts()), old),
        )
    };
    // Among equals the uid decides, which is as good as chance and repeats.
    key(a).cmp(&key(b)).then_with(|| a.meta().uid.cmp(&b.meta().uid))
}

/// Ages count by powers of two, so that among pods of about the same age not always the youngest goes.
fn magnitude(seconds: u64) -> u32 {
    seconds.checked_ilog2().map_or(0, |n| n + 1)
}
