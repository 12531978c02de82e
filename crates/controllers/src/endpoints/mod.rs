//! Tells where the pods behind each service are, in the older form: one object, at most a thousand addresses.

use std::collections::BTreeMap;

use gantry_object::{ObjectName, Timestamp, Value};
use gantry_reconcile::{Action, Controller, Decision, DeleteOptions, Key, Kind, Object, Preconditions, Read, View, itself, merge_diff};
use serde_json::json;

use crate::backends::{addresses, hostname, labels, pods_of_service, ports, reference, services_of_pod};
use crate::kinds::{Endpoints, Pod, Service};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const US: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// How many addresses one object holds at most.
const FULL: usize = 1000;

/// The endpoints controller.
pub struct EndpointsOfServices;

impl Controller for EndpointsOfServices {
    fn name(&self) -> &'static str {
        "endpoint-controller"
    }

    fn reads(&self) -> Vec<Read> {
        let same_name = |_: &View, this: &Key, _: &_, keys: &mut Vec<Key>| keys.push(Key::of::<Service>(this.name.clone()));
        vec![Read::of::<Service>(itself), Read::of::<Pod>(services_of_pod), Read::of::<Endpoints>(same_name)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["endpoints of services"]
    }

    fn decide(&self, key: &Key, view: &View, _now: Timestamp) -> Decision {
        let ObjectName { namespace, name } = &key.name;
        let existing = view.get::<Endpoints>(namespace, name);
        let service = view.get::<Service>(namespace, name);
        let action = match (service, existing) {
            (Some(service), existing) if service.selector().is_some() => write(&service, existing.as_ref(), view),
            (None, Some(left)) if left.meta().labels.get(MANAGED_BY).is_some_and(|by| by == US) => Some(delete(&left)),
            _ => None,
        };
        Decision { actions: action.into_iter().collect(), ..Decision::default() }
    }
}

#[derive(Default)]
struct Subset {
    ready: Vec<Value>,
    not_ready: Vec<Value>,
}

fn write(service: &Object<Service>, existing: Option<&Object<Endpoints>>, view: &View) -> Option<Action> {
    let (subsets, truncated) = subsets(service, view);
    let labels = labels(service, &[(MANAGED_BY, US)]);
    let meta = service.meta();
    let Some(existing) = existing else {
        let mut metadata = json!({"name": meta.name, "namespace": meta.namespace, "labels": labels});
        if truncated {
            metadata["annotations"] = json!({OVER_CAPACITY: "truncated"});
        }
        let object = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata, "subsets": subsets});
        return Some(Action::Create { resource: Endpoints::RESOURCE, name: service.name().clone(), subresource: None, object });
    };
    let value = existing.value();
    let old = json!({
        "metadata": {"labels": value["metadata"]["labels"], "annotations": {OVER_CAPACITY: value["metadata"]["annotations"][OVER_CAPACITY]}},
        "subsets": value.get("subsets").cloned().unwrap_or_else(|| json!([])),
    });
    let annotation = if truncated { json!("truncated") } else { Value::Null };
    let new = json!({"metadata": {"labels": labels, "annotations": {OVER_CAPACITY: annotation}}, "subsets": subsets});
    let change = merge_diff(&old, &new)?;
    Some(Action::Update { resource: Endpoints::RESOURCE, subresource: None, base: existing.encoded().clone(), change })
}

/// Addresses grouped by their ports, and whether some had to be left out.
fn subsets(service: &Object<Service>, view: &View) -> (Vec<Value>, bool) {
    let mut groups: BTreeMap<String, Subset> = BTreeMap::new();
    let publish = service.spec.publish_not_ready_addresses;
    let mut room = FULL;
    let mut truncated = false;
    let mut pods = pods_of_service(service, view);
    // Ready ones first, for the case that there is no room for all.
    pods.sort_by_key(|p| !p.is_ready());
    for pod in pods.iter().filter(|p| publish || !p.meta().is_deleting()) {
        let ports = ports(service, pod);
        if ports.is_empty() && !(service.is_headless() && service.spec.ports.is_empty()) {
            continue;
        }
        if room == 0 {
            truncated = true;
            break;
        }
        room -= 1;
        let subset = groups.entry(Value::Array(ports).to_string()).or_default();
        let list = if publish || pod.is_ready() { &mut subset.ready } else { &mut subset.not_ready };
        list.push(address(service, pod));
    }
    (groups.into_iter().map(|(ports, subset)| subset.into_value(&ports)).collect(), truncated)
}

impl Subset {
    fn into_value(self, ports: &str) -> Value {
        let ports: Value = serde_json::from_str(ports).expect("written from JSON just before");
        let mut out = json!({});
        for (member, mut list) in [("addresses", self.ready), ("notReadyAddresses", self.not_ready)] {
            list.sort_by(|a, b| a["ip"].as_str().cmp(&b["ip"].as_str()));
            if !list.is_empty() {
                out[member] = Value::Array(list);
            }
        }
        if ports.as_array().is_some_and(|p| !p.is_empty()) {
            out["ports"] = without_empty_names(ports);
        }
        out
    }
}

/// Here, other than in slices, an empty name is left out.
fn without_empty_names(mut ports: Value) -> Value {
    for port in ports.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        if port.get("name").is_some_and(|n| n == "") {
            port.remove("name");
        }
    }
    ports
}

fn address(service: &Object<Service>, pod: &Object<Pod>) -> Value {
    let mut address = json!({"ip": addresses(pod)[0], "targetRef": reference(pod)});
    if !pod.spec.node_name.is_empty() {
        address["nodeName"] = json!(pod.spec.node_name);
    }
    if let Some(hostname) = hostname(service, pod) {
        address["hostname"] = json!(hostname);
    }
    address
}

fn delete(endpoints: &Object<Endpoints>) -> Action {
    let preconditions = Some(Preconditions { uid: Some(endpoints.meta().uid.clone()), ..Preconditions::default() });
    let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
    Action::Delete { resource: Endpoints::RESOURCE, name: endpoints.name().clone(), options }
}
