//! The server's process: store and API server over a simulated disk. It can be started on a disk, and dropped dead.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use gantry_apiserver::{Config, Parts, Server, User};
use gantry_client::{Api, Request};
use gantry_kinds::Registry;
use gantry_object::{Resource, Status, Timestamp};
use gantry_pki::TokenKey;
use gantry_ports::disk::SimDisk;
use gantry_ports::{Clock, Random, SeededRandom, SimulatedClock, SimulatedSockets, Tasks};
use gantry_store::{Limits, Store, log};
use serde_json::json;
use tokio::sync::watch;

const SERVICE_ACCOUNTS: Resource = Resource::namespaced("", "v1", "serviceaccounts", "ServiceAccount");

/// What lives longer than a process.
#[derive(Clone)]
pub(crate) struct Machinery {
    pub(crate) disk: SimDisk,
    pub(crate) clock: SimulatedClock,
    pub(crate) random: Arc<SeededRandom>,
}

/// How a store is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    /// Writes wait for [`Process::flush`] instead of being flushed at once.
    pub(crate) deferred: bool,
    /// How many events of a resource are kept.
    pub(crate) history: usize,
    /// Bytes of log after which a checkpoint is due.
    pub(crate) checkpoint_after: u64,
}

impl Storage {
    /// A store that flushes at once and forgets nothing.
    pub(crate) const QUICK: Self = Self { deferred: false, history: 8192, checkpoint_after: 1 << 20 };
}

pub(crate) struct Process {
    pub(crate) server: Server,
    pub(crate) store: Store,
    log: log::LogStore,
    tasks: Tasks,
    alive: watch::Sender<()>,
}

/// The end of a process, for those who wait for an answer of its.
pub(crate) struct End(watch::Receiver<()>);

impl End {
    pub(crate) async fn wait(&mut self) {
        // Something is sent once, when the process dies.
        let _ = self.0.changed().await;
    }
}

impl Process {
    pub(crate) fn start(machinery: &Machinery, storage: Storage) -> Result<Self, String> {
        let tasks = Tasks::on(tokio::runtime::Handle::current());
        let limits = Limits { ring_events: storage.history, ..Limits::default() };
        let options = log::Options {
            segment_size: 64 << 10,
            checkpoint_after: storage.checkpoint_after,
            salt: 1,
            inline: !storage.deferred,
            limits,
            ..log::Options::default()
        };
        let opened = log::open(Arc::new(machinery.disk.clone()), options);
        let (store, log) = opened.map_err(|e| format!("the store does not open: {}", gantry_object::chain(&e)))?;
        let server = Server::new(parts(machinery, &store, &tasks)?);
        Ok(Self { server, store, log, tasks, alive: watch::Sender::new(()) })
    }

    pub(crate) fn end(&self) -> End {
        End(self.alive.subscribe())
    }

    /// Writes and flushes what is staged; says whether there was anything.
    pub(crate) fn flush(&self) -> bool {
        self.log.flush()
    }

    pub(crate) fn checkpoint(&self) -> Result<(), String> {
        self.log.checkpoint().map_err(|e| e.to_string())
    }

    /// Whether the log can no longer be written, which a restart mends.
    pub(crate) fn is_read_only(&self) -> bool {
        self.store.failure().is_some()
    }

    /// Takes the process down: those who wait for an answer get none.
    pub(crate) fn kill(self: Arc<Self>) {
        self.tasks.shutdown();
        self.alive.send_replace(());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.tasks.shutdown();
    }
}

fn parts(machinery: &Machinery, store: &Store, tasks: &Tasks) -> Result<Parts, String> {
    let clock: Arc<dyn Clock> = Arc::new(machinery.clock.clone());
    let random: Arc<dyn Random> = machinery.random.clone();
    Ok(Parts {
        config: Config {
            cluster_id: "sim".into(),
            issuer: "https://sim".into(),
            advertised: SocketAddr::from(([10, 0, 0, 1], 6443)),
            service_network: (Ipv4Addr::new(10, 96, 0, 0), 16),
            pod_network: (Ipv4Addr::new(10, 244, 0, 0), 16),
            node_ports: 30000..=32767,
            authority: String::new(),
        },
        registry: registry(),
        store: store.clone(),
        token_key: TokenKey::load(token_key()?).map_err(|e| e.to_string())?,
        clock,
        random,
        tasks: tasks.clone(),
        sockets: Arc::new(SimulatedSockets::default()),
        nodes: None,
    })
}

/// A disk on which a cluster has just been made: roles, namespaces, the default account. Made once.
pub(crate) async fn fresh_disk() -> Result<SimDisk, String> {
    static BASE: OnceLock<SimDisk> = OnceLock::new();
    if let Some(base) = BASE.get() {
        return Ok(base.duplicate());
    }
    let machinery = Machinery { disk: SimDisk::new(), clock: clock(), random: Arc::new(SeededRandom::new(0)) };
    let process = Process::start(&machinery, Storage::QUICK)?;
    let failed = |status: Status| status.message;
    process.server.bootstrap().await.map_err(failed)?;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "default"}});
    process.server.client(User::admin()).call(Request::create(SERVICE_ACCOUNTS, "default", &account)).await.map_err(failed)?;
    process.checkpoint()?;
    Ok(BASE.get_or_init(|| machinery.disk.duplicate()).duplicate())
}

/// The clock of every run: it starts at the same time.
pub(crate) fn clock() -> SimulatedClock {
    SimulatedClock::at(Timestamp::from_seconds(1_700_000_000))
}

/// The built-in kinds, read once: they are the same for every process.
fn registry() -> Registry {
    static REGISTRY: OnceLock<Registry> = OnceLock::new();
    REGISTRY.get_or_init(Registry::builtin).clone()
}

/// One key for all runs: it signs nothing here.
fn token_key() -> Result<&'static [u8], String> {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key);
    }
    let (_, made) = TokenKey::generate().map_err(|e| e.to_string())?;
    Ok(KEY.get_or_init(|| made))
}
