//! A server that is killed again and again, while it serves and while it starts, loses nothing that it acknowledged, does nothing twice, and
//! its watches go on from where they were.
//!
//! `GANTRY_CRASH_ROUNDS` says how often it is killed, `GANTRY_CRASH_BYTES` how large the objects are (20000 makes segments and checkpoints
//! come and go), `GANTRY_CRASH_SEED` when. `docs/crashes.md` has the results of long runs.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use gantry_ports::{Random, SeededRandom};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, PostParams, Preconditions, WatchEvent, WatchParams};
use serde_json::json;
use tokio::sync::{mpsc, watch};

use crate::client::connect;
use crate::harness::{Server, from_environment};

const WRITERS: u64 = 6;
/// How many objects each writer creates, changes and deletes in turn.
const OBJECTS: u64 = 4;

/// A change to an object, as its writer made it or a watcher saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Change {
    name: String,
    /// A number that its writer gave once; `None` for a deletion.
    number: Option<u64>,
    /// Its revision. A deletion's answer does not say it.
    version: Option<u64>,
}

/// Writes one object after another. Only it writes its objects, so that it knows what must be there.
struct Writer {
    index: u64,
    api: Api<ConfigMap>,
    payload: usize,
    next: u64,
    /// Its objects: number and version.
    objects: BTreeMap<String, (u64, u64)>,
    /// What it knows to have happened, in order.
    done: Vec<Change>,
    /// What was asked for and never answered.
    open: Option<Change>,
}

fn facts(object: &ConfigMap) -> (u64, u64) {
    let version = object.metadata.resource_version.as_ref().expect("a version").parse().expect("a number");
    (object.data.as_ref().expect("data")["number"].parse().expect("a number"), version)
}

impl Writer {
    fn new(index: u64, api: Api<ConfigMap>, payload: usize) -> Self {
        Self { index, api, payload, next: 1, objects: BTreeMap::new(), done: Vec::new(), open: None }
    }

    fn object(&self, name: &str, number: u64, version: Option<u64>) -> ConfigMap {
        let mut object = json!({"metadata": {"name": name}, "data": {"number": number.to_string(), "rest": "x".repeat(self.payload)}});
        if let Some(version) = version {
            object["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        serde_json::from_value(object).expect("a ConfigMap")
    }

    /// Writes until the server is gone, and tells after each answer.
    async fn run(mut self, told: mpsc::UnboundedSender<()>) -> Self {
        loop {
            let number = self.next;
            self.next += 1;
            let name = format!("w{}-{}", self.index, number % OBJECTS);
            let version = self.objects.get(&name).map(|(_, version)| *version);
            let deletes = version.is_some() && number.is_multiple_of(5);
            self.open = Some(Change { name: name.clone(), number: (!deletes).then_some(number), version: None });
            let object = self.object(&name, number, version);
            let answer = match version {
                None => self.api.create(&PostParams::default(), &object).await.map(Some),
                Some(version) if deletes => {
                    let preconditions = Some(Preconditions { resource_version: Some(version.to_string()), uid: None });
                    self.api.delete(&name, &DeleteParams { preconditions, ..DeleteParams::default() }).await.map(|_| None)
                }
                Some(_) => self.api.replace(&name, &PostParams::default(), &object).await.map(Some),
            };
            match answer {
                Ok(written) => self.settle(written.as_ref().map(facts)),
                Err(kube::Error::Api(status)) if status.code != 503 => panic!("{name} {number}: {status:?}"),
                Err(_) => return self,
            }
            if told.send(()).is_err() {
                return self;
            }
        }
    }

    /// What was asked for has happened.
    fn settle(&mut self, written: Option<(u64, u64)>) {
        let mut change = self.open.take().expect("something was asked for");
        change.version = written.map(|(_, version)| version);
        match written {
            Some(written) => self.objects.insert(change.name.clone(), written),
            None => self.objects.remove(&change.name),
        };
        self.done.push(change);
    }

    /// Finds out whether what was never answered has happened.
    async fn look(&mut self) {
        let Some(open) = self.open.clone() else { return };
        let found = self.api.get_opt(&open.name).await.expect("gets").as_ref().map(facts);
        let (before, number) = (self.objects.get(&open.name).copied(), found.map(|(number, _)| number));
        if found == before {
            self.open = None;
            return;
        }
        assert_eq!(number, open.number, "{} is neither what it was ({before:?}) nor what was asked for", open.name);
        self.settle(found);
    }
}

/// Follows all ConfigMaps over any number of servers' lives, from a version until an object called `end`; every event as it came.
async fn follow(api: Api<ConfigMap>, mut last: String, mut lives: watch::Receiver<u64>) -> Vec<(&'static str, Change)> {
    let mut seen = Vec::new();
    loop {
        lives.borrow_and_update();
        let Ok(events) = api.watch(&WatchParams::default(), &last).await else {
            lives.changed().await.expect("the end comes before the last life's");
            continue;
        };
        let mut events = Box::pin(events);
        while let Some(Ok(event)) = events.next().await {
            let (kind, object) = match event {
                WatchEvent::Added(o) => ("added", o),
                WatchEvent::Modified(o) => ("modified", o),
                WatchEvent::Deleted(o) => ("deleted", o),
                WatchEvent::Bookmark(b) => {
                    last = b.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(status) => panic!("watching from {last}: {status:?}"),
            };
            let name = object.metadata.name.clone().expect("a name");
            last = object.metadata.resource_version.clone().expect("a version");
            if name == "end" {
                return seen;
            }
            // Controllers make ConfigMaps of their own.
            if !name.starts_with('w') {
                continue;
            }
            let (number, version) = facts(&object);
            seen.push((kind, Change { name, number: (kind != "deleted").then_some(number), version: Some(version) }));
        }
    }
}

/// Every event once, in order, and each object created, changed and deleted in an order that is possible.
fn check_events(seen: &[(&'static str, Change)]) {
    for pair in seen.windows(2) {
        assert!(pair[0].1.version < pair[1].1.version, "{:?} after {:?}", pair[1], pair[0]);
    }
    let mut there = std::collections::BTreeSet::new();
    for (kind, change) in seen {
        let possible = match *kind {
            "added" => there.insert(&change.name),
            "modified" => there.contains(&change.name),
            _ => there.remove(&change.name),
        };
        assert!(possible, "{kind} {change:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_happened_once_however_often_the_server_is_killed() {
    let rounds = from_environment("GANTRY_CRASH_ROUNDS", 5);
    let payload = from_environment("GANTRY_CRASH_BYTES", 100) as usize;
    let random = SeededRandom::new(from_environment("GANTRY_CRASH_SEED", 1));
    let mut server = Server::start();
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
    let start = api.list(&ListParams::default()).await.expect("lists").metadata.resource_version.expect("a version");
    let (live, lives) = watch::channel(0);
    let watcher = tokio::spawn(follow(api.clone(), start, lives));
    let mut writers: Vec<Writer> = (0..WRITERS).map(|i| Writer::new(i, api.clone(), payload)).collect();
    let mut unanswered = 0;
    for round in 1..=rounds {
        let (told, mut hear) = mpsc::unbounded_channel();
        let running: Vec<_> = writers.drain(..).map(|w| tokio::spawn(w.run(told.clone()))).collect();
        drop(told);
        for _ in 0..=random.below(150) {
            hear.recv().await.expect("writers write");
        }
        server.kill();
        for writer in running {
            writers.push(writer.await.expect("a writer meets only what it expects"));
        }
        for _ in 0..random.below(3) {
            server.run_and_kill_while_it_opens_the_store();
        }
        server.run();
        live.send_replace(round);
        for writer in &mut writers {
            let before = writer.done.len();
            writer.look().await;
            unanswered += writer.done.len() - before;
        }
        let version = api.list(&ListParams::default()).await.expect("lists").metadata.resource_version.expect("a version");
        let highest = writers.iter().flat_map(|w| &w.done).filter_map(|c| c.version).max();
        assert!(version.parse::<u64>().ok() >= highest, "round {round}: revisions went back to {version} from {highest:?}");
    }
    let end = serde_json::from_value(json!({"metadata": {"name": "end"}})).expect("a ConfigMap");
    api.create(&PostParams::default(), &end).await.expect("creates");
    let seen = watcher.await.expect("watches");
    check_events(&seen);
    for writer in &writers {
        let prefix = format!("w{}-", writer.index);
        let own: Vec<Change> = seen.iter().map(|(_, c)| c).filter(|c| c.name.starts_with(&prefix)).cloned().collect();
        let as_told = |c: &Change| Change { version: c.number.and(c.version), ..c.clone() };
        let own: Vec<Change> = own.iter().map(as_told).collect();
        assert_eq!(own, writer.done, "what writer {} did and what was seen of it", writer.index);
    }
    let found = api.list(&ListParams::default()).await.expect("lists");
    let found: BTreeMap<String, (u64, u64)> = found
        .items
        .iter()
        .filter(|o| o.data.as_ref().is_some_and(|d| d.contains_key("number")))
        .map(|o| (o.metadata.name.clone().expect("a name"), facts(o)))
        .collect();
    let expected: BTreeMap<String, (u64, u64)> = writers.iter().flat_map(|w| w.objects.clone()).collect();
    assert_eq!(found, expected);
    let files = std::fs::read_dir(server.dir.path().join("store")).expect("a directory").flatten().map(|e| e.file_name());
    println!(
        "{rounds} rounds, {} changes seen, {unanswered} unanswered ones had happened; files: {:?}",
        seen.len(),
        files.collect::<Vec<_>>()
    );
}
