//! Services and their endpoints.

use gantry_object::{Value, names};
use serde_json::json;

use crate::rules::{Generation, PLAIN, Rules};
use crate::{tree, validate};

pub(crate) const SERVICE: Rules = Rules {
    defaults: default_service,
    create: |service| complete(service),
    update,
    validate: |service, errors| validate::service::service(service, errors),
    validate_update: |new, old, subresource, errors| validate::service::update(new, old, subresource, errors),
    name: names::dns1035_label,
    resets_status: true,
    creates_on_update: true,
    ..PLAIN
};

pub(crate) const ENDPOINTS: Rules =
    Rules { validate: |e, errors| validate::service::endpoints(e, errors), creates_on_update: true, ..PLAIN };

pub(crate) const ENDPOINT_SLICE: Rules =
    Rules { validate: |slice, errors| validate::service::endpoint_slice(slice, errors), generation: Generation::AllButMeta, ..PLAIN };

fn default_service(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").filter(|s| s.is_object()) else { return };
    match tree::text(spec, "/sessionAffinity") {
        "None" => {
            tree::remove(spec, "sessionAffinityConfig");
        }
        "ClientIP" if tree::at(spec, "/sessionAffinityConfig/clientIP/timeoutSeconds").is_null() => {
            tree::set(spec, "sessionAffinityConfig", json!({"clientIP": {"timeoutSeconds": 10800}}));
        }
        _ => {}
    }
    for port in tree::items_mut(spec, "/ports") {
        tree::set_if_empty(port, "protocol", "TCP");
        if matches!(&port["targetPort"], Value::Null) || port["targetPort"] == 0 || port["targetPort"] == "" {
            let own = port["port"].clone();
            tree::set(port, "targetPort", own);
        }
    }
    let kind = tree::text(spec, "/type").to_owned();
    let reachable =
        matches!(kind.as_str(), "NodePort" | "LoadBalancer") || kind == "ClusterIP" && !tree::items(spec, "/externalIPs").is_empty();
    if reachable {
        tree::set_if_empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        tree::set_if_empty(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" && tree::at(spec, "/allocateLoadBalancerNodePorts").is_null() {
        tree::set(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// Keeps `clusterIP` and `clusterIPs` in step and fills in the address families. Addresses themselves are the server's to allocate.
fn complete(service: &mut Value) {
    let Some(spec) = service.get_mut("spec").filter(|s| s.is_object()) else { return };
    if spec["type"] == "ExternalName" {
        return;
    }
    let first = tree::text(spec, "/clusterIP").to_owned();
    let listed = tree::items(spec, "/clusterIPs").first().and_then(Value::as_str).unwrap_or_default().to_owned();
    if !first.is_empty() && listed.is_empty() {
        tree::set(spec, "clusterIPs", json!([first]));
    }
    tree::set_if_empty(spec, "ipFamilyPolicy", "SingleStack");
    if tree::items(spec, "/ipFamilies").is_empty() {
        let family = if first.contains(':') { "IPv6" } else { "IPv4" };
        tree::set(spec, "ipFamilies", json!([family]));
    }
}

/// What the server gave a service stays when an update leaves it out.
fn update(new: &mut Value, old: &Value, subresource: Option<&str>) {
    if subresource.is_some() {
        return;
    }
    let before = &old["spec"];
    let (was, is) = (tree::text(before, "/type").to_owned(), tree::text(new, "/spec/type").to_owned());
    let Some(spec) = new.get_mut("spec").filter(|s| s.is_object()) else { return };
    if is == "ExternalName" {
        if was != "ExternalName" {
            // What was allocated goes, unless the update itself names something else.
            for member in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if spec.get(member) == before.get(member) {
                    tree::remove(spec, member);
                }
            }
        }
        return;
    }
    if was != "ExternalName" {
        if tree::text(spec, "/clusterIP").is_empty() && tree::items(spec, "/clusterIPs").is_empty() {
            tree::copy_member(spec, before, "clusterIP");
            tree::copy_member(spec, before, "clusterIPs");
        }
        if tree::items(spec, "/ipFamilies").is_empty() {
            tree::copy_member(spec, before, "ipFamilies");
        }
        if tree::text(spec, "/ipFamilyPolicy").is_empty() {
            tree::copy_member(spec, before, "ipFamilyPolicy");
        }
    }
    let needs_node_ports = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    if needs_node_ports(&was) && needs_node_ports(&is) {
        keep_node_ports(spec, before);
    } else if needs_node_ports(&was) {
        drop_node_ports(spec, before);
    }
    if is == "LoadBalancer"
        && tree::text(spec, "/externalTrafficPolicy") == "Local"
        && spec["healthCheckNodePort"].as_i64().unwrap_or(0) == 0
    {
        tree::copy_member(spec, before, "healthCheckNodePort");
    }
    complete(new);
}

/// Ports that keep their number and protocol keep their node port.
fn keep_node_ports(spec: &mut Value, before: &Value) {
    let old = tree::items(before, "/ports");
    let taken: Vec<i64> = tree::items(spec, "/ports").iter().filter_map(|p| p["nodePort"].as_i64()).filter(|n| *n != 0).collect();
    for port in tree::items_mut(spec, "/ports") {
        if port["nodePort"].as_i64().unwrap_or_default() != 0 {
            continue;
        }
        let same = old.iter().find(|o| o["port"] == port["port"] && o["protocol"] == port["protocol"]);
        if let Some(given) = same.and_then(|o| o["nodePort"].as_i64()).filter(|n| *n != 0 && !taken.contains(n)) {
            tree::set(port, "nodePort", given);
        }
    }
}

/// Node ports the update did not choose itself go when the type needs none.
fn drop_node_ports(spec: &mut Value, before: &Value) {
    let old: Vec<i64> = tree::items(before, "/ports").iter().filter_map(|p| p["nodePort"].as_i64()).collect();
    for port in tree::items_mut(spec, "/ports") {
        if port["nodePort"].as_i64().is_some_and(|n| old.contains(&n)) {
            tree::remove(port, "nodePort");
        }
    }
}
