//! What a cluster has of its host, and whether it is gone. Other clusters and tests may run beside it, so that only this one's things
//! are looked for: by its directory, its id, and the namespaces of its processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Cluster, succeed, wait_until};

/// By what a cluster's things are known.
pub(crate) struct Marks {
    id: String,
    dir: PathBuf,
    /// Processes, with the moment that each began: numbers are used again.
    processes: BTreeSet<(i64, String)>,
    /// Namespaces that are not the host's, as `net:[4026532000]`.
    namespaces: BTreeSet<String>,
}

fn namespaces_of(pid: &str) -> BTreeSet<String> {
    let links = fs::read_dir(format!("/proc/{pid}/ns")).into_iter().flatten().flatten();
    links.filter_map(|l| Some(fs::read_link(l.path()).ok()?.to_string_lossy().into_owned())).collect()
}

/// When a process began, in ticks since boot: the twenty-second field, counted behind the name, which may contain anything. One that has
/// ended and whose parent, perhaps init, has yet to hear of it is no process any more.
fn began(pid: i64) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    (fields.next() != Some("Z")).then(|| fields.nth(18).map(str::to_owned))?
}

pub(crate) fn pids() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
}

impl Marks {
    /// Those of a running cluster.
    pub(crate) fn of(cluster: &Cluster) -> Self {
        let status = cluster.status();
        let processes = status["processes"].as_array().expect("a list").iter().filter_map(|p| p["pid"].as_i64());
        let processes: BTreeSet<(i64, String)> = processes.filter_map(|pid| Some((pid, began(pid)?))).collect();
        let hosts = namespaces_of("self");
        let all = processes.iter().flat_map(|(pid, _)| namespaces_of(&pid.to_string()));
        let namespaces = all.filter(|ns| !hosts.contains(ns)).collect();
        let id = status["clusterId"].as_str().expect("an id").to_owned();
        Self { id, dir: cluster.dir.path().to_owned(), processes, namespaces }
    }

    /// Processes that work for the cluster, by their arguments.
    fn workers(&self) -> Vec<String> {
        let dir = self.dir.to_string_lossy().into_owned();
        let arguments = |pid: &String| fs::read(format!("/proc/{pid}/cmdline")).map(|c| String::from_utf8_lossy(&c).replace('\0', " "));
        let own = std::process::id().to_string();
        pids()
            .filter(|pid| *pid != own)
            .filter_map(|pid| Some((arguments(&pid).ok()?, pid)))
            .filter(|(c, _)| c.contains(&dir))
            .map(|(c, pid)| format!("{pid} {c}"))
            .collect()
    }

    /// Namespaces of these marks that something still holds: a process, an open file, or a mount.
    fn held(&self) -> Vec<String> {
        let mut held = Vec::new();
        for pid in pids() {
            held.extend(namespaces_of(&pid).intersection(&self.namespaces).map(|ns| format!("process {pid} is in {ns}")));
            for file in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let target = fs::read_link(file.path()).map(|t| t.to_string_lossy().into_owned()).unwrap_or_default();
                if self.namespaces.contains(&target) {
                    held.push(format!("process {pid} has {target} open"));
                }
            }
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
            let pins = mounts.lines().filter_map(|l| l.split(' ').nth(3)).filter(|root| self.namespaces.contains(*root));
            held.extend(pins.map(|ns| format!("a mount seen by process {pid} pins {ns}")));
        }
        held
    }

    fn mounts(&self) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        mounts.lines().filter(|l| l.contains(&*self.dir.to_string_lossy())).map(str::to_owned).collect()
    }

    fn links(&self) -> Vec<String> {
        let prefix = format!("g{}", self.id);
        let links = fs::read_dir("/sys/class/net").expect("links").flatten().filter_map(|e| e.file_name().into_string().ok());
        links.filter(|name| name.starts_with(&prefix)).collect()
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = fs::read_dir(root).expect("cgroups").flatten().map(|e| e.path()).chain([root.to_owned()]);
        hierarchies.map(|h| h.join(format!("gantry-{}", self.id))).filter(|g| g.exists()).collect()
    }

    /// The pods that these marks were taken of are gone; the cluster runs on.
    pub(crate) fn assert_pods_gone(&self, cluster: &Cluster) {
        let server = cluster.pids("server");
        let left = || self.processes.iter().any(|(pid, at)| !server.contains(pid) && began(*pid).as_ref() == Some(at));
        // A shim ends, and is waited for, after it has told what became of the pod; then the kernel takes links and mounts apart.
        wait_until("processes are gone", || (!left()).then_some(()));
        wait_until("namespaces are gone", || self.held().is_empty().then_some(()));
        wait_until("links are gone", || self.links().is_empty().then_some(()));
        let pods: Vec<_> = self.mounts().into_iter().filter(|m| m.contains("/containers/") || m.contains("/pods/")).collect();
        assert!(pods.is_empty(), "mounts are left: {pods:#?}");
    }

    /// Nothing of the cluster is left on this host.
    pub(crate) fn assert_all_gone(&self) {
        let left: Vec<_> = self.processes.iter().filter(|(pid, at)| began(*pid).as_ref() == Some(at)).collect();
        assert!(left.is_empty(), "processes are left: {left:?}");
        assert_eq!(self.workers(), Vec::<String>::new());
        // The kernel gives numbers again: a test beside this one may have a namespace of the same number, for as long as it runs.
        wait_until("namespaces are gone", || self.held().is_empty().then_some(()));
        assert_eq!(self.mounts(), Vec::<String>::new());
        assert_eq!(self.links(), Vec::<String>::new());
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new());
        let of_nodes = |text: String| text.lines().filter(|l| l.contains(&self.id)).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of_nodes(succeed(Command::new("nft").args(["list", "tables"]))), Vec::<String>::new());
        assert_eq!(of_nodes(succeed(Command::new("ip").args(["address"]))), Vec::<String>::new());
        assert!(!self.dir.join("cluster.json").exists(), "the data is gone");
    }
}
