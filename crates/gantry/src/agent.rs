//! `gantry agent`: a node of its own, which reaches the API over HTTPS.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use gantry_client::{Api, HttpsApi, Request};
use gantry_object::{Resource, Value};
use gantry_pki::{Issued, JoinToken, Profile, new_request};
use gantry_transport::{ClientTls, HttpsClient, ServerTls, ServingCertificate, Target};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::admin::parse_url;
use crate::cli::{AgentArgs, Failure};
use crate::daemon::Lock;
use crate::data_dir::{Cidr, DataDir};
use crate::local_node::{self, NodeSettings, host_name};
use crate::pinned::PinnedAuthority;
use crate::server::{World, stopped};

const REQUESTS: Resource = Resource::cluster("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest");
const CONFIG_MAPS: Resource = Resource::namespaced("", "v1", "configmaps", "ConfigMap");
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
/// How long the API may take to sign a certificate.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a node of a host that has several is told beforehand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The network namespace to live in.
    pub(crate) netns: PathBuf,
    /// What its hostPath volumes start from.
    pub(crate) host_root: PathBuf,
    /// The images of the whole cluster.
    pub(crate) images: PathBuf,
    /// Its pods' addresses.
    pub(crate) pod_cidr: Cidr,
}

/// What an agent keeps between starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    server: String,
    node_name: String,
    place: Option<Place>,
}

/// What the cluster tells its nodes.
struct ClusterInfo {
    id: String,
    service_cidr: Cidr,
    pod_cidr: Cidr,
}

/// Runs an agent until the process is told to stop.
pub(crate) fn run(args: &AgentArgs) -> Result<(), Failure> {
    let dir = DataDir::new(&args.data_dir);
    let kept = settle(args, &dir)?;
    let directory = dir.node(&kept.node_name);
    let lock = Lock::take_file(&lock_file(&directory))?;
    let _lock = lock.ok_or_else(|| Failure::usage(format!("an agent for node {} is running already", kept.node_name)))?;
    if let Some(place) = &kept.place {
        // Before any thread starts: namespaces are a thread's own.
        enter(place, &directory)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::act("starting the runtime", e))?;
    runtime.block_on(async {
        let world = World::real(tokio::runtime::Handle::current())?;
        let target = parse_url(&kept.server)?;
        let identity = identity(&world, &directory, &target, &kept.node_name, args.token.as_deref()).await?;
        let api = connect(&world, &target, &identity)?;
        let info = cluster_info(&api).await?;
        let ip = args.node_ip.map_or_else(|| address_towards(&target), Ok)?;
        let settings = NodeSettings {
            name: kept.node_name.clone(),
            cluster_id: info.id,
            images: kept.place.as_ref().map_or_else(|| dir.images(), |p| p.images.clone()),
            host_root: kept.place.as_ref().map_or_else(|| "/".into(), |p| p.host_root.clone()),
            host_ip: ip,
            port: 10_250,
            service_cidr: info.service_cidr,
            pod_cidr: info.pod_cidr,
            own_pod_cidr: kept.place.as_ref().map(|p| p.pod_cidr),
            heartbeat: Duration::from_millis(args.heartbeat),
            directory: directory.clone(),
        };
        let tls = async || serving(&world, &api, &identity, &settings).await;
        let _node = local_node::start(&world, &settings, api.clone(), tls).await?;
        tracing::info!(node = settings.name, "the node is ready");
        stopped().await
    })
}

/// The file by which an agent says that it runs.
pub(crate) fn lock_file(directory: &Path) -> PathBuf {
    directory.join("agent.pid")
}

/// What was said at the first start counts from then on.
fn settle(args: &AgentArgs, dir: &DataDir) -> Result<Kept, Failure> {
    let known = dir.nodes();
    let name = args.node_name.clone().unwrap_or_else(|| if known.len() == 1 { known[0].clone() } else { host_name() });
    let file = dir.node(&name).join("agent.json");
    let kept: Option<Kept> = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let wrong = gantry_object::names::dns1123_subdomain(&name);
    if !wrong.is_empty() {
        return Err(Failure::usage(format!("--node-name {name:?}: {}", wrong.join("; "))));
    }
    let server = args.server.clone().or_else(|| kept.as_ref().map(|k| k.server.clone()));
    let server = server.ok_or_else(|| Failure::usage("say which API to join with --server https://ADDRESS:PORT"))?;
    let place = args.place.as_deref().map(serde_json::from_str::<Place>).transpose();
    let place = place.map_err(|e| Failure::act("reading --place", e))?.or_else(|| kept.and_then(|k| k.place));
    let kept = Kept { server, node_name: name, place };
    dir.write(&file, 0o600, &serde_json::to_vec_pretty(&kept).expect("settings have only text keys"))?;
    Ok(kept)
}

/// Enters the node's network namespace, and a mount namespace of its own: that of its pods' shims where there are any, so that they see what
/// this agent mounts.
fn enter(place: &Place, directory: &Path) -> Result<(), Failure> {
    use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
    let failed = |act: &'static str| move |e: std::io::Error| Failure::act(act, e);
    let mounts = crate::status::shims(directory).first().and_then(|pid| fs::File::open(format!("/proc/{pid}/ns/mnt")).ok());
    let network = fs::File::open(&place.netns).map_err(failed("opening the node's network namespace"))?;
    use std::os::fd::AsFd;
    match mounts {
        Some(mounts) => move_into_link_name_space(mounts.as_fd(), Some(LinkNameSpaceType::Mount))
            .map_err(|e| failed("entering the node's mounts")(e.into()))?,
        None => {
            // SAFETY: only this thread exists, and nothing in this process relies on which mount namespace it is in.
            unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(|e| failed("making the node's mount namespace")(e.into()))?;
            let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).map_err(|e| failed("making the node's mounts private")(e.into()))?;
        }
    }
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|e| failed("entering the node's network")(e.into()))?;
    fs::create_dir_all(&place.host_root).map_err(failed("making the node's root for hostPath volumes"))
}

/// The node's client certificate with the authority it trusts: kept from an earlier start, or asked for with the token.
async fn identity(world: &World, directory: &Path, target: &Target, name: &str, token: Option<&str>) -> Result<(Issued, String), Failure> {
    let files = ["pki/client.crt", "pki/client.key", "pki/ca.crt"].map(|f| directory.join(f));
    let kept: Vec<String> = files.iter().filter_map(|f| fs::read_to_string(f).ok()).collect();
    if let [certificate, key, authority] = &kept[..] {
        let until = gantry_pki::expiry(certificate).map_err(|e| Failure::act("reading the node's certificate", e))?.1;
        if until > world.clock.now() {
            return Ok((Issued { certificate_pem: certificate.clone(), key_pem: key.clone() }, authority.clone()));
        }
    }
    let token = token.ok_or_else(|| {
        Failure::usage("the node has no certificate yet: join with --token, from `gantry token create` on the server's machine")
    })?;
    let token: JoinToken = token.parse().map_err(|e| Failure::act("reading --token", e))?;
    let pinned = Arc::new(PinnedAuthority::new(&token.ca_hash));
    let tls = ClientTls::with_verifier(pinned.clone(), None).map_err(|e| Failure::act("setting up TLS", e))?;
    let http = HttpsClient::new(target.clone(), tls, world.sockets.clone(), world.tasks.clone());
    let api: Arc<dyn Api> = Arc::new(HttpsApi::new(http, Some(&token.bearer()), world.tasks.clone()));
    let profile = Profile { common_name: format!("system:node:{name}"), organization: "system:nodes".into(), ..Profile::default() };
    let issued = certificate(world, &api, &profile, CLIENT_SIGNER, "client auth").await?;
    let authority = pinned.authority().ok_or_else(|| Failure::usage("the server has not shown the authority that the token names"))?;
    let dir = DataDir::new(directory);
    for (file, text) in files.iter().zip([&issued.certificate_pem, &issued.key_pem, &authority]) {
        dir.write(file, 0o600, text.as_bytes())?;
    }
    Ok((issued, authority))
}

/// Asks the API to sign a certificate, and waits for it.
async fn certificate(world: &World, api: &Arc<dyn Api>, profile: &Profile, signer: &str, usage: &str) -> Result<Issued, Failure> {
    let asked = new_request(profile).map_err(|e| Failure::act("making a certificate request", e))?;
    let request = base64::engine::general_purpose::STANDARD.encode(&asked.certificate_pem);
    let object = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"generateName": "node-csr-"},
        "spec": {"request": request, "signerName": signer, "usages": ["digital signature", usage]}});
    let created = api.call(Request::create(REQUESTS, "", &object)).await.and_then(|r| r.object());
    let created: Value = created
        .map_err(|e| Failure::act("asking for a certificate", e))?
        .decode()
        .map_err(|e| Failure::act("asking for a certificate", e))?;
    let name = gantry_object::meta::name(&created).to_owned();
    let deadline = world.clock.monotonic() + PATIENCE;
    loop {
        let current = api.call(Request::get(REQUESTS, "", &name)).await.and_then(|r| r.object());
        let current: Value = current
            .map_err(|e| Failure::act("waiting for a certificate", e))?
            .decode()
            .map_err(|e| Failure::act("waiting for a certificate", e))?;
        let conditions = current["status"]["conditions"].as_array().into_iter().flatten();
        if let Some(refused) = conditions.into_iter().find(|c| c["type"] == "Denied" || c["type"] == "Failed") {
            return Err(Failure::usage(format!(
                "the API refused a certificate: {}",
                refused["message"].as_str().unwrap_or("no reason given")
            )));
        }
        if let Some(signed) = current["status"]["certificate"].as_str().filter(|c| !c.is_empty()) {
            let pem = base64::engine::general_purpose::STANDARD.decode(signed).ok().and_then(|b| String::from_utf8(b).ok());
            let certificate_pem = pem.ok_or_else(|| Failure::usage("the API sent a malformed certificate"))?;
            return Ok(Issued { certificate_pem, key_pem: asked.key_pem });
        }
        if world.clock.monotonic() > deadline {
            return Err(Failure::usage(format!("the API has not signed certificate request {name} in {PATIENCE:?}")));
        }
        world.clock.sleep(LOOK_EVERY).await;
    }
}

fn connect(world: &World, target: &Target, (issued, authority): &(Issued, String)) -> Result<Arc<dyn Api>, Failure> {
    let tls = ClientTls::new(authority, Some(issued)).map_err(|e| Failure::act("setting up TLS", e))?;
    let http = HttpsClient::new(target.clone(), tls, world.sockets.clone(), world.tasks.clone());
    Ok(Arc::new(HttpsApi::new(http, None, world.tasks.clone())))
}

/// How the node's own API shows itself: with a certificate the cluster signed for its name and address.
async fn serving(
    world: &World,
    api: &Arc<dyn Api>,
    (_, authority): &(Issued, String),
    settings: &NodeSettings,
) -> Result<ServerTls, Failure> {
    let profile = Profile {
        common_name: format!("system:node:{}", settings.name),
        organization: "system:nodes".into(),
        dns_names: vec![settings.name.clone()],
        addresses: vec![settings.host_ip.into()],
        ..Profile::default()
    };
    let issued = certificate(world, api, &profile, SERVING_SIGNER, "server auth").await?;
    let certificate = ServingCertificate::new(&issued).map_err(|e| Failure::act("taking up the node's certificate", e))?;
    ServerTls::new(certificate, authority).map_err(|e| Failure::act("setting up TLS", e))
}

async fn cluster_info(api: &Arc<dyn Api>) -> Result<ClusterInfo, Failure> {
    let object = api.call(Request::get(CONFIG_MAPS, "kube-public", "gantry-cluster")).await.and_then(|r| r.object());
    let object: Value = object
        .map_err(|e| Failure::act("reading about the cluster", e))?
        .decode()
        .map_err(|e| Failure::act("reading about the cluster", e))?;
    let text = |key: &str| object["data"][key].as_str().unwrap_or("").to_owned();
    let cidr = |key: &str| Cidr::try_from(text(key)).map_err(Failure::usage);
    Ok(ClusterInfo { id: text("clusterId"), service_cidr: cidr("serviceCidr")?, pod_cidr: cidr("podCidr")? })
}

/// The address from which this machine reaches another. Sends nothing.
fn address_towards(target: &Target) -> Result<Ipv4Addr, Failure> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0));
    let local = socket.and_then(|s| s.connect(SocketAddr::new(target.address.ip(), 9)).and_then(|()| s.local_addr()));
    match local.map(|a| a.ip()) {
        Ok(IpAddr::V4(ip)) if !ip.is_unspecified() => Ok(ip),
        _ => Err(Failure::usage(format!("no address of this machine leads to {}: say which is the node's with --node-ip", target.address))),
    }
}
