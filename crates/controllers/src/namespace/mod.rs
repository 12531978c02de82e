//! Empties namespaces that are being deleted, and lets them go when nothing is left.

use std::time::Duration;

use gantry_object::{Resource, Timestamp, Value};
use gantry_reconcile::{Action, Controller, Decision, Entry, Item, Key, Kind, Object, Read, View, itself, merge_diff};
use serde_json::json;

use crate::kinds::Namespace;

/// The finalizer in a namespace's spec that this controller answers for.
const FINALIZER: &str = "kubernetes";

/// How soon to look again when it is not known yet what a new resource has.
const RECHECK: Duration = Duration::from_millis(200);
const NAME: &str = "namespace-controller";
const PODS: &str = "pods";

/// The namespace controller.
pub struct Namespaces {
    watched: Vec<Resource>,
    /// Resources that come and go too often to be watched for this: emptied and asked for at the end.
    unwatched: Vec<Resource>,
}

impl Namespaces {
    /// Will empty namespaces of these resources; those that are not namespaced don't count.
    pub fn new(resources: &[Resource]) -> Self {
        let namespaced = resources.iter().copied().filter(|r| r.namespaced);
        let (unwatched, watched) = namespaced.partition(|r| r.plural == "events");
        Self { watched, unwatched }
    }
}

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reads(&self) -> Vec<Read> {
        let contents = self.watched.iter().map(|r| Read::meta(*r, terminating_namespace));
        std::iter::once(Read::of::<Namespace>(itself)).chain(contents).collect()
    }

    fn reads_custom(&self) -> Option<gantry_reconcile::MapKeys> {
        Some(terminating_namespace)
    }

    fn owns(&self) -> &'static [&'static str] {
        &["namespaces/status", "namespaces/finalize", "contents of namespaces that are being deleted"]
    }

    fn decide(&self, key: &Key, view: &View, now: Timestamp) -> Decision {
        let namespace = view.get::<Namespace>("", &key.name.name);
        let deleting = |n: &Object<Namespace>| n.meta().is_deleting() && n.spec.finalizers.iter().any(|f| f == FINALIZER);
        match namespace.filter(deleting) {
            Some(namespace) => self.empty(&namespace, view, now),
            None => Decision::none(),
        }
    }
}

/// The namespace of an object, if it is being deleted.
fn terminating_namespace(view: &View, _: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    let namespace = view.get::<Namespace>("", &item.name.namespace);
    keys.extend(namespace.filter(|n| n.meta().is_deleting()).map(|n| Key::of::<Namespace>(n.name().clone())));
}

impl Namespaces {
    /// What namespaces are emptied of now, of the resources that are watched.
    fn contents(view: &View) -> impl Iterator<Item = Resource> + '_ {
        view.served().filter(|r| r.namespaced && r.plural != "events")
    }

    fn empty(&self, namespace: &Object<Namespace>, view: &View, now: Timestamp) -> Decision {
        let name = &namespace.meta().name;
        let mut decision = Decision::none();
        let mut remaining = Vec::new();
        let mut finalizers: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
        let pods_first = Self::contents(view).any(|r| is_pods(&r) && view.items_in(&r, name).next().is_some());
        for resource in Self::contents(view).filter(|r| !pods_first || is_pods(r)) {
            let (mut count, mut fresh) = (0, false);
            for item in view.items_in(&resource, name) {
                count += 1;
                let meta = &item.projection.meta;
                fresh |= !meta.is_deleting();
                for finalizer in &meta.finalizers {
                    *finalizers.entry(finalizer.clone()).or_default() += 1;
                }
            }
            if fresh {
                decision.actions.push(Action::DeleteCollection { resource, namespace: name.clone() });
            }
            if count > 0 {
                remaining.push(format!("{}.{} has {count} resource instances", resource.plural, resource.group));
            }
        }
        let finalizers: Vec<String> = finalizers.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
        remaining.sort();
        if let Some(resource) = view.unknown() {
            decision.waiting_on.push(format!("what there is of {}", resource.group_resource()));
            decision.recheck(RECHECK);
        }
        if remaining.is_empty() && decision.waiting_on.is_empty() {
            decision.actions = self.finish(namespace, view);
            return decision;
        }
        // What the last deletion ran into is told before the next one is tried.
        let failure = view.failure(NAME, &Key::of::<Namespace>(namespace.name().clone()));
        let status = conditions(namespace, &remaining, &finalizers, failure, now);
        let at = if failure.is_some() { 0 } else { decision.actions.len() };
        decision.actions.splice(at..at, status);
        decision.waiting_on.extend(remaining);
        decision
    }

    /// The caches show nothing; the server is asked, since what it made last may not have been seen here.
    fn finish(&self, namespace: &Object<Namespace>, view: &View) -> Vec<Action> {
        let name = &namespace.meta().name;
        let sweep = self.unwatched.iter().map(|r| Action::DeleteCollection { resource: *r, namespace: name.clone() });
        let require = Self::contents(view).map(|r| Action::RequireNone { resource: r, namespace: name.clone() });
        let left: Vec<&String> = namespace.spec.finalizers.iter().filter(|f| *f != FINALIZER).collect();
        let change = json!({"spec": {"finalizers": left}});
        let base = namespace.encoded().clone();
        let finalize = Action::Update { resource: Namespace::RESOURCE, subresource: Some("finalize"), base, change };
        sweep.chain(require).chain(Some(finalize)).collect()
    }
}

fn is_pods(resource: &Resource) -> bool {
    resource.group.is_empty() && resource.plural == PODS
}

/// Each condition of a namespace that is being emptied: its type, and reason and message when all is well.
const CONDITIONS: [(&str, &str, &str); 5] = [
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    ("NamespaceDeletionGroupVersionParsingFailure", "ParsedGroupVersions", "All legacy kube types successfully parsed"),
    ("NamespaceDeletionContentFailure", "ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

/// Says in the status what is left, and what went wrong.
fn conditions(
    namespace: &Object<Namespace>,
    remaining: &[String],
    finalizers: &[String],
    failure: Option<&str>,
    now: Timestamp,
) -> Option<Action> {
    let old = namespace.value().get("status").cloned().unwrap_or_else(|| json!({}));
    let mut list = old.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    for (kind, fine, message_fine) in CONDITIONS {
        let trouble = match kind {
            "NamespaceDeletionContentFailure" => {
                failure.map(|f| ("ContentDeletionFailed", format!("Failed to delete all resource types, 1 remaining: {f}")))
            }
            "NamespaceContentRemaining" if !remaining.is_empty() => {
                Some(("SomeResourcesRemain", format!("Some resources are remaining: {}", remaining.join(", "))))
            }
            "NamespaceFinalizersRemaining" if !finalizers.is_empty() => {
                let message = format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", "));
                Some(("SomeFinalizersRemain", message))
            }
            _ => None,
        };
        let status = if trouble.is_some() { "True" } else { "False" };
        let (reason, message) = trouble.unwrap_or_else(|| (fine, message_fine.to_owned()));
        let place = list.iter().position(|c| c["type"] == kind);
        let since = place.map(|i| &list[i]).filter(|c| c["status"] == status).and_then(|c| c["lastTransitionTime"].as_str());
        let since = since.map_or_else(|| now.rfc3339(), str::to_owned);
        let condition = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since});
        match place {
            Some(i) => list[i] = condition,
            None => list.push(condition),
        }
    }
    let mut new = old.clone();
    new["conditions"] = Value::Array(list);
    let change = json!({"status": merge_diff(&old, &new)?});
    Some(Action::Update { resource: Namespace::RESOURCE, subresource: Some("status"), base: namespace.encoded().clone(), change })
}
