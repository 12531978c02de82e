//! What people type at a running cluster, beyond what the server's tests hold without nodes.

use std::process::Command;

use crate::harness::{Cluster, succeed};

/// What kubectl prints at a terminal of 40 rows of 100 that grows to 50 of 120 once kubectl has said "ready".
fn at_terminal(cluster: &Cluster, args: &str) -> String {
    let said = cluster.dir.path().join("said");
    let grow = format!("(until grep -q ready {}; do sleep 0.1; done; stty -F /dev/tty rows 50 cols 120) &", said.display());
    let line = format!("stty rows 40 cols 100; {grow} timeout --foreground 60 kubectl {args}");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--flush", "--command", &line]).arg(&said);
    succeed(script.env("KUBECONFIG", cluster.dir.path().join("kubeconfig")))
}

#[test]
fn deployments_are_edited_replaced_and_waited_for() {
    let cluster = Cluster::start().with_box();
    cluster.kubectl("create deployment web --image=box:1 --replicas=2 -- sleep 3600").says("created");
    cluster.kubectl("wait --for=condition=Available deployment/web --timeout=60s").says("condition met");
    cluster.kubectl("wait --for=jsonpath={.status.readyReplicas}=2 deployment/web --timeout=60s").says("condition met");
    cluster.kubectl("events --for deployment/web").says("Scaled up replica set");
    cluster.kubectl("events").says("Started");

    let edit = |script: &str| {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["edit", "deployment", "web"]).env("KUBE_EDITOR", format!("sed -i {script}"));
        kubectl.env("KUBECONFIG", cluster.dir.path().join("kubeconfig")).output().expect("kubectl runs")
    };
    assert!(edit("'s/replicas: 2/replicas: 3/'").status.success());
    assert_eq!(cluster.value("get deployment web -o jsonpath={.spec.replicas}"), "3");
    let refused = edit("'s/replicas: 3/replicas: many/'");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("replicas"), "{refused:?}");

    let one = cluster.value("get deployment web -o yaml").replace("replicas: 3", "replicas: 1");
    cluster.kubectl_with(&["replace", "--force", "-f", "-"], &one).says("replaced");
    cluster.kubectl("rollout status deployment/web --timeout=60s").says("successfully rolled out");
    cluster.kubectl("delete deployment web --cascade=foreground").says("deleted");
    assert_eq!(cluster.value("get replicasets -l app=web -o name"), "");
}

#[test]
fn pods_are_run_talked_to_and_looked_back_at() {
    let cluster = Cluster::start().with_box();
    let run = ["run", "cat", "--image=box:1", "--restart=Never", "-i", "--rm", "--quiet", "--", "cat"];
    cluster.kubectl_with(&run, "said\n").says("said");
    cluster.kubectl("get pod cat").fails("NotFound");

    cluster.kubectl_with(&["run", "again", "--image=box:1", "--", "sh", "-c", "echo round; exit 1"], "").says("created");
    cluster.kubectl("wait --for=jsonpath={.status.containerStatuses[0].restartCount}=1 pod/again --timeout=60s").says("condition met");
    cluster.kubectl("logs again --previous").says("round");

    cluster.kubectl("run box --image=box:1 -- sleep 3600").says("created");
    cluster.ready("box");
    // Said again and again: some kubectls drop what comes before they listen.
    let script = r#"exec -it box -- sh -c "until stty size | grep '50 120'; do stty size; echo ready; sleep 0.1; done""#;
    let said = at_terminal(&cluster, script);
    assert!(said.contains("50 120"), "the container's terminal follows the client's: {said}");
}
