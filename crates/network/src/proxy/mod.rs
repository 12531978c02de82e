//! The service proxy: one table of nf_tables in which everything but the addresses and endpoints stands still.
//!
//! A packet to a service is looked up in maps of verdicts (by cluster IP, external IP or node port), which lead to the chain of the
//! service's port; that picks an endpoint. What is left with a cluster IP as destination has no endpoint, and is refused.

pub(crate) mod plan;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::nft::expr::{Reg, Rule, Side, Verdict};
use crate::nft::{Batch, Holds, Hook, Nft, SetSpec, Type, Value};
use crate::service::ServiceTable;
use crate::{Error, Range};
use Type::{Address, Mark, Port, Protocol};
use plan::{Balance, Change, Place, Planner, SHARDS, Set, endpoints_of};

const HAIRPIN: &str = "hairpin";
const AFFINITY: &str = "affinity";
const LOCALHOST: (Ipv4Addr, u8) = (Ipv4Addr::new(127, 0, 0, 0), 8);

/// What a set of the services is called.
fn name(set: Set) -> Cow<'static, str> {
    match set {
        Set::ClusterIps => "cluster-ips".into(),
        Set::ExternalIps => "external-ips".into(),
        Set::NodePorts => "node-ports".into(),
        Set::LocalExternalIps => "local-external-ips".into(),
        Set::LocalNodePorts => "local-node-ports".into(),
        Set::Endpoints(shard) => format!("endpoints-{shard:02}").into(),
        Set::Members => "members".into(),
        Set::HostEndpoints => "host-endpoints".into(),
        Set::NoEndpoints => "no-endpoints".into(),
        Set::NoEndpointPorts => "no-endpoint-ports".into(),
    }
}

/// The sets that follow the services.
fn service_sets() -> Vec<SetSpec> {
    let (address, port): (&[Type], &[Type]) = (&[Address, Protocol, Port], &[Protocol, Port]);
    let mut sets = vec![
        (Set::ClusterIps, address, Holds::Verdicts),
        (Set::ExternalIps, address, Holds::Verdicts),
        (Set::NodePorts, port, Holds::Verdicts),
        (Set::LocalExternalIps, address, Holds::Verdicts),
        (Set::LocalNodePorts, port, Holds::Verdicts),
        (Set::Members, &[Mark, Address, Port], Holds::Nothing),
        (Set::HostEndpoints, address, Holds::Nothing),
        (Set::NoEndpoints, address, Holds::Nothing),
        (Set::NoEndpointPorts, port, Holds::Nothing),
    ];
    sets.extend((0..SHARDS).map(|shard| (Set::Endpoints(shard), &[Mark, Mark][..], Holds::Data(&[Address, Port]))));
    sets.into_iter().map(|(set, key, holds)| SetSpec { name: name(set), key, holds }).collect()
}

/// Chains that hang on hooks of the kernel, and the two they share.
const CHAINS: [(&str, Option<Hook>); 9] = [
    ("services", None),
    ("outside", None),
    ("refuse", None),
    ("nat-prerouting", Some(Hook { kind: "nat", number: libc::NF_INET_PRE_ROUTING, priority: -100 })),
    ("nat-output", Some(Hook { kind: "nat", number: libc::NF_INET_LOCAL_OUT, priority: -100 })),
    ("nat-postrouting", Some(Hook { kind: "nat", number: libc::NF_INET_POST_ROUTING, priority: 100 })),
    ("filter-input", Some(Hook { kind: "filter", number: libc::NF_INET_LOCAL_IN, priority: 0 })),
    ("filter-forward", Some(Hook { kind: "filter", number: libc::NF_INET_FORWARD, priority: 0 })),
    ("filter-output", Some(Hook { kind: "filter", number: libc::NF_INET_LOCAL_OUT, priority: 0 })),
];

/// What the standing rules depend on.
#[derive(Clone, Debug)]
pub(crate) struct ProxyConfig {
    pub(crate) table: String,
    pub(crate) node: String,
    pub(crate) gateway: Ipv4Addr,
    pub(crate) pod_cidr: Range,
    pub(crate) cluster_cidr: Range,
    pub(crate) service_cidr: Range,
}

/// The proxy's hold on its table.
#[derive(Debug)]
pub(crate) struct Proxy {
    config: ProxyConfig,
    nft: Nft,
    /// What we put into the table; nothing when we do not know what it holds.
    planner: Option<Planner>,
}

impl Proxy {
    /// Sets up the table, or takes over one that an earlier agent left, with its services going on.
    pub(crate) fn start(config: ProxyConfig, pods: &[Ipv4Addr]) -> Result<Self, Error> {
        let mut nft = Nft::open()?;
        let mut batch = Batch::new(&config.table);
        lay_out(&mut batch, &config, pods);
        if nft.commit(batch).is_err() {
            // A table of another layout is in the way: an agent of another version left it.
            let mut batch = Batch::new(&config.table);
            batch.add_table();
            batch.delete_table();
            lay_out(&mut batch, &config, pods);
            nft.commit(batch).map_err(Error::kernel(format!("set up the nf_tables table {}", config.table)))?;
        }
        Ok(Self { config, nft, planner: None })
    }

    /// Brings the table in line with the services, in one batch.
    pub(crate) fn apply(&mut self, table: &ServiceTable) -> Result<Change, Error> {
        let mut batch = Batch::new(&self.config.table);
        let mut planner = match self.planner.take() {
            Some(planner) => planner,
            None => {
                self.forget_services(&mut batch)?;
                Planner::new(&self.config.node, self.config.cluster_cidr)
            }
        };
        let change = planner.change(table);
        write(&mut batch, &change);
        self.nft.commit(batch).map_err(Error::kernel(format!("change services in the nf_tables table {}", self.config.table)))?;
        self.planner = Some(planner);
        Ok(change)
    }

    fn forget_services(&mut self, batch: &mut Batch) -> Result<(), Error> {
        service_sets().iter().for_each(|set| batch.flush_set(&set.name));
        let chains = self.nft.chains(&self.config.table)?;
        for chain in chains.iter().filter(|chain| CHAINS.iter().all(|(own, _)| own != chain)) {
            batch.delete_chain(chain);
        }
        Ok(())
    }

    /// Lets a pod reach itself through a service.
    pub(crate) fn add_pod(&mut self, pod: Ipv4Addr) -> Result<(), Error> {
        let mut batch = Batch::new(&self.config.table);
        batch.add_elements(HAIRPIN, std::iter::once((&hairpin_key(pod)[..], &Value::Nothing)));
        self.nft.commit(batch).map_err(Error::kernel(format!("add the pod {pod} to the nf_tables table {}", self.config.table)))
    }

    /// Undoes [`Proxy::add_pod`], if it was done.
    pub(crate) fn remove_pod(&mut self, pod: Ipv4Addr) -> Result<(), Error> {
        let mut batch = Batch::new(&self.config.table);
        let key = hairpin_key(pod);
        // Adding first makes removal succeed whether or not it was there.
        batch.add_elements(HAIRPIN, std::iter::once((&key[..], &Value::Nothing)));
        batch.delete_elements(HAIRPIN, std::iter::once(&key[..]));
        self.nft.commit(batch).map_err(Error::kernel(format!("take the pod {pod} from the nf_tables table {}", self.config.table)))
    }
}

/// Removes a table, if it is there.
pub(crate) fn remove_table(table: &str) -> Result<(), Error> {
    let mut batch = Batch::new(table);
    batch.add_table();
    batch.delete_table();
    Nft::open()?.commit(batch).map_err(Error::kernel(format!("remove the nf_tables table {table}")))
}

fn hairpin_key(pod: Ipv4Addr) -> Vec<u8> {
    [pod.octets(), pod.octets()].concat()
}

/// All that does not follow the services. Rules are made anew; sets and chains that are there stay.
fn lay_out(batch: &mut Batch, config: &ProxyConfig, pods: &[Ipv4Addr]) {
    batch.add_table();
    service_sets().iter().for_each(|set| batch.add_set(set));
    batch.add_set(&SetSpec { name: HAIRPIN.into(), key: &[Address, Address], holds: Holds::Nothing });
    batch.add_set(&SetSpec { name: AFFINITY.into(), key: &[Mark, Address], holds: Holds::Memory(&[Address, Port]) });
    for (chain, hook) in CHAINS {
        batch.add_chain(chain, hook);
        batch.flush_chain(chain);
    }
    batch.flush_set(HAIRPIN);
    let keys: Vec<Vec<u8>> = pods.iter().copied().map(hairpin_key).collect();
    batch.add_elements(HAIRPIN, keys.iter().map(|key| (&key[..], &Value::Nothing)));
    for (chain, rule) in standing_rules(config) {
        batch.add_rule(chain, &rule);
    }
}

fn standing_rules(config: &ProxyConfig) -> Vec<(&'static str, Rule)> {
    let jump = |chain: &str| Verdict::Jump(chain.to_owned());
    let mut rules =
        vec![("nat-prerouting", Rule::default().verdict(&jump("services"))), ("nat-output", Rule::default().verdict(&jump("services")))];
    for chain in ["filter-input", "filter-forward", "filter-output"] {
        rules.push((chain, Rule::default().when_new().verdict(&jump("refuse"))));
    }
    rules.extend(service_rules(config).into_iter().map(|rule| ("services", rule)));
    rules.extend(local_rules().into_iter().map(|rule| ("outside", rule)));
    rules.extend(refusing_rules(config).into_iter().map(|rule| ("refuse", rule)));
    rules.extend(source_rules(config).into_iter().map(|rule| ("nat-postrouting", rule)));
    rules
}

/// Finds the service of a packet.
fn service_rules(config: &ProxyConfig) -> Vec<Rule> {
    let (localhost, prefix) = LOCALHOST;
    vec![
        Rule::default()
            .when(Side::Source, false, config.cluster_cidr)
            .when_local(Side::Source, false)
            .verdict(&Verdict::Jump("outside".to_owned())),
        Rule::default().destination(Reg(0)).verdict_map("cluster-ips", Reg(0)),
        Rule::default().destination(Reg(0)).verdict_map("external-ips", Reg(0)),
        Rule::default()
            .when_local(Side::Destination, true)
            .when(Side::Destination, false, Range::new(localhost, prefix))
            .protocol_port(Reg(0))
            .verdict_map("node-ports", Reg(0)),
    ]
}

/// Finds the service of a packet from outside among those that stay on the node.
fn local_rules() -> Vec<Rule> {
    vec![
        Rule::default().destination(Reg(0)).verdict_map("local-external-ips", Reg(0)),
        Rule::default().when_local(Side::Destination, true).protocol_port(Reg(0)).verdict_map("local-node-ports", Reg(0)),
    ]
}

/// Refuses what was meant for a service without endpoints. Cluster IPs were translated by now, if there was one.
fn refusing_rules(config: &ProxyConfig) -> Vec<Rule> {
    let cases: [fn(&ProxyConfig) -> Rule; 3] = [
        |config| Rule::default().when(Side::Destination, true, config.service_cidr),
        |_| Rule::default().destination(Reg(0)).when_in("no-endpoints", Reg(0)),
        |_| Rule::default().when_local(Side::Destination, true).protocol_port(Reg(0)).when_in("no-endpoint-ports", Reg(0)),
    ];
    // A process that is just connecting overlooks ICMP, hence the reset.
    cases.iter().flat_map(|case| [case(config).reset(), case(config).reject()]).collect()
}

/// Gives connections a source to which answers find back through this node, where they would not.
fn source_rules(config: &ProxyConfig) -> Vec<Rule> {
    let ours = |rule: Rule| rule.when_translated();
    vec![
        // A pod that reaches itself would answer itself, past the translation.
        ours(Rule::default())
            .address(Side::Source, Reg(0))
            .address(Side::Destination, Reg(1))
            .when_in(HAIRPIN, Reg(0))
            .source_as(config.gateway),
        // Our own pods answer through us, so they see the true source.
        Rule::default().when(Side::Destination, true, config.pod_cidr).verdict(&Verdict::Accept),
        // Other nodes' pods would answer a stranger directly.
        ours(Rule::default())
            .when(Side::Source, false, config.pod_cidr)
            .when(Side::Destination, true, config.cluster_cidr)
            .source_as(config.gateway),
        // Nobody outside knows a way back to pods.
        Rule::default().when(Side::Source, true, config.pod_cidr).when(Side::Destination, false, config.cluster_cidr).masquerade(),
        // Endpoints that are no pods: processes on other machines.
        ours(Rule::default()).when_meant_for(config.service_cidr).when(Side::Destination, false, config.cluster_cidr).masquerade(),
        ours(Rule::default()).destination(Reg(0)).when_in("host-endpoints", Reg(0)).masquerade(),
    ]
}

fn write(batch: &mut Batch, change: &Change) {
    change.new_chains.iter().for_each(|chain| batch.add_chain(chain, None));
    change.balances.iter().for_each(|(chain, _)| batch.flush_chain(chain));
    let mut gone: BTreeMap<Set, Vec<&[u8]>> = BTreeMap::new();
    change.gone.iter().for_each(|(set, key)| gone.entry(*set).or_default().push(key));
    gone.into_iter().for_each(|(set, keys)| batch.delete_elements(&name(set), keys.into_iter()));
    let mut new: BTreeMap<Set, Vec<(&[u8], &Value)>> = BTreeMap::new();
    change.new.iter().for_each(|((set, key), value): (&Place, &Value)| new.entry(*set).or_default().push((key, value)));
    new.into_iter().for_each(|(set, elements)| batch.add_elements(&name(set), elements.into_iter()));
    // Rules come last: the kernel checks each new element against each rule that looks into its map.
    for (chain, balance) in &change.balances {
        balancing_rules(balance).iter().for_each(|rule| batch.add_rule(chain, rule));
    }
    change.gone_chains.iter().for_each(|chain| batch.delete_chain(chain));
}

/// Picks an endpoint: the one the client had, if it may keep it; else any.
fn balancing_rules(balance: &Balance) -> Vec<Rule> {
    // Registers: 0 id, 1 number or client, 2 and 3 address and port of the endpoint.
    let endpoints = name(endpoints_of(balance.id));
    let pick = |rule: Rule| rule.constant(balance.id, Reg(0)).random(balance.count, Reg(1)).map(&endpoints, Reg(0), Reg(2));
    let Some(seconds) = balance.affinity_seconds else {
        return vec![pick(Rule::default()).send_to(Reg(2))];
    };
    // (id, client) in 4 and 5; (id, endpoint) in 6, 7 and 8.
    let client = |rule: Rule| rule.constant(balance.id, Reg(4)).address(Side::Source, Reg(5));
    let known = client(Rule::default()).map(AFFINITY, Reg(4), Reg(7)).constant(balance.id, Reg(6)).when_in("members", Reg(6));
    let new = client(pick(Rule::default())).forget(AFFINITY, Reg(4), Reg(2));
    vec![known.remember(AFFINITY, Reg(4), Reg(7), seconds).send_to(Reg(7)), new.remember(AFFINITY, Reg(4), Reg(2), seconds).send_to(Reg(2))]
}
