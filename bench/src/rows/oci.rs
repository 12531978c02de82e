//! One container beside crun and runc on the same root file system: create, start, wait, delete.

use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gantry_containers::{
    ContainerConfig, ContainerState, Event, LocalConfig, LocalRuntime, NetworkNamespace, Rootfs, Runtime, SandboxConfig,
};
use gantry_ports::Clock;
use serde_json::{Value, json};

use super::Measured;
use crate::figures::Samples;
use crate::report::{Bar, Row};
use crate::{Bench, Result, failed, machine};

/// The cgroup of everything this row makes.
const CGROUP: &str = "/gantry-bench";

fn make_root(root: &Path) -> Result<()> {
    let make = || {
        for directory in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            std::fs::create_dir_all(root.join(directory))?;
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox"))
    };
    make().map(drop).map_err(failed("a root file system (apt-get install busybox-static)"))
}

/// What the container runs.
const ARGS: [&str; 2] = ["/bin/busybox", "true"];

/// The OCI bundle of the same container: the runtime's own example, its program and terminal changed.
fn make_bundle(runtime: &str, bundle: &Path) -> Result<()> {
    let spec = bundle.join("config.json");
    if spec.exists() {
        std::fs::remove_file(&spec).map_err(failed(spec.display()))?;
    }
    let made = Command::new(runtime).arg("spec").current_dir(bundle).status().map_err(failed(runtime))?;
    if !made.success() {
        return Err(format!("{runtime} spec: {made}"));
    }
    let text = std::fs::read(&spec).map_err(failed(spec.display()))?;
    let mut config: Value = serde_json::from_slice(&text).map_err(failed(spec.display()))?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(ARGS);
    config["root"] = json!({"path": "root", "readonly": false});
    std::fs::write(&spec, config.to_string()).map_err(failed(spec.display()))
}

/// A mount namespace without the second hierarchy of cgroups that some hosts show beside the first: crun refuses to run where it sees
/// both. Ended when dropped.
struct PlainCgroups(Child, OwnedFd);

const UNIFIED: &str = "/sys/fs/cgroup/unified";

impl PlainCgroups {
    /// One, if this host needs it.
    fn where_needed() -> Result<Option<Self>> {
        if !Path::new(UNIFIED).exists() {
            return Ok(None);
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("umount {UNIFIED} && echo && exec sleep infinity")]).stdout(Stdio::piped());
        let mut child = machine::ends_with_us(command.stdin(Stdio::null())).spawn().map_err(failed("unshare"))?;
        let mut byte = [0];
        let said = child.stdout.take().map(|mut output| output.read_exact(&mut byte));
        said.ok_or("unshare has no output")?.map_err(failed("unshare"))?;
        let handle = std::fs::File::open(format!("/proc/{}/ns/mnt", child.id())).map_err(failed("a mount namespace"))?;
        Ok(Some(Self(child, handle.into())))
    }

    /// Lets a command run in it.
    fn enter(&self, command: &mut Command) {
        let handle = self.1.as_raw_fd();
        let enter = move || {
            // SAFETY: a system call on a descriptor that is open for as long as `self`, after the fork and before the exec.
            if unsafe { libc::setns(handle, libc::CLONE_NEWNS) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        // SAFETY: the closure makes one system call and allocates nothing.
        unsafe { command.pre_exec(enter) };
    }
}

impl Drop for PlainCgroups {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `RUNTIME run`, which creates, starts, waits and deletes in one process.
fn run_once(runtime: &str, bundle: &Path, id: &str, place: Option<&PlainCgroups>) -> Result<()> {
    let mut command = Command::new(runtime);
    command.args(["run", "--bundle"]).arg(bundle).arg(id).stdin(Stdio::null()).stdout(Stdio::null());
    if let Some(place) = place {
        place.enter(&mut command);
    }
    let output = command.stderr(Stdio::piped()).output().map_err(failed(runtime))?;
    if output.status.success() { Ok(()) } else { Err(format!("{runtime} run: {}", String::from_utf8_lossy(&output.stderr))) }
}

/// The subject's runtime over a root file system.
struct Ours {
    runtime: LocalRuntime,
    root: std::path::PathBuf,
    logs: std::path::PathBuf,
}

impl Ours {
    async fn open(bench: &Bench, directory: &Path) -> Result<Self> {
        let program = std::fs::canonicalize(&bench.options.gantry).map_err(failed(bench.options.gantry.display()))?;
        let config = LocalConfig {
            state_dir: directory.join("state"),
            cgroup_parent: CGROUP.into(),
            shim_program: program,
            shim_args: vec!["internal-shim".into()],
        };
        let runtime = LocalRuntime::open(config, Arc::new(bench.clock)).await.map_err(|e| gantry_object::chain(&e))?;
        Ok(Self { runtime, root: directory.join("root"), logs: directory.join("logs") })
    }

    async fn sandbox(&self, id: &str) -> Result<()> {
        let config = SandboxConfig {
            id: id.into(),
            pod_name: id.into(),
            pod_namespace: "default".into(),
            pod_uid: id.into(),
            hostname: id.into(),
            network: NetworkNamespace::New,
            cgroup_parent: format!("{CGROUP}/pod{id}"),
            log_directory: self.logs.clone(),
            ..SandboxConfig::default()
        };
        self.runtime.run_sandbox(&config).await.map(drop).map_err(|e| gantry_object::chain(&e))
    }

    /// Creates, starts, waits for and deletes a container in a sandbox.
    async fn container(&self, sandbox: &str, attempt: u32) -> Result<()> {
        let config = ContainerConfig {
            name: "c".into(),
            attempt,
            rootfs: Rootfs::Directory(self.root.clone()),
            args: ARGS.map(str::to_owned).to_vec(),
            ..ContainerConfig::default()
        };
        let mut events = self.runtime.events().map_err(|e| gantry_object::chain(&e))?;
        let id = self.runtime.create_container(sandbox, &config).await.map_err(|e| gantry_object::chain(&e))?;
        self.runtime.start_container(&id).await.map_err(|e| gantry_object::chain(&e))?;
        loop {
            match events.next().await.map_err(|e| gantry_object::chain(&e))? {
                Event::Container(status) if status.id == id && status.state == ContainerState::Exited => break,
                _ => {}
            }
        }
        self.runtime.remove_container(&id).await.map_err(|e| gantry_object::chain(&e))
    }

    /// Leaves nothing behind, whatever went wrong before.
    async fn remove_all(&self) -> Result<()> {
        for sandbox in self.runtime.list().await.map_err(|e| gantry_object::chain(&e))? {
            self.runtime.remove_sandbox(&sandbox.id).await.map_err(|e| gantry_object::chain(&e))?;
        }
        self.runtime.remove_cgroups().map_err(|e| gantry_object::chain(&e))
    }

    async fn whole(&self, id: &str) -> Result<()> {
        self.sandbox(id).await?;
        self.container(id, 0).await?;
        self.runtime.remove_sandbox(id).await.map_err(|e| gantry_object::chain(&e))
    }
}

/// Our two ways and the peers, one after the other, again and again: how long each took.
async fn take_turns(bench: &Bench, ours: &Ours, there: &[&str], directory: &Path) -> Result<Vec<Vec<Duration>>> {
    let mut took: Vec<Vec<Duration>> = vec![Vec::new(); 2 + there.len()];
    let place = PlainCgroups::where_needed()?;
    ours.sandbox("kept").await?;
    for n in 0..bench.pick(60, 15) {
        for (slot, took) in took.iter_mut().enumerate() {
            let runtime = slot.checked_sub(2).and_then(|i| there.get(i));
            if let Some(runtime) = runtime {
                make_bundle(runtime, directory)?;
            }
            let begun = bench.clock.monotonic();
            match (runtime, slot) {
                (Some(runtime), _) => run_once(runtime, directory, &format!("gantry-bench-{n}"), place.as_ref())?,
                (None, 0) => ours.container("kept", n).await?,
                (None, _) => ours.whole(&format!("s{n}")).await?,
            }
            took.push(bench.clock.monotonic() - begun);
        }
    }
    Ok(took)
}

pub(crate) async fn run(bench: &Bench) -> Result<Measured> {
    let directory = bench.directory()?;
    make_root(&directory.path().join("root"))?;
    let ours = Ours::open(bench, directory.path()).await?;
    let is_there = |runtime: &&str| Command::new(runtime).arg("--version").output().is_ok_and(|o| o.status.success());
    let (there, missing): (Vec<&str>, Vec<&str>) = ["crun", "runc"].into_iter().partition(is_there);
    let notes = missing.iter().map(|m| format!("{m} is not installed, so nothing was compared with it: apt-get install {m}")).collect();
    let took = take_turns(bench, &ours, &there, directory.path()).await;
    ours.remove_all().await?;
    let took = took?;
    let samples: Vec<Samples> = took.into_iter().map(Samples::new).collect();
    let crun = there.iter().position(|r| *r == "crun").map(|i| samples[2 + i].p50());
    let bar = crun.map_or(Bar::None, |crun| Bar::AtMost(1.1 * crun));
    let mut inside = Row::new("container in a pod: create, start, wait, delete: p50", samples[0].p50(), "ms", bar);
    let mut whole = Row::new("container with a sandbox of its own, all of it: p50", samples[1].p50(), "ms", bar);
    for (runtime, samples) in there.iter().zip(&samples[2..]) {
        inside = inside.beside(format!("{runtime} run"), samples.p50(), "ms");
        whole = whole.beside(format!("{runtime} run, p99"), samples.p99(), "ms");
    }
    Ok(Measured { rows: vec![inside.beside("p99", samples[0].p99(), "ms"), whole.beside("p99", samples[1].p99(), "ms")], notes })
}
