//! How containers end, and what happens then.

use crate::harness::{Cluster, wait_until};

/// A pod with one container.
fn pod(name: &str, policy: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).expect("text");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  restartPolicy: {policy}\n  terminationGracePeriodSeconds: 20\n  containers:\n  - name: main\n    image: box:1\n    command: [sh, -c, {script}]\n{more}"
    )
}

const LAST: &str = ".status.containerStatuses[0].lastState.terminated";

#[test]
fn containers_are_started_again_as_their_policy_says() {
    let cluster = Cluster::start().with_box();
    cluster.apply(&pod("again", "Always", "exit 3", ""));
    cluster.apply(&pod("failing", "OnFailure", "exit 0", ""));
    cluster.apply(&pod("never", "Never", "exit 4", ""));
    assert_eq!(cluster.ended("failing"), "Succeeded");
    assert_eq!(cluster.ended("never"), "Failed");
    assert_eq!(cluster.value("get pod never -o jsonpath={.status.containerStatuses[0].state.terminated.exitCode}"), "4");
    let waiting =
        "get pod again -o jsonpath={.status.containerStatuses[0].restartCount}/{.status.containerStatuses[0].state.waiting.reason}";
    let back_off =
        |s: &str| s.split_once('/').is_some_and(|(count, why)| count.parse::<u32>().is_ok_and(|n| n >= 1) && why == "CrashLoopBackOff");
    cluster.wait_for(waiting, back_off);
    assert_eq!(cluster.value(&format!("get pod again -o jsonpath={{{LAST}.exitCode}}")), "3");
}

#[test]
fn a_container_that_is_not_live_is_killed_and_started_again() {
    let cluster = Cluster::start().with_box();
    let probe = "    livenessProbe: {exec: {command: [test, '!', -e, /tmp/dead]}, periodSeconds: 1, failureThreshold: 2}\n    readinessProbe: {exec: {command: [test, -e, /tmp/ready]}, periodSeconds: 1}\n";
    // It ends at once when told to, so that the test doesn't wait for the grace period.
    cluster.apply(&pod("probed", "Always", "trap 'exit 0' TERM; while :; do sleep 0.1; done", probe));
    cluster.wait_for("get pod probed -o jsonpath={.status.phase}", |s| s == "Running");
    let ready = "get pod probed -o jsonpath={.status.containerStatuses[0].ready}";
    assert_eq!(cluster.value(ready), "false");
    wait_until("exec", || cluster.shell("probed", "touch /tmp/ready"));
    cluster.wait_for(ready, |s| s == "true");
    cluster.shell("probed", "touch /tmp/dead").expect("exec");
    cluster.wait_for("get pod probed -o jsonpath={.status.containerStatuses[0].restartCount}", |s| s == "1");
    // The new container has a root of its own, where neither file is.
    cluster.wait_for("get pod probed -o jsonpath={.status.containerStatuses[0].state.running.startedAt}", |s| !s.is_empty());
    assert_eq!(cluster.value(ready), "false");
    cluster.kubectl("describe pod probed").says("Liveness probe failed");
}

#[test]
fn a_container_that_takes_too_much_memory_is_killed() {
    let cluster = Cluster::start().with_box();
    // The shell's variable doubles until there is no room for it.
    cluster.apply(&pod("greedy", "Never", "x=0123456789abcdef; while :; do x=$x$x; done", "    resources: {limits: {memory: 24Mi}}\n"));
    assert_eq!(cluster.ended("greedy"), "Failed");
    let how = cluster.value("get pod greedy -o jsonpath={.status.containerStatuses[0].state.terminated.reason}/{.status.containerStatuses[0].state.terminated.exitCode}");
    assert_eq!(how, "OOMKilled/137");
}

#[test]
fn a_pod_ends_gracefully_and_leaves_nothing() {
    let mut cluster = Cluster::start().with_box();
    let dir = tempfile::tempdir().expect("a directory");
    let (script, path) = ("trap 'echo term >> /out/said; exit 0' TERM; while :; do sleep 0.1; done", dir.path().display());
    let hook = "    lifecycle: {preStop: {exec: {command: [sh, -c, 'echo stopping >> /out/said']}}}\n    volumeMounts: [{name: out, mountPath: /out}]\n";
    cluster.apply(&format!(
        "{}  volumes: [{{name: out, hostPath: {{path: {path}, type: Directory}}}}]\n",
        pod("polite", "Always", script, hook)
    ));
    cluster.ready("polite");
    let before = crate::host::Marks::of(&cluster);
    cluster.kubectl("delete pod polite").says("deleted");
    assert_eq!(std::fs::read_to_string(dir.path().join("said")).expect("it said something"), "stopping\nterm\n");
    assert_eq!((cluster.pids("container"), cluster.pids("shim")), (vec![], vec![]), "after deletion");
    before.assert_pods_gone(&cluster);

    // One that doesn't listen is killed when its grace period is over.
    cluster.apply(&pod("deaf", "Always", "trap '' TERM; while :; do sleep 0.1; done", ""));
    cluster.ready("deaf");
    cluster.kubectl("delete pod deaf --grace-period=1").says("deleted");
    assert_eq!(cluster.pids("container"), Vec::<i64>::new());
    let marks = crate::host::Marks::of(&cluster);
    cluster.down();
    marks.assert_all_gone();
}
