//! Pods and pod templates: what their table cannot say because it depends on several fields.

use std::collections::BTreeSet;

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Quantity, Value, names};

use crate::tree::{at, entries, items, text};
use crate::validate::{self, metadata, resource_list, taint_effect};

/// A pod.
pub(crate) fn pod(pod: &Value, errors: &mut ErrorList) {
    let path = Path::new("spec");
    spec(at(pod, "/spec"), &path, errors);
    if !text(pod, "/spec/nodeName").is_empty() && !items(pod, "/spec/schedulingGates").is_empty() {
        errors.push(Error::forbidden(&path.child("nodeName"), "cannot be set until all schedulingGates have been cleared"));
    }
}

/// A pod template.
pub(crate) fn template(template: &Value, path: &Path, errors: &mut ErrorList) {
    let meta = path.child("metadata");
    metadata::labels(at(template, "/metadata/labels"), &meta.child("labels"), errors);
    metadata::annotations(at(template, "/metadata/annotations"), &meta.child("annotations"), errors);
    spec(at(template, "/spec"), &path.child("spec"), errors);
    if !items(template, "/spec/ephemeralContainers").is_empty() {
        let path = path.child("spec").child("ephemeralContainers");
        errors.push(Error::forbidden(&path, "ephemeral containers not allowed in pod template"));
    }
}

fn spec(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let volumes = volumes(spec, &path.child("volumes"), errors);
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let list_path = path.child(list);
        let containers = items(spec, &format!("/{list}"));
        for (i, each) in containers.iter().enumerate() {
            let path = list_path.index(i);
            let name = text(each, "/name");
            if !name.is_empty() && !seen.insert(name) {
                errors.push(Error::duplicate(&path.child("name"), name));
            }
            container(each, list, &volumes, &path, errors);
        }
        if list == "containers" {
            host_port_conflicts(containers, &list_path, errors);
        } else {
            containers.iter().for_each(|c| host_port_conflicts(std::slice::from_ref(c), &list_path, errors));
        }
    }
    host_network(spec, path, errors);
    tolerations(items(spec, "/tolerations"), &path.child("tolerations"), errors);
    affinity(at(spec, "/affinity"), &path.child("affinity"), errors);
    spread(spec, &path.child("topologySpreadConstraints"), errors);
    dns(spec, path, errors);
    resource_list(at(spec, "/overhead"), &path.child("overhead"), errors);
    if at(spec, "/securityContext/hostUsers").is_null() && spec["hostPID"] == true && spec["shareProcessNamespace"] == true {
        let path = path.child("shareProcessNamespace");
        errors.push(Error::invalid(&path, true, "ShareProcessNamespace and HostPID cannot both be enabled"));
    }
    for (i, secret) in items(spec, "/imagePullSecrets").iter().enumerate() {
        if text(secret, "/name").is_empty() {
            errors.push(Error::required(&path.child("imagePullSecrets").index(i).child("name"), ""));
        }
    }
}

/// Checks volumes; gives back the names of the good ones.
fn volumes<'a>(spec: &'a Value, path: &Path, errors: &mut ErrorList) -> BTreeSet<&'a str> {
    let mut good = BTreeSet::new();
    for (i, volume) in items(spec, "/volumes").iter().enumerate() {
        let path = path.index(i);
        let name = text(volume, "/name");
        let sources: Vec<&str> = entries(volume, "").filter(|(k, v)| *k != "name" && !v.is_null()).map(|(k, _)| k.as_str()).collect();
        match sources.as_slice() {
            [] => errors.push(Error::required(&path, "must specify a volume type")),
            [_] => {}
            [_, rest @ ..] => {
                errors.extend(rest.iter().map(|s| Error::forbidden(&path.child(s), "may not specify more than 1 volume type")));
            }
        }
        if let Some(limit) = at(volume, "/emptyDir/sizeLimit").as_str().and_then(|q| q.parse::<Quantity>().ok()).filter(|q| q.is_negative())
        {
            errors.push(Error::forbidden(
                &path.child("emptyDir").child("sizeLimit"),
                &format!("SizeLimit field must be a valid resource quantity: {limit}"),
            ));
        }
        if at(volume, "/configMap").is_object() && text(volume, "/configMap/name").is_empty() {
            errors.push(Error::required(&path.child("configMap").child("name"), ""));
        }
        if !good.insert(name) {
            errors.push(Error::duplicate(&path.child("name"), name));
        }
        projected(volume, &path.child("projected").child("sources"), errors);
    }
    good
}

fn projected(volume: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, source) in items(volume, "/projected/sources").iter().enumerate() {
        let path = path.index(i);
        let given: Vec<&String> = entries(source, "").filter(|(_, v)| !v.is_null()).map(|(k, _)| k).collect();
        if given.len() > 1 {
            errors
                .extend(given[1..].iter().map(|s| Error::forbidden(&path.child(s), "may not specify more than 1 volume type per source")));
        }
        for name in ["configMap", "secret"] {
            if source.get(name).is_some_and(Value::is_object) && text(source, &format!("/{name}/name")).is_empty() {
                errors.push(Error::required(&path.child(name).child("name"), ""));
            }
        }
    }
}

fn container(container: &Value, list: &str, volumes: &BTreeSet<&str>, path: &Path, errors: &mut ErrorList) {
    let mut ports = BTreeSet::new();
    for (i, port) in items(container, "/ports").iter().enumerate() {
        let name = text(port, "/name");
        if !name.is_empty() && !ports.insert(name) {
            errors.push(Error::duplicate(&path.child("ports").index(i).child("name"), name));
        }
    }
    environment(container, path, errors);
    mounts(container, volumes, &path.child("volumeMounts"), errors);
    resources(at(container, "/resources"), &path.child("resources"), errors);
    security(container, &path.child("securityContext"), errors);
    let is_sidecar = container["restartPolicy"] == "Always";
    let without_probes = list == "initContainers" && !is_sidecar;
    for member in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
        let given = at(container, &format!("/{member}"));
        if given.is_null() {
            continue;
        }
        let path = path.child(member);
        match (list, member) {
            ("ephemeralContainers", _) => errors.push(Error::forbidden(&path, "cannot be set for an Ephemeral Container")),
            _ if without_probes => {
                errors.push(Error::forbidden(&path, "may not be set for init containers without restartPolicy=Always"));
            }
            (_, "lifecycle") => {
                for hook in ["postStart", "preStop"] {
                    let given = &given[hook];
                    if !given.is_null() {
                        handler(given, &["exec", "httpGet", "tcpSocket", "sleep"], &path.child(hook), errors);
                    }
                }
            }
            _ => {
                handler(given, &["exec", "httpGet", "tcpSocket", "grpc"], &path, errors);
                let threshold = given["successThreshold"].as_i64().unwrap_or(1);
                if member != "readinessProbe" && threshold != 1 {
                    errors.push(Error::invalid(&path.child("successThreshold"), threshold, "must be 1"));
                }
            }
        }
    }
}

fn handler(handler: &Value, kinds: &[&str], path: &Path, errors: &mut ErrorList) {
    let given: Vec<&&str> = kinds.iter().filter(|k| handler.get(**k).is_some_and(|h| !h.is_null())).collect();
    match given.as_slice() {
        [] => errors.push(Error::required(path, "must specify a handler type")),
        [_] => {}
        [_, rest @ ..] => errors.extend(rest.iter().map(|k| Error::forbidden(&path.child(k), "may not specify more than 1 handler type"))),
    }
}

fn environment(container: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, var) in items(container, "/env").iter().enumerate() {
        let Some(from) = var.get("valueFrom").filter(|f| !f.is_null()) else { continue };
        let path = path.child("env").index(i).child("valueFrom");
        let sources = entries(from, "").filter(|(_, v)| !v.is_null()).count();
        let detail = match sources {
            0 => "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            _ if !text(var, "/value").is_empty() => "may not be specified when `value` is not empty",
            1 => continue,
            _ => "may not have more than one field specified at a time",
        };
        errors.push(Error::invalid(&path, "", detail));
    }
    for (i, from) in items(container, "/envFrom").iter().enumerate() {
        let path = path.child("envFrom");
        let sources = ["configMapRef", "secretRef"].iter().filter(|s| from.get(**s).is_some_and(|v| !v.is_null()));
        match sources.clone().count() {
            0 => errors.push(Error::invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`")),
            1 => {}
            _ => errors.push(Error::invalid(&path, "", "may not have more than one field specified at a time")),
        }
        for source in sources {
            if text(from, &format!("/{source}/name")).is_empty() {
                errors.push(Error::required(&path.index(i).child(source).child("name"), ""));
            }
        }
    }
}

fn mounts(container: &Value, volumes: &BTreeSet<&str>, path: &Path, errors: &mut ErrorList) {
    let mut places = BTreeSet::new();
    for (i, mount) in items(container, "/volumeMounts").iter().enumerate() {
        let at_mount = path.index(i);
        let (name, place) = (text(mount, "/name"), text(mount, "/mountPath"));
        if !volumes.contains(name) {
            errors.push(Error::not_found(&at_mount.child("name"), name));
        }
        if !places.insert(place) {
            errors.push(Error::invalid(&at_mount.child("mountPath"), place, "must be unique"));
        }
        let (sub, expression) = (text(mount, "/subPath"), text(mount, "/subPathExpr"));
        if !sub.is_empty() && !expression.is_empty() {
            errors.push(Error::invalid(&at_mount.child("subPathExpr"), expression, "subPathExpr and subPath are mutually exclusive"));
        }
        for (member, sub) in [("subPath", sub), ("subPathExpr", expression)] {
            if sub.starts_with('/') {
                errors.push(Error::invalid(&path.child(member), sub, "must be a relative path"));
            }
            if sub.split('/').any(|step| step == "..") {
                errors.push(Error::invalid(&path.child(member), sub, "must not contain '..'"));
            }
        }
        if mount["mountPropagation"] == "Bidirectional" && at(container, "/securityContext/privileged") != true {
            let detail = "Bidirectional mount propagation is available only to privileged containers";
            errors.push(Error::forbidden(&path.child("mountPropagation"), detail));
        }
    }
}

fn resources(resources: &Value, path: &Path, errors: &mut ErrorList) {
    let amount = |v: &Value| v.as_str().and_then(|q| q.parse::<Quantity>().ok());
    for list in ["limits", "requests"] {
        let path = path.child(list);
        for (name, _) in entries(resources, &format!("/{list}")) {
            let native = !name.contains('/');
            let known = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
            if native && !known {
                errors.push(Error::invalid(&path.key(name), name.as_str(), "must be a standard resource for containers"));
            }
        }
        resource_list(at(resources, &format!("/{list}")), &path, errors);
    }
    for (name, request) in entries(resources, "/requests") {
        let limit = at(resources, "/limits").get(name).and_then(amount);
        let Some((request, limit)) = amount(request).zip(limit) else { continue };
        let path = path.child("requests");
        let overcommit = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if !overcommit && request != limit {
            errors.push(Error::invalid(&path, request.to_string(), &format!("must be equal to {name} limit of {limit}")));
        } else if request > limit {
            errors.push(Error::invalid(&path, request.to_string(), &format!("must be less than or equal to {name} limit of {limit}")));
        }
    }
}

fn security(container: &Value, path: &Path, errors: &mut ErrorList) {
    let context = at(container, "/securityContext");
    if context["allowPrivilegeEscalation"] != false || context.is_null() {
        return;
    }
    if context["privileged"] == true {
        errors.push(Error::invalid(path, context.clone(), "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"));
    }
    if items(context, "/capabilities/add").iter().any(|c| c == "CAP_SYS_ADMIN" || c == "SYS_ADMIN") {
        let detail = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
        errors.push(Error::invalid(path, context.clone(), detail));
    }
}

fn host_port_conflicts(containers: &[Value], path: &Path, errors: &mut ErrorList) {
    let mut taken = BTreeSet::new();
    for (i, container) in containers.iter().enumerate() {
        for (j, port) in items(container, "/ports").iter().enumerate() {
            let number = port["hostPort"].as_i64().unwrap_or_default();
            let key = format!("{}/{}/{number}", text(port, "/protocol"), text(port, "/hostIP"));
            if number != 0 && !taken.insert(key.clone()) {
                errors.push(Error::duplicate(&path.index(i).child("ports").index(j).child("hostPort"), key));
            }
        }
    }
}

fn host_network(spec: &Value, path: &Path, errors: &mut ErrorList) {
    if spec["hostNetwork"] != true {
        return;
    }
    for list in ["containers", "initContainers"] {
        for (i, container) in items(spec, &format!("/{list}")).iter().enumerate() {
            for (j, port) in items(container, "/ports").iter().enumerate() {
                let outside = port["hostPort"].as_i64().unwrap_or_default();
                if outside != port["containerPort"].as_i64().unwrap_or_default() {
                    let path = path.child(list).index(i).child("ports").index(j).child("hostPort");
                    errors.push(Error::invalid(&path, outside, "must match `containerPort` when `hostNetwork` is true"));
                }
            }
        }
    }
}

fn tolerations(tolerations: &[Value], path: &Path, errors: &mut ErrorList) {
    for (i, toleration) in tolerations.iter().enumerate() {
        let path = path.index(i);
        let (key, value, effect) = (text(toleration, "/key"), text(toleration, "/value"), text(toleration, "/effect"));
        let operator = text(toleration, "/operator");
        if !key.is_empty() {
            errors.extend(names::qualified_name(key).iter().map(|m| Error::invalid(&path.child("key"), key, m)));
        } else if operator != "Exists" {
            let detail = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(Error::invalid(&path.child("operator"), operator, detail));
        }
        if !toleration["tolerationSeconds"].is_null() && effect != "NoExecute" {
            errors.push(Error::invalid(&path.child("effect"), effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"));
        }
        match operator {
            "" | "Equal" => {
                let problems = names::label_value(value);
                if !problems.is_empty() {
                    errors.push(Error::invalid(&path.child("operator"), value, &problems.join(";")));
                }
            }
            "Exists" if !value.is_empty() => {
                errors.push(Error::invalid(&path.child("operator"), value, "value must be empty when `operator` is 'Exists'"));
            }
            "Exists" => {}
            other => errors.push(Error::not_supported(&path.child("operator"), other, &["Equal", "Exists"])),
        }
        taint_effect(effect, true, &path.child("effect"), errors);
    }
}

fn affinity(affinity: &Value, path: &Path, errors: &mut ErrorList) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let node = path.child("nodeAffinity");
    for (i, term) in items(affinity, &format!("/nodeAffinity/{REQUIRED}/nodeSelectorTerms")).iter().enumerate() {
        node_term(term, &node.child(REQUIRED).child("nodeSelectorTerms").index(i), errors);
    }
    for (i, term) in items(affinity, &format!("/nodeAffinity/{PREFERRED}")).iter().enumerate() {
        node_term(&term["preference"], &node.child(PREFERRED).index(i).child("preference"), errors);
    }
    for side in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(side);
        for (i, term) in items(affinity, &format!("/{side}/{REQUIRED}")).iter().enumerate() {
            validate::label_selector(&term["labelSelector"], &path.child(REQUIRED).index(i).child("labelSelector"), errors);
        }
        for (i, term) in items(affinity, &format!("/{side}/{PREFERRED}")).iter().enumerate() {
            let path = path.child(PREFERRED).index(i).child("podAffinityTerm").child("labelSelector");
            validate::label_selector(at(term, "/podAffinityTerm/labelSelector"), &path, errors);
        }
    }
}

fn node_term(term: &Value, path: &Path, errors: &mut ErrorList) {
    for (i, requirement) in items(term, "/matchExpressions").iter().enumerate() {
        let path = path.child("matchExpressions").index(i);
        let values = items(requirement, "/values").len();
        match text(requirement, "/operator") {
            "In" | "NotIn" if values == 0 => {
                errors.push(Error::required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if values > 0 => {
                errors.push(Error::forbidden(&path.child("values"), "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "Gt" | "Lt" if values != 1 => {
                errors.push(Error::required(&path.child("values"), "must be specified single value when `operator` is 'Lt' or 'Gt'"));
            }
            _ => {}
        }
    }
}

fn spread(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let constraints = items(spec, "/topologySpreadConstraints");
    for (i, constraint) in constraints.iter().enumerate() {
        let path = path.index(i);
        let same = |other: &&Value| {
            other["topologyKey"] == constraint["topologyKey"] && other["whenUnsatisfiable"] == constraint["whenUnsatisfiable"]
        };
        if constraints[..i].iter().any(|c| same(&c)) {
            let pair = format!("{{{}, {}}}", text(constraint, "/topologyKey"), text(constraint, "/whenUnsatisfiable"));
            errors.push(Error::duplicate(&path.child("{topologyKey, whenUnsatisfiable}"), pair));
        }
        validate::label_selector(&constraint["labelSelector"], &path.child("labelSelector"), errors);
    }
}

fn dns(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let path = path.child("dnsConfig");
    let servers = items(spec, "/dnsConfig/nameservers");
    if spec["dnsPolicy"] == "None" {
        if at(spec, "/dnsConfig").is_null() {
            errors.push(Error::required(&path, "must provide `dnsConfig` when `dnsPolicy` is None"));
        } else if servers.is_empty() {
            errors.push(Error::required(&path.child("nameservers"), "must provide at least one DNS nameserver when `dnsPolicy` is None"));
        }
    }
    if servers.len() > 3 {
        errors.push(Error::invalid(&path.child("nameservers"), servers.to_vec(), "must not have more than 3 nameservers"));
    }
    for (i, server) in servers.iter().enumerate() {
        if let Some(problem) = validate::ip(server.as_str().unwrap_or_default()) {
            errors.push(Error::invalid(&path.child("nameservers").index(i), server.clone(), problem));
        }
    }
}
