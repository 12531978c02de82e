//! The cells of pods.

use gantry_object::{Timestamp, Value};
use serde_json::json;

use crate::table::cells::{age, or_none};
use crate::tree::{at, items, text};

/// What the containers' states add up to.
#[derive(Default)]
struct Summary {
    ready: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

impl Summary {
    fn count_restarts(&mut self, status: &Value) {
        self.restarts += at(status, "/restartCount").as_i64().unwrap_or_default();
        let finished = Timestamp::parse(text(status, "/lastState/terminated/finishedAt"));
        self.last_restart = self.last_restart.max(finished);
    }
}

/// A finished pod's row says so.
pub(super) fn row_condition(pod: &Value) -> Option<Value> {
    let (reason, message) = match text(pod, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}

pub(super) fn cells(pod: &Value, name: Value, created: Value, now: Timestamp) -> Vec<Value> {
    let sidecars = items(pod, "/spec/initContainers").iter().filter(|c| c["restartPolicy"] == "Always").count();
    let total = items(pod, "/spec/containers").len() + sidecars;
    let (reason, summary) = state(pod);
    let restarts = match summary.last_restart {
        Some(last) if summary.restarts != 0 => format!("{} ({} ago)", summary.restarts, age(&last.rfc3339(), now)),
        _ => summary.restarts.to_string(),
    };
    vec![
        name,
        format!("{}/{total}", summary.ready).into(),
        reason.into(),
        restarts.into(),
        created,
        or_none(items(pod, "/status/podIPs").first().map_or("", |ip| text(ip, "/ip"))),
        or_none(text(pod, "/spec/nodeName")),
        or_none(text(pod, "/status/nominatedNodeName")),
        readiness_gates(pod),
    ]
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = items(pod, "/spec/readinessGates");
    let is_met = |gate: &&Value| condition(pod, text(gate, "/conditionType")).is_some_and(|c| c["status"] == "True");
    if gates.is_empty() { "<none>".into() } else { format!("{}/{}", gates.iter().filter(is_met).count(), gates.len()).into() }
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    items(pod, "/status/conditions").iter().find(|c| c["type"] == kind)
}

/// The word in the status column, and the counts beside it.
fn state(pod: &Value) -> (String, Summary) {
    let phase = text(pod, "/status/phase");
    let mut reason = match text(pod, "/status/reason") {
        "" => phase.to_owned(),
        reason => reason.to_owned(),
    };
    if condition(pod, "PodScheduled").is_some_and(|c| c["reason"] == "SchedulingGated") {
        reason = "SchedulingGated".into();
    }
    let (initializing, mut summary, sidecars) = init_state(pod);
    let initialized = condition(pod, "Initialized").is_some_and(|c| c["status"] == "True");
    if initializing.is_none() || initialized {
        let ready = summary.ready;
        summary = Summary { ready, ..sidecars };
        reason = container_state(pod, initializing.unwrap_or(reason), &mut summary);
    } else if let Some(word) = initializing {
        reason = word;
    }
    if !text(pod, "/metadata/deletionTimestamp").is_empty() {
        if text(pod, "/status/reason") == "NodeLost" {
            reason = "Unknown".into();
        } else if !matches!(phase, "Succeeded" | "Failed") {
            reason = "Terminating".into();
        }
    }
    (reason, summary)
}

/// What a terminated state is called.
fn terminated(state: &Value) -> String {
    match (text(state, "/reason"), at(state, "/signal").as_i64().unwrap_or_default()) {
        ("", 0) => format!("ExitCode:{}", at(state, "/exitCode").as_i64().unwrap_or_default()),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.into(),
    }
}

/// Which init container holds the pod up, if one does; the counts of all up to it; those of the sidecars alone.
fn init_state(pod: &Value) -> (Option<String>, Summary, Summary) {
    let (mut summary, mut sidecars) = (Summary::default(), Summary::default());
    let specs = items(pod, "/spec/initContainers");
    for (i, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
        summary.count_restarts(status);
        let is_sidecar = specs.iter().any(|s| s["name"] == status["name"] && s["restartPolicy"] == "Always");
        if is_sidecar {
            sidecars.count_restarts(status);
        }
        let ended = at(status, "/state/terminated");
        let waiting = text(status, "/state/waiting/reason");
        let word = match () {
            () if !ended.is_null() && at(ended, "/exitCode").as_i64().unwrap_or_default() == 0 => continue,
            () if is_sidecar && status["started"] == true => {
                summary.ready += usize::from(status["ready"] == true);
                continue;
            }
            () if !ended.is_null() => format!("Init:{}", terminated(ended)),
            () if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
            () => format!("Init:{i}/{}", specs.len()),
        };
        return (Some(word), summary, sidecars);
    }
    (None, summary, sidecars)
}

fn container_state(pod: &Value, before: String, summary: &mut Summary) -> String {
    let mut reason = before;
    let (mut running, mut error) = (false, None);
    for status in items(pod, "/status/containerStatuses").iter().rev() {
        summary.count_restarts(status);
        let (ended, waiting) = (at(status, "/state/terminated"), text(status, "/state/waiting/reason"));
        if !waiting.is_empty() {
            reason = waiting.into();
        } else if !ended.is_null() {
            reason = terminated(ended);
            if at(ended, "/exitCode").as_i64().unwrap_or_default() != 0 {
                error = Some(reason.clone());
            }
        } else if status["ready"] == true && !at(status, "/state/running").is_null() {
            running = true;
            summary.ready += 1;
        }
    }
    if reason != "Completed" {
        return reason;
    }
    match (running, condition(pod, "Ready").is_some_and(|c| c["status"] == "True"), error) {
        (true, true, _) => "Running".into(),
        (_, _, Some(error)) => error,
        (true, false, None) => "NotReady".into(),
        (false, _, None) => reason,
    }
}
