//! How many pods a second the machine alone places: `cargo run --release -p gantry-scheduler --example throughput [NODES] [PODS]`.

use std::time::Duration;

use gantry_object::{Encoded, Revision, Timestamp};
use gantry_ports::{Clock, RealClock};
use gantry_reconcile::WatchEvent;
use gantry_scheduler::{Machine, NODES, PODS};
use serde_json::json;

fn main() {
    let mut arguments = std::env::args().skip(1).filter_map(|a| a.parse().ok());
    let (nodes, pods) = (arguments.next().unwrap_or(1000), arguments.next().unwrap_or(10_000));
    let mut machine = Machine::new();
    for resource in [PODS, NODES] {
        machine.start(&resource);
        machine.take(&resource, WatchEvent::Bookmark { revision: Revision(0), initial_events_end: true });
    }
    for i in 0..nodes {
        let allocatable = json!({"cpu": "16", "memory": "64Gi", "pods": "110"});
        let node = json!({"metadata": {"name": format!("node-{i}"), "labels": {"topology.kubernetes.io/zone": format!("z{}", i % 3)}}, "status": {"allocatable": allocatable}});
        machine.take(&NODES, WatchEvent::Added(Encoded::from_value(node, Revision(i as u64 + 1))));
    }
    let clock = RealClock::new();
    let start = clock.monotonic();
    for i in 0..pods {
        let owner =
            json!({"controller": true, "uid": format!("set-{}", i % 50), "kind": "ReplicaSet", "name": "s", "apiVersion": "apps/v1"});
        let spec = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "100m", "memory": "100Mi"}}}]});
        let pod = json!({"metadata": {"name": format!("pod-{i}"), "namespace": "a", "uid": format!("uid-{i}"), "ownerReferences": [owner]}, "spec": spec});
        machine.take(&PODS, WatchEvent::Added(Encoded::from_value(pod, Revision((nodes + i) as u64))));
    }
    let told = clock.monotonic();
    let mut bound = 0;
    while let Some(job) = machine.next(Duration::ZERO, Timestamp(0)) {
        bound += usize::from(job.node.is_some());
    }
    let done = clock.monotonic();
    let rate = bound as f64 / (done - told).as_secs_f64();
    println!("{pods} pods told in {:?}; {bound} placed on {nodes} nodes in {:?}: {rate:.0}/s", told - start, done - told);
}
