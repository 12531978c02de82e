//! An independent witness of everything that becomes durable: it keeps a copy of the state by its events alone, and looks at each event for
//! what may never be.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_object::{Encoded, Revision};
use gantry_store::{Event, EventKind, Store, Watcher};

use crate::facts::{Deployment, Meta, Pod, Set, read};
use crate::promise::Promises;
use crate::trace::{Sort, Trace};

const PODS: &str = "pods";
const SETS: &str = "replicasets.apps";
const DEPLOYMENTS: &str = "deployments.apps";
/// What is followed, as the store names it.
const FOLLOWED: [&str; 6] = [PODS, SETS, DEPLOYMENTS, "nodes", "configmaps", "leases.coordination.k8s.io"];

/// What a node has, as it was drawn. None of it changes while a seed runs.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    /// Thousandths of a CPU.
    pub(crate) cpu: i64,
    pub(crate) pods: usize,
    pub(crate) labels: BTreeMap<String, String>,
    /// Whether it has a taint that no pod tolerates.
    pub(crate) tainted: bool,
}

/// One step of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) revision: Revision,
    pub(crate) path: String,
    /// Whether the object is there after it.
    pub(crate) there: bool,
}

pub(crate) struct Audit {
    nodes: BTreeMap<String, Capacity>,
    watchers: BTreeMap<&'static str, Watcher>,
    /// By resource and path: every followed object and its revision.
    state: BTreeMap<(&'static str, String), Encoded>,
    seen: Revision,
    pods: BTreeMap<String, Pod>,
    sets: BTreeMap<String, Set>,
    pub(crate) promises: Promises,
    /// The history of pods since the beginning.
    pub(crate) history: Vec<Step>,
    trace: Trace,
}

impl Audit {
    pub(crate) fn new(nodes: BTreeMap<String, Capacity>, trace: &Trace) -> Self {
        Self {
            nodes,
            watchers: BTreeMap::new(),
            state: BTreeMap::new(),
            seen: Revision(0),
            pods: BTreeMap::new(),
            sets: BTreeMap::new(),
            promises: Promises::default(),
            history: Vec::new(),
            trace: trace.clone(),
        }
    }

    /// The latest revision that was seen to be durable.
    pub(crate) fn seen(&self) -> Revision {
        self.seen
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// Begins with a store that holds no deployments yet.
    pub(crate) fn begin(&mut self, store: &Store) -> Result<(), String> {
        let snapshot = store.snapshot();
        for resource in FOLLOWED {
            for item in snapshot.list(resource, None, None) {
                self.state.insert((resource, item.path.to_owned()), item.object.clone());
            }
        }
        self.seen = snapshot.revision();
        self.follow(store, self.seen)
    }

    fn follow(&mut self, store: &Store, from: Revision) -> Result<(), String> {
        for resource in FOLLOWED {
            let watcher = store.watch(resource, None, from).map_err(|gone| format!("{resource}: {gone}"))?;
            self.watchers.insert(resource, watcher);
        }
        Ok(())
    }

    /// Takes in what has happened since, and compares the outcome with the state.
    pub(crate) fn look(&mut self, store: &Store) -> Result<(), String> {
        let mut events: Vec<(&'static str, Arc<Event>)> = Vec::new();
        for (resource, watcher) in &mut self.watchers {
            while let Some(event) = watcher.try_next().map_err(|gone| format!("the witness was too slow: {gone}"))? {
                events.push((resource, event));
            }
        }
        if events.is_empty() && store.durable_revision() == self.seen {
            return Ok(());
        }
        // One resource's events are in order as they come; that is checked, not made so.
        for pair in events.windows(2) {
            if pair[0].0 == pair[1].0 && pair[1].1.revision() <= pair[0].1.revision() {
                return Err(format!("event {} of {} came after {}", pair[1].1.revision(), pair[1].0, pair[0].1.revision()));
            }
        }
        events.sort_by_key(|(_, event)| event.revision());
        for (resource, event) in events {
            self.take(resource, &event)?;
        }
        self.seen = store.durable_revision();
        self.compare(store)
    }

    /// Events and state must tell the same: a lost event, or one too many, shows here.
    fn compare(&self, store: &Store) -> Result<(), String> {
        self.trace.count(Sort::Check, "events against state");
        let snapshot = store.snapshot();
        let mut count = 0;
        for resource in FOLLOWED {
            for item in snapshot.list(resource, None, None) {
                count += 1;
                let known = self.state.get(&(resource, item.path.to_owned()));
                if known.map(|k| k.revision) != Some(item.object.revision) {
                    let told = known.map_or("never".to_owned(), |k| format!("at {}", k.revision));
                    return Err(format!("{resource} {} was written at {}, and told {told}", item.path, item.object.revision));
                }
            }
        }
        match self.state.len() == count {
            true => Ok(()),
            false => Err(format!("{} objects by the events, {count} in the state", self.state.len())),
        }
    }

    /// The server has been started again on its disk: nothing that was seen may be gone or otherwise.
    pub(crate) fn recovered(&mut self, store: &Store, acknowledged: Revision) -> Result<(), String> {
        self.trace.count(Sort::Check, "state after a restart");
        let found = store.durable_revision();
        let expected = self.seen.max(acknowledged);
        if found < expected {
            return Err(format!("revision {expected} was seen or acknowledged, and {found} is the last after the restart"));
        }
        if self.follow(store, self.seen).is_ok() {
            return self.look(store);
        }
        // A checkpoint has taken the history's place: what was not seen cannot be told apart, but nothing may be older than it was.
        let snapshot = store.snapshot();
        for ((resource, path), known) in &self.state {
            let now = snapshot.list(resource, None, None).find(|i| i.path == path);
            if now.is_some_and(|n| n.object.revision < known.revision) {
                return Err(format!("{resource} {path} was at {} before the restart, and is older now", known.revision));
            }
        }
        self.state.clear();
        self.pods.clear();
        self.sets.clear();
        self.promises.forget();
        for resource in FOLLOWED {
            for item in snapshot.list(resource, None, None) {
                self.state.insert((resource, item.path.to_owned()), item.object.clone());
                self.note(resource, item.path, Some(item.object))?;
            }
        }
        self.seen = snapshot.revision();
        self.history.clear();
        self.follow(store, self.seen)
    }

    fn take(&mut self, resource: &'static str, event: &Event) -> Result<(), String> {
        let path = event.key.path();
        let key = (resource, path.to_owned());
        let known = self.state.get(&key).map(|o| o.revision);
        if known != event.previous().map(|p| p.revision) {
            return Err(format!("{resource} {path}: an event follows {:?}, and {known:?} was told last", event.previous()));
        }
        if event.revision() <= self.seen {
            return Err(format!("{resource} {path}: revision {} comes after {} was durable", event.revision(), self.seen));
        }
        if let EventKind::Put { new, prev: Some(prev) } = &event.kind
            && resource != "configmaps"
        {
            check_successor(&read::<Named>(prev)?.metadata, &read::<Named>(new)?.metadata)
                .map_err(|why| format!("{resource} {path} at {}: {why}", new.revision))?;
        }
        match event.new_object() {
            Some(object) => self.state.insert(key, object.clone()),
            None => self.state.remove(&key),
        };
        if resource == PODS {
            self.history.push(Step { revision: event.revision(), path: path.to_owned(), there: event.new_object().is_some() });
        }
        self.note(resource, path, event.new_object())
    }

    fn note(&mut self, resource: &str, path: &str, object: Option<&Encoded>) -> Result<(), String> {
        match resource {
            PODS => self.note_pod(path, object)?,
            SETS => {
                match object {
                    Some(object) => self.sets.insert(path.to_owned(), read(object)?),
                    None => self.sets.remove(path),
                };
            }
            DEPLOYMENTS => {
                let deployment: Option<Deployment> = object.map(read).transpose()?;
                self.promises.deployment(path, deployment);
            }
            _ => return Ok(()),
        }
        self.promises.check(&self.sets, &self.pods, &self.trace)
    }

    fn note_pod(&mut self, path: &str, object: Option<&Encoded>) -> Result<(), String> {
        let Some(object) = object else {
            self.pods.remove(path);
            return Ok(());
        };
        let pod: Pod = read(object)?;
        let before = self.pods.insert(path.to_owned(), pod.clone());
        let was = before.as_ref().map_or("", Pod::node);
        if was == pod.node() {
            return check_phase(before.as_ref(), &pod);
        }
        if !was.is_empty() {
            return Err(format!("pod {path} was bound to {was}, and then to {}", pod.node()));
        }
        self.check_node(path, &pod)
    }

    /// A pod has just been bound.
    fn check_node(&self, path: &str, pod: &Pod) -> Result<(), String> {
        self.trace.count(Sort::Check, "binding");
        let name = pod.node();
        let node = self.nodes.get(name).ok_or_else(|| format!("pod {path} was bound to {name}, which is no node"))?;
        let there: Vec<&Pod> = self.pods.values().filter(|p| p.node() == name && !p.is_finished()).collect();
        let cpu: i64 = there.iter().map(|p| p.cpu()).sum();
        if cpu > node.cpu || there.len() > node.pods {
            return Err(format!("{name} has {} pods with {cpu}m CPU of {node:?} since {path} was bound", there.len()));
        }
        if node.tainted || pod.selector().iter().any(|(k, v)| node.labels.get(k) != Some(v)) {
            return Err(format!("pod {path} was bound to {name}, where it may not be: {node:?}"));
        }
        Ok(())
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Named {
    metadata: Meta,
}

/// What no new version of an object may do.
fn check_successor(old: &Meta, new: &Meta) -> Result<(), String> {
    if old.uid != new.uid {
        return Err(format!("uid {} was replaced by {} without a deletion", old.uid, new.uid));
    }
    if old.is_deleting() && !new.is_deleting() {
        return Err("it was being deleted, and is not any more".into());
    }
    if new.generation < old.generation {
        return Err(format!("its generation went from {} to {}", old.generation, new.generation));
    }
    let (before, after) = (old.controllers(), new.controllers());
    if after.len() > 1 {
        return Err(format!("it has the controllers {after:?}"));
    }
    match !before.is_empty() && !after.is_empty() && before != after {
        true => Err(format!("it went from controller {before:?} to {after:?}")),
        false => Ok(()),
    }
}

fn check_phase(before: Option<&Pod>, pod: &Pod) -> Result<(), String> {
    match before.filter(|b| b.metadata.uid == pod.metadata.uid && b.is_finished() && !pod.is_finished()) {
        Some(before) => Err(format!("pod {} had {}, and is {} again", pod.metadata.name, before.phase(), pod.phase())),
        None => Ok(()),
    }
}
