//! The cells of each kind.

use std::collections::BTreeSet;

use gantry_object::labels::Selector;
use gantry_object::time::human_duration;
use gantry_object::{Timestamp, Value, meta};

use crate::table::{others, pod};
use crate::tree::{at, entries, items, text};

/// How many endpoints and ports are shown before "more".
const MOST_SHOWN: usize = 3;

/// A point in time as an age.
pub(crate) fn age(time: &str, now: Timestamp) -> String {
    Timestamp::parse(time).map_or_else(|| "<unknown>".into(), |t| human_duration(now.since(t)))
}

pub(super) fn or_none(text: &str) -> Value {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// One cell for each column of a kind's tables.
pub(super) fn of(kind: &str, object: &Value, now: Timestamp) -> Vec<Value> {
    let name = Value::from(meta::name(object));
    let created = Value::from(age(text(object, "/metadata/creationTimestamp"), now));
    match kind {
        "Pod" => pod::cells(object, name, created, now),
        "Namespace" => vec![name, text(object, "/status/phase").into(), created],
        "Service" => service(object, name, created),
        "Endpoints" => vec![name, endpoints(object).into(), created],
        "EndpointSlice" => {
            vec![name, text(object, "/addressType").into(), slice_ports(object).into(), slice_endpoints(object).into(), created]
        }
        "ConfigMap" => vec![name, (entries(object, "/data").count() + entries(object, "/binaryData").count()).into(), created],
        "Secret" => vec![name, text(object, "/type").into(), entries(object, "/data").count().into(), created],
        "Node" => node(object, name, created),
        "Event" => event(object, name, now),
        "Lease" => vec![name, text(object, "/spec/holderIdentity").into(), created],
        "Deployment" => deployment(object, name, created),
        "ReplicaSet" => replica_set(object, name, created),
        "ControllerRevision" => vec![name, controller(object), number(object, "/revision").into(), created],
        "Role" | "ClusterRole" => vec![name, text(object, "/metadata/creationTimestamp").into()],
        "RoleBinding" | "ClusterRoleBinding" => binding(object, name, created),
        "CustomResourceDefinition" => vec![name, text(object, "/metadata/creationTimestamp").into()],
        "CertificateSigningRequest" => signing_request(object, name, created),
        _ => others::of(kind, object, name.clone(), created.clone(), now).unwrap_or_else(|| vec![name, created]),
    }
}

pub(super) fn number(object: &Value, pointer: &str) -> i64 {
    at(object, pointer).as_i64().unwrap_or_default()
}

pub(super) fn join<'a>(texts: impl IntoIterator<Item = &'a str>, by: &str) -> String {
    texts.into_iter().collect::<Vec<_>>().join(by)
}

/// A list cut after a few, with how many more there are.
fn with_more(list: &[String]) -> String {
    let shown = list[..list.len().min(MOST_SHOWN)].join(",");
    if list.len() > MOST_SHOWN { format!("{shown} + {} more...", list.len() - MOST_SHOWN) } else { shown }
}

fn service(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let kind = text(object, "/spec/type");
    let ports: Vec<String> = items(object, "/spec/ports")
        .iter()
        .map(|p| {
            let protocol = text(p, "/protocol");
            match number(p, "/nodePort") {
                0 => format!("{}/{protocol}", number(p, "/port")),
                node_port => format!("{}:{node_port}/{protocol}", number(p, "/port")),
            }
        })
        .collect();
    let cluster_ip = items(object, "/spec/clusterIPs").first().and_then(Value::as_str).unwrap_or_default();
    let selector = join_labels(at(object, "/spec/selector"));
    vec![name, kind.into(), or_none(cluster_ip), external_ip(object, kind).into(), or_none(&ports.join(",")), created, or_none(&selector)]
}

pub(super) fn join_labels(labels: &Value) -> String {
    let pairs: Vec<String> =
        labels.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    pairs.join(",")
}

fn external_ip(object: &Value, kind: &str) -> String {
    let external: Vec<&str> = items(object, "/spec/externalIPs").iter().filter_map(Value::as_str).collect();
    match kind {
        "ExternalName" => text(object, "/spec/externalName").into(),
        "LoadBalancer" => {
            let balanced: BTreeSet<&str> = items(object, "/status/loadBalancer/ingress")
                .iter()
                .map(|i| if text(i, "/ip").is_empty() { text(i, "/hostname") } else { text(i, "/ip") })
                .filter(|a| !a.is_empty())
                .collect();
            let all: Vec<&str> = balanced.into_iter().chain(external).collect();
            if all.is_empty() { "<pending>".into() } else { all.join(",") }
        }
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".into(),
        "ClusterIP" | "NodePort" => external.join(","),
        _ => "<unknown>".into(),
    }
}

fn endpoints(object: &Value) -> String {
    let mut list = Vec::new();
    for subset in items(object, "/subsets") {
        let addresses = || items(subset, "/addresses").iter().map(|a| text(a, "/ip"));
        let ports = items(subset, "/ports");
        if ports.is_empty() {
            list.extend(addresses().map(String::from));
        }
        for port in ports {
            let n = number(port, "/port");
            list.extend(addresses().map(|ip| if ip.contains(':') { format!("[{ip}]:{n}") } else { format!("{ip}:{n}") }));
        }
    }
    if items(object, "/subsets").is_empty() { "<none>".into() } else { with_more(&list) }
}

fn or_unset(list: &[String]) -> String {
    if list.is_empty() { "<unset>".into() } else { with_more(list) }
}

fn slice_ports(object: &Value) -> String {
    let show = |p: &Value| match (at(p, "/port").as_i64(), at(p, "/name").as_str()) {
        (Some(port), _) => port.to_string(),
        (None, Some(name)) => name.to_owned(),
        (None, None) => "*".to_owned(),
    };
    or_unset(&items(object, "/ports").iter().map(show).collect::<Vec<_>>())
}

fn slice_endpoints(object: &Value) -> String {
    let addresses = items(object, "/endpoints").iter().flat_map(|e| items(e, "/addresses"));
    or_unset(&addresses.filter_map(Value::as_str).map(String::from).collect::<Vec<_>>())
}

fn node(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let ready = items(object, "/status/conditions").iter().find(|c| c["type"] == "Ready");
    let mut status = ready.map_or("Unknown", |c| if c["status"] == "True" { "Ready" } else { "NotReady" }).to_owned();
    if at(object, "/spec/unschedulable") == true {
        status.push_str(",SchedulingDisabled");
    }
    let mut roles = BTreeSet::new();
    for (key, value) in entries(object, "/metadata/labels") {
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => roles.insert(role),
            None if key == "kubernetes.io/role" => roles.insert(value.as_str().unwrap_or_default()),
            None => continue,
        };
    }
    roles.remove("");
    let address = |kind: &str| {
        let found = items(object, "/status/addresses").iter().find(|a| a["type"] == kind);
        or_none(found.map_or("", |a| text(a, "/address")))
    };
    let info = |member: &str| text(object, &format!("/status/nodeInfo/{member}"));
    let or_unknown = |member: &str| if info(member).is_empty() { "<unknown>" } else { info(member) }.to_owned();
    let mut kernel = or_unknown("kernelVersion");
    if !info("architecture").is_empty() {
        kernel = format!("{kernel} ({})", info("architecture"));
    }
    vec![
        name,
        status.into(),
        or_none(&join(roles, ",")),
        created,
        info("kubeletVersion").into(),
        address("InternalIP"),
        address("ExternalIP"),
        or_unknown("osImage").into(),
        kernel.into(),
        or_unknown("containerRuntimeVersion").into(),
    ]
}

fn first<'a>(object: &'a Value, pointers: &[&str]) -> &'a str {
    pointers.iter().map(|p| text(object, p)).find(|t| !t.is_empty()).unwrap_or_default()
}

/// Events of both groups.
fn event(object: &Value, name: Value, now: Timestamp) -> Vec<Value> {
    let first_seen = age(first(object, &["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]), now);
    let series = text(object, "/series/lastObservedTime");
    let last = if series.is_empty() { first(object, &["/lastTimestamp", "/deprecatedLastTimestamp"]) } else { series };
    let last_seen = if last.is_empty() { first_seen.clone() } else { age(last, now) };
    let count = match number(object, "/series/count") {
        0 => number(object, "/count").max(number(object, "/deprecatedCount")).max(1),
        n => n,
    };
    let about = object.get("regarding").unwrap_or_else(|| at(object, "/involvedObject"));
    let kind = text(about, "/kind").to_lowercase();
    let target = match text(about, "/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    let component = first(object, &["/source/component", "/deprecatedSource/component", "/reportingComponent", "/reportingController"]);
    let instance = first(object, &["/source/host", "/deprecatedSource/host", "/reportingInstance"]);
    let source = if instance.is_empty() { component.to_owned() } else { format!("{component}, {instance}") };
    vec![
        last_seen.into(),
        text(object, "/type").into(),
        text(object, "/reason").into(),
        target.into(),
        text(about, "/fieldPath").into(),
        source.into(),
        first(object, &["/message", "/note"]).trim().into(),
        first_seen.into(),
        count.into(),
        name,
    ]
}

pub(super) fn containers(object: &Value, pointer: &str) -> (Value, Value) {
    let list = items(object, pointer);
    (join(list.iter().map(|c| text(c, "/name")), ",").into(), join(list.iter().map(|c| text(c, "/image")), ",").into())
}

fn selector(object: &Value) -> String {
    match Selector::from_label_selector(at(object, "/spec/selector")) {
        Ok(Some(selector)) => selector.to_string(),
        Ok(None) => String::new(),
        Err(_) => "<invalid>".into(),
    }
}

fn deployment(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let (names, images) = containers(object, "/spec/template/spec/containers");
    let ready = format!("{}/{}", number(object, "/status/readyReplicas"), number(object, "/spec/replicas"));
    let (updated, available) = (number(object, "/status/updatedReplicas"), number(object, "/status/availableReplicas"));
    vec![name, ready.into(), updated.into(), available.into(), created, names, images, selector(object).into()]
}

fn replica_set(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let (names, images) = containers(object, "/spec/template/spec/containers");
    let count = |pointer: &str| Value::from(number(object, pointer));
    let (desired, current, ready) = (count("/spec/replicas"), count("/status/replicas"), count("/status/readyReplicas"));
    vec![name, desired, current, ready, created, names, images, or_none(&selector(object))]
}

fn controller(object: &Value) -> Value {
    let Some(owner) = meta::owner_references(object).iter().find(|o| o["controller"] == true) else { return "<none>".into() };
    let kind = text(owner, "/kind").to_lowercase();
    match text(owner, "/apiVersion").split_once('/') {
        Some((group, _)) => format!("{kind}.{group}/{}", text(owner, "/name")).into(),
        None => format!("{kind}/{}", text(owner, "/name")).into(),
    }
}

fn binding(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
    let of = |kind: &'static str| items(object, "/subjects").iter().filter(move |s| s["kind"] == kind);
    let accounts: Vec<String> = of("ServiceAccount").map(|s| format!("{}/{}", text(s, "/namespace"), text(s, "/name"))).collect();
    let (users, groups) = (join(of("User").map(|s| text(s, "/name")), ", "), join(of("Group").map(|s| text(s, "/name")), ", "));
    vec![name, role.into(), created, users.into(), groups.into(), accounts.join(", ").into()]
}

fn signing_request(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let has = |kind: &str| items(object, "/status/conditions").iter().any(|c| c["type"] == kind);
    let mut status = match () {
        () if has("Denied") => "Denied",
        () if has("Approved") => "Approved",
        () => "Pending",
    }
    .to_owned();
    if has("Failed") {
        status.push_str(",Failed");
    }
    if !text(object, "/status/certificate").is_empty() {
        status.push_str(",Issued");
    }
    let seconds = at(object, "/spec/expirationSeconds").as_u64();
    let duration = seconds.map_or_else(|| "<none>".into(), |s| human_duration(std::time::Duration::from_secs(s)));
    let signer = or_none(text(object, "/spec/signerName"));
    vec![name, created, signer, text(object, "/spec/username").into(), duration.into(), status.into()]
}
