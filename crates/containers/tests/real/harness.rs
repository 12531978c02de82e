//! A runtime with a directory and a cgroup parent of its own, and a root file system of busybox.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gantry_containers::{
    ContainerConfig, ContainerId, ContainerState, ContainerStatus, Event, Events, ExitReason, LocalConfig, LocalRuntime, NetworkNamespace,
    Rootfs, Runtime, SandboxConfig,
};
use gantry_ports::RealClock;

/// Longer than anything here takes on a busy machine; only reached when something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A test's own directory and cgroup, emptied of processes if the test fails on the way.
pub(crate) struct Ground {
    directory: tempfile::TempDir,
    cgroup: String,
}

impl Ground {
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

pub(crate) struct World {
    pub(crate) directory: Ground,
    pub(crate) cgroup: String,
    pub(crate) runtime: LocalRuntime,
}

fn local_config(directory: &Path, cgroup: &str) -> LocalConfig {
    LocalConfig {
        state_dir: directory.join("state"),
        cgroup_parent: cgroup.to_owned(),
        shim_program: env!("CARGO_BIN_EXE_gantry-shim").into(),
        shim_args: vec![],
    }
}

/// busybox under all the names it knows.
fn make_root(root: &Path) {
    let busybox = Path::new("/bin/busybox");
    assert!(busybox.exists(), "these tests need Debian's busybox-static");
    for directory in ["bin", "etc", "proc", "tmp", "home/user"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let list = std::process::Command::new(busybox).arg("--list").output().unwrap();
    assert!(list.status.success());
    for name in String::from_utf8(list.stdout).unwrap().lines().filter(|n| *n != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n").unwrap();
}

impl World {
    pub(crate) async fn new() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests need root");
        let directory = tempfile::tempdir().unwrap();
        make_root(&directory.path().join("root"));
        let cgroup = format!("/gantry-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let runtime = open(directory.path(), &cgroup).await;
        Self { directory: Ground { directory, cgroup: cgroup.clone() }, cgroup, runtime }
    }

    /// A second agent takes over from a first that vanished.
    pub(crate) async fn reopen(self) -> Self {
        let Self { directory, cgroup, runtime } = self;
        drop(runtime);
        let runtime = open(directory.path(), &cgroup).await;
        Self { directory, cgroup, runtime }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    pub(crate) fn sandbox_config(&self, id: &str) -> SandboxConfig {
        SandboxConfig {
            id: id.to_owned(),
            pod_name: "pod".to_owned(),
            pod_namespace: "default".to_owned(),
            pod_uid: id.to_owned(),
            hostname: "pod-host".to_owned(),
            network: NetworkNamespace::New,
            cgroup_parent: format!("{}/pod{id}", self.cgroup),
            log_directory: self.directory.path().join("logs"),
            labels: BTreeMap::from([("app".to_owned(), "test".to_owned())]),
            ..SandboxConfig::default()
        }
    }

    pub(crate) async fn sandbox(&self, id: &str) {
        self.runtime.run_sandbox(&self.sandbox_config(id)).await.unwrap();
    }

    /// A container of the test root that runs a shell script, its errors in order with its output.
    pub(crate) fn script(&self, name: &str, script: &str) -> ContainerConfig {
        self.two_streams(name, &format!("exec 2>&1; {script}"))
    }

    /// The same with errors apart.
    pub(crate) fn two_streams(&self, name: &str, script: &str) -> ContainerConfig {
        ContainerConfig {
            name: name.to_owned(),
            rootfs: Rootfs::Overlay { lower: vec![self.root()], upper: None },
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            log_path: Some(format!("{name}.log").into()),
            ..ContainerConfig::default()
        }
    }

    pub(crate) async fn start(&self, sandbox: &str, config: &ContainerConfig) -> ContainerId {
        let id = self
            .runtime
            .create_container(sandbox, config)
            .await
            .unwrap_or_else(|e| panic!("create {}: {}", config.name, gantry_object::chain(&e)));
        self.runtime.start_container(&id).await.unwrap_or_else(|e| panic!("start {id}: {}", gantry_object::chain(&e)));
        id
    }

    /// Waits until a container ended.
    pub(crate) async fn ended(&self, id: &ContainerId) -> ContainerStatus {
        let mut events = self.runtime.events().unwrap();
        until(&mut *events, |event| match event {
            Event::Container(s) if s.id == *id && s.state == ContainerState::Exited => Some(*s.clone()),
            _ => None,
        })
        .await
    }

    /// Runs a container to its end; returns its status and the text of its log, without times.
    pub(crate) async fn run(&self, sandbox: &str, config: &ContainerConfig) -> (ContainerStatus, String) {
        let id = self.start(sandbox, config).await;
        let status = self.ended(&id).await;
        let log = self.log(&config.name);
        (status, log)
    }

    /// Runs a script to its end and returns what it said; it must succeed.
    pub(crate) async fn output(&self, config: &ContainerConfig) -> String {
        let sandbox = format!("s-{}", config.name);
        self.sandbox(&sandbox).await;
        let (status, log) = self.run(&sandbox, config).await;
        assert_eq!((status.exit_code, status.reason), (Some(0), Some(ExitReason::Completed)), "{log}");
        self.runtime.remove_sandbox(&sandbox).await.unwrap();
        log
    }

    /// A log's text: what stands after time, stream and tag.
    pub(crate) fn log(&self, name: &str) -> String {
        let text = fs::read_to_string(self.directory.path().join("logs").join(format!("{name}.log"))).unwrap_or_default();
        text.lines().map(|line| format!("{}\n", line.splitn(4, ' ').nth(3).unwrap_or(""))).collect()
    }

    /// Waits until a log holds a text.
    pub(crate) async fn wait_for_log(&self, name: &str, text: &str) {
        eventually(&format!("{text:?} in the log of {name}"), || self.log(name).contains(text)).await;
    }

    /// Removes all and proves that nothing is left.
    pub(crate) async fn finish(self) {
        for sandbox in self.runtime.list().await.unwrap() {
            self.runtime.remove_sandbox(&sandbox.id).await.unwrap();
        }
        // Every pod's cgroup is gone, or removing the parent would say so.
        let left = cgroup_directories(&self.cgroup).into_iter().flat_map(|d| fs::read_dir(d).unwrap().flatten());
        let left: Vec<_> = left.filter(|e| e.file_type().unwrap().is_dir()).map(|e| e.path()).collect();
        assert!(left.is_empty(), "cgroups left: {left:?}");
        self.runtime.remove_cgroups().unwrap();
        assert!(cgroup_directories(&self.cgroup).is_empty(), "cgroup parents left");
        let base = self.directory.path().to_str().unwrap().to_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&base), "mounts left:\n{mounts}");
        let state = self.directory.path().join("state");
        let names: Vec<_> = fs::read_dir(state).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["lock"], "state left");
        // A shim names its directory in its arguments; containers' processes hold its namespaces.
        eventually("all shims to be gone", || shims_of(&base).is_empty()).await;
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for directory in cgroup_directories(&self.cgroup) {
                kill_below(&directory);
            }
            let base = self.directory.path().to_str().unwrap_or("/nowhere").to_owned();
            for pid in shims_of(&base).into_iter().filter_map(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            for entry in fs::read_dir(self.directory.path().join("state")).into_iter().flatten().flatten() {
                let _ = rustix::mount::unmount(entry.path().join("shm"), rustix::mount::UnmountFlags::DETACH);
            }
            for directory in cgroup_directories(&self.cgroup) {
                // What was killed takes a moment to be gone.
                for _ in 0..10_000 {
                    kill_below(&directory);
                    if remove_below(&directory) {
                        break;
                    }
                    std::thread::yield_now();
                }
            }
        }
    }
}

async fn open(directory: &Path, cgroup: &str) -> LocalRuntime {
    LocalRuntime::open(local_config(directory, cgroup), Arc::new(RealClock::new()))
        .await
        .unwrap_or_else(|e| panic!("{}", gantry_object::chain(&e)))
}

fn remove_below(directory: &Path) -> bool {
    fs::read_dir(directory).into_iter().flatten().flatten().filter(|e| e.path().is_dir()).for_each(|e| {
        remove_below(&e.path());
    });
    fs::remove_dir(directory).is_ok()
}

fn kill_below(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        kill_below(&entry.path());
    }
    for pid in fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default().lines().filter_map(|l| l.parse().ok()) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

/// Where a cgroup exists, in all hierarchies.
pub(crate) fn cgroup_directories(path: &str) -> Vec<PathBuf> {
    let mut points = vec![PathBuf::from("/sys/fs/cgroup")];
    points.extend(fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|e| e.path()));
    points.into_iter().map(|p| p.join(path.trim_start_matches('/'))).filter(|p| p.is_dir()).collect()
}

/// Processes whose arguments mention a directory.
pub(crate) fn shims_of(directory: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    let own = std::process::id() as i32;
    pids.filter(|pid| *pid != own && fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.contains(directory))).collect()
}

/// Waits for an event.
pub(crate) async fn until<T>(events: &mut dyn Events, mut wanted: impl FnMut(&Event) -> Option<T>) -> T {
    let waiting = async {
        loop {
            let event = events.next().await.unwrap();
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("the event comes")
}

/// Waits for something that only shows by looking.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(2));
        while !holds() {
            ticks.tick().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain for {what}");
}
