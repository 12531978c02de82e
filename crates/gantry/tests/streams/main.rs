//! A one-node cluster's streams as kubectl uses them: exec, cp, attach, port-forward and logs, over WebSocket and SPDY.
//!
//! Needs root, kubectl and busybox; the cluster is the test's own and goes with it.

#![allow(clippy::disallowed_methods, reason = "tests measure real time")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"terminationGracePeriodSeconds": 0,
    "containers": [{"name": "c", "image": "busybox:1", "stdin": true, "stdinOnce": true, "command": ["sh", "-c",
    "nc -ll -p 9000 -e md5sum & mkdir -p /tmp/d; echo started; while read line; do echo got $line; done; wait"]}]}}"#;

struct Cluster {
    dir: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let cluster = Self { dir: tempfile::tempdir().expect("a directory") };
        let port = free_port().to_string();
        cluster.gantry(&["up", "--port", &port]);
        let archive = cluster.dir.path().join("busybox.tar");
        image(&cluster.dir.path().join("root"), &archive);
        cluster.gantry(&["image", "import", "--name", "busybox:1", &archive.to_string_lossy()]);
        cluster.kubectl(true, &["create", "-f", "-"], POD.as_bytes());
        cluster.kubectl(true, &["wait", "--for=condition=Ready", "pod/a", "--timeout=60s"], b"");
        cluster
    }

    fn gantry(&self, args: &[&str]) {
        let output = Command::new(env!("CARGO_BIN_EXE_gantry")).args(args).arg("--data-dir").arg(self.dir.path().join("data")).output();
        let output = output.expect("the binary starts");
        assert!(output.status.success(), "gantry {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn command(&self, websocket: bool, args: &[&str]) -> Command {
        let mut command = Command::new("kubectl");
        command.args(args).env("KUBECONFIG", self.dir.path().join("data/kubeconfig")).env("HOME", self.dir.path());
        for variable in ["KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS"] {
            command.env(variable, websocket.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// kubectl with something on its standard input, whatever comes of it.
    fn try_kubectl(&self, websocket: bool, args: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(websocket, args).spawn().expect("kubectl starts");
        let mut stdin = child.stdin.take().expect("piped");
        std::thread::scope(|scope| {
            // A kubectl that fails early doesn't read it all.
            scope.spawn(move || stdin.write_all(input).ok());
            child.wait_with_output().expect("kubectl ends")
        })
    }

    #[track_caller]
    fn kubectl(&self, websocket: bool, args: &[&str], input: &[u8]) -> Vec<u8> {
        let output = self.try_kubectl(websocket, args, input);
        assert!(output.status.success(), "kubectl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.gantry(&["down", "--purge"]);
    }
}

/// A kubectl that runs beside the test.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

fn image(root: &Path, archive: &Path) {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|p| Path::new(p).exists()).expect("busybox-static is installed");
    for directory in ["bin", "tmp"] {
        std::fs::create_dir_all(root.join(directory)).expect("a directory");
    }
    std::fs::copy(busybox, root.join("bin/busybox")).expect("busybox is copied");
    for applet in ["sh", "echo", "cat", "nc", "md5sum", "tar", "mkdir", "wc"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("a link");
    }
    let made = Command::new("tar").arg("-C").arg(root).arg("-cf").arg(archive).arg(".").status().expect("tar runs");
    assert!(made.success());
}

/// Bytes that don't repeat soon.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn streams_carry_everything_both_ways() {
    let cluster = Cluster::start();
    for websocket in [true, false] {
        exec(&cluster, websocket);
        copies(&cluster, websocket);
        port_forward(&cluster, websocket);
    }
    logs_and_attach(&cluster);
}

fn exec(cluster: &Cluster, websocket: bool) {
    let output = cluster.try_kubectl(websocket, &["exec", "a", "--", "sh", "-c", "echo out; echo err >&2; exit 7"], b"");
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("out\n", Some(7)));
    assert!(text(&output.stderr).starts_with("err\n"), "{output:?}");
    let sent = noise(2 << 20);
    assert!(cluster.kubectl(websocket, &["exec", "-i", "a", "--", "cat"], &sent) == sent, "what goes in comes out, and its end too");
    let output = cluster.try_kubectl(websocket, &["exec", "a", "--", "nothing"], b"");
    assert!(!output.status.success() && text(&output.stderr).contains("executable file not found"), "{output:?}");
}

fn copies(cluster: &Cluster, websocket: bool) {
    let (there, back) = (cluster.dir.path().join("there"), cluster.dir.path().join("back"));
    std::fs::write(&there, noise(1 << 20)).expect("a file");
    cluster.kubectl(websocket, &["cp", &there.to_string_lossy(), "a:/tmp/d/file"], b"");
    cluster.kubectl(websocket, &["cp", "a:tmp/d/file", &back.to_string_lossy()], b"");
    assert!(std::fs::read(&there).expect("sent") == std::fs::read(&back).expect("received"));
}

fn port_forward(cluster: &Cluster, websocket: bool) {
    let port = free_port();
    let ports = format!("{port}:9000");
    let mut forwarding =
        Beside(cluster.command(websocket, &["port-forward", "pod/a", &ports]).stderr(Stdio::inherit()).spawn().expect("kubectl starts"));
    let mut said = [0; 10];
    forwarding.0.stdout.as_mut().expect("piped").read_exact(&mut said).expect("it says that it forwards");
    let sent = noise(1 << 20);
    let answers: Vec<String> = std::thread::scope(|scope| {
        let ask = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("kubectl listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time");
            stream.write_all(&sent).expect("it takes everything");
            stream.shutdown(Shutdown::Write).expect("our half ends");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("the other half goes on");
            answer
        };
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|a| a.join().expect("no panic")).collect()
    });
    let digest = text(&cluster.kubectl(websocket, &["exec", "-i", "a", "--", "md5sum"], &sent));
    assert!(answers.iter().all(|a| *a == digest), "{digest:?}, but {answers:?}");
}

/// What a kubectl says up to this text.
fn read_until(kubectl: &mut Beside, end: &str) -> String {
    let (mut said, begun) = (String::new(), Instant::now());
    let output = kubectl.0.stdout.as_mut().expect("piped");
    while !said.ends_with(end) {
        assert!(begun.elapsed() < PATIENCE, "{said:?}");
        let mut piece = [0; 256];
        let length = output.read(&mut piece).expect("it goes on");
        assert!(length > 0, "it ended after {said:?}");
        said.push_str(&text(&piece[..length]));
    }
    said
}

fn logs_and_attach(cluster: &Cluster) {
    let mut follower = Beside(cluster.command(true, &["logs", "-f", "a"]).spawn().expect("kubectl starts"));
    let mut attached = Beside(cluster.command(false, &["attach", "-i", "a"]).spawn().expect("kubectl starts"));
    attached.0.stdin.as_mut().expect("piped").write_all(b"one\ntwo\n").expect("kubectl reads");
    let heard = read_until(&mut attached, "got two\n");
    assert_eq!(heard, "got one\ngot two\n");
    let followed = read_until(&mut follower, "got two\n");
    assert_eq!(followed, "started\ngot one\ngot two\n");
    assert_eq!(text(&cluster.kubectl(true, &["logs", "a", "--tail=1"], b"")), "got two\n");
    assert_eq!(text(&cluster.kubectl(true, &["logs", "a", "--since=1h"], b"")), followed);
    let stamped = text(&cluster.kubectl(true, &["logs", "a", "--timestamps", "--tail=1"], b""));
    assert!(stamped.starts_with("20") && stamped.ends_with("Z got two\n"), "{stamped:?}");
    let output = cluster.try_kubectl(true, &["logs", "a", "--previous"], b"");
    assert!(!output.status.success() && text(&output.stderr).contains("previous terminated container \"c\""), "{output:?}");
}
