//! The server as a value: what it is made of, and the order of the pipeline.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use gantry_kinds::{Kind, Registry};
use gantry_object::{Resource, Status};
use gantry_pki::TokenKey;
use gantry_ports::{Clock, Random, Sockets, Tasks};
use gantry_store::Store;
use gantry_transport::{ClientTls, HttpsClient, Target};

use crate::admission::Hooks;
use crate::aggregate::{Aggregation, Remotes};
use crate::authorize::{Authorizer, Follower};
use crate::call::{Answered, Call};
use crate::custom::Customs;
use crate::discovery::Discovery;
use crate::fairness::Fairness;
use crate::metrics::Metrics;
use crate::node_ranges::NodeRanges;
use crate::outside::Outside;
use crate::services::Allocator;
use crate::user::User;

/// What an operator decides about a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The cluster's name for itself on its hosts.
    pub cluster_id: String,
    /// Who issues service-account tokens, and their default audience.
    pub issuer: String,
    /// Where clients in the cluster reach this server.
    pub advertised: SocketAddr,
    /// The addresses of Services: network and prefix length.
    pub service_network: (Ipv4Addr, u8),
    /// The addresses of pods: network and prefix length. Each node gets a /24 of it.
    pub pod_network: (Ipv4Addr, u8),
    /// The ports that NodePort Services may have.
    pub node_ports: std::ops::RangeInclusive<u16>,
    /// The cluster authority's certificate in PEM.
    pub authority: String,
}

/// What a server is made of.
pub struct Parts {
    /// What the operator decided.
    pub config: Config,
    /// The kinds it serves.
    pub registry: Registry,
    /// Where objects are kept.
    pub store: Store,
    /// Signs and checks service-account tokens.
    pub token_key: TokenKey,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Draws uids and name suffixes.
    pub random: Arc<dyn Random>,
    /// Runs watches.
    pub tasks: Tasks,
    /// The network, for the servers that this one calls: webhooks, extension servers, what is proxied to.
    pub sockets: Arc<dyn Sockets>,
    /// How nodes' own APIs are reached; without, logs and streams of containers cannot be had.
    pub nodes: Option<NodeAccess>,
}

/// How nodes' own APIs are reached.
pub struct NodeAccess {
    /// How this server shows itself to them.
    pub tls: ClientTls,
    /// The network.
    pub sockets: Arc<dyn Sockets>,
}

/// A Kubernetes API server. Cloning shares it; two in one process share nothing.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    parts: Parts,
    kinds: Vec<Arc<Kind>>,
    /// The same by plural name: several groups and versions may share one.
    by_plural: BTreeMap<String, Vec<Arc<Kind>>>,
    authorizer: Authorizer,
    fairness: Fairness,
    services: Allocator,
    node_ranges: NodeRanges,
    outside: Outside,
    hooks: Mutex<Follower<Hooks>>,
    remotes: Mutex<Follower<Remotes>>,
    aggregation: Aggregation,
    metrics: Arc<Metrics>,
    customs: Mutex<Follower<Customs>>,
    /// The documents of what is served, and the state they were made of.
    discovery: Mutex<Option<(Arc<()>, Arc<Discovery>)>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("config", &self.0.parts.config).finish_non_exhaustive()
    }
}

impl Server {
    /// Puts a server together. Nothing listens yet: see [`Server::bootstrap`] and [`Server::client`].
    pub fn new(parts: Parts) -> Self {
        let kinds: Vec<Arc<Kind>> = parts.registry.kinds().iter().cloned().map(Arc::new).collect();
        let mut by_plural: BTreeMap<String, Vec<Arc<Kind>>> = BTreeMap::new();
        for kind in &kinds {
            by_plural.entry(kind.plural.clone()).or_default().push(kind.clone());
        }
        let authorizer = Authorizer::new(&parts.store);
        let fairness = Fairness::new(&parts.store);
        let services = Allocator::new(&parts.config, &parts.store);
        let node_ranges = NodeRanges::new(&parts.config, &parts.store);
        let customs = Mutex::new(Follower::new(&parts.store));
        let hooks = Mutex::new(Follower::new(&parts.store));
        let remotes = Mutex::new(Follower::new(&parts.store));
        let discovery = Mutex::new(None);
        let metrics = Arc::new(Metrics::default());
        metrics.started(parts.clock.now().seconds().unsigned_abs());
        Self(Arc::new(Inner {
            parts,
            kinds,
            by_plural,
            authorizer,
            fairness,
            services,
            node_ranges,
            outside: Outside::default(),
            hooks,
            remotes,
            aggregation: Aggregation::default(),
            metrics,
            customs,
            discovery,
        }))
    }

    /// What the operator decided.
    pub fn config(&self) -> &Config {
        &self.0.parts.config
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.parts.store
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.0.parts.clock
    }

    pub(crate) fn random(&self) -> &dyn Random {
        &*self.0.parts.random
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.0.parts.tasks
    }

    pub(crate) fn sockets(&self) -> &Arc<dyn Sockets> {
        &self.0.parts.sockets
    }

    pub(crate) fn outside(&self) -> &Outside {
        &self.0.outside
    }

    pub(crate) fn token_key(&self) -> &TokenKey {
        &self.0.parts.token_key
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.0.parts.registry
    }

    pub(crate) fn authorizer(&self) -> &Authorizer {
        &self.0.authorizer
    }

    pub(crate) fn fairness(&self) -> &Fairness {
        &self.0.fairness
    }

    pub(crate) fn services(&self) -> &Allocator {
        &self.0.services
    }

    pub(crate) fn node_ranges(&self) -> &NodeRanges {
        &self.0.node_ranges
    }

    pub(crate) fn hooks_follower(&self) -> &Mutex<Follower<Hooks>> {
        &self.0.hooks
    }

    pub(crate) fn remotes_follower(&self) -> &Mutex<Follower<Remotes>> {
        &self.0.remotes
    }

    pub(crate) fn aggregation(&self) -> &Aggregation {
        &self.0.aggregation
    }

    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    pub(crate) fn custom_follower(&self) -> &Mutex<Follower<Customs>> {
        &self.0.customs
    }

    /// The documents of what is served now. They are made when they are asked for after a change.
    pub(crate) fn discovery(&self) -> Arc<Discovery> {
        let mut customs = self.customs();
        let customs = customs.get();
        let mut known = self.0.discovery.lock().expect("nothing panics while it holds this lock");
        if let Some((state, discovery)) = &*known
            && Arc::ptr_eq(state, customs.state())
        {
            return discovery.clone();
        }
        let discovery = Arc::new(Discovery::new(&self.0.kinds, customs.served(self.registry())));
        *known = Some((customs.state().clone(), discovery.clone()));
        discovery
    }

    /// The built-in kinds it serves.
    pub(crate) fn kinds(&self) -> &[Arc<Kind>] {
        &self.0.kinds
    }

    /// Every resource whose objects can be listed and deleted, once each whatever groups serve it.
    pub fn deletable_resources(&self) -> Vec<Resource> {
        let can = |kind: &Kind, verb: &str| kind.verbs.iter().any(|v| v == verb);
        let kinds = self.kinds().iter().filter(|k| k.stored() && !k.is_converted() && can(k, "list") && can(k, "delete"));
        // Components name resources by static texts; these few live as long as the process.
        let leak = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let resource = |k: &Arc<Kind>| {
            let (group, version, plural, kind) = (leak(&k.group), leak(&k.version), leak(&k.plural), leak(&k.kind));
            Resource { group, version, plural, kind, namespaced: k.namespaced }
        };
        kinds.map(resource).collect()
    }

    /// The kind of a resource.
    pub(crate) fn kind(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        let builtin = self.0.by_plural.get(plural).and_then(|kinds| kinds.iter().find(|k| k.group == group && k.version == version));
        builtin.cloned().or_else(|| self.custom_kind(group, version, plural))
    }

    /// Does one request, whichever way it came: the pipeline.
    pub(crate) async fn perform(&self, call: Call) -> Result<Answered, Status> {
        self.authorize_call(&call, call.verb_name())?;
        self.dispatch(&call).await
    }

    /// Refuses what the caller may not do.
    pub(crate) fn authorize_call(&self, call: &Call, verb: &str) -> Result<(), Status> {
        let attributes = crate::authorize::Attributes::of(call, verb);
        self.authorizer().check(self.store(), &call.user, &attributes)
    }

    /// How nodes' own APIs are reached.
    pub(crate) fn node_access(&self) -> Option<&NodeAccess> {
        self.0.parts.nodes.as_ref()
    }

    /// A client for a node's own API.
    pub(crate) fn dial_node(&self, target: Target) -> Option<HttpsClient> {
        let access = self.node_access()?;
        Some(HttpsClient::new(target, access.tls.clone(), access.sockets.clone(), self.tasks().clone()))
    }

    /// A client that acts as this user, in this process. It skips TLS and sockets and nothing else.
    pub fn client(&self, user: User) -> crate::LocalClient {
        crate::LocalClient::new(self.clone(), user)
    }
}
