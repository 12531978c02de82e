//! Plans applied to a model of the kernel's table, which objects to what the kernel would object to.

use gantry_ports::{Random, SeededRandom};

use super::*;
use crate::service::ServiceSpec;

/// What a table of the kernel holds.
#[derive(Debug, Default)]
struct Model {
    chains: BTreeMap<String, Option<Balance>>,
    elements: BTreeMap<Place, Value>,
}

impl Model {
    fn apply(&mut self, change: &Change) -> usize {
        for chain in &change.new_chains {
            assert!(self.chains.insert(chain.clone(), None).is_none(), "{chain} is there already");
        }
        for (chain, balance) in &change.balances {
            *self.chains.get_mut(chain).expect("only chains that are there get rules") = Some(balance.clone());
        }
        for place in &change.gone {
            assert!(self.elements.remove(place).is_some(), "{place:?} is not there");
        }
        for (place, value) in &change.new {
            if let Value::Verdict(Verdict::Goto(chain)) = value {
                assert!(self.chains.contains_key(chain), "nothing is at {chain}");
            }
            assert!(self.elements.insert(place.clone(), value.clone()).is_none(), "{place:?} is there already");
        }
        for chain in &change.gone_chains {
            assert!(self.chains.remove(chain).is_some());
            let goal = Value::Verdict(Verdict::Goto(chain.clone()));
            assert!(self.elements.values().all(|value| *value != goal), "{chain} is still in use");
        }
        change.gone.len() + change.new.len()
    }

    /// What a packet meets: ids and numbers replaced by what they stand for.
    fn meaning(&self) -> BTreeMap<Place, String> {
        let endpoint = |id: u32, number: u32| {
            let key = [id.to_ne_bytes(), number.to_ne_bytes()].concat();
            let Some(Value::Data(data)) = self.elements.get(&(endpoints_of(id), key)) else {
                panic!("endpoint {number} of {id} is missing")
            };
            data.clone()
        };
        let show = |value: &Value| match value {
            Value::Verdict(Verdict::Goto(chain)) => {
                let balance = self.chains[chain].as_ref().expect("a chain that is led to has rules");
                let targets: BTreeSet<Vec<u8>> = (0..balance.count).map(|number| endpoint(balance.id, number)).collect();
                assert_eq!(targets.len(), balance.count as usize, "no endpoint twice");
                format!("{chain} {targets:?} {:?}", balance.affinity_seconds)
            }
            other => format!("{other:?}"),
        };
        let led = self.elements.iter().filter(|((set, _), _)| !matches!(set, Set::Endpoints(_) | Set::Members));
        led.map(|(place, value)| (place.clone(), show(value))).collect()
    }

    fn count(&self, wanted: fn(Set) -> bool) -> usize {
        self.elements.keys().filter(|(set, _)| wanted(*set)).count()
    }
}

fn planner() -> Planner {
    Planner::new("here", "10.244.0.0/16".parse().unwrap())
}

fn endpoint(address: u32, node: &str) -> Endpoint {
    let ports = BTreeMap::from([("web".to_owned(), 8080)]);
    Endpoint { address: Ipv4Addr::from_bits(address), ready: true, serving: true, terminating: false, node: Some(node.to_owned()), ports }
}

fn spec(name: &str) -> ServiceSpec {
    let port = ServicePort { name: "web".to_owned(), protocol: Protocol::Tcp, port: 80, node_port: None };
    ServiceSpec {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        cluster_ips: vec![[10, 96, 0, 7].into()],
        ports: vec![port],
        ..Default::default()
    }
}

fn random_service(random: &SeededRandom, index: u64) -> (ServiceSpec, Vec<Endpoint>) {
    let chance = |of: u64| random.below(of) == 0;
    let mut spec = spec(&format!("s{index}"));
    // Few addresses and ports, so that services come to want the same one.
    spec.cluster_ips = vec![[10, 96, 0, random.below(4) as u8].into()];
    spec.ports[0].protocol = if chance(2) { Protocol::Udp } else { Protocol::Tcp };
    spec.ports[0].node_port = chance(2).then_some(30000 + random.below(3) as u16);
    spec.external_ips = if chance(2) { vec![[203, 0, 113, random.below(2) as u8].into()] } else { Vec::new() };
    spec.affinity_seconds = chance(3).then_some(60);
    spec.internal_local = chance(3);
    spec.external_local = chance(3);
    let endpoints = (0..random.below(6)).map(|_| {
        // One in four is no pod.
        let base = if chance(4) { 0xc000_0200 } else { 0x0af4_0000 };
        let mut endpoint = endpoint(base + random.below(12) as u32, if chance(2) { "here" } else { "there" });
        endpoint.ready = !chance(3);
        endpoint.terminating = !endpoint.ready && chance(2);
        endpoint
    });
    (spec, endpoints.collect())
}

#[test]
fn a_history_of_changes_ends_where_a_fresh_start_does() {
    for seed in 0..200 {
        let random = SeededRandom::new(seed);
        let (mut planner, mut model, mut table) = (planner(), Model::default(), ServiceTable::default());
        for _ in 0..30 {
            for _ in 0..random.below(3) {
                let index = random.below(5);
                if random.below(4) == 0 {
                    table.remove("shop", &format!("s{index}"));
                } else {
                    let (spec, endpoints) = random_service(&random, index);
                    table.set(spec, endpoints);
                }
            }
            model.apply(&planner.change(&table));
            let mut fresh = Model::default();
            fresh.apply(&self::planner().change(&table));
            let (kept, meant) = (model.meaning(), fresh.meaning());
            // Who of two that claim an element has it may differ: first come, first served.
            let alone = |place: &&Place| planner.claims[*place].len() == 1;
            assert!(kept.keys().eq(meant.keys()), "seed {seed}: {kept:#?} {meant:#?}");
            assert!(kept.keys().filter(alone).all(|place| kept[place] == meant[place]), "seed {seed}");
            for set in [|set| matches!(set, Set::Endpoints(_)), |set| set == Set::Members] {
                assert_eq!(model.count(set), fresh.count(set), "seed {seed}");
            }
            assert_eq!(planner.ids.len(), model.chains.len());
        }
        model.apply(&planner.change(&ServiceTable::default()));
        assert!(model.elements.is_empty() && model.chains.is_empty() && planner.claims.is_empty() && planner.ids.is_empty());
    }
}

#[test]
fn one_endpoint_of_a_thousand_costs_a_handful_of_elements_and_nothing_costs_nothing() {
    let (mut planner, mut model, mut table) = (planner(), Model::default(), ServiceTable::default());
    let mut endpoints: Vec<Endpoint> = (0..1000).map(|index| endpoint(0x0af4_0000 + index, "here")).collect();
    table.set(spec("web"), endpoints.clone());
    model.apply(&planner.change(&table));
    endpoints.remove(500);
    table.set(spec("web"), endpoints.clone());
    assert_eq!(model.apply(&planner.change(&table)), 3, "the last one moves to its place");
    endpoints.push(endpoint(0x0af4_1000, "there"));
    table.set(spec("web"), endpoints.clone());
    assert_eq!(model.apply(&planner.change(&table)), 1);
    table.set(spec("web"), endpoints);
    let change = planner.change(&table);
    assert_eq!(model.apply(&change), 0);
    assert!(change.balances.is_empty() && change.new_chains.is_empty());
}

#[test]
fn endpoints_on_their_way_out_serve_only_while_no_other_does() {
    let mut going = endpoint(0x0af4_0001, "here");
    (going.ready, going.terminating) = (false, true);
    let mut starting = endpoint(0x0af4_0002, "here");
    (starting.ready, starting.serving) = (false, false);
    let port = &spec("web").ports[0];
    let used =
        |endpoints: &[Endpoint]| usable(endpoints, port, |_| true).into_iter().map(|target| target.0.octets()[3]).collect::<Vec<_>>();
    assert_eq!(used(&[going.clone(), starting.clone()]), [1]);
    assert_eq!(used(&[going, starting, endpoint(0x0af4_0003, "here")]), [3]);
}

#[test]
fn a_headless_service_leaves_the_table_alone() {
    let mut headless = spec("db");
    headless.cluster_ips.clear();
    let mut table = ServiceTable::default();
    table.set(headless, vec![endpoint(0x0af4_0001, "here")]);
    let mut model = Model::default();
    assert_eq!(model.apply(&planner().change(&table)), 0);
    assert!(model.chains.is_empty());
}
