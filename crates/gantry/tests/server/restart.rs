//! A server that is killed under load loses nothing that it acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};

use crate::client::{config_map, connect};
use crate::harness::Server;

const WRITERS: usize = 8;
const BEFORE_EACH_KILL: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_a_kill() {
    let mut server = Server::start();
    let mut acknowledged: Vec<String> = Vec::new();
    let mut highest = 0;
    for round in 0..3 {
        let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
        let stop = Arc::new(AtomicBool::new(false));
        let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
        for writer in 0..WRITERS {
            let (api, stop, told) = (api.clone(), stop.clone(), told.clone());
            tokio::spawn(async move {
                for i in 0.. {
                    let name = format!("r{round}-w{writer}-{i}");
                    let written = api.create(&PostParams::default(), &config_map(&name)).await;
                    if stop.load(Ordering::Relaxed) && written.is_err() {
                        return;
                    }
                    if let Ok(object) = written {
                        let version: u64 = object.metadata.resource_version.expect("a version").parse().expect("a number");
                        if told.send((name, version)).is_err() {
                            return;
                        }
                    }
                }
            });
        }
        drop(told);
        for _ in 0..BEFORE_EACH_KILL {
            let (name, version) = hear.recv().await.expect("writers write");
            acknowledged.push(name);
            highest = highest.max(version);
        }
        stop.store(true, Ordering::Relaxed);
        server.kill();
        while let Some((name, version)) = hear.recv().await {
            acknowledged.push(name);
            highest = highest.max(version);
        }
        server.run();
    }
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
    let list = api.list(&ListParams::default()).await.expect("lists");
    let version: u64 = list.metadata.resource_version.expect("a version").parse().expect("a number");
    assert!(version >= highest, "revisions went back: {version} after {highest}");
    let found: std::collections::BTreeSet<String> = list.items.into_iter().filter_map(|m| m.metadata.name).collect();
    let lost: Vec<&String> = acknowledged.iter().filter(|name| !found.contains(*name)).collect();
    assert!(lost.is_empty(), "acknowledged and gone: {lost:?}");
}
