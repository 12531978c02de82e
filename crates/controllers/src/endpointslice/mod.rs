//! Tells where the pods behind each service are, in slices of at most a hundred.

use std::collections::{BTreeMap, BTreeSet};

use gantry_object::{ObjectName, Timestamp, Value};
use gantry_reconcile::{
    Action, Controller, Decision, DeleteOptions, Entry, Item, Key, Kind, Object, Preconditions, Read, View, itself, merge_diff,
};
use serde_json::json;

use crate::backends::{addresses, hostname, labels, pods_of_service, ports, reference, services_of_pod};
use crate::kinds::{EndpointSlice, Node, Pod, Service};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const US: &str = "endpointslice-controller.k8s.io";
/// How many endpoints a slice holds at most.
const FULL: usize = 100;

/// The endpoint slice controller.
pub struct EndpointSlices;

impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn reads(&self) -> Vec<Read> {
        vec![
            Read::of::<Service>(itself),
            Read::of::<Pod>(services_of_pod),
            Read::of::<EndpointSlice>(service_of_slice),
            // A zone that changes reaches a slice with the next change of its pods.
            Read::of::<Node>(|_, _, _, _| {}),
        ]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["endpointslices of services"]
    }

    fn decide(&self, key: &Key, view: &View, _now: Timestamp) -> Decision {
        // What is left of a service that is gone is the garbage collector's.
        let service = view.get::<Service>(&key.name.namespace, &key.name.name);
        let Some(service) = service.filter(|s| s.selector().is_some() && !s.meta().is_deleting()) else { return Decision::none() };
        Decision { actions: decide(&service, view), ..Decision::default() }
    }
}

fn service_of_slice(_: &View, _: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    let meta = &item.projection.meta;
    if let Some(name) = meta.labels.get(SERVICE_NAME).filter(|_| is_ours(&meta.labels)) {
        keys.push(Key::of::<Service>(ObjectName::new(&meta.namespace, name)));
    }
}

fn is_ours(labels: &BTreeMap<String, String>) -> bool {
    labels.get(MANAGED_BY).is_some_and(|by| by == US)
}

/// A slice as it is and as it should be.
struct Slice {
    object: Option<Object<EndpointSlice>>,
    before: Vec<Value>,
    endpoints: Vec<Value>,
}

/// Endpoints to be placed, by what they refer to.
type Wanted = BTreeMap<String, Value>;

fn decide(service: &Object<Service>, view: &View) -> Vec<Action> {
    // Pods with different ports (by name) cannot share a slice.
    let mut groups: BTreeMap<String, (Value, Wanted)> = BTreeMap::new();
    for pod in pods_of_service(service, view) {
        let ports = Value::Array(ports(service, &pod));
        let group = groups.entry(ports_key(&ports)).or_insert_with(|| (ports, Wanted::new()));
        group.1.insert(pod.meta().uid.clone(), endpoint(service, &pod, view));
    }
    let mut existing: BTreeMap<String, Vec<Object<EndpointSlice>>> = BTreeMap::new();
    for slice in view.owned_by::<EndpointSlice>(&service.meta().uid).filter(|s| is_ours(&s.meta().labels) && !s.meta().is_deleting()) {
        existing.entry(ports_key(&slice.value()["ports"])).or_default().push(slice);
    }
    if groups.is_empty() {
        // One empty slice says that the service is known and has nobody.
        groups.insert(String::new(), (json!([]), Wanted::new()));
    }
    let mut actions = Vec::new();
    for (key, (ports, wanted)) in groups {
        let slices = place(existing.remove(&key).unwrap_or_default(), wanted);
        let keep_one = slices.iter().all(|s| s.endpoints.is_empty());
        for (i, slice) in slices.into_iter().enumerate() {
            let keep = !slice.endpoints.is_empty() || (keep_one && i == 0);
            actions.extend(write(service, slice, &ports, keep));
        }
    }
    actions.extend(existing.into_values().flatten().map(|slice| delete(&slice)));
    actions
}

/// Tells lists of ports apart, whichever way they are written: none may be null, and members come in any order.
fn ports_key(ports: &Value) -> String {
    let text = |port: &Value, member: &str| port[member].as_str().unwrap_or("").to_owned();
    let one = |p: &Value| format!("{} {} {} {}\n", text(p, "name"), text(p, "protocol"), p["port"], text(p, "appProtocol"));
    let mut all: Vec<String> = ports.as_array().into_iter().flatten().map(one).collect();
    all.sort();
    all.concat()
}

fn endpoint(service: &Object<Service>, pod: &Object<Pod>, view: &View) -> Value {
    let serving = pod.is_ready();
    let terminating = pod.meta().is_deleting();
    let ready = service.spec.publish_not_ready_addresses || (serving && !terminating);
    let mut endpoint = json!({
        "addresses": addresses(pod),
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
        "targetRef": reference(pod),
    });
    let node = &pod.spec.node_name;
    if !node.is_empty() {
        endpoint["nodeName"] = json!(node);
    }
    if let Some(zone) = view.get::<Node>("", node).and_then(|n| n.meta().labels.get("topology.kubernetes.io/zone").cloned()) {
        endpoint["zone"] = json!(zone);
    }
    if let Some(hostname) = hostname(service, pod) {
        endpoint["hostname"] = json!(hostname);
    }
    endpoint
}

/// Puts endpoints into slices: each stays where it is, new ones fill slices that change anyway, then others with room, then new slices.
fn place(objects: Vec<Object<EndpointSlice>>, mut wanted: Wanted) -> Vec<Slice> {
    let mut slices: Vec<Slice> = objects.into_iter().map(|object| keep(object, &mut wanted)).collect();
    slices.sort_by_key(|s| s.endpoints == s.before);
    let mut new = wanted.into_values();
    for slice in &mut slices {
        let room = FULL.saturating_sub(slice.endpoints.len());
        slice.endpoints.extend(new.by_ref().take(room));
    }
    loop {
        let endpoints: Vec<Value> = new.by_ref().take(FULL).collect();
        if endpoints.is_empty() && !slices.is_empty() {
            return slices;
        }
        slices.push(Slice { object: None, before: Vec::new(), endpoints });
    }
}

fn keep(object: Object<EndpointSlice>, wanted: &mut Wanted) -> Slice {
    let before = object.value().get("endpoints").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut seen = BTreeSet::new();
    let uids = before.iter().filter_map(|e| e.pointer("/targetRef/uid")?.as_str());
    let endpoints = uids.filter(|uid| seen.insert(*uid)).filter_map(|uid| wanted.remove(uid)).collect();
    Slice { object: Some(object), before, endpoints }
}

fn write(service: &Object<Service>, slice: Slice, ports: &Value, keep: bool) -> Option<Action> {
    let labels = labels(service, &[(SERVICE_NAME, &service.meta().name), (MANAGED_BY, US)]);
    let Some(object) = slice.object else {
        let meta = service.meta();
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {
                "generateName": format!("{}-", meta.name), "namespace": meta.namespace, "labels": labels,
                "ownerReferences": [meta.as_controller("v1", "Service")],
            },
            "endpoints": slice.endpoints, "ports": ports,
        });
        let name = ObjectName::new(&meta.namespace, "");
        return keep.then_some(Action::Create { resource: EndpointSlice::RESOURCE, name, subresource: None, object });
    };
    if !keep {
        return Some(delete(&object));
    }
    let old_labels = object.value()["metadata"]["labels"].clone();
    let label_change = merge_diff(&old_labels, &Value::Object(labels));
    if label_change.is_none() && slice.endpoints == slice.before {
        return None;
    }
    let mut change = json!({"endpoints": slice.endpoints});
    if let Some(labels) = label_change {
        change["metadata"] = json!({"labels": labels});
    }
    Some(Action::Update { resource: EndpointSlice::RESOURCE, subresource: None, base: object.encoded().clone(), change })
}

fn delete(slice: &Object<EndpointSlice>) -> Action {
    let preconditions = Some(Preconditions { uid: Some(slice.meta().uid.clone()), ..Preconditions::default() });
    let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
    Action::Delete { resource: EndpointSlice::RESOURCE, name: slice.name().clone(), options }
}

#[cfg(test)]
mod tests;
