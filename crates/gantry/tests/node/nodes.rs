//! Three nodes on one host, and strangers who would join.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Cluster, succeed, wait_until};
use crate::host::Marks;
use crate::images::hello;

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 1}
      containers:
      - {name: c, image: "hello:1", readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

/// Where each pod is, whether it is ready, and whether it is going.
const PLACES: &str = "jsonpath={range .items[*]}{.spec.nodeName}/{.status.containerStatuses[0].ready}/{.metadata.deletionTimestamp}\n{end}";

/// Who answers when this address is asked often: the pods' names.
fn answering(url: &str) -> BTreeSet<String> {
    let ask = || Command::new(hello()).args(["get", url]).output().ok().filter(|o| o.status.success());
    let name = |o: std::process::Output| String::from_utf8_lossy(&o.stdout).split(' ').find(|w| w.starts_with("web-")).map(str::to_owned);
    (0..60).filter_map(|_| name(ask()?)).collect()
}

fn agent_of(cluster: &Cluster, node: &str) -> Option<i64> {
    let status = cluster.status();
    let mut processes = status["processes"].as_array().expect("a list").iter();
    processes.find(|p| p["role"] == "agent" && p["node"] == node).and_then(|p| p["pid"].as_i64())
}

/// An agent in the foreground, ended with the test.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().expect("ours to kill");
        self.0.wait().expect("ours to wait for");
    }
}

#[test]
fn three_nodes_share_services_and_outlive_a_killed_agent() {
    let mut cluster = Cluster::start_with(&["--nodes", "3", "--node-grace", "4"]).with_hello("1").with_box();
    cluster.wait_for("get nodes --no-headers", |said| said.lines().filter(|l| l.contains(" Ready ")).count() == 3);
    cluster.apply(WEB);
    cluster.kubectl("rollout status deployment/web --timeout=60s").says("successfully rolled out");
    let nodes = cluster.value("get pods -l app=web -o jsonpath={.items[*].spec.nodeName}");
    assert_eq!(nodes.split(' ').collect::<BTreeSet<_>>().len(), 3, "pods are spread over the nodes: {nodes}");

    // From the host: the Service's address, every node's port, every pod; from a pod: the Service by name, on whatever node.
    let ip = cluster.value("get service web -o jsonpath={.spec.clusterIP}");
    wait_until("all six pods answer behind the Service", || (answering(&format!("http://{ip}/")).len() == 6).then_some(()));
    let port = cluster.value("get service web -o jsonpath={.spec.ports[0].nodePort}");
    let addresses = cluster.value(r#"get nodes -o jsonpath={.items[*].status.addresses[?(@.type=="InternalIP")].address}"#);
    for address in addresses.split(' ') {
        assert!(!answering(&format!("http://{address}:{port}/")).is_empty(), "node port of {address}");
    }
    for pod in cluster.value("get pods -l app=web -o jsonpath={.items[*].status.podIP}").split(' ') {
        assert_eq!(answering(&format!("http://{pod}:8080/")).len(), 1, "pod {pod}");
    }
    cluster.kubectl("run asker --image=box:1 --restart=Never -- sleep 3600").says("created");
    cluster.ready("asker");
    let asked = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do wget -q -O - http://web; done";
    let answers = cluster.shell("asker", asked).expect("answers by name");
    let heard: BTreeSet<&str> = answers.split(' ').filter(|w| w.starts_with("web-")).collect();
    assert!(heard.len() > 3, "a pod reaches pods of other nodes: {heard:?}");

    // The agent of a node dies: the node is not ready, its pods move, and when it comes back it takes its place again.
    let asker = cluster.value("get pod asker -o jsonpath={.spec.nodeName}");
    let victim = ["node-1", "node-2", "node-3"].into_iter().find(|n| *n != asker).expect("another node");
    let pid = agent_of(&cluster, victim).expect("its agent runs");
    kill_process(Pid::from_raw(i32::try_from(pid).expect("a process")).expect("not zero"), Signal::KILL).expect("ours to kill");
    cluster.wait_for(&format!("get node {victim} --no-headers"), |said| said.contains("NotReady"));
    wait_until("the pods have moved", || {
        let pods = cluster.kubectl_with(&["get", "pods", "-l", "app=web", "-o", PLACES], "").stdout;
        let elsewhere = pods.lines().filter(|l| !l.starts_with(victim) && l.ends_with("/true/"));
        (elsewhere.count() == 6).then_some(())
    });
    assert!(agent_of(&cluster, victim).is_none());
    let mut agent = cluster.gantry(&["agent", "--node-name", victim, "--heartbeat", "800"]);
    let agent = Agent(agent.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the agent starts"));
    cluster.wait_for(&format!("get node {victim} --no-headers"), |said| !said.contains("NotReady"));
    cluster.wait_for("get pods -l app=web --no-headers", |said| !said.contains("Terminating") && said.lines().count() == 6);
    let marks = Marks::of(&cluster);
    drop(agent);
    cluster.down();
    marks.assert_all_gone();
}

#[test]
fn nobody_joins_with_a_wrong_token() {
    let cluster = Cluster::start().with_hello("1");
    let token = succeed(&mut cluster.gantry(&["token", "create"]));
    let elsewhere = tempfile::tempdir().expect("a directory");
    let address = cluster.value("get endpoints kubernetes -o jsonpath={.subsets[0].addresses[0].ip}");
    let port = cluster.value("get endpoints kubernetes -o jsonpath={.subsets[0].ports[0].port}");
    let join = |token: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command.args(["agent", "--node-name", "other", "--server", &format!("https://{address}:{port}"), "--token", token, "--data-dir"]);
        command.arg(elsewhere.path()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    // A token that pins another authority, and one with the wrong secret.
    let (id_and_secret, hash) = token.trim().rsplit_once('.').expect("three parts");
    let wrong_hash = format!("{id_and_secret}.{}", hash.replace(|c| c != '0', "0"));
    let refused = join(&wrong_hash).output().expect("it ends");
    assert!(!refused.status.success(), "a server with another authority is not trusted");
    let (id, _) = id_and_secret.split_once('.').expect("two parts");
    let refused = join(&format!("{id}.0000000000000000.{hash}")).output().expect("it ends");
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("Unauthorized"), "{refused:?}");
}

/// Another machine: a network namespace with a wire to this host, gone with the test.
struct Machine {
    name: String,
    address: String,
    dir: tempfile::TempDir,
}

impl Machine {
    /// One that has this address of the host beside it.
    fn beside(host: &str) -> Self {
        let number = std::process::id();
        let (name, link) = (format!("gantry-test-{number}"), format!("gt{number}"));
        // Two addresses of the range for tests of networks, by process: they are used once at a time.
        let base = number % (1 << 15) * 4;
        let address = |host: u32| std::net::Ipv4Addr::from(0xc612_0000 + base + host);
        let (here, there) = (address(1), address(2));
        let ip = |args: String| succeed(Command::new("ip").args(args.split(' ')));
        ip(format!("netns add {name}"));
        ip(format!("link add {link} type veth peer name eth0 netns {name}"));
        ip(format!("addr add {here}/30 dev {link}"));
        ip(format!("link set {link} up"));
        for rest in [
            "link set lo up".into(),
            format!("addr add {there}/30 dev eth0"),
            "link set eth0 up".into(),
            format!("route add {host} dev eth0"),
        ] {
            ip(format!("-n {name} {rest}"));
        }
        Self { name, address: there.to_string(), dir: tempfile::tempdir().expect("a directory") }
    }

    /// The machine's `gantry`: its network alone is another.
    fn gantry(&self, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(env!("CARGO_BIN_EXE_gantry")).args(args);
        command.arg("--data-dir").arg(self.dir.path()).stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        succeed(&mut self.gantry(&["down", "--purge"]));
        succeed(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

#[test]
fn another_machine_joins_with_a_token() {
    let cluster = Cluster::start().with_hello("1");
    let token = succeed(&mut cluster.gantry(&["token", "create"]));
    let host = cluster.value("get endpoints kubernetes -o jsonpath={.subsets[0].addresses[0].ip}");
    let port = cluster.value("get endpoints kubernetes -o jsonpath={.subsets[0].ports[0].port}");
    let machine = Machine::beside(&host);
    let archive = machine.dir.path().join("hello.tar");
    succeed(cluster.gantry(&["image", "export", "hello:1"]).arg(&archive));
    succeed(machine.gantry(&["image", "import"]).arg(&archive));

    let mut agent =
        machine.gantry(&["agent", "--node-name", "other", "--server", &format!("https://{host}:{port}"), "--token", token.trim()]);
    let log = std::fs::File::create(machine.dir.path().join("agent.log")).expect("a log");
    let agent = Agent(agent.stdout(Stdio::null()).stderr(log).spawn().expect("the agent starts"));
    cluster.wait_for("get node other --no-headers --ignore-not-found", |said| said.contains(" Ready "));
    let address = cluster.value(r#"get node other -o jsonpath={.status.addresses[?(@.type=="InternalIP")].address}"#);
    assert_eq!(address, machine.address);

    let overrides = r#"{"spec":{"nodeName":"other"}}"#;
    cluster
        .kubectl_with(&["run", "away", "--image=hello:1", "--expose", "--port=8080", "--overrides", overrides], "")
        .says("pod/away created");
    let here = cluster.value("get nodes -o jsonpath={.items[?(@.metadata.name!='other')].metadata.name}");
    let overrides = format!(r#"{{"spec":{{"nodeName":"{here}"}}}}"#);
    cluster.kubectl_with(&["run", "asker", "--image=hello:1", "--overrides", &overrides], "").says("pod/asker created");
    cluster.ready("away");
    cluster.ready("asker");
    wait_until("a pod of the host reaches the other machine's by the Service's name", || {
        let answer = cluster.kubectl("exec asker -- /hello get http://away:8080/");
        (answer.ok && answer.stdout.contains("away")).then_some(())
    });
    cluster.kubectl("logs away").says("");
    cluster.kubectl("exec away -- /hello get http://127.0.0.1:8080/").says("away");
    cluster.kubectl("delete pod away --now").says("deleted");
    cluster.kubectl("delete node other").says("deleted");
    drop(agent);
}
