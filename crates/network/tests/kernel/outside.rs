//! The world beyond the cluster: another machine on a segment of its own, for which the node of a second fabric stands.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use gantry_network::{Fabric, FabricConfig, ServiceTable};

use crate::lab::{SILENCE, Server, ask, ask_from, endpoint, inside, on_machine, service, start};

/// The machine's address on the outer segment, and the stranger's.
const DOOR: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 66, 0, 2);
/// An address outside of all ranges that the stranger sends to the machine.
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(10, 69, 0, 5);

fn stranger(dir: &Path) -> PathBuf {
    let config = FabricConfig {
        cluster_id: "outer".to_owned(),
        state_dir: dir.join("outer"),
        node_cidr: "10.66.0.0/24".parse().unwrap(),
        service_cidr: "10.67.0.0/16".parse().unwrap(),
        nodes: vec![("stranger".to_owned(), "10.68.0.0/24".parse().unwrap())],
    };
    let netns = Fabric::start(&config).unwrap().nodes()[0].netns.clone();
    // A stranger comes with an address of its own.
    assert!(Command::new("nft").args(["delete", "table", "ip", "gantry-fabric-outer"]).status().unwrap().success());
    netns
}

fn here(address: Ipv4Addr, node: &str) -> gantry_network::Endpoint {
    let mut endpoint = endpoint(address, 8080);
    endpoint.node = Some(node.to_owned());
    endpoint
}

#[test]
fn pods_reach_the_outside_with_the_nodes_address() {
    on_machine(|dir| {
        let (network, stranger) = (start(dir), stranger(dir));
        let pod = network.attach("pod").unwrap();
        let server = inside(&stranger, || Server::here(STRANGER, 80));
        let (_, from) = ask_from(&pod, &[&server], (STRANGER, 80)).unwrap();
        assert_eq!(from.ip(), DOOR);
        network.teardown().unwrap();
        Fabric::delete("outer", &dir.join("outer")).unwrap();
    });
}

#[test]
fn strangers_reach_services_by_node_port_and_external_address() {
    on_machine(|dir| {
        let (network, stranger) = (start(dir), stranger(dir));
        let pod = network.attach("pod").unwrap();
        let server = Server::on(&pod, 8080);
        let knock = |to: (Ipv4Addr, u16)| inside(&stranger, || ask(&[&server], to));
        let mut spec = service("web", [10, 78, 0, 10]);
        spec.external_ips = vec![EXTERNAL];
        let mut table = ServiceTable::default();
        for local in [false, true] {
            spec.external_local = local;
            table.set(spec.clone(), vec![here(pod.addresses[0], "node-1")]);
            network.apply(&table).unwrap();
            for to in [(DOOR, 30080), (EXTERNAL, 80)] {
                let (reached, from) = knock(to).unwrap();
                assert_eq!((reached, from.ip()), (pod.addresses[0], STRANGER.into()), "{to:?}");
            }
        }
        // With endpoints on other nodes only, the local policy says nothing at all to strangers, and helps those inside.
        table.set(spec.clone(), vec![here(pod.addresses[0], "node-2")]);
        network.apply(&table).unwrap();
        let silence = inside(&stranger, || TcpStream::connect_timeout(&(DOOR, 30080).into(), SILENCE));
        assert_eq!(silence.unwrap_err().kind(), ErrorKind::TimedOut);
        ask(&[&server], (DOOR, 30080)).unwrap();
        ask_from(&pod, &[&server], (EXTERNAL, 80)).unwrap();
        // As on any machine, there is some route for external addresses: packets get as far as to be refused.
        assert!(Command::new("ip").args(["route", "add", "10.69.0.0/24", "dev", "gouter-br"]).status().unwrap().success());
        table.set(spec, Vec::new());
        network.apply(&table).unwrap();
        for to in [(DOOR, 30080), (EXTERNAL, 80)] {
            assert_eq!(knock(to).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{to:?}");
        }
        network.teardown().unwrap();
        Fabric::delete("outer", &dir.join("outer")).unwrap();
    });
}

#[test]
fn pods_of_a_fabric_reach_the_outside_with_the_machines_address() {
    on_machine(|dir| {
        let stranger = stranger(dir);
        let config = crate::fabric::fabric_config(dir);
        let fabric = Fabric::start(&config).unwrap();
        let networks = crate::fabric::networks(&config, &fabric, dir);
        let pod = networks[1].attach("pod").unwrap();
        let server = inside(&stranger, || Server::here(STRANGER, 80));
        let (_, from) = ask_from(&pod, &[&server], (STRANGER, 80)).unwrap();
        assert_eq!(from.ip(), DOOR);
        networks.into_iter().zip(fabric.nodes()).for_each(|(network, node)| inside(&node.netns, || network.teardown().unwrap()));
        Fabric::delete("fab", &config.state_dir).unwrap();
        Fabric::delete("outer", &dir.join("outer")).unwrap();
    });
}
