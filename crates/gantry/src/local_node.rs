//! A node on this host: network, DNS, runtime, images and the agent over them.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use gantry_client::Api;
use gantry_containers::{LocalConfig, LocalRuntime, Runtime};
use gantry_dns::{Dns, DnsConfig};
use gantry_images::{Registries, Store};
use gantry_network::{Network, NetworkConfig, Range};
use gantry_node::{Agent, AgentConfig, AgentParts, NodeNetwork, StoreImages, join};
use gantry_transport::{ServerTls, serve};

use crate::cli::Failure;
use crate::data_dir::{Cidr, ClusterIdentity};
use crate::server::World;

const DOMAIN: &str = "cluster.local";
const HEARTBEAT: Duration = Duration::from_secs(10);
const MAX_PODS: u32 = 110;

/// What a node of this host needs to know.
#[derive(Clone, Debug)]
pub(crate) struct NodeSettings {
    pub(crate) name: String,
    pub(crate) cluster_id: String,
    pub(crate) directory: PathBuf,
    pub(crate) images: PathBuf,
    pub(crate) host_root: PathBuf,
    pub(crate) host_ip: Ipv4Addr,
    pub(crate) port: u16,
    pub(crate) service_cidr: Cidr,
    pub(crate) pod_cidr: Cidr,
    /// How often the node says that it is alive.
    pub(crate) heartbeat: Duration,
    /// The part of `pod_cidr` that is this node's, when that was decided beforehand.
    pub(crate) own_pod_cidr: Option<Cidr>,
}

/// The cgroup under which everything of a node lies.
pub(crate) fn cgroup_parent(cluster_id: &str, node: &str) -> String {
    format!("/gantry-{cluster_id}/{node}")
}

fn range(cidr: Cidr) -> Range {
    Range::new(cidr.network, cidr.length)
}

impl NodeSettings {
    /// The node that this host itself is.
    pub(crate) fn of_host(identity: &ClusterIdentity, dir: &crate::data_dir::DataDir) -> Self {
        let name = host_name();
        Self {
            cluster_id: identity.id.clone(),
            directory: dir.node(&name),
            images: dir.images(),
            host_root: "/".into(),
            host_ip: identity.advertise_address,
            port: identity.kubelet_port,
            service_cidr: identity.service_cidr,
            pod_cidr: identity.pod_cidr,
            heartbeat: HEARTBEAT,
            own_pod_cidr: None,
            name,
        }
    }

    fn cluster_dns(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.service_cidr.network) + 10)
    }

    /// The runtime's configuration.
    pub(crate) fn runtime(&self) -> Result<LocalConfig, Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::act("finding this program", e))?;
        Ok(LocalConfig {
            state_dir: self.directory.join("containers"),
            cgroup_parent: cgroup_parent(&self.cluster_id, &self.name),
            shim_program: program,
            shim_args: vec![crate::SHIM.into()],
        })
    }

    /// Where the network keeps its namespaces and addresses.
    pub(crate) fn network_directory(&self) -> PathBuf {
        self.directory.join("network")
    }
}

/// This host's name, as a node may be called.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_lowercase();
    let is_good = gantry_object::names::dns1123_subdomain(&name).is_empty();
    if is_good { name } else { "node".into() }
}

/// A node at work.
pub(crate) struct LocalNode {
    /// Where its DNS answers.
    pub(crate) dns: SocketAddr,
}

/// Starts a node; returns when its agent has told the API that it is ready.
/// `tls` gives how the node's own API shows itself, asked once the node is registered.
pub(crate) async fn start(
    world: &World,
    settings: &NodeSettings,
    api: Arc<dyn Api>,
    tls: impl AsyncFnOnce() -> Result<ServerTls, Failure>,
) -> Result<LocalNode, Failure> {
    let mut config = AgentConfig {
        node_name: settings.name.clone(),
        root: settings.directory.join("kubelet"),
        host_root: settings.host_root.clone(),
        cgroup_parent: cgroup_parent(&settings.cluster_id, &settings.name),
        pod_cidr: settings.own_pod_cidr.map(range),
        host_ips: vec![settings.host_ip],
        cluster_dns: settings.cluster_dns(),
        dns_listener: Ipv4Addr::UNSPECIFIED,
        cluster_domain: DOMAIN.into(),
        port: settings.port,
        max_pods: MAX_PODS,
        heartbeat: settings.heartbeat,
        labels: Vec::new(),
    };
    std::fs::create_dir_all(&config.root).map_err(|e| Failure::act(format!("making {}", config.root.display()), e))?;
    let runtime = LocalRuntime::open(settings.runtime()?, world.clock.clone());
    let (pod_cidr, runtime) = (join(&api, &config, world.clock.now()).await, runtime.await);
    let pod_cidr = pod_cidr.map_err(|e| Failure::act("registering the node", e))?;
    let runtime = runtime.map_err(|e| Failure::act("opening the container runtime", e))?;
    let network = start_network(world, settings, pod_cidr).await?;
    config.dns_listener = network.gateway();
    let (dns, address) = start_dns(world, &network).await?;
    let images = settings.images.clone();
    let store = world.tasks.blocking(move || Store::open(images)).await.map_err(|e| Failure::act("opening the image store", e))?;
    let registries = Registries {
        sockets: world.sockets.clone(),
        tasks: world.tasks.clone(),
        clock: world.clock.clone(),
        random: world.random.clone(),
        plain_http: Default::default(),
        authorities: None,
    };
    let network = Arc::new(NodeNetwork { network, dns });
    let runtime: Arc<dyn Runtime> = Arc::new(runtime);
    let agent = Agent::start(AgentParts {
        config,
        api,
        runtime,
        images: Arc::new(StoreImages::new(Arc::new(store), registries, world.tasks.clone())),
        network: network.clone(),
        traffic: network,
        clock: world.clock.clone(),
        tasks: world.tasks.clone(),
    });
    let agent = agent.await.map_err(|e| Failure::act("starting the node's agent", e))?;
    let listener = world.sockets.bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.port))).await;
    let listener = listener.map_err(|e| Failure::act(format!("listening on the node's port {}", settings.port), e))?;
    serve(listener, tls().await?, &world.tasks, Arc::new(agent));
    Ok(LocalNode { dns: address })
}

async fn start_network(world: &World, settings: &NodeSettings, pod_cidr: Range) -> Result<Network, Failure> {
    let config = NetworkConfig {
        cluster_id: settings.cluster_id.clone(),
        node_name: settings.name.clone(),
        state_dir: settings.network_directory(),
        pod_cidr,
        cluster_cidr: range(settings.pod_cidr),
        service_cidr: range(settings.service_cidr),
    };
    world.tasks.blocking(move || Network::start(config)).await.map_err(|e| Failure::act("setting up the node's network", e))
}

async fn start_dns(world: &World, network: &Network) -> Result<(Dns, SocketAddr), Failure> {
    let address = SocketAddr::from((network.gateway(), 53));
    let resolv = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let upstreams = gantry_dns::upstreams(&resolv, &[IpAddr::V4(network.gateway())]);
    let dns = Dns::new(DnsConfig { domain: DOMAIN.into(), upstreams }, world.clock.clone(), world.random.clone());
    let failed = |e| Failure::act(format!("listening for DNS on {address}"), e);
    let udp = tokio::net::UdpSocket::bind(address).await.map_err(failed)?;
    let tcp = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    dns.serve(udp, tcp, &world.tasks);
    Ok((dns, address))
}
