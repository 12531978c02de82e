use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use gantry_network::{Network, PodLink, ServiceTable};
use gantry_ports::{Clock, RealClock};

use crate::lab::{PATIENCE, Server, ask, ask_from, endpoint, inside, inventory, on_machine, service, start};

const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 78, 0, 10), 80);

struct Pods {
    client: PodLink,
    links: Vec<PodLink>,
    servers: Vec<Server>,
}

/// Some pods that serve on port 8080, and one that asks.
fn pods(network: &Network, count: usize) -> Pods {
    let links: Vec<PodLink> = (0..count).map(|index| network.attach(&format!("server-{index}")).unwrap()).collect();
    let servers = links.iter().map(|link| Server::on(link, 8080)).collect();
    Pods { client: network.attach("client").unwrap(), links, servers }
}

impl Pods {
    fn table(&self) -> ServiceTable {
        let mut table = ServiceTable::default();
        table.set(service("web", VIP.0.octets()), self.servers.iter().map(|server| endpoint(server.address, 8080)).collect());
        table
    }

    fn all(&self) -> Vec<&Server> {
        self.servers.iter().collect()
    }

    /// Which servers answer in a number of tries from the client.
    fn tally(&self, to: (Ipv4Addr, u16), tries: usize) -> BTreeMap<Ipv4Addr, usize> {
        let mut tally = BTreeMap::new();
        for _ in 0..tries {
            *tally.entry(ask_from(&self.client, &self.all(), to).unwrap().0).or_default() += 1;
        }
        tally
    }
}

#[test]
fn a_cluster_ip_is_balanced_over_all_endpoints_for_pods_and_for_the_node() {
    on_machine(|dir| {
        let network = start(dir);
        let pods = pods(&network, 2);
        network.apply(&pods.table()).unwrap();
        let tally = pods.tally(VIP, 40);
        assert!(tally.len() == 2 && tally.values().all(|count| *count > 4), "{tally:?}");
        let from_node: BTreeSet<Ipv4Addr> = (0..30).map(|_| ask(&pods.all(), VIP).unwrap().0).collect();
        assert_eq!(from_node.len(), 2);
        // The client's own address is what servers see.
        assert_eq!(ask_from(&pods.client, &pods.all(), VIP).unwrap().1.ip(), pods.client.addresses[0]);
        network.teardown().unwrap();
    });
}

#[test]
fn node_ports_lead_to_the_service_from_pods_and_the_node() {
    on_machine(|dir| {
        let network = start(dir);
        let pods = pods(&network, 2);
        network.apply(&pods.table()).unwrap();
        let node_port = (network.gateway(), 30080);
        assert_eq!(pods.tally(node_port, 30).len(), 2);
        ask(&pods.all(), node_port).unwrap();
        // The node's localhost is not taken over.
        assert_eq!(ask(&pods.all(), (Ipv4Addr::LOCALHOST, 30080)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        network.teardown().unwrap();
    });
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    on_machine(|dir| {
        let network = start(dir);
        let pods = pods(&network, 1);
        network.apply(&pods.table()).unwrap();
        let (reached, from) = ask_from(&pods.links[0], &pods.all(), VIP).unwrap();
        assert_eq!((reached, from.ip()), (pods.links[0].addresses[0], network.gateway().into()));
        network.teardown().unwrap();
    });
}

#[test]
fn services_without_endpoints_and_unknown_addresses_refuse() {
    on_machine(|dir| {
        let (network, clock) = (start(dir), RealClock::new());
        let pods = pods(&network, 1);
        let mut table = ServiceTable::default();
        let mut external = service("web", VIP.0.octets());
        external.external_ips = vec![[203, 0, 113, 7].into()];
        table.set(external, Vec::new());
        network.apply(&table).unwrap();
        for to in [VIP, (network.gateway(), 30080), ([10, 78, 9, 9].into(), 443)] {
            let began = clock.monotonic();
            let refused = [ask_from(&pods.client, &pods.all(), to), ask(&pods.all(), to)];
            assert!(
                refused.iter().all(|each| each.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)),
                "{to:?} {refused:?}"
            );
            assert!((clock.monotonic() - began) < Duration::from_secs(1));
        }
        network.apply(&pods.table()).unwrap();
        ask_from(&pods.client, &pods.all(), VIP).unwrap();
        network.teardown().unwrap();
    });
}

#[test]
fn clients_stay_with_their_endpoint_until_it_goes() {
    on_machine(|dir| {
        let network = start(dir);
        let pods = pods(&network, 4);
        let mut sticky = service("web", VIP.0.octets());
        sticky.affinity_seconds = Some(600);
        let mut endpoints: Vec<_> = pods.servers.iter().map(|server| endpoint(server.address, 8080)).collect();
        let mut table = ServiceTable::default();
        table.set(sticky.clone(), endpoints.clone());
        network.apply(&table).unwrap();
        let chosen = pods.tally(VIP, 20);
        assert_eq!(chosen.len(), 1, "{chosen:?}");
        // An agent that comes back keeps it so.
        drop(network);
        let network = start(dir);
        network.apply(&table).unwrap();
        assert_eq!(pods.tally(VIP, 20).into_keys().collect::<Vec<_>>(), chosen.keys().copied().collect::<Vec<_>>());
        endpoints.retain(|endpoint| !chosen.contains_key(&endpoint.address));
        table.set(sticky, endpoints);
        network.apply(&table).unwrap();
        let next = pods.tally(VIP, 20);
        assert!(next.len() == 1 && next.keys().all(|server| !chosen.contains_key(server)), "{chosen:?} then {next:?}");
        network.teardown().unwrap();
    });
}

#[test]
fn services_go_on_while_no_agent_runs_and_stale_ones_go_with_the_first_apply() {
    on_machine(|dir| {
        let network = start(dir);
        let pods = pods(&network, 2);
        let mut table = pods.table();
        let old = ([10, 78, 0, 99].into(), 80);
        table.set(service("old", [10, 78, 0, 99]), vec![endpoint(pods.servers[0].address, 8080)]);
        network.apply(&table).unwrap();
        drop(network);
        ask_from(&pods.client, &pods.all(), VIP).unwrap();
        let network = start(dir);
        ask_from(&pods.client, &pods.all(), old).unwrap();
        network.apply(&pods.table()).unwrap();
        ask_from(&pods.client, &pods.all(), VIP).unwrap();
        assert_eq!(ask_from(&pods.client, &pods.all(), old).unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(!inventory().contains("default/old"));
        network.teardown().unwrap();
    });
}

#[test]
fn local_policies_keep_traffic_on_the_node_or_drop_it() {
    on_machine(|dir| {
        let network = start(dir);
        let pods = pods(&network, 2);
        let mut local = service("web", VIP.0.octets());
        local.internal_local = true;
        let mut endpoints: Vec<_> = pods.servers.iter().map(|server| endpoint(server.address, 8080)).collect();
        endpoints[1].node = Some("node-2".to_owned());
        let mut table = ServiceTable::default();
        table.set(local, endpoints);
        network.apply(&table).unwrap();
        assert_eq!(pods.tally(VIP, 20).into_keys().collect::<Vec<_>>(), [pods.servers[0].address]);
        // Inside the cluster, node ports still lead everywhere.
        assert_eq!(pods.tally((network.gateway(), 30080), 30).len(), 2);
        network.teardown().unwrap();
    });
}

#[test]
fn udp_flows_leave_an_endpoint_that_is_gone() {
    on_machine(|dir| {
        let network = start(dir);
        let pods = pods(&network, 2);
        let only = |index: usize| {
            let mut table = ServiceTable::default();
            table.set(service("web", VIP.0.octets()), vec![endpoint(pods.servers[index].address, 8080)]);
            table
        };
        let client = inside(&pods.client.netns, || UdpSocket::bind("0.0.0.0:0").unwrap());
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let talk = |index: usize| {
            client.send_to(b"?", VIP).unwrap();
            let mut buffer = [0; 8];
            let (_, from) = pods.servers[index].udp.recv_from(&mut buffer).expect("the endpoint that is in place gets it");
            pods.servers[index].udp.send_to(b"!", from).unwrap();
            assert_eq!(client.recv_from(&mut buffer).unwrap().1, VIP.into());
        };
        for index in [0, 1, 0] {
            network.apply(&only(index)).unwrap();
            talk(index);
            talk(index);
        }
        network.teardown().unwrap();
    });
}

#[test]
fn one_endpoint_of_a_thousand_changes_few_elements_fast() {
    on_machine(|dir| {
        let (network, clock) = (start(dir), RealClock::new());
        let pods = pods(&network, 1);
        let mut endpoints: Vec<_> = (0..999u32).map(|index| endpoint(Ipv4Addr::from_bits(0x0a4d_0200 + index), 8080)).collect();
        let mut table = ServiceTable::default();
        table.set(service("web", VIP.0.octets()), endpoints.clone());
        network.apply(&table).unwrap();
        let elements = || {
            let listed = Command::new("nft").args(["list", "maps"]).output().unwrap();
            String::from_utf8(listed.stdout).unwrap().matches(" . 8080").count()
        };
        assert_eq!(elements(), 2 * 999);
        endpoints.push(endpoint(pods.servers[0].address, 8080));
        table.set(service("web", VIP.0.octets()), endpoints.clone());
        let began = clock.monotonic();
        network.apply(&table).unwrap();
        println!("one of 1,000 endpoints was in the kernel after {:?}", (clock.monotonic() - began));
        assert!((clock.monotonic() - began) < Duration::from_millis(250), "far slower than the 5 ms of a release build on an idle machine");
        assert_eq!(elements(), 2 * 1000);
        table.set(service("web", VIP.0.octets()), endpoints.split_off(999));
        network.apply(&table).unwrap();
        assert_eq!(elements(), 2);
        ask_from(&pods.client, &pods.all(), VIP).unwrap();
        network.teardown().unwrap();
    });
}

#[test]
fn thousands_of_services_fit_in_one_batch() {
    on_machine(|dir| {
        let (network, clock) = (start(dir), RealClock::new());
        let pods = pods(&network, 1);
        let mut table = pods.table();
        for index in 0..3000u32 {
            let mut many = service(&format!("many-{index}"), Ipv4Addr::from_bits(0x0a4e_1000 + index).octets());
            many.ports.iter_mut().for_each(|port| port.node_port = None);
            table.set(many, (0..3).map(|each| endpoint(Ipv4Addr::from_bits(0x0a4d_0200 + index + each), 8080)).collect());
        }
        let began = clock.monotonic();
        network.apply(&table).unwrap();
        println!("3,001 services were in the kernel after {:?}", (clock.monotonic() - began));
        table.set(service("late", [10, 78, 0, 11]), vec![endpoint(pods.servers[0].address, 8080)]);
        let began = clock.monotonic();
        network.apply(&table).unwrap();
        println!("one more after {:?}", (clock.monotonic() - began));
        ask_from(&pods.client, &pods.all(), ([10, 78, 0, 11].into(), 80)).unwrap();
        ask_from(&pods.client, &pods.all(), VIP).unwrap();
        let began = clock.monotonic();
        for index in 0..20 {
            network.attach(&format!("more-{index}")).unwrap();
        }
        println!("a pod was attached within {:?}", (clock.monotonic() - began) / 20);
        let began = clock.monotonic();
        for index in 0..20 {
            network.detach(&format!("more-{index}")).unwrap();
        }
        println!("a pod was detached within {:?}", (clock.monotonic() - began) / 20);
        network.teardown().unwrap();
    });
}
