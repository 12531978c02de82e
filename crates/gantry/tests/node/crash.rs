//! Agents are killed again and again while pods come and go: nothing runs twice, and nothing is left over.
//!
//! `GANTRY_CRASH_PODS` says how many pods there are, `GANTRY_CRASH_SEED` which agents die when. `docs/crashes.md` has the results of long runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::process::{Child, Stdio};

use gantry_ports::{Clock, Random, RealClock, SeededRandom};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Cluster, PATIENCE, wait_until};
use crate::host::Marks;
use crate::inventory;

const NODES: [&str; 2] = ["node-1", "node-2"];
/// How many pods come at a time.
const WAVE: usize = 20;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// Pods that write down each start, and never start again by themselves.
fn pods(wave: usize, count: usize) -> String {
    let mut all = String::new();
    for i in 0..count {
        let script = "echo started >> /ledger/$NAME; exec sleep 100000";
        write!(
            all,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{wave}-{i}, labels: {{wave: \"{wave}\"}}}}\nspec:\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: main\n    image: box:1\n    command: [sh, -c, '{script}']\n    env: [{{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]\n    volumeMounts: [{{name: ledger, mountPath: /ledger}}, {{name: room, mountPath: /room}}]\n  volumes:\n  - {{name: ledger, hostPath: {{path: /ledger, type: DirectoryOrCreate}}}}\n  - {{name: room, emptyDir: {{medium: Memory}}}}\n"
        )
        .expect("text");
    }
    all
}

/// The cluster's agents: at first those of `gantry up`, later those that the test started in their place.
struct Agents<'c> {
    cluster: &'c Cluster,
    own: BTreeMap<&'static str, Child>,
}

impl Agents<'_> {
    /// Kills one and starts another in its place.
    fn replace(&mut self, node: &'static str) {
        if let Some(mut child) = self.own.remove(node) {
            child.kill().expect("ours to kill");
            child.wait().expect("ours to wait for");
        } else {
            let status = self.cluster.status();
            let mut processes = status["processes"].as_array().expect("a list").iter();
            let agent = processes.find(|p| p["role"] == "agent" && p["node"] == node).and_then(|p| p["pid"].as_i64()).expect("it runs");
            let pid = Pid::from_raw(i32::try_from(agent).expect("a process's number")).expect("not zero");
            kill_process(pid, Signal::KILL).expect("ours to kill");
            wait_until("the agent is gone", || fs::read_to_string(format!("/proc/{agent}/stat")).is_err().then_some(()));
        }
        let mut agent = self.cluster.gantry(&["agent", "--node-name", node]);
        let log = fs::OpenOptions::new().create(true).append(true).open(self.cluster.dir.path().join(format!("log/{node}.log")));
        let child = agent.stdout(Stdio::null()).stderr(log.expect("a file")).spawn().expect("the agent starts");
        self.own.insert(node, child);
    }
}

impl Drop for Agents<'_> {
    fn drop(&mut self) {
        for child in self.own.values_mut() {
            // One that ended by itself is waited for all the same.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How often each pod's container was started, on whatever node.
fn starts(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for node in NODES {
        let ledger = cluster.dir.path().join("nodes").join(node).join("root/ledger");
        for file in fs::read_dir(ledger).into_iter().flatten().flatten() {
            let lines = fs::read_to_string(file.path()).expect("a file").lines().count();
            *all.entry(file.file_name().to_string_lossy().into_owned()).or_insert(0) += lines;
        }
    }
    all
}

#[test]
fn agents_are_killed_while_pods_come_and_go_and_nothing_runs_twice_or_is_left() {
    let total = from_environment("GANTRY_CRASH_PODS", 40) as usize;
    let random = SeededRandom::new(from_environment("GANTRY_CRASH_SEED", 1));
    let mut cluster = Cluster::start_with(&["--nodes", "2"]).with_box();
    cluster.wait_for("get nodes --no-headers", |said| said.lines().filter(|l| l.contains(" Ready ")).count() == NODES.len());
    // One pod beforehand, so that what is made once and kept is there.
    for node in NODES {
        let warm =
            pods(0, 1).replace("p0-0", &format!("warm-{node}")).replace("restartPolicy", &format!("nodeName: {node}\n  restartPolicy"));
        cluster.apply(&warm);
        cluster.ready(&format!("warm-{node}"));
        cluster.kubectl(&format!("delete pod warm-{node} --grace-period=0")).says("deleted");
    }
    let mut marks = Marks::of(&cluster);
    let mut agents = Agents { cluster: &cluster, own: BTreeMap::new() };
    NODES.iter().for_each(|node| agents.replace(node));
    wait_until("pods of before are gone", || (cluster.pids("shim").is_empty() && cluster.pids("agent").len() == 2).then_some(()));
    let settled =
        |inventory: &inventory::Inventory| !inventory.keys().any(|k| k.starts_with("process: shim") || k.starts_with("process: container"));
    let before = wait_until("the agents have begun", || {
        let (one, two) = (inventory::of(&cluster), inventory::of(&cluster));
        (one == two && settled(&one) && one.keys().any(|k| k.starts_with("agent node-2: nft"))).then_some(one)
    });

    let (mut kills, mut done) = (0, 0);
    while done < total {
        let (wave, count) = (done / WAVE, WAVE.min(total - done));
        cluster.apply(&pods(wave, count));
        let started = || starts(&cluster).keys().filter(|n| n.starts_with(&format!("p{wave}-"))).count();
        // Somewhere while they start, and once more.
        for part in [random.below(count as u64 / 2) as usize, count / 2 + random.below(count as u64 / 2) as usize] {
            wait_until("some have started", || (started() >= part).then_some(()));
            agents.replace(NODES[random.below(2) as usize]);
            kills += 1;
        }
        let phases = format!("get pods -l wave={wave} -o jsonpath={{.items[*].status.phase}}");
        if wave % 2 == 0 {
            cluster.wait_for(&phases, |said| said.split(' ').filter(|p| *p == "Running").count() == count);
            assert_eq!(cluster.pids("container").len(), count, "one container for each pod");
        }
        // Of this wave alone: the kernel gives numbers of namespaces again, by then perhaps to a neighbour's.
        marks = Marks::of(&cluster);
        // And while they end, every other time before all have started.
        cluster.kubectl(&format!("delete pods -l wave={wave} --wait=false")).says("deleted");
        let left = || cluster.kubectl(&format!("get pods -l wave={wave} -o name")).stdout.lines().count();
        let part = random.below(count as u64) as usize;
        wait_until("some are gone", || (left() <= part).then_some(()));
        agents.replace(NODES[random.below(2) as usize]);
        kills += 1;
        wait_until("all are gone", || (left() == 0).then_some(()));
        done += count;
    }
    let twice: Vec<_> = starts(&cluster).into_iter().filter(|(_, times)| *times != 1).collect();
    assert!(twice.is_empty(), "started more than once: {twice:?}");
    let mut last = Vec::new();
    let since = RealClock::new();
    while since.monotonic() < PATIENCE / 2 {
        last = inventory::difference(&before, &inventory::of(&cluster));
        if last.is_empty() {
            break;
        }
    }
    assert!(last.is_empty(), "after {done} pods and {kills} killed agents: {last:#?}");
    println!("{done} pods, {kills} agents killed, {} started", starts(&cluster).len());
    drop(agents);
    cluster.down();
    marks.assert_all_gone();
}
