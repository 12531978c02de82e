//! What a cluster uses of its host, counted: the same before and after a lot of pods, or something leaks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Cluster, succeed};
use crate::host::pids;

/// Names of things, and how many there are of each.
pub(crate) type Inventory = BTreeMap<String, usize>;

/// Everything that pods may have left, on the host and on each of its nodes. The nodes are processes of their own.
pub(crate) fn of(cluster: &Cluster) -> Inventory {
    let mut found = Inventory::new();
    let mut count = |what: String| *found.entry(what).or_insert(0) += 1;
    let status = cluster.status();
    let id = status["clusterId"].as_str().expect("an id");
    let dir = cluster.dir.path().to_string_lossy().into_owned();
    for process in status["processes"].as_array().expect("a list") {
        let (role, pid) = (process["role"].as_str().expect("a role"), process["pid"].as_i64().expect("a process"));
        let who = format!("{role} {}", process["node"].as_str().unwrap_or("alone"));
        count(format!("process: {who}"));
        if role != "agent" && role != "server" {
            continue;
        }
        children(pid).iter().for_each(|child| count(format!("{who}: child {child}")));
        handles(pid).into_iter().for_each(|handle| count(format!("{who}: {handle}")));
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mounts");
        let points = mounts.lines().filter_map(|l| l.split(' ').nth(4)).filter(|p| p.starts_with(&dir));
        points.for_each(|point| count(format!("{who}: mount {point}")));
        if role == "agent" {
            network(pid).into_iter().for_each(|line| count(format!("{who}: {line}")));
        }
    }
    cgroups(Path::new("/sys/fs/cgroup"), &format!("gantry-{id}"), &mut |path| count(format!("cgroup {path}")));
    found
}

/// The children of a process, threads that are not there any more included: a zombie's state is Z.
fn children(pid: i64) -> Vec<String> {
    let stat = |child: String| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).ok()?;
        let (name, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let (state, parent) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        let state = if state == "Z" { "zombie" } else { "alive" };
        (parent == pid.to_string()).then(|| format!("{} {state}", name.split_once('(').map_or("", |(_, n)| n)))
    };
    pids().filter_map(stat).collect()
}

/// The open files of a process but for sockets, of which connections make and end some at any time.
fn handles(pid: i64) -> Vec<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).expect("ours to look at").flatten().filter_map(|fd| fd.path().read_link().ok());
    let kinds = links.filter_map(|to| {
        let to = to.to_string_lossy().into_owned();
        let kind = to.split_once(":[").map_or(to.as_str(), |(kind, _)| kind);
        (kind != "socket").then(|| format!("file {kind}"))
    });
    kinds.collect()
}

/// Links, addresses, routes and rules in a node's network.
fn network(pid: i64) -> Vec<String> {
    let inside = |command: &[&str]| succeed(Command::new("nsenter").args(["-t", &pid.to_string(), "-n"]).args(command));
    let mut all = Vec::new();
    for command in [&["ip", "-br", "link"][..], &["ip", "-br", "address"], &["ip", "route"], &["nft", "-s", "list", "ruleset"]] {
        // The host's end of a veth that another namespace has is shown with a number that changes.
        let lines = inside(command);
        all.extend(lines.lines().map(|l| format!("{}: {}", command[0], l.trim())));
    }
    all
}

fn cgroups(directory: &Path, wanted: &str, found: &mut dyn FnMut(&str)) {
    let path = directory.to_string_lossy().into_owned();
    let inside = path.contains(wanted);
    if inside {
        found(&path);
    }
    let depth = path.matches('/').count();
    // A cluster's own lie directly below a hierarchy's root, which lies below the place of all or is it.
    if inside || depth < 5 {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())) {
            cgroups(&entry.path(), wanted, found);
        }
    }
}

/// What there is more, or less, of than before.
pub(crate) fn difference(before: &Inventory, after: &Inventory) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|k| !before.contains_key(*k)));
    let count = |of: &Inventory, name: &String| of.get(name).copied().unwrap_or(0);
    let changed = names.filter(|n| count(before, n) != count(after, n));
    changed.map(|n| format!("{n}: {} before, {} after", count(before, n), count(after, n))).collect()
}
