//! Which pods stand behind a service, and on which ports: shared by endpoint slices and endpoints.

use std::net::Ipv4Addr;

use gantry_object::{ObjectName, Value};
use gantry_reconcile::{Entry, Item, Key, Object, View};
use serde_json::{Map, json};

use crate::kinds::{Container, Pod, Service, ServicePort};

/// The services a pod stands behind.
pub(crate) fn services_of_pod(view: &View, _: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    let meta = &item.projection.meta;
    let services = view.in_namespace::<Service>(&meta.namespace).filter(|s| s.selects(&meta.labels));
    keys.extend(services.map(|s| Key::of::<Service>(s.name().clone())));
}

/// Pods that a service may send traffic to, by name: they have an address and have not ended.
pub(crate) fn pods_of_service(service: &Object<Service>, view: &View) -> Vec<Object<Pod>> {
    let pods = view.in_namespace::<Pod>(&service.meta().namespace);
    pods.filter(|p| service.selects(&p.meta().labels) && !p.is_finished() && !addresses(p).is_empty()).collect()
}

/// A pod's IPv4 addresses.
pub(crate) fn addresses(pod: &Pod) -> Vec<String> {
    let all = pod.status.pod_ips.iter().map(|ip| ip.ip.as_str()).chain(Some(pod.status.pod_ip.as_str()));
    let mut found: Vec<String> = all.filter(|ip| ip.parse::<Ipv4Addr>().is_ok()).map(str::to_owned).collect();
    found.dedup();
    found
}

/// The ports of a pod that a service's ports lead to. A port whose name the pod doesn't have is left out.
pub(crate) fn ports(service: &Object<Service>, pod: &Pod) -> Vec<Value> {
    service.spec.ports.iter().filter_map(|port| Some(endpoint_port(port, target(port, pod)?))).collect()
}

fn endpoint_port(port: &ServicePort, number: i32) -> Value {
    let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
    let mut out = json!({"name": port.name, "port": number, "protocol": protocol});
    if let Some(app) = &port.app_protocol {
        out["appProtocol"] = json!(app);
    }
    out
}

fn target(port: &ServicePort, pod: &Pod) -> Option<i32> {
    match &port.target_port {
        Value::Number(number) => match i32::try_from(number.as_i64()?).ok()? {
            0 => Some(port.port),
            number => Some(number),
        },
        Value::String(name) if !name.is_empty() => {
            let protocol = |p: &str| if p.is_empty() { "TCP".to_owned() } else { p.to_owned() };
            // Init containers that keep running beside the others serve as well as they do.
            let sidecars = pod.spec.init_containers.iter().filter(|c| c.restart_policy == "Always");
            let all = pod.spec.containers.iter().chain(sidecars).flat_map(|c: &Container| &c.ports);
            let mut named = all.filter(|p| p.name == *name && protocol(&p.protocol) == protocol(&port.protocol));
            named.next().map(|p| p.container_port)
        }
        _ => Some(port.port),
    }
}

/// The pod's host name, if its place in a headless service gives it one in DNS.
pub(crate) fn hostname<'a>(service: &Object<Service>, pod: &'a Pod) -> Option<&'a str> {
    let named = !pod.spec.hostname.is_empty() && pod.spec.subdomain == service.meta().name;
    named.then_some(pod.spec.hostname.as_str())
}

/// A reference to a pod.
pub(crate) fn reference(pod: &Object<Pod>) -> Value {
    let ObjectName { namespace, name } = pod.name();
    json!({"kind": "Pod", "namespace": namespace, "name": name, "uid": pod.meta().uid})
}

/// A service's labels with those that mark what was made for it.
pub(crate) fn labels(service: &Object<Service>, marks: &[(&str, &str)]) -> Map<String, Value> {
    let mut labels: Map<String, Value> = service.meta().labels.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
    labels.remove(HEADLESS);
    if service.is_headless() {
        labels.insert(HEADLESS.into(), json!(""));
    }
    labels.extend(marks.iter().map(|(k, v)| ((*k).to_owned(), json!(v))));
    labels
}

const HEADLESS: &str = "service.kubernetes.io/headless";
