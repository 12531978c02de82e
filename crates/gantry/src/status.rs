//! `gantry status`: what a cluster is and what runs for it.

use std::fs;
use std::path::Path;

use gantry_containers::SandboxConfig;
use serde_json::{Value, json};

use crate::agent::lock_file;
use crate::cli::{Failure, StatusArgs};
use crate::daemon;
use crate::data_dir::DataDir;
use crate::local_node::cgroup_parent;

/// Prints version, identity, nodes and processes.
pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let dir = args.cluster.open();
    let Some(identity) = dir.known_identity() else {
        return Err(Failure::usage(format!("there is no cluster in {}; start one with `gantry up --data-dir {0}`", dir.root().display())));
    };
    let server = daemon::running(&dir);
    let mut processes = Vec::new();
    if let Some(pid) = server {
        processes
            .push(json!({"pid": pid, "role": "server", "node": if identity.nodes == 1 { dir.nodes().first().cloned() } else { None }}));
    }
    for node in dir.nodes() {
        if let Some(pid) = daemon::holder(&lock_file(&dir.node(&node))) {
            processes.push(json!({"pid": pid, "role": "agent", "node": node}));
        }
        processes.extend(node_processes(&dir, &identity.id, &node));
    }
    let status = json!({
        "version": env!("CARGO_PKG_VERSION"), "clusterId": identity.id, "running": server.is_some(), "port": identity.port,
        "serviceCidr": identity.service_cidr, "podCidr": identity.pod_cidr, "kubeconfig": dir.kubeconfig(),
        "nodes": dir.nodes(), "processes": processes,
    });
    match args.output.as_str() {
        "json" => crate::say!("{status:#}"),
        _ => print_text(&status),
    }
    Ok(())
}

/// The shims of a node, by its directory.
pub(crate) fn shims(directory: &Path) -> Vec<i32> {
    let state = directory.join("containers");
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| shim_of(*pid, &state).is_some()).collect()
}

/// The sandbox directory that a process is the shim of.
fn shim_of(pid: i32, state: &Path) -> Option<String> {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<String> = command.split(|b| *b == 0).map(|w| String::from_utf8_lossy(w).into_owned()).collect();
    let sandbox = words.get(2).map(Path::new).filter(|p| words[1] == crate::SHIM && p.starts_with(state))?;
    sandbox.file_name().map(|n| n.to_string_lossy().into_owned())
}

/// Shims and containers of a node, found by the cluster's cgroups.
fn node_processes(dir: &DataDir, cluster_id: &str, node: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let state = dir.node(node).join("containers");
    let parent = cgroup_parent(cluster_id, node);
    for pid in fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok()) {
        let (role, sandbox, container) = match shim_of(pid, &state) {
            Some(sandbox) => ("shim", sandbox, None),
            None => match container_of(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default(), &parent) {
                Some((sandbox, container)) => ("container", sandbox, Some(container)),
                None => continue,
            },
        };
        // A pod may be deleted in between: its processes are about to end.
        let pod = SandboxConfig::read(&state, &sandbox).ok().map(|c| format!("{}/{}", c.pod_namespace, c.pod_name));
        let mut process = json!({"pid": pid, "role": role, "node": node, "pod": pod, "podUid": sandbox});
        if let Some(container) = container {
            process["container"] = container.rsplit_once('-').map_or(container.as_str(), |(name, _)| name).into();
            process["id"] = format!("{sandbox}_{container}").into();
        }
        found.push(process);
    }
    found
}

/// The sandbox and container whose cgroup a `/proc/PID/cgroup` names: `…/PARENT/QOS/podUID/NAME-ATTEMPT`.
fn container_of(groups: &str, parent: &str) -> Option<(String, String)> {
    groups.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        let rest = path.strip_prefix(parent)?.trim_start_matches('/');
        let mut parts = rest.split('/');
        let (_qos, pod, container) = (parts.next()?, parts.next()?, parts.next()?);
        Some((pod.strip_prefix("pod")?.to_owned(), container.to_owned()))
    })
}

fn print_text(status: &Value) {
    let text = |member: &str| status[member].as_str().unwrap_or("").to_owned();
    let running = if status["running"] == true { "running" } else { "stopped" };
    crate::say!("cluster {} ({running}), version {}", text("clusterId"), text("version"));
    crate::say!("API on port {}, services {}, pods {}", status["port"], text("serviceCidr"), text("podCidr"));
    crate::say!("kubeconfig {}", text("kubeconfig"));
    for process in status["processes"].as_array().into_iter().flatten() {
        let what = [&process["pod"], &process["container"]].map(|v| v.as_str().unwrap_or("")).join(" ");
        crate::say!(
            "{:>8}  {:<10} {:<16} {what}",
            process["pid"],
            process["role"].as_str().unwrap_or(""),
            process["node"].as_str().unwrap_or("")
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn containers_are_found_by_their_cgroups() {
        let found = super::container_of("5:pids:/x\n4:memory:/gantry-ab/n1/burstable/podu1/web-0\n", "/gantry-ab/n1");
        assert_eq!(found, Some(("u1".into(), "web-0".into())));
        assert_eq!(super::container_of("4:memory:/user.slice", "/gantry-ab/n1"), None);
    }
}
