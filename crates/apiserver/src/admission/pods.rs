//! What every new pod gets: its service account and a token for it, a priority, tolerations of a node's short absence.

use gantry_object::{Status, Value, meta};
use serde_json::json;

use super::Review;

const TOKEN_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token lasts, in seconds. The agent asks for a new one well before.
const TOKEN_SECONDS: i64 = 3607;
/// How long a pod stays on a node that is not there, in seconds.
const ABSENCE_SECONDS: i64 = 300;

pub(super) fn mutate(review: &Review<'_>, pod: &mut Value) -> Result<(), Status> {
    // A mirror pod stands for one that a node runs by itself: it may use no account.
    if meta::annotation(pod, "kubernetes.io/config.mirror").is_none() {
        service_account(review, pod)?;
    }
    priority(review, pod)?;
    tolerations(pod);
    Ok(())
}

fn service_account(review: &Review<'_>, pod: &mut Value) -> Result<(), Status> {
    let namespace = &review.call.object.namespace;
    let name = meta::name(pod).to_owned();
    let spec = &mut pod["spec"];
    let account_name = spec["serviceAccountName"].as_str().filter(|n| !n.is_empty()).unwrap_or("default").to_owned();
    spec["serviceAccountName"] = json!(account_name);
    spec["serviceAccount"] = json!(account_name);
    let Some(account) = review.stored("serviceaccounts", namespace, &account_name) else {
        let why = format!("error looking up service account {namespace}/{account_name}: serviceaccount {account_name:?} not found");
        return Err(review.forbidden(&name, &why));
    };
    let automount = |object: &Value| object.get("automountServiceAccountToken").and_then(Value::as_bool);
    if automount(spec).or(automount(&account)).unwrap_or(true) {
        mount_token(review, spec);
    }
    let has_pull_secrets = spec.get("imagePullSecrets").and_then(Value::as_array).is_some_and(|s| !s.is_empty());
    if let Some(secrets) = account.get("imagePullSecrets").filter(|_| !has_pull_secrets) {
        spec["imagePullSecrets"] = secrets.clone();
    }
    Ok(())
}

/// A list member, made when missing.
fn list_mut<'a>(object: &'a mut Value, member: &str) -> &'a mut Vec<Value> {
    let list = &mut object[member];
    if !list.is_array() {
        *list = json!([]);
    }
    list.as_array_mut().expect("just made a list")
}

fn mount_token(review: &Review<'_>, spec: &mut Value) {
    let is_ours = |volume: &Value| volume["name"].as_str().is_some_and(|n| n.starts_with("kube-api-access-"));
    let volumes = list_mut(spec, "volumes");
    let given = volumes.iter().find(|v| is_ours(v)).and_then(|v| v["name"].as_str()).map(str::to_owned);
    let volume = given.clone().unwrap_or_else(|| format!("kube-api-access-{}", review.server.random().name_suffix(5)));
    let mut mounted = false;
    for containers in ["initContainers", "containers"] {
        for container in spec.get_mut(containers).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounts = list_mut(container, "volumeMounts");
            if !mounts.iter().any(|m| m["mountPath"] == TOKEN_PATH) {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": TOKEN_PATH}));
                mounted = true;
            }
        }
    }
    if mounted && given.is_none() {
        list_mut(spec, "volumes").push(json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}}));
    }
}

fn priority(review: &Review<'_>, pod: &mut Value) -> Result<(), Status> {
    let name = meta::name(pod).to_owned();
    let spec = &mut pod["spec"];
    let priority = match spec["priorityClassName"].as_str().unwrap_or("") {
        "" => 0,
        "system-cluster-critical" => 2_000_000_000,
        "system-node-critical" => 2_000_001_000,
        other => return Err(review.forbidden(&name, &format!("no PriorityClass with name {other} was found"))),
    };
    if let Some(given) = spec["priority"].as_i64().filter(|given| *given != priority) {
        let why = format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
        );
        return Err(review.forbidden(&name, &why));
    }
    spec["priority"] = json!(priority);
    if spec["preemptionPolicy"].is_null() {
        spec["preemptionPolicy"] = json!("PreemptLowerPriority");
    }
    if spec["priorityClassName"].is_null()
        && let Some(members) = spec.as_object_mut()
    {
        members.remove("priorityClassName");
    }
    Ok(())
}

fn tolerations(pod: &mut Value) {
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = list_mut(&mut pod["spec"], "tolerations");
        let covers = |t: &Value| {
            let (given, effect) = (t["key"].as_str().unwrap_or(""), t["effect"].as_str().unwrap_or(""));
            (given == key || given.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        };
        if !tolerations.iter().any(covers) {
            tolerations.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": ABSENCE_SECONDS}));
        }
    }
}
