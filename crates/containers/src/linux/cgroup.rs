//! Cgroups of version 1 and 2: where they are, limits, members, usage, and their end.
//!
//! Everything lies under the parent the caller names; the only thing touched above it is version 2's list of enabled
//! controllers, without which there is nothing below. See the kernel's cgroup-v1 and cgroup-v2 documents.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};

use super::{devices, files};
use crate::{Error, Resources, Result, Stats};

/// Version 1's controllers that we use if they are there.
const V1_CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "devices"];
/// Only joined when asked for: a new group of it can't hold anybody before it is filled in.
const V1_CPUSET: &str = "cpuset";
/// Version 2's controllers that we enable if they are there.
const V2_CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "cpuset", "io"];

/// The hierarchies of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchies {
    /// Controller and mount point; several controllers may share a mount point.
    V1(Vec<(String, PathBuf)>),
    /// The one mount point.
    V2(PathBuf),
}

impl Hierarchies {
    /// Looks at what is mounted. Controllers on version 1 win: version 2 is then a tree without controllers beside them.
    pub(crate) fn detect() -> Result<Self> {
        Self::parse(&files::read(Path::new("/proc/self/mountinfo"))?)
    }

    fn parse(mountinfo: &str) -> Result<Self> {
        let mut v1 = Vec::new();
        let mut v2 = None;
        for line in mountinfo.lines() {
            let Some((head, tail)) = line.split_once(" - ") else { continue };
            let (Some(root), Some(point)) = (head.split(' ').nth(3), head.split(' ').nth(4)) else { continue };
            let mut tail = tail.split(' ');
            let (kind, options) = (tail.next().unwrap_or(""), tail.nth(1).unwrap_or(""));
            // A mount of some subtree, as inside a container's own cgroup namespace, isn't a place to make groups by path.
            if root != "/" {
                continue;
            }
            match kind {
                "cgroup2" => v2 = v2.or(Some(PathBuf::from(point))),
                "cgroup" => {
                    for option in options.split(',') {
                        let wanted = V1_CONTROLLERS.contains(&option) || option == V1_CPUSET;
                        if wanted && !v1.iter().any(|(c, _)| c == option) {
                            v1.push((option.to_owned(), PathBuf::from(point)));
                        }
                    }
                }
                _ => {}
            }
        }
        let has = |c: &str| v1.iter().any(|(name, _)| name == c);
        match v2 {
            _ if has("memory") && has("pids") && has("devices") => Ok(Self::V1(v1)),
            Some(point) if !has("memory") => Ok(Self::V2(point)),
            _ => Err(Error::NoCgroups("need cgroup2 at /sys/fs/cgroup, or version 1's memory, pids and devices".to_owned())),
        }
    }

    /// Version 2's mount point.
    #[cfg(test)]
    pub(crate) fn unified(&self) -> Option<&Path> {
        match self {
            Self::V2(point) => Some(point),
            Self::V1(_) => None,
        }
    }
}

/// One group: the same path in every hierarchy in use.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    hierarchies: Hierarchies,
    /// Without a leading slash.
    path: String,
    /// Whether version 1's cpuset is in use for it.
    cpuset: bool,
}

impl Cgroup {
    /// Names a group; it needn't exist.
    pub(crate) fn new(hierarchies: &Hierarchies, path: &str, resources: &Resources) -> Result<Self> {
        let path = path.trim_matches('/');
        if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::Invalid(format!("cgroup path {path:?} must have names only")));
        }
        let cpuset = resources.cpuset_cpus.is_some() || resources.cpuset_mems.is_some();
        Ok(Self { hierarchies: hierarchies.clone(), path: path.to_owned(), cpuset })
    }

    /// A group below this one.
    pub(crate) fn child(&self, name: &str, resources: &Resources) -> Result<Self> {
        Self::new(&self.hierarchies, &format!("{}/{name}", self.path), resources)
    }

    /// Its directories, each once.
    fn directories(&self) -> Vec<PathBuf> {
        match &self.hierarchies {
            Hierarchies::V2(point) => vec![point.join(&self.path)],
            Hierarchies::V1(controllers) => {
                let points: BTreeSet<_> =
                    controllers.iter().filter(|(c, _)| self.cpuset || c != V1_CPUSET).map(|(_, point)| point.join(&self.path)).collect();
                points.into_iter().collect()
            }
        }
    }

    /// The directory of a controller.
    fn directory(&self, controller: &str) -> Option<PathBuf> {
        match &self.hierarchies {
            Hierarchies::V2(point) => Some(point.join(&self.path)),
            Hierarchies::V1(all) => all.iter().find(|(c, _)| c == controller).map(|(_, point)| point.join(&self.path)),
        }
    }

    /// Makes it and what is above it. `leaf`: processes will live in it; otherwise groups below it.
    pub(crate) fn create(&self, leaf: bool) -> Result<()> {
        for directory in self.directories() {
            fs::create_dir_all(&directory).map_err(Error::path("make cgroup", &directory))?;
        }
        match &self.hierarchies {
            Hierarchies::V2(point) => self.enable_controllers(point, leaf),
            Hierarchies::V1(_) if self.cpuset => self.fill_cpuset(),
            Hierarchies::V1(_) => Ok(()),
        }
    }

    fn enable_controllers(&self, point: &Path, leaf: bool) -> Result<()> {
        let parts: Vec<&str> = self.path.split('/').collect();
        // A leaf holds processes, which version 2 allows only where nothing is enabled for groups below.
        let depth = parts.len() - usize::from(leaf);
        let mut at = point.to_owned();
        enable_v2(&at)?;
        for part in &parts[..depth] {
            at.push(part);
            enable_v2(&at)?;
        }
        Ok(())
    }

    /// A new cpuset of version 1 is empty: it takes its parent's values, from the top down.
    fn fill_cpuset(&self) -> Result<()> {
        let Hierarchies::V1(all) = &self.hierarchies else { return Ok(()) };
        let Some((_, point)) = all.iter().find(|(c, _)| c == V1_CPUSET) else { return Ok(()) };
        let mut at = point.clone();
        for part in self.path.split('/') {
            let parent = at.clone();
            at.push(part);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if files::read(&at.join(file))?.trim().is_empty() {
                    files::write(&at.join(file), files::read(&parent.join(file))?.trim())?;
                }
            }
        }
        Ok(())
    }

    /// Sets limits; what is `None` stays as it is. `whole`: a lack of memory ends all processes of the group (version 2).
    pub(crate) fn apply(&self, r: &Resources, whole: bool) -> Result<()> {
        let set = |controller: &str, file: &str, value: String| match self.directory(controller) {
            Some(directory) => files::write(&directory.join(file), &value),
            None => Ok(()),
        };
        let v2 = matches!(self.hierarchies, Hierarchies::V2(_));
        let unlimited = |n: i64| {
            if n > 0 {
                n.to_string()
            } else if v2 {
                "max".to_owned()
            } else {
                "-1".to_owned()
            }
        };
        let period = r.cpu_period.unwrap_or(100_000);
        if let Some(shares) = r.cpu_shares {
            let shares = shares.clamp(2, 262_144);
            if v2 { set("cpu", "cpu.weight", weight(shares).to_string())? } else { set("cpu", "cpu.shares", shares.to_string())? }
        }
        if let Some(quota) = r.cpu_quota {
            if v2 {
                set("cpu", "cpu.max", format!("{} {period}", unlimited(quota)))?;
            } else {
                set("cpu", "cpu.cfs_period_us", period.to_string())?;
                set("cpu", "cpu.cfs_quota_us", unlimited(quota))?;
            }
        }
        if let Some(limit) = r.memory_limit {
            self.limit_memory(&unlimited(limit), whole)?;
        }
        if let Some(limit) = r.pids_limit {
            set("pids", "pids.max", if limit > 0 { limit.to_string() } else { "max".to_owned() })?;
        }
        for (file, value) in [("cpuset.cpus", &r.cpuset_cpus), ("cpuset.mems", &r.cpuset_mems)] {
            if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
                set(V1_CPUSET, file, value.clone())?;
            }
        }
        Ok(())
    }

    fn limit_memory(&self, limit: &str, whole: bool) -> Result<()> {
        let Some(directory) = self.directory("memory") else { return Ok(()) };
        if let Hierarchies::V2(_) = self.hierarchies {
            files::write(&directory.join("memory.max"), limit)?;
            // Absent without swap accounting, which is as good.
            let swap = directory.join("memory.swap.max");
            if swap.exists() && limit != "max" {
                files::write(&swap, "0")?;
            }
            return if whole { files::write(&directory.join("memory.oom.group"), "1") } else { Ok(()) };
        }
        let (plain, with_swap) = (directory.join("memory.limit_in_bytes"), directory.join("memory.memsw.limit_in_bytes"));
        // The plain limit may never be above the other: which goes first depends on the direction.
        if with_swap.exists() && files::write(&with_swap, limit).is_err() {
            files::write(&plain, limit)?;
            return files::write(&with_swap, limit);
        }
        files::write(&plain, limit)?;
        if with_swap.exists() { files::write(&with_swap, limit) } else { Ok(()) }
    }

    /// Lets its processes use only the usual devices.
    pub(crate) fn restrict_devices(&self) -> Result<()> {
        match &self.hierarchies {
            Hierarchies::V2(_) => {
                devices::attach_v2(self.open_v2()?.as_fd()).map_err(Error::path("restrict devices of", self.path.clone()))
            }
            Hierarchies::V1(_) => {
                let Some(directory) = self.directory("devices") else { return Ok(()) };
                files::write(&directory.join("devices.deny"), "a")?;
                devices::ALLOWED.iter().try_for_each(|d| files::write(&directory.join("devices.allow"), &devices::v1_line(d)))
            }
        }
    }

    fn open_v2(&self) -> Result<OwnedFd> {
        let directory = &self.directories()[0];
        rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::path("open", directory))
    }

    /// Its descriptor, for a process to be born into it; `None` on version 1, where it has to [`Self::join`].
    pub(crate) fn birthplace(&self) -> Result<Option<OwnedFd>> {
        match &self.hierarchies {
            Hierarchies::V2(_) => self.open_v2().map(Some),
            Hierarchies::V1(_) => Ok(None),
        }
    }

    /// Moves the calling thread into it. On version 1 by `tasks`: moving oneself as a single thread spares the kernel's
    /// wait for all others that `cgroup.procs` costs.
    pub(crate) fn join(&self) -> Result<()> {
        let file = if matches!(self.hierarchies, Hierarchies::V2(_)) { "cgroup.procs" } else { "tasks" };
        self.directories().iter().try_for_each(|directory| files::write(&directory.join(file), "0"))
    }

    /// Mount points and where each is mounted in a container: version 2 as one, version 1 one by one.
    pub(crate) fn mount_plan(&self) -> Vec<(&'static str, Vec<String>, String)> {
        match &self.hierarchies {
            Hierarchies::V2(_) => vec![("cgroup2", vec![], String::new())],
            Hierarchies::V1(all) => {
                let points: BTreeSet<_> = all.iter().map(|(_, point)| point).collect();
                let of = |point: &Path| all.iter().filter(|(_, p)| p == point).map(|(c, _)| c.clone()).collect::<Vec<_>>();
                points.into_iter().map(|point| ("cgroup", of(point), of(point).join(","))).collect()
            }
        }
    }

    /// All processes in it and below it, as the host counts.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let mut found = BTreeSet::new();
        for directory in self.directories() {
            collect_processes(&directory, &mut found);
        }
        found
    }

    /// Sends SIGKILL to all in it. They take a moment to be gone; what forks meanwhile is found by calling again.
    pub(crate) fn kill(&self) {
        if let Hierarchies::V2(_) = self.hierarchies
            && files::write(&self.directories()[0].join("cgroup.kill"), "1").is_ok()
        {
            return;
        }
        for pid in self.processes().into_iter().filter_map(Pid::from_raw) {
            // It may be gone by now, and then there is nothing to do.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// Removes it and what is below it. Fails with EBUSY while a process is in it.
    pub(crate) fn remove(&self) -> Result<()> {
        let mut all = self.directories();
        if let (Hierarchies::V1(_), Some(cpuset)) = (&self.hierarchies, self.directory(V1_CPUSET)) {
            all.push(cpuset);
        }
        all.iter().try_for_each(|directory| remove_tree(directory).map_err(Error::path("remove cgroup", directory)))
    }

    /// How often memory ran out in it so far that something was killed.
    pub(crate) fn oom_kills(&self) -> u64 {
        let file = if matches!(self.hierarchies, Hierarchies::V2(_)) { "memory.events" } else { "memory.oom_control" };
        self.directory("memory").map_or(0, |d| keyed(&d.join(file), "oom_kill"))
    }

    /// What it has used. Files that are missing count as nothing.
    pub(crate) fn stats(&self) -> Stats {
        let v2 = matches!(self.hierarchies, Hierarchies::V2(_));
        let at = |controller: &str, file: &str| self.directory(controller).unwrap_or_default().join(file);
        let stat = at("memory", "memory.stat");
        let usage = number(&at("memory", if v2 { "memory.current" } else { "memory.usage_in_bytes" }));
        let inactive = keyed(&stat, if v2 { "inactive_file" } else { "total_inactive_file" });
        Stats {
            cpu_usage: if v2 { keyed(&at("cpu", "cpu.stat"), "usage_usec") * 1000 } else { number(&at("cpuacct", "cpuacct.usage")) },
            memory_usage: usage,
            memory_working_set: usage.saturating_sub(inactive),
            memory_rss: keyed(&stat, if v2 { "anon" } else { "total_rss" }),
            page_faults: keyed(&stat, if v2 { "pgfault" } else { "total_pgfault" }),
            major_page_faults: keyed(&stat, if v2 { "pgmajfault" } else { "total_pgmajfault" }),
            pids: number(&at("pids", "pids.current")),
        }
    }
}

/// Hands on to the groups below what there is to hand on.
fn enable_v2(directory: &Path) -> Result<()> {
    let available = files::read(&directory.join("cgroup.controllers"))?;
    let enabled = files::read(&directory.join("cgroup.subtree_control"))?;
    let has = |list: &str, c: &str| list.split_whitespace().any(|x| x == c);
    let missing: Vec<String> = V2_CONTROLLERS.iter().filter(|c| has(&available, c) && !has(&enabled, c)).map(|c| format!("+{c}")).collect();
    if missing.is_empty() { Ok(()) } else { files::write(&directory.join("cgroup.subtree_control"), &missing.join(" ")) }
}

/// Version 2's weight for version 1's shares, so that 1024 becomes the default of 100, and the ends meet.
fn weight(shares: u64) -> u64 {
    let l = (shares as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

fn number(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|t| t.trim().parse().ok()).unwrap_or(0)
}

fn keyed(path: &Path, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|v| v.trim().parse().ok()).unwrap_or(0)
}

fn collect_processes(directory: &Path, found: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect_processes(&entry.path(), found);
        }
    }
}

fn remove_tree(directory: &Path) -> io::Result<()> {
    match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    remove_tree(&entry.path())?;
                }
            }
        }
    }
    match fs::remove_dir(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_told_apart() {
        let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        assert_eq!(Hierarchies::parse(v2).unwrap().unified(), Some(Path::new("/sys/fs/cgroup")));
        let hybrid = "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
             32 30 0:28 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct\n\
             33 30 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n34 30 0:30 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices\n\
             35 30 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Hierarchies::V1(all) = Hierarchies::parse(hybrid).unwrap() else { panic!("version 1") };
        assert_eq!(all.len(), 5);
        let group = Cgroup::new(&Hierarchies::V1(all), "/a/b", &Resources::default()).unwrap();
        assert_eq!(group.directories().len(), 4, "cpu and cpuacct are one");
        assert!(matches!(Hierarchies::parse("").unwrap_err(), Error::NoCgroups(_)));
    }

    #[test]
    fn paths_stay_below_the_root() {
        for bad in ["", "/", "a/../b", "a//b", "./a"] {
            assert!(Cgroup::new(&Hierarchies::V2("/x".into()), bad, &Resources::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn weights_meet_shares_at_both_ends_and_in_the_middle() {
        assert_eq!([2, 1024, 262_144].map(weight), [1, 100, 10_000]);
    }
}
