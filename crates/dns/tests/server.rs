//! The server in process, over loopback, with upstreams of the test's own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gantry_dns::{Dns, DnsConfig, Endpoint, Port, Service, Target};
use gantry_ports::{RealClock, SeededRandom, SimulatedClock, Tasks};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Handle;

/// A server and the tasks it lives in.
struct Lab {
    dns: Dns,
    address: SocketAddr,
    tasks: Tasks,
}

/// UDP and TCP on the same port of loopback.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
}

async fn lab_with(upstreams: Vec<SocketAddr>, clock: Arc<dyn gantry_ports::Clock>) -> Lab {
    let tasks = Tasks::on(Handle::current());
    let dns = Dns::new(DnsConfig { domain: "cluster.local".to_owned(), upstreams }, clock, Arc::new(SeededRandom::new(7)));
    let (udp, tcp) = sockets().await;
    let address = udp.local_addr().unwrap();
    dns.serve(udp, tcp, &tasks);
    Lab { dns, address, tasks }
}

async fn lab(upstreams: Vec<SocketAddr>) -> Lab {
    lab_with(upstreams, Arc::new(RealClock::new())).await
}

impl Lab {
    fn set(&self, name: &str, target: Target) {
        self.dns.set(Service { namespace: "shop".to_owned(), name: name.to_owned(), target });
    }

    async fn raw(&self, query: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        socket.send_to(query, self.address).await.unwrap();
        let mut buffer = vec![0; 65535];
        let length = tokio::time::timeout(Duration::from_secs(20), socket.recv(&mut buffer)).await.expect("an answer comes").unwrap();
        buffer.truncate(length);
        buffer
    }

    async fn ask(&self, name: &str) -> Message {
        Message::from_vec(&self.raw(&query(name).to_vec().unwrap()).await).unwrap()
    }

    async fn ask_tcp(&self, queries: &[Message]) -> Vec<Message> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut answers = Vec::new();
        for query in queries {
            let bytes = query.to_vec().unwrap();
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut answer).await.unwrap();
            answers.push(Message::from_vec(&answer).unwrap());
        }
        answers
    }
}

fn query(name: &str) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

fn cluster_ip(address: &str) -> Target {
    Target::ClusterIps(vec![address.parse().unwrap()], vec![Port { name: "http".to_owned(), protocol: "tcp".to_owned(), port: 80 }])
}

fn answers(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// An upstream that answers every query with an address, or with whatever `change` makes of that; over TCP too.
async fn upstream(tasks: &Tasks, change: fn(&mut Message, bool)) -> SocketAddr {
    let (udp, tcp) = sockets().await;
    let address = udp.local_addr().unwrap();
    let answer = move |bytes: &[u8], over_tcp| {
        let query = Message::from_vec(bytes).unwrap();
        let mut reply = Message::response(query.metadata.id, OpCode::Query);
        let name = query.queries[0].name().clone();
        reply.queries = query.queries;
        reply.add_answer(Record::from_rdata(name, 300, RData::A(A::new(192, 0, 2, 7))));
        change(&mut reply, over_tcp);
        reply.to_vec().unwrap()
    };
    tasks.spawn(async move {
        let mut buffer = vec![0; 65535];
        loop {
            let (length, client) = udp.recv_from(&mut buffer).await.unwrap();
            udp.send_to(&answer(&buffer[..length], false), client).await.unwrap();
        }
    });
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let reply = answer(&query, true);
            stream.write_u16(reply.len() as u16).await.unwrap();
            stream.write_all(&reply).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn services_are_answered_over_udp_and_tcp_as_they_come_and_go() {
    let lab = lab(Vec::new()).await;
    let name = "web.shop.svc.cluster.local.";
    let missing = lab.ask(name).await;
    assert_eq!((missing.metadata.response_code, missing.authorities.len()), (ResponseCode::NXDomain, 1));
    lab.set("web", cluster_ip("10.96.0.7"));
    let found = lab.ask(name).await;
    assert_eq!((answers(&found), found.metadata.id), (vec!["10.96.0.7".to_owned()], 4711));
    assert!(found.metadata.authoritative && found.metadata.recursion_available && found.edns.is_none());
    let both = lab.ask_tcp(&[query(name), query("none.shop.svc.cluster.local.")]).await;
    assert_eq!(answers(&both[0]), ["10.96.0.7"]);
    assert_eq!(both[1].metadata.response_code, ResponseCode::NXDomain);
    lab.dns.remove("shop", "web");
    assert_eq!(lab.ask(name).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn answers_that_do_not_fit_are_cut_and_come_whole_over_tcp() {
    let lab = lab(Vec::new()).await;
    let endpoint = |index: u32| Endpoint { address: Ipv4Addr::from_bits(0x0af4_0100 + index), hostname: None, ports: Vec::new() };
    lab.set("many", Target::Headless((0..200).map(endpoint).collect()));
    let name = "many.shop.svc.cluster.local.";
    let mut plain = query(name);
    let cut = lab.raw(&plain.to_vec().unwrap()).await;
    assert!(cut.len() <= 512 && Message::from_vec(&cut).unwrap().metadata.truncation);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    plain.set_edns(edns);
    let cut = lab.raw(&plain.to_vec().unwrap()).await;
    let message = Message::from_vec(&cut).unwrap();
    assert!(cut.len() > 512 && cut.len() <= 1232 && message.metadata.truncation, "{}", cut.len());
    let whole = lab.ask_tcp(&[query(name)]).await;
    assert_eq!((whole[0].answers.len(), whole[0].metadata.truncation), (200, false));
}

#[tokio::test]
async fn answers_take_turns() {
    let lab = lab(Vec::new()).await;
    let endpoint = |index: u32| Endpoint { address: Ipv4Addr::from_bits(0x0af4_0100 + index), hostname: None, ports: Vec::new() };
    lab.set("few", Target::Headless((0..3).map(endpoint).collect()));
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..30 {
        first.insert(answers(&lab.ask("few.shop.svc.cluster.local.").await).remove(0));
    }
    assert_eq!(first.len(), 3);
}

#[tokio::test]
async fn other_names_are_asked_upstream_and_aliases_followed() {
    let tasks = Tasks::on(Handle::current());
    let lab = lab(vec![upstream(&tasks, |_, _| {}).await]).await;
    assert_eq!(answers(&lab.ask("example.com.").await), ["192.0.2.7"]);
    lab.set("web", cluster_ip("10.96.0.7"));
    lab.set("near", Target::ExternalName("web.shop.svc.cluster.local".to_owned()));
    lab.set("far", Target::ExternalName("example.org".to_owned()));
    lab.set("round", Target::ExternalName("round.shop.svc.cluster.local".to_owned()));
    assert_eq!(answers(&lab.ask("near.shop.svc.cluster.local.").await), ["web.shop.svc.cluster.local.", "10.96.0.7"]);
    let far = lab.ask("far.shop.svc.cluster.local.").await;
    assert_eq!(answers(&far), ["example.org.", "192.0.2.7"]);
    assert_eq!(far.queries[0].name().to_string(), "far.shop.svc.cluster.local.");
    assert_eq!(lab.ask("round.shop.svc.cluster.local.").await.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(answers(&lab.ask_tcp(&[query("example.com.")]).await[0]), ["192.0.2.7"]);
}

#[tokio::test]
async fn an_upstream_that_is_gone_is_passed_over_and_a_cut_answer_fetched_whole() {
    let tasks = Tasks::on(Handle::current());
    // Nobody listens there: the kernel says so at once.
    let (gone, _) = sockets().await;
    let gone_address = gone.local_addr().unwrap();
    drop(gone);
    let cutting = upstream(&tasks, |reply, over_tcp| {
        reply.metadata.truncation = !over_tcp;
        if !over_tcp {
            reply.answers.clear();
        }
    });
    let lab = lab(vec![gone_address, cutting.await]).await;
    assert_eq!(answers(&lab.ask("example.com.").await), ["192.0.2.7"]);
}

#[tokio::test]
async fn silent_upstreams_end_in_a_server_failure_after_two_rounds() {
    let (silent, _) = sockets().await;
    let clock = SimulatedClock::at(gantry_object::Timestamp::from_seconds(100));
    let lab = lab_with(vec![silent.local_addr().unwrap()], Arc::new(clock.clone())).await;
    let tries = async {
        let mut buffer = [0; 512];
        for _ in 0..2 {
            silent.recv(&mut buffer).await.unwrap();
            while clock.next_wake().is_none() {
                tokio::task::yield_now().await;
            }
            clock.advance(Duration::from_secs(2));
        }
    };
    let (answer, ()) = tokio::join!(lab.ask("example.com."), tries);
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    lab.tasks.shutdown();
    let none = self::lab(Vec::new()).await;
    assert_eq!(none.ask("example.com.").await.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn nonsense_is_refused_or_ignored_and_the_server_goes_on() {
    let lab = lab(Vec::new()).await;
    let good = query("web.shop.svc.cluster.local.").to_vec().unwrap();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for cut in 0..12 {
        socket.send_to(&good[..cut], lab.address).await.unwrap();
    }
    let mut reply = good.clone();
    reply[2] |= 0x80;
    socket.send_to(&reply, lab.address).await.unwrap();
    let code = |bytes: Vec<u8>| Message::from_vec(&bytes).unwrap().metadata.response_code;
    assert_eq!(code(lab.raw(&good[..good.len() - 3]).await), ResponseCode::FormErr);
    let mut update = query("x.");
    update.metadata.op_code = OpCode::Update;
    assert_eq!(code(lab.raw(&update.to_vec().unwrap()).await), ResponseCode::NotImp);
    let mut none = query("x.");
    none.queries.clear();
    assert_eq!(code(lab.raw(&none.to_vec().unwrap()).await), ResponseCode::FormErr);
    assert_eq!(code(lab.raw(&good).await), ResponseCode::NXDomain);
}
