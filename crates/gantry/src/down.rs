//! `gantry down`: nothing of the cluster is left on the host.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gantry_containers::{LocalRuntime, Runtime};
use gantry_network::{Fabric, Network};
use gantry_ports::{Clock, RealClock};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::agent::lock_file;
use crate::cli::{DownArgs, Failure};
use crate::daemon;
use crate::data_dir::{ClusterIdentity, DataDir};
use crate::local_node::NodeSettings;
use crate::nodes::fabric_config;

/// How long the cluster's process may take to end before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Stops a cluster and cleans up after it, also after one that was killed.
pub(crate) fn run(args: &DownArgs) -> Result<(), Failure> {
    let dir = args.cluster.open();
    let Some(identity) = dir.known_identity() else {
        return Err(Failure::usage(format!("there is no cluster in {}", dir.root().display())));
    };
    if let Some(pid) = daemon::running(&dir) {
        end_process(pid)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::act("starting the runtime", e))?;
    for name in dir.nodes() {
        if let Some(pid) = daemon::holder(&lock_file(&dir.node(&name))) {
            end_process(pid)?;
        }
        let settings = NodeSettings { directory: dir.node(&name), name, ..NodeSettings::of_host(&identity, &dir) };
        runtime.block_on(end_node(&settings))?;
    }
    if identity.nodes > 1 {
        let config = fabric_config(&dir, &identity);
        Fabric::delete(&config.cluster_id, &config.state_dir).map_err(|e| Failure::act("taking the nodes' network away", e))?;
    }
    remove_cgroups(&identity);
    unmount_below(dir.root());
    let _ = fs::remove_file(dir.lock_file());
    if args.purge {
        purge(&dir)?;
    }
    crate::say!("cluster {} is down", identity.id);
    Ok(())
}

/// Ends a process: kindly, then by force.
fn end_process(pid: i32) -> Result<(), Failure> {
    let failed = |e: rustix::io::Errno| Failure::act(format!("stopping process {pid}"), std::io::Error::from(e));
    let Some(pid) = Pid::from_raw(pid) else { return Ok(()) };
    let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
    for signal in [Signal::TERM, Signal::KILL] {
        if kill_process(pid, signal).is_err() {
            return Ok(());
        }
        let mut wait = [rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN)];
        let limit = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        if rustix::event::poll(&mut wait, Some(&limit)).map_err(failed)? > 0 {
            return Ok(());
        }
    }
    Err(Failure::usage("the cluster's process does not end, not even when killed"))
}

/// Ends everything that runs on a node, and takes its network away.
async fn end_node(settings: &NodeSettings) -> Result<(), Failure> {
    let config = settings.runtime()?;
    if config.state_dir.exists() {
        let clock: Arc<dyn Clock> = Arc::new(RealClock::new());
        let runtime = LocalRuntime::open(config, clock).await.map_err(|e| Failure::act("opening the container runtime", e))?;
        let sandboxes = runtime.list().await.map_err(|e| Failure::act("listing sandboxes", e))?;
        for sandbox in sandboxes {
            runtime.remove_sandbox(&sandbox.id).await.map_err(|e| Failure::act(format!("ending sandbox {}", sandbox.id), e))?;
        }
    }
    Network::purge(&settings.cluster_id, &settings.network_directory()).map_err(|e| Failure::act("taking the network away", e))
}

/// Removes the cluster's cgroups from every hierarchy, deepest first.
fn remove_cgroups(identity: &ClusterIdentity) {
    let name = format!("gantry-{}", identity.id);
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path()).chain([root.to_owned()]);
    for group in hierarchies.map(|h| h.join(&name)).filter(|g| g.is_dir()) {
        remove_cgroup(&group);
    }
}

fn remove_cgroup(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten().filter(|e| e.path().is_dir()) {
        remove_cgroup(&entry.path());
    }
    if let Err(error) = fs::remove_dir(group) {
        tracing::warn!(%error, group = %group.display(), "removing a cgroup");
    }
}

/// Unmounts what is left below the data directory.
fn unmount_below(root: &Path) {
    let Ok(root) = root.canonicalize() else { return };
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points: Vec<String> = mounts.lines().filter_map(|l| l.split(' ').nth(4)).map(str::to_owned).collect();
    points.reverse();
    for point in points.iter().filter(|p| Path::new(p).starts_with(&root)) {
        if let Err(error) = rustix::mount::unmount(point.as_str(), UnmountFlags::DETACH) {
            tracing::warn!(%error, point, "unmounting");
        }
    }
}

fn purge(dir: &DataDir) -> Result<(), Failure> {
    fs::remove_dir_all(dir.root()).map_err(|e| Failure::act(format!("removing {}", dir.root().display()), e))
}
