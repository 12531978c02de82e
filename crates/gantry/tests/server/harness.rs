//! A control plane of the test's own: its own directory, its own port, gone with the test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::programs::{Output, run};

/// How long anything may take before the test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A number from the environment: tests are short in CI and long by hand.
pub(crate) fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

pub(crate) struct Server {
    pub(crate) dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    /// Starts a server and waits until its API answers.
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"))
    }

    /// The same in a directory of the caller's.
    pub(crate) fn start_in(dir: tempfile::TempDir) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let mut server = Self { dir, port, child: None };
        server.run();
        server
    }

    /// Starts it again where it was.
    pub(crate) fn run(&mut self) {
        self.run_with(&[]);
    }

    /// The same with more on its command line.
    pub(crate) fn run_with(&mut self, more: &[&str]) {
        let mut child = self.command().args(more).spawn().expect("the binary starts");
        let stderr = child.stderr.take().expect("piped");
        self.child = Some(child);
        let mut lines = BufReader::new(stderr).lines();
        let mut said = Vec::new();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| {
            said.push(line);
            said.last().is_some_and(|l| l.contains("the API is ready"))
        });
        assert!(ready, "the server ended: {said:#?}");
        // Whatever it says later must not fill the pipe.
        std::thread::Builder::new().spawn(move || lines.map_while(Result::ok).for_each(drop)).expect("a thread");
    }

    /// What starts it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
        command.args(["server", "--port", &self.port.to_string(), "--data-dir"]).arg(self.dir.path()).stderr(Stdio::piped());
        command
    }

    /// Starts it and kills it as soon as it has one of the log's files open.
    pub(crate) fn run_and_kill_while_it_opens_the_store(&mut self) {
        let mut child = self.command().spawn().expect("the binary starts");
        let (fds, log) = (format!("/proc/{}/fd", child.id()), self.dir.path().join("store/log-"));
        let is_log =
            |fd: std::fs::DirEntry| fd.path().read_link().is_ok_and(|to| to.to_string_lossy().starts_with(&*log.to_string_lossy()));
        let begun = Instant::now();
        while !std::fs::read_dir(&fds).is_ok_and(|fds| fds.flatten().any(is_log)) {
            let ended = child.try_wait().expect("ours to ask");
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "it opens no log: {ended:?}");
        }
        self.child = Some(child);
        self.kill();
    }

    /// Kills it without warning.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("ours to kill");
            child.wait().expect("ours to wait for");
        }
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// kubectl with arguments separated by spaces.
    pub(crate) fn kubectl(&self, args: &str) -> Output {
        self.kubectl_with(&args.split(' ').collect::<Vec<_>>(), "")
    }

    /// kubectl with something on its standard input.
    pub(crate) fn kubectl_with(&self, args: &[&str], input: &str) -> Output {
        self.run_kubectl("kubectl", args, input)
    }

    /// One of several kubectls.
    pub(crate) fn run_kubectl(&self, program: &str, args: &[&str], input: &str) -> Output {
        let mut command = Command::new(program);
        command.args(args).env("KUBECONFIG", self.kubeconfig()).env("HOME", self.dir.path());
        run(&mut command, input)
    }

    /// Asks again and again until the answer satisfies.
    pub(crate) fn wait_for(&self, args: &str, satisfied: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let output = self.kubectl(args);
            if output.ok && satisfied(&output.stdout) {
                return output.stdout;
            }
            assert!(begun.elapsed() < PATIENCE, "`kubectl {args}` still says\n{}{}", output.stdout, output.stderr);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
