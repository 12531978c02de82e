//! `gantry up`: a cluster from one command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gantry_apiserver::User;
use gantry_client::{Api, Request};
use gantry_object::{Resource, Value};
use gantry_pki::{Authority, Profile};
use gantry_ports::{Clock, RealClock};
use gantry_transport::{ServerTls, ServingCertificate};

use crate::cli::{Failure, UpArgs};
use crate::daemon::{self, Lock};
use crate::data_dir::ClusterIdentity;
use crate::local_node::{self, NodeSettings};
use crate::nodes;
use crate::server::{self, CERTIFICATE_LASTS, World};

const NODES: Resource = Resource::cluster("", "v1", "nodes", "Node");
const SERVICE_ACCOUNTS: Resource = Resource::namespaced("", "v1", "serviceaccounts", "ServiceAccount");
/// How long a cluster may take to become ready.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Starts a cluster, in the background unless told otherwise.
pub(crate) fn run(args: &UpArgs) -> Result<(), Failure> {
    check_host()?;
    if args.foreground {
        return foreground(args);
    }
    let begun = RealClock::new();
    let dir = args.server.cluster.open();
    let ready = daemon::start_in_background(&dir, &arguments(args))?;
    crate::say!("{ready} in {:.2} s", begun.monotonic().as_secs_f64());
    crate::say!("export KUBECONFIG={}", dir.kubeconfig().display());
    Ok(())
}

/// What this command needs of the host, all said at once.
fn check_host() -> Result<(), Failure> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("root: run it with sudo");
    }
    if !std::path::Path::new("/sys/fs/cgroup").read_dir().is_ok_and(|mut d| d.next().is_some()) {
        missing.push("cgroups: mount them at /sys/fs/cgroup");
    }
    if missing.is_empty() { Ok(()) } else { Err(Failure::usage(format!("a cluster needs {}", missing.join("; and ")))) }
}

/// The command line of the background process.
fn arguments(args: &UpArgs) -> Vec<String> {
    let server = &args.server;
    let mut all = vec!["up".to_owned(), "--foreground".into(), "--data-dir".into(), absolute(&server.cluster.data_dir)];
    let mut add = |flag: &str, value: Option<String>| {
        if let Some(value) = value {
            all.extend([flag.to_owned(), value]);
        }
    };
    add("--nodes", args.nodes.map(|n| n.to_string()));
    add("--node-grace", Some(server.node_grace.to_string()));
    add("--port", server.port.map(|p| p.to_string()));
    add("--advertise-address", server.advertise_address.map(|a| a.to_string()));
    add("--service-cidr", server.service_cidr.clone());
    add("--pod-cidr", server.pod_cidr.clone());
    if server.salvage {
        all.push("--salvage".into());
    }
    all
}

fn absolute(path: &std::path::Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

fn foreground(args: &UpArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::act("starting the runtime", e))?;
    runtime.block_on(async {
        let world = World::real(tokio::runtime::Handle::current())?;
        let dir = args.server.cluster.open();
        let identity = dir.identity(&args.server, args.nodes, &*world.random)?;
        let _lock = Lock::take(&dir)?;
        let grace = Duration::from_secs(args.server.node_grace);
        let control_plane = server::start(&world, &dir, &identity, &args.server).await?;
        let admin: Arc<dyn Api> = Arc::new(control_plane.server.client(User::admin()));
        let (names, dns) = if identity.nodes > 1 {
            let nodes = nodes::start(&world, &dir, &identity, &admin, grace / 5).await?;
            (nodes, SocketAddr::from((first_gateway(&identity), 53)))
        } else {
            let settings = NodeSettings { heartbeat: grace / 5, ..NodeSettings::of_host(&identity, &dir) };
            let api: Arc<dyn Api> = Arc::new(control_plane.server.client(User::node(&settings.name)));
            let tls = async || node_tls(&world, &settings, &control_plane.authority);
            let node = local_node::start(&world, &settings, api, tls).await?;
            (vec![settings.name.clone()], node.dns)
        };
        wait_until_ready(&world, &admin, &names, dns).await?;
        tracing::info!(port = identity.port, nodes = names.len(), "the cluster is ready");
        crate::say!("cluster {} is ready", identity.id);
        server::stopped().await?;
        control_plane.close();
        Ok(())
    })
}

/// Where the first of several nodes answers for DNS: the first address of its pods' range.
fn first_gateway(identity: &ClusterIdentity) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(u32::from(identity.pod_cidr.network) + 1)
}

/// How the node in this process shows itself: with a certificate of the cluster's own.
fn node_tls(world: &World, settings: &NodeSettings, authority: &Authority) -> Result<ServerTls, Failure> {
    let profile = Profile {
        common_name: format!("system:node:{}", settings.name),
        organization: "system:nodes".into(),
        dns_names: vec![settings.name.clone()],
        addresses: vec![settings.host_ip.into()],
        server: true,
        ..Profile::default()
    };
    let issued = authority.issue(&profile, CERTIFICATE_LASTS, world.clock.now(), &*world.random);
    let issued = issued.map_err(|e| Failure::act("issuing the node's certificate", e))?;
    let certificate = ServingCertificate::new(&issued).map_err(|e| Failure::act("taking up the node's certificate", e))?;
    ServerTls::new(certificate, authority.certificate_pem()).map_err(|e| Failure::act("setting up TLS", e))
}

/// Waits until the nodes are ready, pods can be made, and DNS answers.
async fn wait_until_ready(world: &World, api: &Arc<dyn Api>, nodes: &[String], dns: SocketAddr) -> Result<(), Failure> {
    let deadline = world.clock.monotonic() + PATIENCE;
    loop {
        let missing = match missing(api, nodes).await {
            None if answers(world, dns).await => return Ok(()),
            None => "DNS".to_owned(),
            Some(missing) => missing,
        };
        if world.clock.monotonic() > deadline {
            return Err(Failure::usage(format!("after {PATIENCE:?} the cluster still lacks: {missing}")));
        }
        world.clock.sleep(LOOK_EVERY).await;
    }
}

/// What is not there yet.
async fn missing(api: &Arc<dyn Api>, nodes: &[String]) -> Option<String> {
    for name in nodes {
        let node = api.call(Request::get(NODES, "", name)).await.and_then(|r| r.object()).ok();
        let node: Option<Value> = node.and_then(|n| n.decode().ok());
        let conditions = node.as_ref().and_then(|n| n["status"]["conditions"].as_array());
        let ready = conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
        let tainted = node.as_ref().and_then(|n| n["spec"]["taints"].as_array()).is_some_and(|t| !t.is_empty());
        if !ready || tainted {
            return Some(format!("node {name}"));
        }
    }
    let account = api.call(Request::get(SERVICE_ACCOUNTS, "default", "default")).await;
    account.is_err().then(|| "the default service account".into())
}

/// Whether DNS knows the API server's Service.
async fn answers(world: &World, dns: SocketAddr) -> bool {
    let mut query = vec![0x4a, 0x7a, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["kubernetes", "default", "svc", "cluster", "local"] {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let ask = async {
        let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.ok()?;
        socket.send_to(&query, dns).await.ok()?;
        let mut answer = [0; 512];
        let (length, _) = socket.recv_from(&mut answer).await.ok()?;
        // No error, and at least one answer.
        Some(length > 12 && answer[3] & 0x0f == 0 && (answer[6], answer[7]) != (0, 0))
    };
    gantry_ports::select! {
        answer = ask => answer.unwrap_or(false),
        () = world.clock.sleep(Duration::from_millis(200)) => false,
    }
}
