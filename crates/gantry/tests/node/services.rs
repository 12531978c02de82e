//! A Deployment behind a Service: by address, by node port, by name; scaled, rolled out under load, rolled back.

use std::process::Command;

use crate::harness::{Cluster, succeed, wait_until};
use crate::images::{hello, hello_app};

fn get(url: &str) -> Option<String> {
    let output = Command::new(hello()).args(["get", url]).output().expect("the example runs");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_deployment_answers_behind_a_service_and_is_rolled_out_without_a_failed_request() {
    let cluster = Cluster::start().with_hello("1").with_hello("2").with_box();
    cluster.apply(&hello_app());
    cluster.kubectl("rollout status deployment/hello --timeout=60s").says("successfully rolled out");
    let ip = cluster.value("get service hello -o jsonpath={.spec.clusterIP}");
    let url = format!("http://{ip}/path");
    wait_until("an answer from the ClusterIP", || get(&url).filter(|a| a.starts_with("hello version 1 from hello-")));

    // By a port of every address of the node, except that loopback cannot be routed.
    cluster.kubectl_with(&["patch", "service", "hello", "-p", r#"{"spec":{"type":"NodePort"}}"#], "").says("patched");
    let port = cluster.value("get service hello -o jsonpath={.spec.ports[0].nodePort}");
    let node = cluster.value(r#"get nodes -o jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}"#);
    wait_until("an answer from the node port", || get(&format!("http://{node}:{port}/")).filter(|a| a.starts_with("hello version 1")));

    // By its names, from inside a pod.
    cluster.kubectl("run asker --image=box:1 --restart=Never -- sleep 3600").says("created");
    cluster.ready("asker");
    for name in ["hello", "hello.default", "hello.default.svc", "hello.default.svc.cluster.local"] {
        let answer = cluster.shell("asker", &format!("wget -q -O - http://{name}/by-name"));
        assert!(answer.as_deref().is_some_and(|a| a.contains("hello version 1") && a.contains("at /by-name")), "{name}: {answer:?}");
    }
    let looked_up = cluster.shell("asker", "nslookup hello.default.svc.cluster.local").expect("an answer");
    assert!(looked_up.contains(&ip), "{looked_up}");

    cluster.kubectl("scale deployment hello --replicas=5").says("scaled");
    cluster.wait_for("get deployment hello -o jsonpath={.status.readyReplicas}", |s| s == "5");

    let load = Command::new(hello()).args(["load", &url, "10", "100", "version 2"]).stdout(std::process::Stdio::piped()).spawn();
    let load = load.expect("the load starts");
    cluster.kubectl("set image deployment/hello hello=hello:2").says("image updated");
    cluster.kubectl("rollout status deployment/hello --timeout=60s").says("successfully rolled out");
    let loaded = load.wait_with_output().expect("the load ends");
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stdout));

    cluster.kubectl("rollout undo deployment/hello").says("rolled back");
    cluster.kubectl("rollout status deployment/hello --timeout=60s").says("successfully rolled out");
    // Of the second version's pods, those that are told to stop may still answer for a moment.
    wait_until("only version 1 answers", || (0..20).all(|_| get(&url).is_some_and(|a| a.contains("version 1"))).then_some(()));
    let selector =
        cluster.value("get endpointslices -l kubernetes.io/service-name=hello -o jsonpath={.items[*].endpoints[*].addresses[0]}");
    assert!(selector.split(' ').count() >= 5, "{selector}");
}

#[test]
fn the_demo_shows_what_it_promises() {
    let binaries = tempfile::tempdir().expect("a directory");
    std::fs::copy(env!("CARGO_BIN_EXE_gantry"), binaries.path().join("gantry")).expect("the binary");
    std::fs::copy(hello(), binaries.path().join("hello")).expect("the binary");
    let cluster = Cluster::start();
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/demo");
    for _ in 0..2 {
        let mut demo = Command::new(&script);
        demo.env("GANTRY_BINARIES", binaries.path()).env("GANTRY_DATA_DIR", cluster.dir.path());
        let said = succeed(&mut demo);
        assert!(said.contains(" 0 failed") && said.contains("and is back as"), "{said}");
    }
}
