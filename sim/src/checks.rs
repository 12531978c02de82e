//! What must hold at every moment, and what must come true in the end.

use std::collections::BTreeMap;

use gantry_object::{Value, meta};
use gantry_store::Store;

use crate::node::is_ready;

/// What was promised about the deployment so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most pods that were ever asked for, with surge.
    pub(crate) most: usize,
    /// The fewest that may be available; zero before all were once.
    pub(crate) least: usize,
}

fn objects(store: &Store, resource: &str) -> Vec<Value> {
    let snapshot = store.snapshot();
    snapshot.list(resource, Some("default"), None).map(|i| serde_json::from_slice(&i.object.body).expect("the store holds JSON")).collect()
}

/// The deployment as it is stored.
pub(crate) fn deployment(store: &Store) -> Value {
    objects(store, "deployments.apps").into_iter().next().unwrap_or_default()
}

/// Looks for anything that may never be.
pub(crate) fn safety(store: &Store, bounds: Bounds) -> Result<(), String> {
    let pods = objects(store, "pods");
    let sets = objects(store, "replicasets.apps");
    for object in pods.iter().chain(&sets) {
        let controllers = meta::owner_references(object).iter().filter(|o| o["controller"] == true).count();
        if controllers > 1 {
            return Err(format!("{} has {controllers} controllers", meta::object_name(object)));
        }
    }
    let alive: Vec<&Value> = pods.iter().filter(|p| !meta::is_deleting(p)).collect();
    if alive.len() > bounds.most {
        return Err(format!("{} pods, {} allowed", alive.len(), bounds.most));
    }
    let available = alive.iter().filter(|p| is_ready(p)).count();
    if available < bounds.least {
        return Err(format!("{available} pods available, {} promised", bounds.least));
    }
    let mut cpus: BTreeMap<&str, u64> = BTreeMap::new();
    for pod in &pods {
        if let Some(node) = pod["spec"]["nodeName"].as_str() {
            *cpus.entry(node).or_default() += 1;
        }
    }
    // Every pod asks for one CPU, and every node has four.
    match cpus.iter().find(|(_, used)| **used > 4) {
        Some((node, used)) => Err(format!("{node} has pods for {used} of its 4 CPUs")),
        None => Ok(()),
    }
}

/// What is still missing from the state that the deployment asks for.
pub(crate) fn missing(store: &Store) -> Option<String> {
    let deployment = deployment(store);
    let wanted = deployment["spec"]["replicas"].as_u64()?;
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    let status = &deployment["status"];
    let number = |member: &str| status[member].as_u64().unwrap_or(0);
    for member in ["replicas", "updatedReplicas", "availableReplicas", "readyReplicas"] {
        if number(member) != wanted {
            return Some(format!("status.{member} is {} of {wanted}", number(member)));
        }
    }
    if status["observedGeneration"] != deployment["metadata"]["generation"] {
        return Some("the generation was not observed".into());
    }
    let pods = objects(store, "pods");
    let good = |p: &&Value| is_ready(p) && !meta::is_deleting(p) && &p["spec"]["containers"][0]["image"] == image;
    let count = pods.iter().filter(good).count() as u64;
    (count != wanted || pods.len() as u64 != wanted).then(|| format!("{count} good pods of {} where {wanted} are wanted", pods.len()))
}
