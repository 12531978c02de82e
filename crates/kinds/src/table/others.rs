//! The cells of kinds that have none of their own elsewhere.

use gantry_object::labels::Selector;
use gantry_object::time::human_duration;
use gantry_object::{Timestamp, Value};

use crate::table::cells::{age, containers, join, join_labels, number, or_none};
use crate::tree::{at, entries, items, text};

/// The longest list of addresses that is shown whole, in bytes.
const ADDRESS_WIDTH: usize = 16;
/// How many hosts of an ingress are shown.
const MOST_HOSTS: usize = 3;
/// How many metrics of an autoscaler are shown.
const MOST_METRICS: usize = 2;

/// A text, or another when it is empty.
fn or(text: &str, other: &str) -> Value {
    if text.is_empty() { other.into() } else { text.into() }
}

fn flag(object: &Value, pointer: &str, default: bool) -> Value {
    at(object, pointer).as_bool().unwrap_or(default).into()
}

fn count(object: &Value, pointer: &str) -> Value {
    number(object, pointer).into()
}

/// A number or a text, as Go prints either.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn has_true(object: &Value, kind: &str) -> bool {
    items(object, "/status/conditions").iter().any(|c| c["type"] == kind && c["status"] == "True")
}

fn selector(object: &Value, pointer: &str) -> Value {
    match Selector::from_label_selector(at(object, pointer)) {
        Ok(Some(selector)) => or_none(&selector.to_string()),
        Ok(None) => "<none>".into(),
        Err(_) => "<error>".into(),
    }
}

fn with_default(object: &Value, name: Value, annotations: &[&str]) -> Value {
    let given = at(object, "/metadata/annotations");
    if annotations.iter().any(|a| given.get(a).is_some_and(|v| v == "true")) { format!("{} (default)", plain(&name)).into() } else { name }
}

/// One cell for each column; `None` for kinds that show nothing but their name and age.
pub(super) fn of(kind: &str, object: &Value, name: Value, created: Value, now: Timestamp) -> Option<Vec<Value>> {
    let field = |pointer: &str| Value::from(text(object, pointer));
    Some(match kind {
        "ReplicationController" => {
            let (names, images) = containers(object, "/spec/template/spec/containers");
            let numbers = ["/spec/replicas", "/status/replicas", "/status/readyReplicas"].map(|p| count(object, p));
            let [desired, current, ready] = numbers;
            vec![name, desired, current, ready, created, names, images, or_none(&join_labels(at(object, "/spec/selector")))]
        }
        "DaemonSet" => daemon_set(object, name, created),
        "StatefulSet" => {
            let (names, images) = containers(object, "/spec/template/spec/containers");
            let ready = format!("{}/{}", number(object, "/status/readyReplicas"), number(object, "/spec/replicas"));
            vec![name, ready.into(), created, names, images]
        }
        "PodTemplate" => {
            let (names, images) = containers(object, "/template/spec/containers");
            vec![name, names, images, or_none(&join_labels(at(object, "/template/metadata/labels")))]
        }
        "Job" => job(object, name, created, now),
        "CronJob" => cron_job(object, name, created, now),
        "HorizontalPodAutoscaler" => autoscaler(object, name, created),
        "PodDisruptionBudget" => {
            let amount = |pointer: &str| Some(at(object, pointer)).filter(|v| !v.is_null()).map_or("N/A".into(), plain);
            let (least, most) = (amount("/spec/minAvailable"), amount("/spec/maxUnavailable"));
            vec![name, least.into(), most.into(), count(object, "/status/disruptionsAllowed"), created]
        }
        "PriorityClass" => {
            vec![name, count(object, "/value"), flag(object, "/globalDefault", false), created, field("/preemptionPolicy")]
        }
        "RuntimeClass" => vec![name, field("/handler"), created],
        "ResourceQuota" => quota(object, name, created),
        "NetworkPolicy" => vec![name, selector(object, "/spec/podSelector"), created],
        "Ingress" => ingress(object, name, created),
        "IngressClass" => {
            let name = with_default(object, name, &["ingressclass.kubernetes.io/is-default-class"]);
            vec![name, field("/spec/controller"), ingress_parameters(at(object, "/spec/parameters")), created]
        }
        "ServiceCIDR" => vec![name, join(items(object, "/spec/cidrs").iter().filter_map(Value::as_str), ",").into(), created],
        "IPAddress" => vec![name, parent(at(object, "/spec/parentRef"))],
        "StorageClass" => {
            let annotations = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
            let (reclaim, binding) = (text(object, "/reclaimPolicy"), text(object, "/volumeBindingMode"));
            let expands = flag(object, "/allowVolumeExpansion", false);
            let name = with_default(object, name, &annotations);
            vec![name, field("/provisioner"), or(reclaim, "Delete"), or(binding, "Immediate"), expands, created]
        }
        "CSIDriver" => driver(object, name, created),
        "CSINode" => vec![name, items(object, "/spec/drivers").len().into(), created],
        "VolumeAttachment" => {
            let (volume, node) = (field("/spec/source/persistentVolumeName"), field("/spec/nodeName"));
            vec![name, field("/spec/attacher"), volume, node, flag(object, "/status/attached", false), created]
        }
        "VolumeAttributesClass" => vec![name, field("/driverName"), created],
        "LimitRange" | "CSIStorageCapacity" => vec![name, field("/metadata/creationTimestamp")],
        "PersistentVolume" => volume(object, name, created),
        "PersistentVolumeClaim" => claim(object, name, created),
        "ComponentStatus" => component(object, name),
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => vec![name, items(object, "/webhooks").len().into(), created],
        "ValidatingAdmissionPolicy" => vec![name, items(object, "/spec/validations").len().into(), param_kind(object), created],
        "MutatingAdmissionPolicy" => vec![name, items(object, "/spec/mutations").len().into(), param_kind(object), created],
        "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding" => {
            vec![name, field("/spec/policyName"), param_ref(at(object, "/spec/paramRef")), created]
        }
        "APIService" => vec![name, api_service(object), available(object), created],
        "FlowSchema" => {
            let dangling = items(object, "/status/conditions").iter().find(|c| c["type"] == "Dangling");
            let missing = dangling.map_or("?", |c| text(c, "/status"));
            let distinguished = or_none(text(object, "/spec/distinguisherMethod/type"));
            let (level, precedence) = (field("/spec/priorityLevelConfiguration/name"), count(object, "/spec/matchingPrecedence"));
            vec![name, level, precedence, distinguished, created, missing.into()]
        }
        "PriorityLevelConfiguration" => {
            let number = |pointer: &str| at(object, pointer).as_i64().map_or("<none>".into(), Value::from);
            let queuing = |member: &str| number(&format!("/spec/limited/limitResponse/queuing/{member}"));
            let shares = number("/spec/limited/nominalConcurrencyShares");
            vec![name, field("/spec/type"), shares, queuing("queues"), queuing("handSize"), queuing("queueLengthLimit"), created]
        }
        "ResourceClaim" => vec![name, claim_state(object).into(), created],
        "ResourceSlice" => vec![name, field("/spec/nodeName"), field("/spec/driver"), field("/spec/pool/name"), created],
        _ => return None,
    })
}

fn daemon_set(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let (names, images) = containers(object, "/spec/template/spec/containers");
    let numbers = ["desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable"];
    let mut cells = vec![name];
    cells.extend(numbers.map(|member| count(object, &format!("/status/{member}"))));
    let nodes = or_none(&join_labels(at(object, "/spec/template/spec/nodeSelector")));
    cells.extend([nodes, created, names, images, selector(object, "/spec/selector")]);
    cells
}

fn job(object: &Value, name: Value, created: Value, now: Timestamp) -> Vec<Value> {
    let (done, parallelism) = (number(object, "/status/succeeded"), number(object, "/spec/parallelism"));
    let completions = match at(object, "/spec/completions").as_i64() {
        Some(wanted) => format!("{done}/{wanted}"),
        None if parallelism > 1 => format!("{done}/1 of {parallelism}"),
        None => format!("{done}/1"),
    };
    let time = |member: &str| Timestamp::parse(text(object, &format!("/status/{member}")));
    let took = time("startTime").map(|start| human_duration(time("completionTime").unwrap_or(now).since(start)));
    let status = match () {
        () if has_true(object, "Complete") => "Complete",
        () if has_true(object, "Failed") => "Failed",
        () if !text(object, "/metadata/deletionTimestamp").is_empty() => "Terminating",
        () if has_true(object, "Suspended") => "Suspended",
        () if has_true(object, "FailureTarget") => "FailureTarget",
        () if has_true(object, "SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    };
    let (names, images) = containers(object, "/spec/template/spec/containers");
    let selector = selector(object, "/spec/selector");
    vec![name, status.into(), completions.into(), took.unwrap_or_default().into(), created, names, images, selector]
}

fn cron_job(object: &Value, name: Value, created: Value, now: Timestamp) -> Vec<Value> {
    let last = text(object, "/status/lastScheduleTime");
    let last = if last.is_empty() { "<none>".into() } else { age(last, now) };
    let suspended = at(object, "/spec/suspend").as_bool().map_or("<unset>", |s| if s { "True" } else { "False" });
    let (names, images) = containers(object, "/spec/jobTemplate/spec/template/spec/containers");
    let (schedule, zone) = (text(object, "/spec/schedule").into(), or_none(text(object, "/spec/timeZone")));
    let (active, selector) = (items(object, "/status/active").len().into(), selector(object, "/spec/jobTemplate/spec/selector"));
    vec![name, schedule, zone, suspended.into(), active, last.into(), created, names, images, selector]
}

/// One metric: what is, and what is wanted.
fn metric(spec: &Value, status: &Value) -> String {
    let kind = text(spec, "/type");
    let mut member = kind.to_owned();
    if let Some(first) = member.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    let (wanted, found) = (at(spec, &format!("/{member}/target")), at(status, &format!("/{member}/current")));
    let current = |name: &str, unit: &str| {
        Some(at(found, &format!("/{name}"))).filter(|v| !v.is_null()).map_or("<unknown>".into(), |v| format!("{}{unit}", plain(v)))
    };
    let target = |name: &str| Some(at(wanted, &format!("/{name}"))).filter(|v| !v.is_null()).map(plain);
    match kind {
        "External" | "Object" => match target("averageValue") {
            Some(target) => format!("{}/{target} (avg)", current("averageValue", "")),
            None => format!("{}/{}", current("value", ""), target("value").unwrap_or_default()),
        },
        "Pods" => format!("{}/{}", current("averageValue", ""), target("averageValue").unwrap_or_default()),
        "Resource" | "ContainerResource" => {
            let name = text(spec, &format!("/{member}/name"));
            match target("averageValue") {
                Some(target) => format!("{name}: {}/{target}", current("averageValue", "")),
                None => {
                    let target = target("averageUtilization").map_or("<auto>".into(), |t| format!("{t}%"));
                    format!("{name}: {}/{target}", current("averageUtilization", "%"))
                }
            }
        }
        _ => "<unknown type>".into(),
    }
}

fn autoscaler(object: &Value, name: Value, created: Value) -> Vec<Value> {
    // Version 1 shows the same cells: those of what is stored.
    let mut stored = object.clone();
    if stored["apiVersion"] == "autoscaling/v1" {
        crate::rules::v2_from_v1(&mut stored);
    }
    let object = &stored;
    let (specs, statuses) = (items(object, "/spec/metrics"), items(object, "/status/currentMetrics"));
    let shown: Vec<String> =
        specs.iter().enumerate().take(MOST_METRICS).map(|(i, s)| metric(s, statuses.get(i).unwrap_or(&Value::Null))).collect();
    let mut metrics = if shown.is_empty() { "<none>".into() } else { shown.join(", ") };
    if specs.len() > MOST_METRICS {
        metrics = format!("{metrics} + {} more...", specs.len() - MOST_METRICS);
    }
    let target = format!("{}/{}", text(object, "/spec/scaleTargetRef/kind"), text(object, "/spec/scaleTargetRef/name"));
    let least = at(object, "/spec/minReplicas").as_i64().map_or("<unset>".into(), |n| n.to_string());
    let (most, current) = (count(object, "/spec/maxReplicas"), count(object, "/status/currentReplicas"));
    vec![name, target.into(), metrics.into(), least.into(), most, current, created]
}

fn quota(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let mut hard: Vec<_> = entries(object, "/status/hard").collect();
    hard.sort_by_key(|(resource, _)| *resource);
    let side = |limits: bool| {
        let ours = hard.iter().filter(|(resource, _)| resource.starts_with("limits.") == limits);
        let shown = ours.map(|(resource, amount)| {
            let used = at(object, "/status/used").get(resource.as_str()).map_or("0".into(), plain);
            format!("{resource}: {used}/{}", plain(amount))
        });
        shown.collect::<Vec<_>>().join(", ")
    };
    vec![name, side(false).into(), side(true).into(), created]
}

fn ingress(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let rules = items(object, "/spec/rules");
    let hosts: Vec<&str> = rules.iter().map(|r| text(r, "/host")).filter(|h| !h.is_empty()).collect();
    let mut shown = join(hosts.iter().take(MOST_HOSTS).copied(), ",");
    if hosts.is_empty() {
        shown = "*".into();
    } else if hosts.len() >= MOST_HOSTS && rules.len() > MOST_HOSTS {
        shown = format!("{shown} + {} more...", rules.len() - MOST_HOSTS);
    }
    let address = |i: &'_ Value| [text(i, "/ip"), text(i, "/hostname")].into_iter().find(|t| !t.is_empty()).map(str::to_owned);
    let addresses: std::collections::BTreeSet<String> = items(object, "/status/loadBalancer/ingress").iter().filter_map(address).collect();
    let mut addresses = addresses.into_iter().collect::<Vec<_>>().join(",");
    if addresses.len() > ADDRESS_WIDTH {
        addresses = format!("{}...", addresses.get(..ADDRESS_WIDTH - 3).unwrap_or_default());
    }
    let ports = if items(object, "/spec/tls").is_empty() { "80" } else { "80, 443" };
    vec![name, or_none(text(object, "/spec/ingressClassName")), shown.into(), addresses.into(), ports.into(), created]
}

fn ingress_parameters(parameters: &Value) -> Value {
    if parameters.is_null() {
        return "<none>".into();
    }
    let group = at(parameters, "/apiGroup").as_str().map_or(String::new(), |g| format!(".{g}"));
    format!("{}{group}/{}", text(parameters, "/kind"), text(parameters, "/name")).into()
}

fn parent(parent: &Value) -> Value {
    if parent.is_null() {
        return "<none>".into();
    }
    let dotted = [text(parent, "/resource"), text(parent, "/group")];
    let resource = join(dotted.into_iter().filter(|t| !t.is_empty()), ".").to_lowercase();
    let parts = [resource.as_str(), text(parent, "/namespace"), text(parent, "/name")];
    join(parts.into_iter().enumerate().filter(|(i, t)| *i != 1 || !t.is_empty()).map(|(_, t)| t), "/").into()
}

fn driver(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let tokens = match at(object, "/spec/tokenRequests") {
        Value::Array(requests) => join(requests.iter().map(|r| text(r, "/audience")), ",").into(),
        _ => "<unset>".into(),
    };
    let modes = or_none(&join(items(object, "/spec/volumeLifecycleModes").iter().filter_map(Value::as_str), ","));
    let [attach, info, capacity, republish] = [
        flag(object, "/spec/attachRequired", true),
        flag(object, "/spec/podInfoOnMount", false),
        flag(object, "/spec/storageCapacity", false),
        flag(object, "/spec/requiresRepublish", false),
    ];
    vec![name, attach, info, capacity, tokens, republish, modes, created]
}

fn access_modes(modes: &[Value]) -> String {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    join(SHORT.into_iter().filter(|(long, _)| modes.iter().any(|m| m == long)).map(|(_, short)| short), ",")
}

/// The class of a volume or claim: the annotation that said so once counts first.
fn storage_class(object: &Value) -> Value {
    let annotated = at(object, "/metadata/annotations").get("volume.beta.kubernetes.io/storage-class").and_then(Value::as_str);
    annotated.unwrap_or_else(|| text(object, "/spec/storageClassName")).into()
}

fn phase(object: &Value) -> Value {
    if text(object, "/metadata/deletionTimestamp").is_empty() { text(object, "/status/phase").into() } else { "Terminating".into() }
}

fn volume(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let claim = at(object, "/spec/claimRef");
    let claim = if claim.is_null() { String::new() } else { format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")) };
    let field = |pointer: &str| Value::from(text(object, pointer));
    let (attributes, mode) =
        (or(text(object, "/spec/volumeAttributesClassName"), "<unset>"), or(text(object, "/spec/volumeMode"), "<unset>"));
    let (size, modes) = (or(text(object, "/spec/capacity/storage"), "0"), access_modes(items(object, "/spec/accessModes")).into());
    let (policy, class, reason) = (field("/spec/persistentVolumeReclaimPolicy"), storage_class(object), field("/status/reason"));
    vec![name, size, modes, policy, phase(object), claim.into(), class, attributes, reason, created, mode]
}

fn claim(object: &Value, name: Value, created: Value) -> Vec<Value> {
    let volume = text(object, "/spec/volumeName");
    let (mut size, mut modes) = (Value::from(""), Value::from(""));
    if !volume.is_empty() {
        size = or(text(object, "/status/capacity/storage"), "0");
        modes = access_modes(items(object, "/status/accessModes")).into();
    }
    let (attributes, mode) =
        (or(text(object, "/spec/volumeAttributesClassName"), "<unset>"), or(text(object, "/spec/volumeMode"), "<unset>"));
    vec![name, phase(object), volume.into(), size, modes, storage_class(object), attributes, created, mode]
}

fn component(object: &Value, name: Value) -> Vec<Value> {
    let Some(health) = items(object, "/conditions").iter().find(|c| c["type"] == "Healthy") else {
        return vec![name, "Unknown".into(), "".into(), "".into()];
    };
    let status = if health["status"] == "True" { "Healthy" } else { "Unhealthy" };
    vec![name, status.into(), text(health, "/message").into(), text(health, "/error").into()]
}

fn param_kind(object: &Value) -> Value {
    let kind = at(object, "/spec/paramKind");
    if kind.is_null() { "<unset>".into() } else { format!("{}/{}", text(kind, "/apiVersion"), text(kind, "/kind")).into() }
}

fn param_ref(param: &Value) -> Value {
    match (text(param, "/namespace"), text(param, "/name")) {
        (_, "") => "<unset>".into(),
        ("", name) => format!("*/{name}").into(),
        (namespace, name) => format!("{namespace}/{name}").into(),
    }
}

fn api_service(object: &Value) -> Value {
    let service = at(object, "/spec/service");
    if service.is_null() { "Local".into() } else { format!("{}/{}", text(service, "/namespace"), text(service, "/name")).into() }
}

fn available(object: &Value) -> Value {
    let Some(condition) = items(object, "/status/conditions").iter().find(|c| c["type"] == "Available") else { return "Unknown".into() };
    match (text(condition, "/status"), text(condition, "/reason")) {
        ("True", _) => "True".into(),
        (status, "") => status.into(),
        (status, reason) => format!("{status} ({reason})").into(),
    }
}

fn claim_state(object: &Value) -> String {
    let deleted = !text(object, "/metadata/deletionTimestamp").is_empty();
    let allocated = !at(object, "/status/allocation").is_null();
    let reserved = allocated && !items(object, "/status/reservedFor").is_empty();
    let states = [("deleted", deleted), ("pending", !allocated && !deleted), ("allocated", allocated), ("reserved", reserved)];
    join(states.into_iter().filter(|(_, is)| *is).map(|(state, _)| state), ",")
}
