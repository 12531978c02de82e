//! The cluster's process may be killed at any time: containers go on, and the next one takes them up.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Cluster, wait_until};
use crate::host::Marks;
use crate::images::hello_app;

/// What must not change of a pod while nobody touches it.
const FACTS: &str = "jsonpath={range .items[*]}{.metadata.uid} {.status.podIP} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}\n{end}";

fn kill(pid: i64) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process's number")).expect("not zero");
    kill_process(pid, Signal::KILL).expect("ours to kill");
}

fn is_gone(pid: i64) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn containers_outlive_the_server_and_are_taken_up_by_the_next() {
    let mut cluster = Cluster::start().with_hello("1");
    cluster.apply(&hello_app());
    cluster.kubectl("rollout status deployment/hello --timeout=60s").says("successfully rolled out");
    let (containers, shims) = (cluster.pids("container"), cluster.pids("shim"));
    assert_eq!((containers.len(), shims.len()), (3, 3));
    let facts = || cluster.kubectl_with(&["get", "pods", "-l", "app=hello", "-o", FACTS], "").stdout;
    let before = facts();
    let marks = Marks::of(&cluster);

    for round in 0..3 {
        let server = cluster.pids("server")[0];
        kill(server);
        wait_until("the server is gone", || is_gone(server).then_some(()));
        assert_eq!(
            (cluster.pids("container"), cluster.pids("shim")),
            (containers.clone(), shims.clone()),
            "round {round}: without a server"
        );
        cluster.up();
        assert_eq!((cluster.pids("container"), cluster.pids("shim")), (containers.clone(), shims.clone()), "round {round}: with the next");
        assert_eq!(facts(), before, "round {round}: pods are as they were");
    }

    // The next server is no onlooker: it starts again what ends, and the Service follows.
    kill(containers[0]);
    let restarts = "get pods -l app=hello -o jsonpath={.items[*].status.containerStatuses[0].restartCount}";
    cluster.wait_for(restarts, |s| s.split(' ').filter(|n| *n == "1").count() == 1);
    cluster.kubectl("rollout status deployment/hello --timeout=60s").says("successfully rolled out");
    assert_eq!(cluster.pids("container").len(), 3);

    // A pod that was deleted while nobody looked is gone when somebody does.
    let server = cluster.pids("server")[0];
    cluster.kubectl("delete deployment hello --wait=false").says("deleted");
    kill(server);
    wait_until("the server is gone", || is_gone(server).then_some(()));
    cluster.up();
    cluster.wait_for("get pods -o name", str::is_empty);
    wait_until("no container is left", || (cluster.pids("container").is_empty() && cluster.pids("shim").is_empty()).then_some(()));

    cluster.down();
    marks.assert_all_gone();
}

#[test]
fn a_shim_that_is_killed_takes_its_pod_along_and_the_pod_comes_back() {
    let cluster = Cluster::start().with_hello("1");
    cluster.apply(&hello_app());
    cluster.kubectl("rollout status deployment/hello --timeout=60s").says("successfully rolled out");
    let (containers, shims) = (cluster.pids("container"), cluster.pids("shim"));
    kill(shims[0]);
    wait_until("three others run", || {
        let now = cluster.pids("container");
        (now.len() == 3 && now.iter().filter(|p| containers.contains(p)).count() == 2).then_some(())
    });
    cluster.kubectl("rollout status deployment/hello --timeout=60s").says("successfully rolled out");
    cluster.wait_for("get deployment hello -o jsonpath={.status.readyReplicas}", |s| s == "3");
}
