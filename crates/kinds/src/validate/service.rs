//! Services and endpoints: what their tables cannot say because it depends on several fields.

use std::collections::BTreeSet;
use std::net::IpAddr;

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Value, names};

use crate::tree::{at, items, text};
use crate::validate::{ip, is_cidr};

/// A service.
pub(crate) fn service(service: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    let kind = text(service, "/spec/type");
    let headless = text(service, "/spec/clusterIP") == "None";
    let all = items(service, "/spec/ports");
    if all.is_empty() && !headless && kind != "ExternalName" {
        errors.push(Error::required(&path.child("ports"), ""));
    }
    ports(all, kind, &path.child("ports"), errors);
    match kind {
        "ExternalName" => external_name(service, &path, errors),
        "NodePort" | "LoadBalancer" if headless => {
            errors.push(Error::invalid(
                &path.child("clusterIPs").index(0),
                "None",
                &format!("may not be set to 'None' for {kind} services"),
            ));
        }
        _ => {}
    }
    if kind != "ExternalName" {
        cluster_ips(service, &path, errors);
    }
    for (i, address) in items(service, "/spec/externalIPs").iter().enumerate() {
        if let Some(problem) = ip(address.as_str().unwrap_or_default()) {
            errors.push(Error::invalid(&path.child("externalIPs").index(i), address.clone(), problem));
        }
    }
    crate::validate::metadata::labels(at(service, "/spec/selector"), &path.child("selector"), errors);
    for (i, range) in items(service, "/spec/loadBalancerSourceRanges").iter().enumerate() {
        if !is_cidr(range.as_str().unwrap_or_default().trim()) {
            let path = path.child("loadBalancerSourceRanges").index(i);
            errors.push(Error::invalid(&path, range.clone(), "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
        }
    }
    outside_policy(service, kind, &path, errors);
}

fn ports(ports: &[Value], kind: &str, path: &Path, errors: &mut ErrorList) {
    let (mut names_seen, mut numbers, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let name = text(port, "/name");
        if name.is_empty() && ports.len() > 1 {
            errors.push(Error::required(&path.child("name"), ""));
        } else if !name.is_empty() && !names_seen.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        let (number, protocol) = (port["port"].as_i64().unwrap_or_default(), text(port, "/protocol"));
        if !numbers.insert((number, protocol)) {
            errors.push(Error::duplicate(&path, serde_json::json!({"port": number, "protocol": protocol})));
        }
        let node_port = port["nodePort"].as_i64().unwrap_or_default();
        if node_port == 0 {
            continue;
        }
        if matches!(kind, "ClusterIP" | "ExternalName") {
            errors.push(Error::forbidden(&path.child("nodePort"), &format!("may not be used when `type` is '{kind}'")));
        } else if !node_ports.insert((node_port, protocol)) {
            errors.push(Error::duplicate(&path.child("nodePort"), node_port));
        }
    }
}

fn external_name(service: &Value, path: &Path, errors: &mut ErrorList) {
    let detail = "may not be set for ExternalName services";
    if !items(service, "/spec/clusterIPs").is_empty() {
        errors.push(Error::forbidden(&path.child("clusterIPs"), detail));
    }
    if !items(service, "/spec/ipFamilies").is_empty() {
        errors.push(Error::forbidden(&path.child("ipFamilies"), detail));
    }
    if !at(service, "/spec/ipFamilyPolicy").is_null() {
        errors.push(Error::forbidden(&path.child("ipFamilyPolicy"), detail));
    }
    let name = text(service, "/spec/externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(Error::required(&path.child("externalName"), ""));
    } else {
        errors.extend(names::dns1123_subdomain(name).iter().map(|m| Error::invalid(&path.child("externalName"), name, m)));
    }
}

fn cluster_ips(service: &Value, path: &Path, errors: &mut ErrorList) {
    let first = text(service, "/spec/clusterIP");
    let all = items(service, "/spec/clusterIPs");
    let path = path.child("clusterIPs");
    match (first, all) {
        ("", []) => {}
        ("", _) => errors.push(Error::invalid(&path, all.to_vec(), "must be empty when `clusterIP` is not specified")),
        (_, []) => errors.push(Error::required(&path, "")),
        (first, all) if all[0] != first => errors.push(Error::invalid(&path, all.to_vec(), "first value must match `clusterIP`")),
        _ => {}
    }
    let mut families = BTreeSet::new();
    for (i, family) in items(service, "/spec/ipFamilies").iter().enumerate() {
        let at_family = Path::new("spec").child("ipFamilies").index(i);
        let text = family.as_str().unwrap_or_default();
        if !matches!(text, "IPv4" | "IPv6") {
            errors.push(Error::not_supported(&at_family, text, &["IPv4", "IPv6"]));
        }
        if !families.insert(text) {
            errors.push(Error::duplicate(&at_family, text));
        }
    }
    if first == "None" {
        if all.len() > 1 {
            errors.push(Error::invalid(&path, all.to_vec(), "'None' must be the first and only value"));
        }
        return;
    }
    let mut good = 0;
    for (i, address) in all.iter().enumerate() {
        let text = address.as_str().unwrap_or_default();
        let Ok(parsed) = text.parse::<IpAddr>() else {
            errors.push(Error::invalid(&path.index(i), text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"));
            continue;
        };
        good += 1;
        let family = at(service, &format!("/spec/ipFamilies/{i}")).as_str().unwrap_or_default();
        let fits = family.is_empty() || (family == "IPv4") == parsed.is_ipv4();
        if !fits {
            errors.push(Error::invalid(&path.index(i), text, &format!("expected an {family} value as indicated by `ipFamilies[{i}]`")));
        }
    }
    if all.len() > 2 {
        errors.push(Error::invalid(&path, all.to_vec(), "may only hold up to 2 values"));
    } else if good == 2 && all.iter().filter(|a| a.as_str().unwrap_or_default().contains(':')).count() != 1 {
        errors.push(Error::invalid(&path, all.to_vec(), "may specify no more than one IP for each IP family"));
    }
}

fn outside_policy(service: &Value, kind: &str, path: &Path, errors: &mut ErrorList) {
    let reachable = matches!(kind, "NodePort" | "LoadBalancer") || kind == "ClusterIP" && !items(service, "/spec/externalIPs").is_empty();
    let policy = text(service, "/spec/externalTrafficPolicy");
    if !reachable && !policy.is_empty() {
        let detail = "may only be set for externally-accessible services";
        errors.push(Error::invalid(&path.child("externalTrafficPolicy"), policy, detail));
    }
    let health = at(service, "/spec/healthCheckNodePort").as_i64().unwrap_or_default();
    if health != 0 && !(kind == "LoadBalancer" && policy == "Local") {
        let detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.push(Error::invalid(&path.child("healthCheckNodePort"), health, detail));
    }
    if kind != "LoadBalancer" {
        for member in ["loadBalancerClass", "allocateLoadBalancerNodePorts"] {
            if !at(service, &format!("/spec/{member}")).is_null() {
                errors.push(Error::forbidden(&path.child(member), "may only be used when `type` is 'LoadBalancer'"));
            }
        }
    }
    if service["spec"]["sessionAffinity"] == "None" && !at(service, "/spec/sessionAffinityConfig").is_null() {
        let detail = "must not be set when session affinity is None";
        errors.push(Error::forbidden(&path.child("sessionAffinityConfig"), detail));
    }
}

/// A change of a service: its address stays while it has one.
pub(crate) fn update(new: &Value, old: &Value, subresource: Option<&str>, errors: &mut ErrorList) {
    if subresource.is_some() {
        return;
    }
    let external = |s: &'_ Value| text(s, "/spec/type") == "ExternalName";
    if external(new) || external(old) {
        return;
    }
    let path = Path::new("spec").child("clusterIPs").index(0);
    let (before, after) = (text(old, "/spec/clusterIP"), text(new, "/spec/clusterIP"));
    if !before.is_empty() && before != after {
        let detail = if after.is_empty() { "primary clusterIP can not be unset" } else { "may not change once set" };
        errors.push(Error::invalid(&path, at(new, "/spec/clusterIPs").clone(), detail));
    }
    let family = |s: &'_ Value| at(s, "/spec/ipFamilies/0").as_str().unwrap_or_default().to_owned();
    if !family(old).is_empty() && family(new) != family(old) {
        let path = Path::new("spec").child("ipFamilies").index(0);
        errors.push(Error::invalid(&path, at(new, "/spec/ipFamilies").clone(), "may not change once set"));
    }
}

/// The endpoints of a service, in the old form.
pub(crate) fn endpoints(endpoints: &Value, errors: &mut ErrorList) {
    for (i, subset) in items(endpoints, "/subsets").iter().enumerate() {
        let path = Path::new("subsets").index(i);
        if items(subset, "/addresses").is_empty() && items(subset, "/notReadyAddresses").is_empty() {
            errors.push(Error::required(&path, "must specify `addresses` or `notReadyAddresses`"));
        }
        let ports = items(subset, "/ports");
        for (j, _) in ports.iter().enumerate().filter(|(_, p)| ports.len() > 1 && text(p, "/name").is_empty()) {
            errors.push(Error::required(&path.child("ports").index(j).child("name"), ""));
        }
    }
}

/// A slice of a service's endpoints.
pub(crate) fn endpoint_slice(slice: &Value, errors: &mut ErrorList) {
    let kind = text(slice, "/addressType");
    let all = items(slice, "/endpoints");
    if all.len() > 1000 {
        errors.push(Error::too_many(&Path::new("endpoints"), all.len(), 1000));
        return;
    }
    for (i, endpoint) in all.iter().enumerate() {
        let path = Path::new("endpoints").index(i).child("addresses");
        let addresses = items(endpoint, "/addresses");
        if addresses.len() > 100 {
            errors.push(Error::too_many(&path, addresses.len(), 100));
        }
        for (j, address) in addresses.iter().enumerate() {
            let text = address.as_str().unwrap_or_default();
            let problem = match (kind, text.parse::<IpAddr>()) {
                ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => continue,
                ("IPv4", _) => vec!["must be a valid IPv4 address".to_owned()],
                ("IPv6", _) => vec!["must be a valid IPv6 address".to_owned()],
                _ => names::dns1123_subdomain(text),
            };
            errors.extend(problem.iter().map(|p| Error::invalid(&path.index(j), text, p)));
        }
    }
    let ports = items(slice, "/ports");
    if ports.len() > 20_000 {
        errors.push(Error::too_many(&Path::new("ports"), ports.len(), 20_000));
    }
    let mut seen = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = Path::new("ports").index(i);
        let name = text(port, "/name");
        if !seen.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        if !name.is_empty() {
            errors.extend(names::dns1123_label(name).iter().map(|m| Error::invalid(&path.child("name"), name, m)));
        }
        let protocol = text(port, "/protocol");
        if !protocol.is_empty() && !matches!(protocol, "TCP" | "UDP" | "SCTP") {
            errors.push(Error::not_supported(&path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"]));
        }
    }
}
