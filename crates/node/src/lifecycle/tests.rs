//! Pods' lives as scenarios: after each observation, what is done and what is told.

use std::time::Duration;

use gantry_containers::{ContainerId, ContainerState, ContainerStatus, ExitReason};
use gantry_object::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::*;

const T0: Timestamp = Timestamp(1_800_000_000_000_000_000);

fn at(seconds: u64) -> Timestamp {
    T0.plus(Duration::from_secs(seconds))
}

fn pod(spec: serde_json::Value) -> Pod {
    let value = json!({"metadata": {"name": "p", "namespace": "a", "uid": "u"}, "spec": spec, "status": {"phase": "Pending"}});
    serde_json::from_value(value).expect("a pod")
}

fn deleted(mut pod: Pod, grace: u64) -> Pod {
    let value = json!(at(grace).rfc3339());
    pod.metadata.deletion_timestamp = Some(serde_json::from_value(value).expect("a time"));
    pod
}

fn container(name: &str, attempt: u32, state: ContainerState, exit_code: Option<i32>) -> ContainerStatus {
    ContainerStatus {
        id: ContainerId::new("u", name, attempt),
        name: name.into(),
        attempt,
        image: "i".into(),
        image_id: "sha256:1".into(),
        state,
        pid: None,
        created_at: T0,
        started_at: Some(T0),
        finished_at: exit_code.map(|_| at(1)),
        exit_code,
        reason: exit_code.map(|c| if c == 0 { ExitReason::Completed } else { ExitReason::Error }),
        message: String::new(),
        log_path: None,
        tty: false,
        labels: Default::default(),
        annotations: Default::default(),
    }
}

fn running(name: &str, attempt: u32) -> ContainerStatus {
    container(name, attempt, ContainerState::Running, None)
}

fn exited(name: &str, attempt: u32, code: i32) -> ContainerStatus {
    container(name, attempt, ContainerState::Exited, Some(code))
}

fn observed(containers: &[ContainerStatus]) -> Observed {
    let mut observed = Observed { sandbox: Sandbox::Ready(vec!["10.0.0.2".into()]), volumes: Volumes::Ready, ..Observed::default() };
    for c in containers {
        observed.containers.entry(c.name.clone()).or_default().push(c.clone());
    }
    observed
}

/// The plan in short: steps, then the phase and whether the pod is ready.
fn short(pod: &Pod, observed: &Observed, now: Timestamp) -> String {
    let plan = decide(pod, observed, &NodeFacts::default(), now);
    let steps: Vec<String> = plan
        .steps
        .iter()
        .map(|s| match s {
            Step::StartContainer { name, attempt } => format!("start {name}#{attempt}"),
            Step::StopContainer { name, grace, .. } => format!("stop {name} in {}s", grace.as_secs()),
            Step::RemoveContainer(id) => format!("remove {}", id.container),
            Step::DiscardContainer { id, .. } => format!("discard {}", id.container),
            other => format!("{other:?}"),
        })
        .collect();
    let ready = plan.status["conditions"].as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
    format!("[{}] {}{}", steps.join(", "), plan.status["phase"].as_str().unwrap_or(""), if ready { " ready" } else { "" })
}

#[test]
fn a_plain_pod_comes_up() {
    let pod = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    let mut seen = Observed::default();
    assert_eq!(short(&pod, &seen, T0), "[PrepareVolumes, StartSandbox] Pending");
    seen.volumes = Volumes::Busy;
    seen.sandbox = Sandbox::Busy;
    assert_eq!(short(&pod, &seen, T0), "[] Pending");
    seen = observed(&[]);
    assert_eq!(short(&pod, &seen, T0), "[start c#0] Pending");
    seen.busy.insert("c".into());
    assert_eq!(short(&pod, &seen, T0), "[] Pending");
    assert_eq!(short(&pod, &observed(&[running("c", 0)]), T0), "[] Running ready");
}

#[test]
fn restart_policies_decide_what_follows_an_end() {
    let with = |policy: &str| pod(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}));
    let (ok, failed) = (observed(&[exited("c", 0, 0)]), observed(&[exited("c", 0, 3)]));
    for (policy, after_success, after_failure) in [
        ("Always", "[start c#1] Running", "[start c#1] Running"),
        ("OnFailure", "[TearDown] Succeeded", "[start c#1] Running"),
        ("Never", "[TearDown] Succeeded", "[TearDown] Failed"),
    ] {
        assert_eq!(short(&with(policy), &ok, at(2)), after_success, "{policy}");
        assert_eq!(short(&with(policy), &failed, at(2)), after_failure, "{policy}");
    }
}

#[test]
fn a_container_that_keeps_ending_waits_longer_each_time() {
    let pod = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    let mut seen = observed(&[exited("c", 1, 1)]);
    seen.backoff.insert("c".into(), BackOff { delay: Duration::from_secs(20), until: at(11) });
    let plan = decide(&pod, &seen, &NodeFacts::default(), at(5));
    assert_eq!((plan.steps, plan.recheck_at), (vec![], Some(at(11))));
    assert_eq!(plan.status["containerStatuses"][0]["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(plan.status["containerStatuses"][0]["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(short(&pod, &seen, at(11)), "[start c#2] Running");
    let mut backoff = BackOff::default();
    let waits: Vec<u64> = (0..8)
        .map(|_| {
            backoff = backoff.after(T0, at(1));
            backoff.until.since(at(1)).as_secs()
        })
        .collect();
    assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(backoff.after(T0, at(601)).until, at(601), "a long run is forgiven");
}

#[test]
fn init_containers_run_one_after_another_and_sidecars_stay() {
    let pod = pod(
        json!({"initContainers": [{"name": "i1", "image": "i"}, {"name": "side", "image": "i", "restartPolicy": "Always"}, {"name": "i2", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}]}),
    );
    assert_eq!(short(&pod, &observed(&[]), T0), "[start i1#0] Pending");
    assert_eq!(short(&pod, &observed(&[running("i1", 0)]), T0), "[] Pending");
    assert_eq!(short(&pod, &observed(&[exited("i1", 0, 1)]), T0), "[start i1#1] Pending");
    assert_eq!(short(&pod, &observed(&[exited("i1", 0, 0)]), T0), "[start side#0] Pending");
    assert_eq!(short(&pod, &observed(&[exited("i1", 0, 0), running("side", 0)]), T0), "[start i2#0] Pending");
    let all = [exited("i1", 0, 0), running("side", 0), exited("i2", 0, 0)];
    assert_eq!(short(&pod, &observed(&all), T0), "[start c#0] Pending");
    let mut with_main = all.to_vec();
    with_main.push(running("c", 0));
    assert_eq!(short(&pod, &observed(&with_main), T0), "[] Running ready");
    with_main[1] = exited("side", 0, 1);
    assert_eq!(short(&pod, &observed(&with_main), T0), "[start side#1] Running");
}

#[test]
fn deletion_ends_containers_then_sidecars_then_everything() {
    let spec =
        json!({"initContainers": [{"name": "side", "image": "i", "restartPolicy": "Always"}], "containers": [{"name": "c", "image": "i"}]});
    let pod = deleted(pod(spec), 20);
    assert_eq!(short(&pod, &observed(&[running("side", 0), running("c", 0)]), at(5)), "[stop c in 15s] Running ready");
    assert_eq!(short(&pod, &observed(&[running("side", 0), exited("c", 0, 143)]), at(6)), "[stop side in 14s] Failed");
    let mut seen = observed(&[exited("side", 0, 143), exited("c", 0, 143)]);
    assert_eq!(short(&pod, &seen, at(7)), "[TearDown] Failed");
    seen.sandbox = Sandbox::Lost;
    seen.volumes = Volumes::None;
    assert_eq!(short(&pod, &seen, at(7)), "[RemoveSandbox] Failed");
    assert_eq!(short(&pod, &Observed::default(), at(7)), "[Forget] Pending");
}

#[test]
fn a_failed_liveness_probe_ends_the_container_with_its_own_grace() {
    let pod = pod(json!({"terminationGracePeriodSeconds": 30, "containers": [{"name": "c", "image": "i",
        "livenessProbe": {"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 4}}]}));
    let mut seen = observed(&[running("c", 0)]);
    assert_eq!(short(&pod, &seen, T0), "[] Running ready");
    seen.probes.insert("c".into(), ProbeResults { live: Some(false), ..ProbeResults::default() });
    assert_eq!(short(&pod, &seen, T0), "[stop c in 4s] Running ready");
}

#[test]
fn readiness_follows_the_probe_and_the_gates() {
    let mut pod = pod(
        json!({"readinessGates": [{"conditionType": "x/y"}], "containers": [{"name": "c", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]}),
    );
    let mut seen = observed(&[running("c", 0)]);
    assert_eq!(short(&pod, &seen, T0), "[] Running");
    seen.probes.insert("c".into(), ProbeResults { ready: Some(true), ..ProbeResults::default() });
    assert_eq!(short(&pod, &seen, T0), "[] Running");
    pod.status = serde_json::from_value(json!({"conditions": [{"type": "x/y", "status": "True"}]})).expect("a status");
    assert_eq!(short(&pod, &seen, T0), "[] Running ready");
}

#[test]
fn a_lost_sandbox_is_made_anew_and_counts_as_a_restart() {
    let mut pod = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    let seen = Observed { sandbox: Sandbox::Lost, volumes: Volumes::Ready, ..Observed::default() };
    assert_eq!(short(&pod, &seen, T0), "[RemoveSandbox] Pending");
    let status = json!({"phase": "Running", "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 2, "containerID": "gantry://u_c-2"}]});
    pod.status = serde_json::from_value(status).expect("a status");
    assert_eq!(short(&pod, &observed(&[]), T0), "[start c#3] Pending");
}

#[test]
fn a_container_that_an_earlier_agent_made_is_discarded_once() {
    let pod = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    let mut made = running("c", 0);
    made.state = ContainerState::Created;
    let mut seen = observed(&[made]);
    assert_eq!(short(&pod, &seen, T0), "[discard c-0] Pending");
    // Asked for twice, the second would take its successor of the same name.
    seen.busy.insert("c".into());
    assert_eq!(short(&pod, &seen, T0), "[] Pending");
}

#[test]
fn a_lost_container_of_a_pod_that_restarts_nothing_has_failed() {
    let mut pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}));
    let status = json!({"phase": "Running", "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
        "containerID": "gantry://u_c-0", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]});
    pod.status = serde_json::from_value(status).expect("a status");
    assert_eq!(short(&pod, &Observed::default(), T0), "[] Failed");
    let plan = decide(&pod, &Observed::default(), &NodeFacts::default(), T0);
    assert_eq!(plan.status["containerStatuses"][0]["state"]["terminated"]["exitCode"], 137);
    pod.spec.as_mut().expect("a spec").restart_policy = Some("Always".into());
    assert_eq!(short(&pod, &observed(&[]), T0), "[start c#1] Pending");
}

#[test]
fn an_address_that_a_pod_no_longer_has_is_not_merged_with_the_new_one() {
    let pod = pod(json!({"containers": [{"name": "c", "image": "i"}]}));
    let observed = Observed { sandbox: Sandbox::Ready(vec!["10.0.0.2".into()]), ..Observed::default() };
    let facts = NodeFacts { host_ips: vec!["192.0.2.1".into()] };
    let patch = status_patch(&pod, &decide(&pod, &observed, &facts, T0).status);
    assert_eq!(patch["metadata"]["uid"], "u");
    assert_eq!(patch["status"]["podIPs"], json!([{"$patch": "replace"}, {"ip": "10.0.0.2"}]));
    assert_eq!(patch["status"]["hostIPs"], json!([{"$patch": "replace"}, {"ip": "192.0.2.1"}]));
    assert_eq!(patch["status"]["podIP"], "10.0.0.2");
}
