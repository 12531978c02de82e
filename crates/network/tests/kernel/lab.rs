//! A machine to try things on: a network namespace and a mount namespace of its own, which end with the test.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gantry_network::{Endpoint, Network, NetworkConfig, PodLink, Protocol, ServicePort, ServiceSpec};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// How long a packet may take before it counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for a packet that should not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// Runs a test on a machine of its own.
pub(crate) fn on_machine(test: impl FnOnce(&Path) + Send) {
    on_thread(|| {
        // SAFETY: the thread was made for this; it shares no namespace or working directory that others rely on.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.expect("tests run as root");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        let dir = tempfile::tempdir().unwrap();
        test(dir.path());
    });
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Runs something in a namespace. Sockets made there stay there, and can be used from anywhere.
pub(crate) fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    let namespace = std::fs::File::open(netns).unwrap();
    on_thread(|| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    })
}

pub(crate) fn config(id: &str, dir: &Path) -> NetworkConfig {
    NetworkConfig {
        cluster_id: id.to_owned(),
        node_name: "node-1".to_owned(),
        state_dir: dir.join(id),
        pod_cidr: "10.77.1.0/24".parse().unwrap(),
        cluster_cidr: "10.77.0.0/16".parse().unwrap(),
        service_cidr: "10.78.0.0/16".parse().unwrap(),
    }
}

pub(crate) fn start(dir: &Path) -> Network {
    Network::start(config("lab", dir)).unwrap()
}

/// A TCP and a UDP server on the same port.
pub(crate) struct Server {
    pub(crate) address: Ipv4Addr,
    pub(crate) tcp: TcpListener,
    pub(crate) udp: UdpSocket,
}

impl Server {
    pub(crate) fn on(link: &PodLink, port: u16) -> Self {
        inside(&link.netns, || Self::here(link.addresses[0], port))
    }

    pub(crate) fn here(address: Ipv4Addr, port: u16) -> Self {
        let tcp = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap();
        udp.set_read_timeout(Some(SILENCE)).unwrap();
        Self { address, tcp, udp }
    }
}

/// Which server a connection from here ends at, and from where it seems to come.
pub(crate) fn ask(servers: &[&Server], to: (Ipv4Addr, u16)) -> io::Result<(Ipv4Addr, SocketAddr)> {
    let _client = TcpStream::connect_timeout(&SocketAddr::V4(SocketAddrV4::new(to.0, to.1)), PATIENCE)?;
    let mut waiting: Vec<PollFd<'_>> = servers.iter().map(|server| PollFd::new(&server.tcp, PollFlags::IN)).collect();
    let patience = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    poll(&mut waiting, Some(&patience))?;
    let at = waiting.iter().position(|each| each.revents().contains(PollFlags::IN)).ok_or(io::ErrorKind::TimedOut)?;
    Ok((servers[at].address, servers[at].tcp.accept()?.1))
}

/// Asks from inside a pod.
pub(crate) fn ask_from(pod: &PodLink, servers: &[&Server], to: (Ipv4Addr, u16)) -> io::Result<(Ipv4Addr, SocketAddr)> {
    inside(&pod.netns, || ask(servers, to))
}

pub(crate) fn service(name: &str, cluster_ip: [u8; 4]) -> ServiceSpec {
    let port = |protocol, name: &str| ServicePort { name: name.to_owned(), protocol, port: 80, node_port: Some(30080) };
    ServiceSpec {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        cluster_ips: vec![cluster_ip.into()],
        ports: vec![port(Protocol::Tcp, "web"), port(Protocol::Udp, "talk")],
        ..ServiceSpec::default()
    }
}

pub(crate) fn endpoint(address: Ipv4Addr, port: u16) -> Endpoint {
    let ports = BTreeMap::from([("web".to_owned(), port), ("talk".to_owned(), port)]);
    Endpoint { address, ready: true, serving: true, terminating: false, node: Some("node-1".to_owned()), ports }
}

/// Everything of the network that can be seen here: links, addresses, routes, neighbours, tables, mounts.
pub(crate) fn inventory() -> String {
    let run = |command: &str, args: &[&str]| String::from_utf8(Command::new(command).args(args).output().unwrap().stdout).unwrap();
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    [
        run("ip", &["-o", "link"]),
        run("ip", &["-o", "-4", "address"]),
        run("ip", &["route", "show", "table", "all"]),
        run("ip", &["neighbour"]),
        run("nft", &["list", "ruleset"]),
        mounts,
    ]
    .join("\n")
}
