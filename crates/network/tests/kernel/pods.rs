use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;

use gantry_network::{Error, Network, Peer};
use rustix::mount::{UnmountFlags, unmount};

use crate::lab::{Server, ask, ask_from, config, inside, inventory, on_machine, start};

#[test]
fn pods_reach_each_other_and_the_node_and_the_node_reaches_them() {
    on_machine(|dir| {
        let network = start(dir);
        let (a, b) = (network.attach("pod-a").unwrap(), network.attach("pod-b").unwrap());
        assert_ne!(a.addresses, b.addresses);
        let (on_b, on_node) = (Server::on(&b, 8080), Server::here(network.gateway(), 9090));
        let (reached, from) = ask_from(&a, &[&on_b], (b.addresses[0], 8080)).unwrap();
        assert_eq!((reached, from.ip()), (b.addresses[0], a.addresses[0].into()));
        let (_, from) = ask_from(&a, &[&on_node], (network.gateway(), 9090)).unwrap();
        assert_eq!(from.ip(), a.addresses[0]);
        let (_, from) = ask(&[&on_b], (b.addresses[0], 8080)).unwrap();
        assert_eq!(from.ip(), network.gateway());
        // Low ports are open to all users of a pod, and an address without a pod is refused at once.
        assert_eq!(inside(&a.netns, || fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap()).trim(), "0");
        assert!(ask_from(&a, &[], ([10, 77, 1, 200].into(), 80)).is_err());
        network.teardown().unwrap();
    });
}

#[test]
fn attaching_and_detaching_twice_is_as_good_as_once() {
    on_machine(|dir| {
        let network = start(dir);
        let first = network.attach("pod").unwrap();
        assert_eq!(network.attach("pod").unwrap(), first);
        assert_eq!((network.list(), network.find("pod")), (vec!["pod".to_owned()], Some(first.clone())));
        network.detach("pod").unwrap();
        network.detach("pod").unwrap();
        assert!(network.list().is_empty() && !first.netns.exists());
        assert_ne!(network.attach("pod").unwrap().addresses, first.addresses);
        assert!(matches!(network.attach("../pod"), Err(Error::Name { .. })));
        network.teardown().unwrap();
    });
}

#[test]
fn many_pods_come_and_go_at_once() {
    on_machine(|dir| {
        let network = start(dir);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let network = &network;
                scope.spawn(move || {
                    for round in 0..5 {
                        let (kept, passing) = (format!("kept-{worker}-{round}"), format!("passing-{worker}-{round}"));
                        network.attach(&passing).unwrap();
                        network.attach(&kept).unwrap();
                        network.detach(&passing).unwrap();
                    }
                });
            }
        });
        let pods = network.list();
        let addresses: BTreeSet<Ipv4Addr> = pods.iter().map(|uid| network.find(uid).unwrap().addresses[0]).collect();
        assert_eq!((pods.len(), addresses.len()), (20, 20));
        for uid in &pods {
            let pod = network.find(uid).unwrap();
            ask(&[&Server::on(&pod, 8080)], (pod.addresses[0], 8080)).unwrap();
        }
        network.teardown().unwrap();
    });
}

#[test]
fn an_agent_that_comes_back_finds_its_pods_and_sweeps_what_was_half_made() {
    on_machine(|dir| {
        let network = start(dir);
        let (a, b) = (network.attach("pod-a").unwrap(), network.attach("pod-b").unwrap());
        drop(network);
        let state = dir.join("lab");
        // As if killed before pod-b was on record.
        fs::remove_file(state.join("pods/pod-b")).unwrap();
        let network = start(dir);
        assert_eq!((network.list(), network.find("pod-a")), (vec!["pod-a".to_owned()], Some(a.clone())));
        assert!(!b.netns.exists() && !inventory().contains("glab4d0103"));
        let server = Server::on(&a, 8080);
        ask(&[&server], (a.addresses[0], 8080)).unwrap();
        let c = network.attach("pod-c").unwrap();
        ask_from(&c, &[&server], (a.addresses[0], 8080)).unwrap();
        network.teardown().unwrap();
    });
}

#[test]
fn a_pod_that_lives_is_found_again_though_its_pin_is_gone_and_a_dead_one_is_not() {
    on_machine(|dir| {
        let network = start(dir);
        let (live, dead) = (network.attach("live").unwrap(), network.attach("dead").unwrap());
        let mut process = inside(&live.netns, || Command::new("sleep").arg("600").spawn().unwrap());
        drop(network);
        // As when the agent's mount namespace ended with it.
        for pin in [&live.netns, &dead.netns] {
            unmount(pin, UnmountFlags::DETACH).unwrap();
        }
        let network = start(dir);
        assert_eq!(network.list(), ["live"]);
        let server = Server::on(&network.attach("live").unwrap(), 8080);
        ask(&[&server], (live.addresses[0], 8080)).unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
        network.teardown().unwrap();
    });
}

#[test]
fn teardown_and_purge_leave_nothing() {
    on_machine(|dir| {
        // The loopback device and forwarding stay as they are then.
        start(dir).teardown().unwrap();
        let before = inventory();
        let network = start(dir);
        network.attach("pod-a").unwrap();
        assert_ne!(inventory(), before);
        network.teardown().unwrap();
        assert_eq!(inventory(), before);
        // Killed, with half a pod.
        let network = start(dir);
        network.attach("pod-a").unwrap();
        network.attach("pod-b").unwrap();
        drop(network);
        fs::remove_file(dir.join("lab/pods/pod-b")).unwrap();
        Network::purge("lab", &dir.join("lab")).unwrap();
        assert_eq!(inventory(), before);
        assert_eq!(fs::read_dir(dir.join("lab")).unwrap().count(), 0);
        Network::purge("lab", &dir.join("lab")).unwrap();
    });
}

#[test]
fn clusters_live_side_by_side() {
    on_machine(|dir| {
        let one = start(dir);
        let mut other = config("lab2", dir);
        other.pod_cidr = "10.87.1.0/24".parse().unwrap();
        other.cluster_cidr = "10.87.0.0/16".parse().unwrap();
        other.service_cidr = "10.88.0.0/16".parse().unwrap();
        let two = Network::start(other).unwrap();
        let (a, b) = (one.attach("pod").unwrap(), two.attach("pod").unwrap());
        let (on_a, on_b) = (Server::on(&a, 80), Server::on(&b, 80));
        ask(&[&on_a], (a.addresses[0], 80)).unwrap();
        ask(&[&on_b], (b.addresses[0], 80)).unwrap();
        one.teardown().unwrap();
        ask(&[&on_b], (b.addresses[0], 80)).unwrap();
        assert!(!inventory().contains("10.77."));
        two.teardown().unwrap();
    });
}

#[test]
fn routes_follow_the_peers() {
    on_machine(|dir| {
        let network = start(dir);
        let segment = network.attach("segment").unwrap().addresses[0];
        let peer = |node: &str, range: &str, address: Ipv4Addr| Peer { node: node.to_owned(), pod_cidr: range.parse().unwrap(), address };
        // The pod's link stands for the segment: what matters is which routes come and go.
        network.set_peers(&[peer("n2", "10.77.2.0/24", segment), peer("n3", "10.77.3.0/24", segment)]).unwrap();
        assert!(inventory().contains(&format!("10.77.2.0/24 via {segment}")));
        network.set_peers(&[peer("n3", "10.77.3.0/24", segment)]).unwrap();
        let now = inventory();
        assert!(!now.contains("10.77.2.0/24") && now.contains("10.77.3.0/24") && now.contains("unreachable 10.77.1.0/24"));
        let off_segment = network.set_peers(&[peer("n4", "10.77.4.0/24", [192, 0, 2, 1].into())]);
        assert!(matches!(off_segment, Err(Error::Kernel { .. })));
        network.teardown().unwrap();
    });
}
