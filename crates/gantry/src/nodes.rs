//! Several nodes on one host: each an agent process in its own network and mount namespace.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gantry_client::Api;
use gantry_network::{Fabric, FabricConfig, Range};
use gantry_ports::Tasks;

use crate::agent::{Place, lock_file};
use crate::cli::Failure;
use crate::daemon::holder;
use crate::data_dir::{Cidr, ClusterIdentity, DataDir};
use crate::server::World;
use crate::token;

fn range(cidr: Cidr) -> Range {
    Range::new(cidr.network, cidr.length)
}

/// The network that the host's nodes share.
pub(crate) fn fabric_config(dir: &DataDir, identity: &ClusterIdentity) -> FabricConfig {
    FabricConfig {
        cluster_id: identity.id.clone(),
        state_dir: dir.root().join("fabric"),
        node_cidr: range(identity.segment()),
        service_cidr: range(identity.service_cidr),
        nodes: identity.local_nodes().into_iter().map(|(name, cidr)| (name, range(cidr))).collect(),
    }
}

/// Makes the nodes' network and starts the agents that don't run yet; gives the nodes' names.
pub(crate) async fn start(
    world: &World,
    dir: &DataDir,
    identity: &ClusterIdentity,
    admin: &Arc<dyn Api>,
    heartbeat: Duration,
) -> Result<Vec<String>, Failure> {
    let config = fabric_config(dir, identity);
    let fabric = world.tasks.blocking(move || Fabric::start(&config)).await.map_err(|e| Failure::act("making the nodes' network", e))?;
    let server = format!("https://{}:{}", fabric.host_address(), identity.port);
    let mut names = Vec::new();
    for (node, (_, pod_cidr)) in fabric.nodes().iter().zip(identity.local_nodes()) {
        names.push(node.name.clone());
        let directory = dir.node(&node.name);
        if holder(&lock_file(&directory)).is_some() {
            continue;
        }
        let place = Place { netns: node.netns.clone(), host_root: directory.join("root"), images: dir.images(), pod_cidr };
        let place = serde_json::to_string(&place).expect("settings have only text keys");
        let mut args = vec!["agent".to_owned(), "--data-dir".into(), dir.root().display().to_string(), "--server".into(), server.clone()];
        args.extend(["--node-name".into(), node.name.clone(), "--node-ip".into(), node.address.to_string(), "--place".into(), place]);
        args.extend(["--heartbeat".into(), heartbeat.as_millis().to_string()]);
        if !directory.join("pki/client.crt").exists() {
            let token = token::make(world, admin, &dir.authority_pem()?).await?;
            args.extend(["--token".into(), token.to_string()]);
        }
        spawn(&world.tasks, dir, &node.name, &args)?;
    }
    Ok(names)
}

/// Starts an agent in the background. It outlives this process.
fn spawn(tasks: &Tasks, dir: &DataDir, name: &str, args: &[String]) -> Result<(), Failure> {
    let path = dir.root().join("log").join(format!("{name}.log"));
    let failed = |e: std::io::Error| Failure::act(format!("starting the agent of {name}"), e);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).current_dir("/").process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    // A zombie is waited for while we live; afterwards the kernel hands it to init.
    tasks.thread(&format!("agent-{name}"), move || drop(child.wait())).map_err(failed)
}
