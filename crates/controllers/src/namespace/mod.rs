//! Empties namespaces that are being deleted, and lets them go when nothing is left.

use gantry_object::{Resource, Timestamp, Value};
use gantry_reconcile::{Action, Controller, Decision, Entry, Item, Key, Kind, Object, Read, View, itself, merge_diff};
use serde_json::json;

use crate::kinds::Namespace;

/// The finalizer in a namespace's spec that this controller answers for.
const FINALIZER: &str = "kubernetes";

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
        "namespace-controller"
    }

    fn reads(&self) -> Vec<Read> {
        let contents = self.watched.iter().map(|r| Read::meta(*r, terminating_namespace));
        std::iter::once(Read::of::<Namespace>(itself)).chain(contents).collect()
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
    fn empty(&self, namespace: &Object<Namespace>, view: &View, now: Timestamp) -> Decision {
        let name = &namespace.meta().name;
        let mut decision = Decision::none();
        let mut remaining = Vec::new();
        let mut finalizers: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
        for resource in &self.watched {
            let (mut count, mut fresh) = (0, false);
            for item in view.items_in(resource, name) {
                count += 1;
                let meta = &item.projection.meta;
                fresh |= !meta.is_deleting();
                for finalizer in &meta.finalizers {
                    *finalizers.entry(finalizer.clone()).or_default() += 1;
                }
            }
            if fresh {
                decision.actions.push(Action::DeleteCollection { resource: *resource, namespace: name.clone() });
            }
            if count > 0 {
                remaining.push(format!("{} has {count} resource instances", resource.group_resource()));
            }
        }
        let finalizers: Vec<String> = finalizers.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
        let status = conditions(namespace, &remaining, &finalizers, now);
        if remaining.is_empty() {
            decision.actions = self.finish(namespace);
        } else {
            decision.actions.extend(status);
            decision.waiting_on = remaining;
        }
        decision
    }

    /// The caches show nothing; the server is asked, since what it made last may not have been seen here.
    fn finish(&self, namespace: &Object<Namespace>) -> Vec<Action> {
        let name = &namespace.meta().name;
        let sweep = self.unwatched.iter().map(|r| Action::DeleteCollection { resource: *r, namespace: name.clone() });
        let require = self.watched.iter().map(|r| Action::RequireNone { resource: *r, namespace: name.clone() });
        let left: Vec<&String> = namespace.spec.finalizers.iter().filter(|f| *f != FINALIZER).collect();
        let change = json!({"spec": {"finalizers": left}});
        let base = namespace.encoded().clone();
        let finalize = Action::Update { resource: Namespace::RESOURCE, subresource: Some("finalize"), base, change };
        sweep.chain(require).chain(Some(finalize)).collect()
    }
}

/// Says in the status what is left.
fn conditions(namespace: &Object<Namespace>, remaining: &[String], finalizers: &[String], now: Timestamp) -> Option<Action> {
    let old = namespace.value().get("status").cloned().unwrap_or_else(|| json!({}));
    let mut list = old.get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let remain = format!("Some resources are remaining: {}", remaining.join(", "));
    let finalizing = format!("Some content in the namespace has finalizers remaining: {}", finalizers.join(", "));
    let wanted = [
        (
            "NamespaceContentRemaining",
            !remaining.is_empty(),
            "SomeResourcesRemain",
            "ContentRemoved",
            remain,
            "All content successfully removed",
        ),
        (
            "NamespaceFinalizersRemaining",
            !finalizers.is_empty(),
            "SomeFinalizersRemain",
            "ContentHasNoFinalizers",
            finalizing,
            "All content-preserving finalizers finished",
        ),
    ];
    for (kind, is, reason, reason_not, message, message_not) in wanted {
        let status = if is { "True" } else { "False" };
        let (reason, message) = if is { (reason, message) } else { (reason_not, message_not.to_owned()) };
        let before = list.iter().position(|c| c["type"] == kind).map(|i| list.remove(i));
        let since = before.as_ref().filter(|c| c["status"] == status).and_then(|c| c["lastTransitionTime"].as_str());
        let since = since.map_or_else(|| now.rfc3339(), str::to_owned);
        list.push(json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since}));
    }
    let mut new = old.clone();
    new["conditions"] = Value::Array(list);
    let change = json!({"status": merge_diff(&old, &new)?});
    Some(Action::Update { resource: Namespace::RESOURCE, subresource: Some("status"), base: namespace.encoded().clone(), change })
}
