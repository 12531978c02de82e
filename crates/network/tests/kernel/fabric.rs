use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use gantry_network::{Fabric, FabricConfig, Network, NetworkConfig, Peer, ServiceTable};

use rustix::mount::{UnmountFlags, unmount};

use crate::lab::{Server, ask, ask_from, endpoint, inside, inventory, on_machine, service};

const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 78, 0, 10), 80);

pub(crate) fn fabric_config(dir: &Path) -> FabricConfig {
    FabricConfig {
        cluster_id: "fab".to_owned(),
        state_dir: dir.join("nodes"),
        node_cidr: "10.76.0.0/24".parse().unwrap(),
        service_cidr: "10.78.0.0/16".parse().unwrap(),
        nodes: (1..=2).map(|index| (format!("node-{index}"), format!("10.77.{index}.0/24").parse().unwrap())).collect(),
    }
}

/// The network of each node, as its agent would start it.
pub(crate) fn networks(config: &FabricConfig, fabric: &Fabric, dir: &Path) -> Vec<Network> {
    let nodes = || fabric.nodes().iter().zip(&config.nodes);
    let peers: Vec<Peer> =
        nodes().map(|(node, (name, range))| Peer { node: name.clone(), pod_cidr: *range, address: node.address }).collect();
    let start = |name: &str, pod_cidr| NetworkConfig {
        cluster_id: config.cluster_id.clone(),
        node_name: name.to_owned(),
        state_dir: dir.join(name),
        pod_cidr,
        cluster_cidr: "10.77.0.0/16".parse().unwrap(),
        service_cidr: config.service_cidr,
    };
    let started = nodes().map(|(node, (name, range))| inside(&node.netns, || Network::start(start(name, *range)).unwrap()));
    started.inspect(|network| network.set_peers(&peers).unwrap()).collect()
}

#[test]
fn pods_of_two_nodes_and_the_host_reach_each_other_and_services() {
    on_machine(|dir| {
        let config = fabric_config(dir);
        let fabric = Fabric::start(&config).unwrap();
        assert_eq!(fabric.host_address(), Ipv4Addr::new(10, 76, 0, 1));
        assert_eq!(fabric.nodes()[1].address, Ipv4Addr::new(10, 76, 0, 3));
        let networks = networks(&config, &fabric, dir);
        let pods: Vec<_> = networks.iter().map(|network| network.attach("pod").unwrap()).collect();
        let servers: Vec<Server> = pods.iter().map(|pod| Server::on(pod, 8080)).collect();
        let all: Vec<&Server> = servers.iter().collect();
        // Pod to pod, with its own address.
        let (_, from) = ask_from(&pods[0], &all, (pods[1].addresses[0], 8080)).unwrap();
        assert_eq!(from.ip(), pods[0].addresses[0]);
        // Host to pods and back: a pod seems to come from its node.
        ask(&all, (pods[1].addresses[0], 8080)).unwrap();
        let api = Server::here(fabric.host_address(), 6443);
        let (_, from) = ask_from(&pods[1], &[&api], (fabric.host_address(), 6443)).unwrap();
        assert_eq!(from.ip(), fabric.nodes()[1].address);

        let mut table = ServiceTable::default();
        let endpoints = servers.iter().enumerate().map(|(index, server)| {
            let mut endpoint = endpoint(server.address, 8080);
            endpoint.node = Some(format!("node-{}", index + 1));
            endpoint
        });
        let endpoints: Vec<_> = endpoints.collect();
        table.set(service("web", VIP.0.octets()), endpoints.clone());
        networks.iter().for_each(|network| network.apply(&table).unwrap());
        let reached = |ask: &dyn Fn() -> Ipv4Addr| (0..40).map(|_| ask()).collect::<BTreeSet<_>>().len();
        assert_eq!(reached(&|| ask_from(&pods[0], &all, VIP).unwrap().0), 2);
        assert_eq!(reached(&|| ask_from(&pods[1], &all, VIP).unwrap().0), 2);
        assert_eq!(reached(&|| ask(&all, VIP).unwrap().0), 2);
        for node in fabric.nodes() {
            assert_eq!(reached(&|| ask(&all, (node.address, 30080)).unwrap().0), 2);
            assert_eq!(reached(&|| inside(&node.netns, || ask(&all, VIP).unwrap().0)), 2);
        }
        // With the local policy the host's requests stay on the node they came to, and keep their source.
        let mut local = service("web", VIP.0.octets());
        local.external_local = true;
        table.set(local, endpoints);
        networks.iter().for_each(|network| network.apply(&table).unwrap());
        for (node, server) in fabric.nodes().iter().zip(&servers) {
            let (reached, from) = ask(&all, (node.address, 30080)).unwrap();
            assert_eq!((reached, from.ip()), (server.address, fabric.host_address().into()));
        }
        networks.into_iter().zip(fabric.nodes()).for_each(|(network, node)| inside(&node.netns, || network.teardown().unwrap()));
        Fabric::delete("fab", &config.state_dir).unwrap();
    });
}

#[test]
fn services_reach_a_process_of_the_host_with_an_address_it_can_answer() {
    on_machine(|dir| {
        let config = fabric_config(dir);
        let fabric = Fabric::start(&config).unwrap();
        let networks = networks(&config, &fabric, dir);
        let pod = networks[1].attach("pod").unwrap();
        let api = Server::here(fabric.host_address(), 6443);
        let mut table = ServiceTable::default();
        table.set(service("kubernetes", VIP.0.octets()), vec![endpoint(fabric.host_address(), 6443)]);
        networks[1].apply(&table).unwrap();
        let (_, from) = ask_from(&pod, &[&api], VIP).unwrap();
        assert_eq!(from.ip(), fabric.nodes()[1].address);
        inside(&fabric.nodes()[1].netns, || ask(&[&api], VIP).unwrap());
        networks.into_iter().zip(fabric.nodes()).for_each(|(network, node)| inside(&node.netns, || network.teardown().unwrap()));
        Fabric::delete("fab", &config.state_dir).unwrap();
    });
}

#[test]
fn a_fabric_is_picked_up_again_and_leaves_nothing() {
    on_machine(|dir| {
        let config = fabric_config(dir);
        Fabric::start(&config).unwrap();
        Fabric::delete("fab", &config.state_dir).unwrap();
        let before = inventory();
        let fabric = Fabric::start(&config).unwrap();
        let identity = |path: &Path| inside(path, || fs::read_link("/proc/thread-self/ns/net").unwrap());
        let first = identity(&fabric.nodes()[0].netns);
        let again = Fabric::start(&config).unwrap();
        assert_eq!(identity(&again.nodes()[0].netns), first);
        assert_eq!(fs::read_dir(&config.state_dir).unwrap().count(), 2);
        // Without its pin, a node lives on in its processes; one without processes is made anew.
        let mut process = inside(&fabric.nodes()[0].netns, || Command::new("sleep").arg("600").spawn().unwrap());
        fabric.nodes().iter().for_each(|node| unmount(&node.netns, UnmountFlags::DETACH).unwrap());
        let again = Fabric::start(&config).unwrap();
        assert_eq!(identity(&again.nodes()[0].netns), first);
        for node in again.nodes() {
            let server = inside(&node.netns, || Server::here(node.address, 80));
            ask(&[&server], (node.address, 80)).unwrap();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        Fabric::delete("fab", &config.state_dir).unwrap();
        assert_eq!(inventory(), before);
        assert!(!config.state_dir.exists());
        Fabric::delete("fab", &config.state_dir).unwrap();
    });
}
