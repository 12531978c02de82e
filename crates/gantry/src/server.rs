//! The control plane in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gantry_apiserver::{Config, NodeAccess, Parts, Server, User};
use gantry_client::Api;
use gantry_kinds::Registry;
use gantry_pki::{Authority, Profile};
use gantry_ports::disk::RealDisk;
use gantry_ports::{Clock, Random, RealClock, RealRandom, RealSockets, Sockets, Tasks};
use gantry_store::{OpenError, log};
use gantry_transport::{ClientTls, ServerTls, ServingCertificate, serve};

use crate::cli::{Failure, ServerArgs};
use crate::daemon::Lock;
use crate::data_dir::{ClusterIdentity, DataDir, Keys};
use crate::kubeconfig;
use crate::signing::AuthoritySigner;

const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
/// How long certificates of this process last. They are made anew at every start and renewed while it runs.
pub(crate) const CERTIFICATE_LASTS: Duration = Duration::from_secs(90 * 86400);
const EXPIRE_EVERY: Duration = Duration::from_secs(10);

/// What every part of a process gets from outside.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) sockets: Arc<dyn Sockets>,
    pub(crate) tasks: Tasks,
}

impl World {
    pub(crate) fn real(handle: tokio::runtime::Handle) -> Result<Self, Failure> {
        let random = RealRandom::new().map_err(|e| Failure::act("opening /dev/urandom", e))?;
        Ok(Self { clock: Arc::new(RealClock::new()), random: Arc::new(random), sockets: Arc::new(RealSockets), tasks: Tasks::on(handle) })
    }
}

/// A control plane that runs.
pub(crate) struct ControlPlane {
    pub(crate) server: Server,
    pub(crate) authority: Arc<Authority>,
    log: log::LogStore,
}

impl ControlPlane {
    /// Refuses new writes; what was staged is still flushed.
    pub(crate) fn close(&self) {
        self.log.close();
    }
}

/// Runs the control plane until the process is told to stop.
pub(crate) fn run(args: &ServerArgs) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::act("starting the runtime", e))?;
    runtime.block_on(async {
        let world = World::real(tokio::runtime::Handle::current())?;
        let dir = args.cluster.open();
        let identity = dir.identity(args, None, &*world.random)?;
        let _lock = Lock::take(&dir)?;
        let control_plane = start(&world, &dir, &identity, args).await?;
        tracing::info!(port = identity.port, kubeconfig = %dir.kubeconfig().display(), "the API is ready");
        stopped().await?;
        control_plane.close();
        Ok(())
    })
}

/// Waits for SIGTERM or SIGINT.
pub(crate) async fn stopped() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|e| Failure::act("listening for signals", e));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    gantry_ports::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Starts store, API server and what runs inside the control plane; returns when the API answers.
pub(crate) async fn start(world: &World, dir: &DataDir, identity: &ClusterIdentity, args: &ServerArgs) -> Result<ControlPlane, Failure> {
    let now = world.clock.now();
    let keys = dir.keys(now, &*world.random)?;
    let disk = RealDisk::new(&dir.store()).map_err(|e| Failure::act(format!("opening {}", dir.store().display()), e))?;
    let options = log::Options { salt: world.random.u64(), salvage: args.salvage, ..log::Options::default() };
    let (store, log) = log::open(Arc::new(disk), options).map_err(|e| not_opened(dir, e))?;
    log.start(&world.tasks).map_err(|e| Failure::act("starting the store's threads", e))?;
    let address = SocketAddr::from(([0, 0, 0, 0], identity.port));
    let listener = world.sockets.bind(address).await.map_err(|e| {
        let hint = "is another cluster running there? Choose another with --port";
        Failure::act(format!("listening on port {} ({hint})", identity.port), e)
    })?;
    let advertised = SocketAddr::from((identity.advertise_address, identity.port));
    let serving = serving_certificate(world, identity, &keys)?;
    let (network, length) = (identity.service_cidr.network, identity.service_cidr.length);
    let nodes = Some(node_access(world, &keys)?);
    let server = Server::new(Parts {
        config: Config {
            cluster_id: identity.id.clone(),
            issuer: ISSUER.into(),
            advertised,
            service_network: (network, length),
            pod_network: (identity.pod_cidr.network, identity.pod_cidr.length),
            node_ports: 30000..=32767,
            authority: keys.authority.certificate_pem().into(),
        },
        registry: Registry::builtin(),
        store: store.clone(),
        token_key: keys.token_key,
        clock: world.clock.clone(),
        random: world.random.clone(),
        tasks: world.tasks.clone(),
        sockets: world.sockets.clone(),
        nodes,
    });
    server.bootstrap().await.map_err(|e| Failure::act("making what every cluster has", e))?;
    let tls = ServerTls::new(serving, keys.authority.certificate_pem()).map_err(|e| Failure::act("setting up TLS", e))?;
    serve(listener, tls, &world.tasks, Arc::new(server.clone()));
    let authority = Arc::new(keys.authority);
    start_controllers(world, &server, authority.clone(), Duration::from_secs(args.node_grace));
    let clock = world.clock.clone();
    world.tasks.spawn(async move {
        loop {
            clock.sleep(EXPIRE_EVERY).await;
            store.expire(clock.now()).await;
        }
    });
    let profile =
        Profile { common_name: "kubernetes-admin".into(), organization: "system:masters".into(), client: true, ..Profile::default() };
    let admin = authority.issue(&profile, Duration::from_secs(365 * 86400), now, &*world.random);
    let admin = admin.map_err(|e| Failure::act("issuing the administrator's certificate", e))?;
    let url = format!("https://127.0.0.1:{}", identity.port);
    dir.write(&dir.kubeconfig(), 0o600, kubeconfig::render(&url, authority.certificate_pem(), &admin).as_bytes())?;
    Ok(ControlPlane { server, authority, log })
}

fn not_opened(dir: &DataDir, error: OpenError) -> Failure {
    let hint = match &error {
        OpenError::Damaged { .. } => {
            " (nothing was changed: restore the directory from a backup, or start once with --salvage to go on with what is sound before the damage)"
        }
        _ => "",
    };
    Failure::act(format!("opening the store in {}{hint}", dir.store().display()), error)
}

/// Starts the scheduler and the controllers, each as its own service account.
fn start_controllers(world: &World, server: &Server, authority: Arc<Authority>, node_grace: Duration) {
    let settings = gantry_controllers::Settings {
        resources: server.deletable_resources(),
        root_ca: authority.certificate_pem().into(),
        signer: Arc::new(AuthoritySigner { authority, clock: world.clock.clone(), random: world.random.clone() }),
        node_grace,
        started: world.clock.now(),
        keep_finished_pods: 12_500,
    };
    let reader: Arc<dyn Api> = Arc::new(server.client(User::authenticated("system:kube-controller-manager", &[])));
    let writer = |name: &'static str| -> Arc<dyn Api> { Arc::new(server.client(User::service_account("kube-system", name))) };
    let scheduler: Arc<dyn Api> = Arc::new(server.client(User::authenticated("system:kube-scheduler", &[])));
    gantry_scheduler::run(&scheduler, world.clock.clone(), &world.tasks);
    gantry_reconcile::run(gantry_controllers::all(&settings), &reader, &writer, world.clock.clone(), &world.tasks);
}

/// How the API server reaches nodes' own APIs: with a certificate that they know it by.
fn node_access(world: &World, keys: &Keys) -> Result<NodeAccess, Failure> {
    let profile =
        Profile { common_name: gantry_node::API_SERVER.into(), organization: "system:masters".into(), client: true, ..Profile::default() };
    let issued = keys.authority.issue(&profile, CERTIFICATE_LASTS, world.clock.now(), &*world.random);
    let issued = issued.map_err(|e| Failure::act("issuing the API's client certificate", e))?;
    let tls = ClientTls::new(keys.authority.certificate_pem(), Some(&issued)).map_err(|e| Failure::act("setting up TLS", e))?;
    Ok(NodeAccess { tls, sockets: world.sockets.clone() })
}

fn serving_certificate(world: &World, identity: &ClusterIdentity, keys: &Keys) -> Result<ServingCertificate, Failure> {
    let first = std::net::Ipv4Addr::from(u32::from(identity.service_cidr.network) + 1);
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost"];
    let profile = Profile {
        common_name: "kube-apiserver".into(),
        dns_names: names.map(str::to_owned).to_vec(),
        addresses: vec![first.into(), identity.advertise_address.into(), [127, 0, 0, 1].into()],
        server: true,
        ..Profile::default()
    };
    let issued = keys.authority.issue(&profile, CERTIFICATE_LASTS, world.clock.now(), &*world.random);
    let mut issued = issued.map_err(|e| Failure::act("issuing the API's certificate", e))?;
    // Joining nodes know the authority by its hash alone: the server shows it beside its own certificate.
    issued.certificate_pem.push_str(keys.authority.certificate_pem());
    ServingCertificate::new(&issued).map_err(|e| Failure::act("taking up the API's certificate", e))
}
