//! A cluster of the test's own: its own directory, port, and ranges of addresses, gone with the test.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gantry_ports::{Clock, RealClock};
use serde_json::Value;

use crate::programs::{Output, run};

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A name that only one process at a time can have: it is free again when this is dropped.
struct Slot(u8, #[allow(dead_code, reason = "held for its Drop")] UnixListener);

impl Slot {
    /// The first free one. Tests run side by side, each in its own process, and must not choose the same addresses.
    fn take() -> Self {
        let bind = |slot: &u8| {
            let name = SocketAddr::from_abstract_name(format!("gantry-test-slot-{slot}")).expect("a short name");
            UnixListener::bind_addr(&name).ok()
        };
        (0..50).find_map(|slot| Some(Self(slot, bind(&slot)?))).expect("fewer than fifty tests run side by side")
    }
}

/// A running cluster.
pub(crate) struct Cluster {
    pub(crate) dir: tempfile::TempDir,
    port: u16,
    slot: Slot,
    more: &'static [&'static str],
    down: bool,
}

/// Runs a program that must succeed; its standard output.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = run(command, "");
    output.says("");
    output.stdout
}

/// Asks again and again until there is an answer.
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = RealClock::new();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.monotonic() < PATIENCE, "after {PATIENCE:?} still not: {what}");
        std::thread::yield_now();
    }
}

impl Cluster {
    /// Starts a cluster and waits until it is ready.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more said to `gantry up`.
    pub(crate) fn start_with(more: &'static [&'static str]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let cluster = Self { dir: tempfile::tempdir().expect("a directory"), port, slot: Slot::take(), more, down: false };
        cluster.up();
        cluster
    }

    /// `gantry up`.
    pub(crate) fn up(&self) {
        let mut command = self.gantry(&["up", "--port", &self.port.to_string()]);
        let second = 200 + self.slot.0;
        command.args(["--service-cidr", &format!("10.{second}.0.0/17"), "--pod-cidr", &format!("10.{second}.128.0/17")]);
        succeed(command.args(self.more));
    }

    /// `gantry down --purge`.
    pub(crate) fn down(&mut self) {
        self.down = true;
        succeed(&mut self.gantry(&["down", "--purge"]));
    }

    /// This cluster's `gantry`, its first words given.
    pub(crate) fn gantry(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command.args(args).arg("--data-dir").arg(self.dir.path());
        command
    }

    /// `gantry status -o json`.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&succeed(&mut self.gantry(&["status", "-o", "json"]))).expect("JSON")
    }

    /// The cluster's processes of one role.
    pub(crate) fn pids(&self, role: &str) -> Vec<i64> {
        let status = self.status();
        let processes = status["processes"].as_array().expect("a list").iter();
        let mut pids: Vec<i64> = processes.filter(|p| p["role"] == role).filter_map(|p| p["pid"].as_i64()).collect();
        pids.sort_unstable();
        pids
    }

    /// kubectl with arguments separated by spaces.
    pub(crate) fn kubectl(&self, args: &str) -> Output {
        self.kubectl_with(&args.split(' ').collect::<Vec<_>>(), "")
    }

    /// kubectl with something on its standard input.
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Output {
        let mut command = Command::new("kubectl");
        command.args(args).env("KUBECONFIG", self.dir.path().join("kubeconfig")).env("HOME", self.dir.path());
        run(&mut command, input)
    }

    /// What a kubectl that must succeed prints.
    #[track_caller]
    pub(crate) fn value(&self, args: &str) -> String {
        let output = self.kubectl(args);
        output.says("");
        output.stdout
    }

    /// `kubectl apply` of YAML.
    #[track_caller]
    pub(crate) fn apply(&self, yaml: &str) {
        self.kubectl_with(&["apply", "-f", "-"], yaml).says("");
    }

    /// A shell command in a pod; what it prints, when it succeeds.
    pub(crate) fn shell(&self, pod: &str, command: &str) -> Option<String> {
        let output = self.kubectl_with(&["exec", pod, "--", "/bin/sh", "-c", command], "");
        output.ok.then_some(output.stdout)
    }

    /// Asks again and again until the answer satisfies.
    #[track_caller]
    pub(crate) fn wait_for(&self, args: &str, satisfied: impl Fn(&str) -> bool) -> String {
        let since = RealClock::new();
        loop {
            let output = self.kubectl(args);
            if output.ok && satisfied(&output.stdout) {
                return output.stdout;
            }
            if since.monotonic() > PATIENCE {
                let pods = self.kubectl("describe pods -A").stdout;
                panic!("`kubectl {args}` still says\n{}{}\n{pods}", output.stdout, output.stderr);
            }
        }
    }

    /// Waits until a pod is ready.
    #[track_caller]
    pub(crate) fn ready(&self, pod: &str) {
        self.wait_for(&format!(r#"get pod {pod} -o jsonpath={{.status.conditions[?(@.type=="Ready")].status}}"#), |s| s == "True");
    }

    /// Waits until a pod has ended, and says how.
    #[track_caller]
    pub(crate) fn ended(&self, pod: &str) -> String {
        self.wait_for(&format!("get pod {pod} -o jsonpath={{.status.phase}}"), |s| s == "Succeeded" || s == "Failed")
    }

    /// Builds an image of this name from a directory with a Dockerfile.
    pub(crate) fn build(&self, name: &str, dir: &Path, args: &[&str]) {
        let mut command = self.gantry(&["image", "build", "-t", name]);
        succeed(command.args(args).arg(dir));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.down {
            return;
        }
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.dir.path().join("log/server.log")).unwrap_or_default();
            let skip = log.lines().count().saturating_sub(40);
            eprintln!("the server's last words:");
            log.lines().skip(skip).for_each(|line| eprintln!("  {line}"));
        }
        let down = run(&mut self.gantry(&["down", "--purge"]), "");
        if !std::thread::panicking() {
            down.says("is down");
        }
    }
}
