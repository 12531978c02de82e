//! What users do: draws the next request, and remembers what they were told.

use std::collections::BTreeMap;

use gantry_client::{DeleteOptions, PatchType, Propagation, Request};
use gantry_object::{Resource, Status, meta};
use gantry_ports::{Random, SeededRandom};
use gantry_scheduler::{NODES, PODS};
use gantry_store::{Snapshot, Store};
use serde_json::{Value, json};

use crate::component::{DEPLOYMENTS, SETS};
use crate::draw::{Draw, Habits, Wanted, strategy};

const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps", "ConfigMap");

/// One request of a user's, with what it means to the checks.
pub(crate) struct Wish {
    pub(crate) what: &'static str,
    pub(crate) told: String,
    pub(crate) request: Request,
    /// Whether pods are lost by it that no rollout would have taken.
    pub(crate) disrupts: bool,
    /// Whether pods change hands by it.
    pub(crate) moves: bool,
}

fn wish(what: &'static str, told: String, request: Request) -> Wish {
    Wish { what, told, request, disrupts: false, moves: false }
}

/// Objects of a resource in the default namespace.
pub(crate) fn objects(snapshot: &Snapshot, resource: &str) -> Vec<Value> {
    snapshot.list(resource, Some("default"), None).map(|i| serde_json::from_slice(&i.object.body).unwrap_or_default()).collect()
}

/// Draws what a user does next.
pub(crate) fn draw(draw: &Draw, store: &Store, chance: &SeededRandom) -> Option<Wish> {
    let snapshot = store.snapshot();
    let wanted = &draw.deployments[chance.below(draw.deployments.len() as u64) as usize];
    let now = objects(&snapshot, "deployments.apps").into_iter().find(|d| meta::name(d) == wanted.name);
    let Some(now) = now else {
        return Some(wish("create", format!("create {}", wanted.name), Request::create(DEPLOYMENTS, "default", &wanted.object())));
    };
    let Habits { scale, roll_out, roll_back, delete, orphan, drain, pause, restrategize, take_pod, release_pod } = draw.habits;
    let weights = [scale, roll_out, roll_back, delete, orphan, drain, pause, restrategize, take_pod, release_pod];
    match pick(&weights, chance)? {
        0 => Some(resize(wanted, chance)),
        1 => Some(roll(wanted, &now, chance)),
        2 => back(wanted, &now, &snapshot, chance),
        3 => Some(remove(wanted, chance)),
        4 => orphaned(wanted, &now, &snapshot, chance),
        5 => drained(draw, &snapshot, chance),
        6 => {
            let pause = now["spec"]["paused"] != true;
            let what = if pause { "pause" } else { "resume" };
            Some(patch(what, wanted, &json!({"spec": {"paused": pause}})))
        }
        7 => {
            let mut strategy = strategy(chance, wanted.room);
            strategy["$retainKeys"] = json!(strategy.as_object().map(|s| s.keys().collect::<Vec<_>>()));
            let request =
                Request::patch(DEPLOYMENTS, "default", &wanted.name, PatchType::Strategic, &json!({"spec": {"strategy": strategy}}));
            Some(wish("change strategy", format!("strategy of {}: {strategy}", wanted.name), request))
        }
        8 => some_pod(&snapshot, chance).map(|pod| {
            let request = Request::delete(PODS, "default", meta::name(&pod), &DeleteOptions::default());
            Wish { disrupts: true, ..wish("delete pod", format!("delete pod {}", meta::name(&pod)), request) }
        }),
        _ => some_pod(&snapshot, chance).map(|pod| {
            let labels = json!({"metadata": {"labels": {"app": "nobody's"}}});
            let request = Request::patch(PODS, "default", meta::name(&pod), PatchType::Merge, &labels);
            Wish { disrupts: true, moves: true, ..wish("release pod", format!("take pod {} out", meta::name(&pod)), request) }
        }),
    }
}

/// Draws by weights; `None` when all are zero.
pub(crate) fn pick(weights: &[u64], chance: &SeededRandom) -> Option<usize> {
    let all: u64 = weights.iter().sum();
    let mut at = if all == 0 { return None } else { chance.below(all) };
    weights.iter().position(|w| {
        let here = at < *w;
        at = at.saturating_sub(*w);
        here
    })
}

fn patch(what: &'static str, wanted: &Wanted, patch: &Value) -> Wish {
    let request = Request::patch(DEPLOYMENTS, "default", &wanted.name, PatchType::Merge, patch);
    wish(what, format!("{what} {}: {}", wanted.name, patch["spec"]), request)
}

fn resize(wanted: &Wanted, chance: &SeededRandom) -> Wish {
    // Half of the room is kept for surge.
    let most = (wanted.room / 2).max(1);
    patch("scale", wanted, &json!({"spec": {"replicas": chance.below(most + 1)}}))
}

fn roll(wanted: &Wanted, now: &Value, chance: &SeededRandom) -> Wish {
    let mut container = now["spec"]["template"]["spec"]["containers"][0].clone();
    container["image"] = json!(format!("v{}", chance.below(4)));
    patch("roll out", wanted, &json!({"spec": {"template": {"spec": {"containers": [container]}}}}))
}

/// The template of an earlier revision, as `kubectl rollout undo` has it.
fn back(wanted: &Wanted, now: &Value, snapshot: &Snapshot, chance: &SeededRandom) -> Option<Wish> {
    let sets = owned(snapshot, "replicasets.apps", meta::uid(now));
    let set = sets.get(chance.below(sets.len().max(1) as u64) as usize)?;
    let mut template = set["spec"]["template"].clone();
    template["metadata"]["labels"].as_object_mut()?.remove("pod-template-hash");
    let operations = json!([{"op": "replace", "path": "/spec/template", "value": template}]);
    let request = Request::patch(DEPLOYMENTS, "default", &wanted.name, PatchType::Json, &operations);
    Some(wish("roll back", format!("{} back to {}", wanted.name, meta::name(set)), request))
}

fn remove(wanted: &Wanted, chance: &SeededRandom) -> Wish {
    let policy = [Propagation::Background, Propagation::Foreground][chance.below(2) as usize];
    let options = DeleteOptions { propagation_policy: Some(policy), ..DeleteOptions::default() };
    wish("delete", format!("delete {} ({policy:?})", wanted.name), Request::delete(DEPLOYMENTS, "default", &wanted.name, &options))
}

/// The deployment or its newest set is deleted, and what it managed stays: somebody else takes it up.
fn orphaned(wanted: &Wanted, now: &Value, snapshot: &Snapshot, chance: &SeededRandom) -> Option<Wish> {
    let options = DeleteOptions { propagation_policy: Some(Propagation::Orphan), ..DeleteOptions::default() };
    let (resource, name) = match chance.below(2) {
        0 => (DEPLOYMENTS, wanted.name.clone()),
        _ => (SETS, meta::name(owned(snapshot, "replicasets.apps", meta::uid(now)).last()?).to_owned()),
    };
    let request = Request::delete(resource, "default", &name, &options);
    Some(Wish { disrupts: true, moves: true, ..wish("orphan", format!("delete {} {name} alone", resource.plural), request) })
}

/// Closes a node, moves pods off it one at a time, or opens it again.
fn drained(draw: &Draw, snapshot: &Snapshot, chance: &SeededRandom) -> Option<Wish> {
    let nodes: Vec<Value> = snapshot.list("nodes", None, None).filter_map(|i| serde_json::from_slice(&i.object.body).ok()).collect();
    let node = nodes.get(chance.below(draw.nodes.len() as u64) as usize)?;
    let name = meta::name(node);
    let cordon = |closed: bool| Request::patch(NODES, "", name, PatchType::Merge, &json!({"spec": {"unschedulable": closed}}));
    if node["spec"]["unschedulable"] != true {
        return Some(wish("cordon", format!("cordon {name}"), cordon(true)));
    }
    let pods = objects(snapshot, "pods");
    let pod = pods.iter().find(|p| p["spec"]["nodeName"] == name && !meta::is_deleting(p));
    let Some(pod) = pod.filter(|_| chance.below(5) > 0) else {
        return Some(wish("uncordon", format!("uncordon {name}"), cordon(false)));
    };
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": meta::name(pod), "namespace": "default"}});
    let mut request = Request::create(PODS, "default", &eviction).on("eviction");
    request.name = meta::name(pod).into();
    Some(Wish { disrupts: true, ..wish("evict", format!("evict {} from {name}", meta::name(pod)), request) })
}

fn owned(snapshot: &Snapshot, resource: &str, uid: &str) -> Vec<Value> {
    let is_own = |o: &Value| meta::owner_references(o).iter().any(|r| r["uid"] == uid);
    objects(snapshot, resource).into_iter().filter(is_own).collect()
}

fn some_pod(snapshot: &Snapshot, chance: &SeededRandom) -> Option<Value> {
    let mut pods = objects(snapshot, "pods");
    match pods.len() as u64 {
        0 => None,
        count => Some(pods.swap_remove(chance.below(count) as usize)),
    }
}

/// What puts an end to everything that a user has begun: so that phase two can come to rest.
pub(crate) fn amends(store: &Store) -> Vec<Request> {
    let snapshot = store.snapshot();
    let mut requests = Vec::new();
    for deployment in objects(&snapshot, "deployments.apps").iter().filter(|d| d["spec"]["paused"] == true) {
        let resume = json!({"spec": {"paused": null}});
        requests.push(Request::patch(DEPLOYMENTS, "default", meta::name(deployment), PatchType::Merge, &resume));
    }
    for item in snapshot.list("nodes", None, None) {
        let open = json!({"spec": {"unschedulable": null}});
        requests.push(Request::patch(NODES, "", item.name(), PatchType::Merge, &open));
    }
    requests
}

/// What nobody manages any more is deleted.
pub(crate) fn strays(store: &Store) -> Vec<Request> {
    let snapshot = store.snapshot();
    let mut requests = Vec::new();
    for (resource, name) in [(PODS, "pods"), (SETS, "replicasets.apps")] {
        let alone = |o: &&Value| meta::owner_references(o).is_empty() && !meta::is_deleting(o);
        let strays = objects(&snapshot, name);
        requests
            .extend(strays.iter().filter(alone).map(|o| Request::delete(resource, "default", meta::name(o), &DeleteOptions::default())));
    }
    requests
}

/// What a user knows of a few config maps: what was acknowledged, and what was sent without an answer.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: BTreeMap<u64, Entry>,
    written: u64,
}

#[derive(Clone, Default)]
struct Entry {
    acknowledged: Option<u64>,
    /// Numbers that may or may not have been written since.
    unanswered: Vec<u64>,
}

impl Ledger {
    /// The next number for one of the maps, as a request.
    pub(crate) fn write(&mut self, chance: &SeededRandom) -> (u64, u64, Request) {
        let which = chance.below(5);
        self.written += 1;
        let number = self.written;
        let entry = self.entries.entry(which).or_default();
        let first = entry.acknowledged.is_none() && entry.unanswered.is_empty();
        entry.unanswered.push(number);
        let (name, data) = (format!("ledger-{which}"), json!({"n": number.to_string()}));
        let request = if first {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, "data": data});
            Request::create(CONFIG_MAPS, "default", &object)
        } else {
            Request::patch(CONFIG_MAPS, "default", &name, PatchType::Merge, &json!({"data": data}))
        };
        (which, number, request)
    }

    /// The server has acknowledged a number: nothing older may be there from now on.
    pub(crate) fn acknowledged(&mut self, which: u64, number: u64) {
        let entry = self.entries.entry(which).or_default();
        entry.acknowledged = entry.acknowledged.max(Some(number));
        entry.unanswered.retain(|n| *n > number);
    }

    /// The server refused a number, or did not answer.
    pub(crate) fn failed(&mut self, which: u64, number: u64, status: &Status) -> Result<(), String> {
        let entry = self.entries.entry(which).or_default();
        if status.is_not_found() {
            // An answer it is: there is none.
            if let Some(acknowledged) = entry.acknowledged {
                return Err(format!("ledger-{which} is gone; {acknowledged} was acknowledged, and {number} found nothing"));
            }
            entry.unanswered.clear();
        }
        Ok(())
    }

    /// Every config map holds what was last acknowledged, or what was sent after it without an answer.
    pub(crate) fn check(&self, store: &Store) -> Result<(), String> {
        let snapshot = store.snapshot();
        for (which, entry) in &self.entries {
            let key = gantry_store::Key::new("configmaps", "default", &format!("ledger-{which}"));
            let found = snapshot.get(&key).and_then(|o| serde_json::from_slice::<Value>(&o.body).ok());
            let number = found.and_then(|o| o["data"]["n"].as_str()?.parse::<u64>().ok());
            if number != entry.acknowledged && !number.is_some_and(|n| entry.unanswered.contains(&n)) {
                let Entry { acknowledged, unanswered } = entry;
                return Err(format!("ledger-{which} holds {number:?}; {acknowledged:?} was acknowledged, {unanswered:?} unanswered"));
            }
        }
        Ok(())
    }
}
