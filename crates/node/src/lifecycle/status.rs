//! What the API is told about a pod.

use gantry_containers::{ContainerState, ContainerStatus};
use gantry_object::{Timestamp, Value};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::json;

use super::containers::{
    InitProgress, RestartPolicy, api_status, app_containers, has_started, init_containers, init_progress, is_lost, is_ready, is_sidecar,
    restart_count, succeeded,
};
use super::decide::NodeFacts;
use super::observed::{Observed, Sandbox, Volumes};

/// Whether everything of the pod is to end: it is deleted, or it has come to its own end.
pub(super) fn must_end(pod: &Pod, observed: &Observed) -> bool {
    pod.metadata.deletion_timestamp.is_some() || matches!(phase(pod, observed), "Succeeded" | "Failed")
}

/// The pod's phase.
fn phase(pod: &Pod, observed: &Observed) -> &'static str {
    let told = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or("");
    // An end is final, whoever said it.
    match told {
        "Succeeded" => return "Succeeded",
        "Failed" => return "Failed",
        _ => {}
    }
    let policy = pod.spec.as_ref().map_or(RestartPolicy::Always, RestartPolicy::of);
    match init_progress(pod, observed) {
        InitProgress::Failed(_) => return "Failed",
        InitProgress::At(_) => return "Pending",
        InitProgress::Done => {}
    }
    let ends: Vec<Option<&ContainerStatus>> = app_containers(pod).iter().map(|c| observed.newest(&c.name)).collect();
    let ended = |c: &Option<&ContainerStatus>| c.is_some_and(|c| c.state == ContainerState::Exited && !policy.restarts(c));
    // What was lost has ended too, and a pod that restarts nothing has failed by it.
    if policy == RestartPolicy::Never && app_containers(pod).iter().any(|c| is_lost(pod, observed, &c.name)) {
        let others = app_containers(pod).iter().all(|c| is_lost(pod, observed, &c.name) || ended(&observed.newest(&c.name)));
        return if others { "Failed" } else { "Running" };
    }
    let deleted = pod.metadata.deletion_timestamp.is_some();
    let stopped = |c: &Option<&ContainerStatus>| c.is_some_and(|c| c.state == ContainerState::Exited);
    let all_ended = !ends.is_empty() && (ends.iter().all(ended) || deleted && ends.iter().all(stopped));
    if all_ended && !app_containers(pod).iter().any(|c| observed.busy.contains(&c.name) && !deleted) {
        return if ends.iter().flatten().all(|c| succeeded(c)) { "Succeeded" } else { "Failed" };
    }
    let begun = |c: &Option<&ContainerStatus>| c.is_some_and(|c| c.state != ContainerState::Created);
    // Upstream: once every container has been started, even if some wait to start again.
    let runs = ends.iter().all(begun) || told == "Running" && ends.iter().any(begun);
    if runs { "Running" } else { "Pending" }
}

/// The whole status.
pub(super) fn render(pod: &Pod, observed: &Observed, node: &NodeFacts, now: Timestamp) -> Value {
    let phase = phase(pod, observed);
    let told = pod.status.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let started = told.start_time.as_ref().map_or_else(|| now.rfc3339(), |t| Timestamp(t.0.as_nanosecond() as i64).rfc3339());
    let mut status = json!({
        "phase": phase,
        "startTime": started,
        "qosClass": told.qos_class,
        "hostIP": node.host_ips.first(),
        "hostIPs": node.host_ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
        "conditions": conditions(pod, observed, phase, now),
        "containerStatuses": app_containers(pod).iter().map(|c| container(pod, observed, c, phase, false)).collect::<Vec<_>>(),
    });
    if !init_containers(pod).is_empty() {
        status["initContainerStatuses"] = init_containers(pod).iter().map(|c| container(pod, observed, c, phase, true)).collect();
    }
    let ips = match &observed.sandbox {
        _ if spec.host_network == Some(true) => node.host_ips.clone(),
        Sandbox::Ready(ips) => ips.clone(),
        _ => told.pod_ips.iter().flatten().map(|ip| ip.ip.clone()).collect(),
    };
    if let Some(first) = ips.first() {
        status["podIP"] = json!(first);
        status["podIPs"] = ips.iter().map(|ip| json!({"ip": ip})).collect();
    }
    for (member, value) in [("reason", told.reason), ("message", told.message)] {
        if let Some(value) = value {
            status[member] = json!(value);
        }
    }
    if let Some(generation) = pod.metadata.generation {
        status["observedGeneration"] = json!(generation);
    }
    status
}

/// The strategic merge patch that gives a pod a whole status. Lists of addresses, which would be merged, are replaced: an address that a
/// pod no longer has must not stay.
pub fn status_patch(pod: &Pod, status: &Value) -> Value {
    let mut status = status.clone();
    for addresses in ["podIPs", "hostIPs"] {
        if let Some(list) = status.get_mut(addresses).and_then(Value::as_array_mut) {
            list.insert(0, json!({"$patch": "replace"}));
        }
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

fn container(pod: &Pod, observed: &Observed, container: &Container, phase: &str, init: bool) -> Value {
    let name = container.name.as_str();
    let newest = observed.newest(name);
    let told = api_status(pod, name);
    let state = match newest {
        // A start that failed says more than the end before it.
        Some(ended) if ended.state == ContainerState::Exited => waiting_to_restart(pod, observed, container, ended, phase),
        Some(status) if status.state == ContainerState::Running => running(status),
        _ => None,
    };
    let state = state.or_else(|| newest.filter(|c| c.state == ContainerState::Exited).map(terminated)).unwrap_or_else(|| {
        if phase == "Failed" && is_lost(pod, observed, name) {
            return lost_state();
        }
        // What the runtime has forgotten but the API knows to have ended stays so.
        let ended =
            told.and_then(|t| t.state.as_ref()).and_then(|s| s.terminated.as_ref()).filter(|_| matches!(phase, "Succeeded" | "Failed"));
        ended.map_or_else(|| not_started(pod, observed, name), |t| json!({"terminated": t}))
    });
    let attempts = observed.containers.get(name).map(Vec::as_slice).unwrap_or_default();
    let before = if state.get("waiting").is_some() { attempts.last() } else { attempts.iter().rev().nth(1) };
    let last_state = match before.filter(|c| c.state == ContainerState::Exited) {
        Some(ended) => terminated(ended),
        None if is_lost(pod, observed, name) && phase != "Failed" => lost_state(),
        None => told.and_then(|t| t.last_state.as_ref()).map_or(json!({}), |s| json!(s)),
    };
    let ready = if init && !is_sidecar(container) { newest.is_some_and(succeeded) } else { is_ready(container, observed) };
    let mut status = json!({
        "name": name,
        "image": newest.map_or_else(|| container.image.clone().unwrap_or_default(), |c| c.image.clone()),
        "imageID": newest.map_or("", |c| &c.image_id),
        "ready": ready,
        "restartCount": restart_count(pod, observed, name),
        "state": state,
        "lastState": last_state,
        "started": has_started(container, observed),
    });
    // A container that the runtime has forgotten keeps its id until there is another: that it was there makes the next start a restart.
    let id = newest.map(|c| format!("gantry://{}", c.id)).or_else(|| told.and_then(|t| t.container_id.clone()));
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        status["containerID"] = json!(id);
    }
    status
}

/// How a container ended that nobody saw end.
fn lost_state() -> Value {
    let message = "The container could not be located when the pod was looked at again";
    json!({"terminated": {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": message, "startedAt": null, "finishedAt": null}})
}

fn running(status: &ContainerStatus) -> Option<Value> {
    Some(json!({"running": {"startedAt": status.started_at.map(Timestamp::rfc3339)}}))
}

fn terminated(ended: &ContainerStatus) -> Value {
    let mut state = json!({
        "exitCode": ended.exit_code.unwrap_or(137),
        "reason": ended.reason.map_or("Error", |r| r.as_str()),
        "startedAt": ended.started_at.unwrap_or(ended.created_at).rfc3339(),
        "finishedAt": ended.finished_at.unwrap_or(ended.created_at).rfc3339(),
        "containerID": format!("gantry://{}", ended.id),
    });
    if !ended.message.is_empty() {
        state["message"] = json!(ended.message);
    }
    json!({"terminated": state})
}

/// The waiting state of a container that has ended and is to start again; `None` when it isn't, or when it starts at once.
fn waiting_to_restart(pod: &Pod, observed: &Observed, container: &Container, ended: &ContainerStatus, phase: &str) -> Option<Value> {
    let name = container.name.as_str();
    let policy = pod.spec.as_ref().map_or(RestartPolicy::Always, RestartPolicy::of);
    let restarts = is_sidecar(container) || policy.restarts(ended);
    if !restarts || matches!(phase, "Succeeded" | "Failed") || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    if let Some(waiting) = observed.waiting.get(name) {
        return Some(json!({"waiting": {"reason": waiting.reason, "message": waiting.message}}));
    }
    let backoff = observed.backoff.get(name).filter(|b| ended.finished_at.is_some_and(|f| b.until > f))?;
    let delay = backoff.until.since(ended.finished_at?).as_secs();
    let wait = if delay >= 60 { format!("{}m{}s", delay / 60, delay % 60) } else { format!("{delay}s") };
    let (pod_name, namespace) = (pod.metadata.name.as_deref().unwrap_or(""), pod.metadata.namespace.as_deref().unwrap_or(""));
    let uid = pod.metadata.uid.as_deref().unwrap_or("");
    let message = format!("back-off {wait} restarting failed container={name} pod={pod_name}_{namespace}({uid})");
    Some(json!({"waiting": {"reason": "CrashLoopBackOff", "message": message}}))
}

fn not_started(pod: &Pod, observed: &Observed, name: &str) -> Value {
    if let Some(waiting) = observed.waiting.get(name) {
        return json!({"waiting": {"reason": waiting.reason, "message": waiting.message}});
    }
    let initializing = init_progress(pod, observed) != InitProgress::Done && app_containers(pod).iter().any(|c| c.name == name);
    let surroundings = matches!(observed.sandbox, Sandbox::Ready(_)) && observed.volumes == Volumes::Ready;
    let reason = if initializing && surroundings { "PodInitializing" } else { "ContainerCreating" };
    json!({"waiting": {"reason": reason}})
}

fn conditions(pod: &Pod, observed: &Observed, phase: &str, now: Timestamp) -> Vec<Value> {
    let told: &[_] = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let generation = pod.metadata.generation;
    let condition = |kind: &str, holds: bool, reason: Option<&str>, message: Option<String>| {
        let status = if holds { "True" } else { "False" };
        let before = told.iter().find(|c| c.type_ == kind && c.status == status).and_then(|c| c.last_transition_time.as_ref());
        let since = before.map_or_else(|| now.rfc3339(), |t| Timestamp(t.0.as_nanosecond() as i64).rfc3339());
        let mut condition = json!({"type": kind, "status": status, "lastProbeTime": null, "lastTransitionTime": since, "reason": reason, "message": message});
        if let Some(generation) = generation {
            condition["observedGeneration"] = json!(generation);
        }
        condition
    };
    let completed = phase == "Succeeded";
    let done = init_progress(pod, observed) == InitProgress::Done;
    let waiting_inits: Vec<&str> = init_containers(pod)
        .iter()
        .filter(|c| if is_sidecar(c) { !has_started(c, observed) } else { !observed.newest(&c.name).is_some_and(succeeded) })
        .map(|c| c.name.as_str())
        .collect();
    let unready: Vec<&str> = {
        let sidecars = init_containers(pod).iter().filter(|c| is_sidecar(c));
        sidecars.chain(app_containers(pod)).filter(|c| !is_ready(c, observed)).map(|c| c.name.as_str()).collect()
    };
    let containers_ready = unready.is_empty();
    let ended = matches!(phase, "Succeeded" | "Failed");
    let reason = match phase {
        "Succeeded" => "PodCompleted",
        "Failed" => "PodFailed",
        _ => "ContainersNotReady",
    };
    let unready_message = || Some(format!("containers with unready status: [{}]", unready.join(" "))).filter(|_| !ended);
    let gates_met = gates(pod).all(|gate| told.iter().any(|c| c.type_ == gate && c.status == "True"));
    let ready = containers_ready && !ended && gates_met;
    let ready_reason = if containers_ready && !ended { "ReadinessGatesNotReady" } else { reason };
    let ready_message = if containers_ready && !ended {
        Some("corresponding condition of a pod readiness gate is not True".to_owned())
    } else {
        unready_message()
    };
    let initialized = completed || done;
    let init_message = Some(format!("containers with incomplete status: [{}]", waiting_inits.join(" ")));
    let containers_ready = containers_ready && !ended;
    vec![
        condition("PodReadyToStartContainers", matches!(observed.sandbox, Sandbox::Ready(_)), None, None),
        condition(
            "Initialized",
            initialized,
            if completed { Some("PodCompleted") } else { (!initialized).then_some("ContainersNotInitialized") },
            init_message.filter(|_| !initialized),
        ),
        condition("Ready", ready, (!ready).then_some(ready_reason), ready_message.filter(|_| !ready)),
        condition(
            "ContainersReady",
            containers_ready,
            (!containers_ready).then_some(reason),
            unready_message().filter(|_| !containers_ready),
        ),
        condition("PodScheduled", true, None, None),
    ]
}

fn gates(pod: &Pod) -> impl Iterator<Item = &str> {
    pod.spec.iter().filter_map(|s| s.readiness_gates.as_ref()).flatten().map(|g| g.condition_type.as_str())
}
