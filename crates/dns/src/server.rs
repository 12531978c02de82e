//! Answers over UDP and TCP (RFC 1035, 7766, 6891).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use gantry_ports::{Clock, Random, Tasks, select};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use crate::Service;
use crate::upstream::Upstreams;
use crate::zone::{Outcome, Zone};

/// The largest answer over UDP that passes everywhere in one piece (the DNS flag day's number).
const UDP_LARGEST: u16 = 1232;
/// What clients take that do not say.
const UDP_PLAIN: u16 = 512;
/// How many services named by others may follow each other.
const ALIASES: usize = 8;
/// How many queries may wait for upstreams at a time, and how many TCP connections there may be; more are turned away.
const BUSY: usize = 1000;
/// How long a TCP connection may say nothing.
const TCP_IDLE: Duration = Duration::from_secs(10);

/// What the DNS server of a node is made of.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// Who is asked for names outside of it, in this order; see [`crate::upstreams`].
    pub upstreams: Vec<SocketAddr>,
}

/// Answers the cluster's names, and forwards others. Clones are the same server.
#[derive(Clone)]
pub struct Dns {
    inner: Arc<Inner>,
}

struct Inner {
    zone: RwLock<Zone>,
    upstreams: Upstreams,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    queries: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl std::fmt::Debug for Dns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dns")
    }
}

/// What to do with a query.
enum Step {
    /// Send this.
    Reply(Vec<u8>),
    /// Ask somebody else, with the records found so far.
    Forward(Box<Message>, Vec<Record>, Name),
    /// Say nothing.
    Ignore,
}

impl Dns {
    /// A server that knows no service yet.
    pub fn new(config: DnsConfig, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let zone = RwLock::new(Zone::new(&config.domain));
        let upstreams = Upstreams::new(config.upstreams, clock.clone(), random.clone());
        let (queries, connections) = (Arc::new(Semaphore::new(BUSY)), Arc::new(Semaphore::new(BUSY)));
        Self { inner: Arc::new(Inner { zone, upstreams, clock, random, queries, connections }) }
    }

    /// Puts a service in place of what was known under its name.
    pub fn set(&self, service: Service) {
        self.inner.zone.write().unwrap_or_else(PoisonError::into_inner).set(service);
    }

    /// Takes a service away, if it is known.
    pub fn remove(&self, namespace: &str, name: &str) {
        self.inner.zone.write().unwrap_or_else(PoisonError::into_inner).remove(namespace, name);
    }

    /// Answers on these sockets until the tasks end. May be called for several addresses.
    pub fn serve(&self, udp: UdpSocket, tcp: TcpListener, tasks: &Tasks) {
        tasks.spawn(self.inner.clone().serve_udp(Arc::new(udp), tasks.clone()));
        tasks.spawn(self.inner.clone().serve_tcp(tcp, tasks.clone()));
    }
}

impl Inner {
    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>, tasks: Tasks) {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let (length, client) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // An ICMP error for an earlier answer: that client is gone.
                Err(error) => {
                    tracing::debug!(%error, "receiving a DNS query");
                    continue;
                }
            };
            let query = &buffer[..length];
            let reply = match self.step(query, true) {
                Step::Ignore => continue,
                Step::Reply(reply) => reply,
                Step::Forward(message, found, name) => {
                    let (inner, socket) = (self.clone(), socket.clone());
                    let Ok(permit) = self.queries.clone().try_acquire_owned() else { continue };
                    tasks.spawn(async move {
                        let reply = inner.forward(*message, found, name, true).await;
                        send(&socket, &reply, client).await;
                        drop(permit);
                    });
                    continue;
                }
            };
            send(&socket, &reply, client).await;
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener, tasks: Tasks) {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "accepting a DNS connection");
                    self.clock.sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = self.connections.clone().try_acquire_owned() else { continue };
            let inner = self.clone();
            tasks.spawn(async move {
                if let Err(error) = inner.converse(stream).await {
                    tracing::debug!(%error, "a DNS connection ended");
                }
                drop(permit);
            });
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let query = select! {
                query = read_message(&mut stream) => query?,
                () = self.clock.sleep(TCP_IDLE) => return Ok(()),
            };
            let reply = match self.step(&query, false) {
                Step::Ignore => return Ok(()),
                Step::Reply(reply) => reply,
                Step::Forward(message, found, name) => self.forward(*message, found, name, false).await,
            };
            let length = u16::try_from(reply.len()).map_err(|_| io::ErrorKind::InvalidData)?;
            stream.write_all(&[&length.to_be_bytes()[..], &reply].concat()).await?;
        }
    }

    fn step(&self, query: &[u8], over_udp: bool) -> Step {
        let Ok(query) = Message::from_vec(query) else { return unreadable(query) };
        if query.metadata.message_type != MessageType::Query {
            return Step::Ignore;
        }
        let mut reply = reply_to(&query);
        let question = match (query.metadata.op_code, &query.queries[..]) {
            (OpCode::Query, [question]) => question,
            (OpCode::Query, _) => return finish(reply, ResponseCode::FormErr, over_udp),
            _ => return finish(reply, ResponseCode::NotImp, over_udp),
        };
        if query.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return finish(reply, ResponseCode::BADVERS, over_udp);
        }
        if !matches!(question.query_class(), DNSClass::IN | DNSClass::ANY) {
            return finish(reply, ResponseCode::Refused, over_udp);
        }
        let (mut name, kind) = (question.name().clone(), question.query_type());
        for _ in 0..ALIASES {
            match self.look_up(&mut reply, &name, kind) {
                Ok(code) => return finish(reply, code, over_udp),
                Err(Some(target)) => name = target,
                Err(None) => {
                    let found = std::mem::take(&mut reply.answers);
                    return Step::Forward(Box::new(query), found, name);
                }
            }
        }
        finish(reply, ResponseCode::ServFail, over_udp)
    }

    /// Adds what the zone knows to a reply. Else says which name to look for instead, if any, or that others must be asked.
    fn look_up(&self, reply: &mut Message, name: &Name, kind: RecordType) -> Result<ResponseCode, Option<Name>> {
        let zone = self.zone.read().unwrap_or_else(PoisonError::into_inner);
        reply.metadata.authoritative = true;
        match zone.answer(name, kind) {
            Outcome::Records { mut answers, additionals } => {
                // Many clients use the first address only.
                let first = self.random.below(answers.len() as u64) as usize;
                answers.rotate_left(first);
                reply.answers.extend(answers);
                reply.additionals.extend(additionals);
                Ok(ResponseCode::NoError)
            }
            Outcome::Alias { record, target } => {
                reply.answers.push(*record);
                Err(Some(target))
            }
            Outcome::NoData => {
                reply.authorities.push(zone.authority());
                Ok(ResponseCode::NoError)
            }
            Outcome::NoSuchName => {
                reply.authorities.push(zone.authority());
                Ok(ResponseCode::NXDomain)
            }
            Outcome::NotOurs => Err(None),
        }
    }

    /// Asks upstream for a name, and answers the query with that, after the aliases that led there.
    async fn forward(&self, query: Message, found: Vec<Record>, name: Name, over_udp: bool) -> Vec<u8> {
        let mut reply = reply_to(&query);
        reply.answers = found;
        let mut asked = query;
        for question in &mut asked.queries {
            question.set_name(name.clone());
        }
        let code = match self.upstreams.ask(&asked).await {
            Ok(answer) => {
                reply.answers.extend(answer.answers);
                reply.authorities = answer.authorities;
                reply.additionals = answer.additionals;
                reply.metadata.authentic_data = answer.metadata.authentic_data;
                answer.metadata.response_code
            }
            Err(error) => {
                tracing::debug!(%name, %error, "no upstream name server answered");
                ResponseCode::ServFail
            }
        };
        encode(reply, code, over_udp)
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(reply, client).await {
        tracing::debug!(%error, %client, "answering a DNS query");
    }
}

/// Reads one message of a TCP connection: two bytes of length, then as many.
pub(crate) async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// What to say to bytes that make no query: so, if one can tell whom the answer would be for.
fn unreadable(query: &[u8]) -> Step {
    match query {
        [high, low, flags, _, ..] if query.len() >= 12 && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            finish(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr), ResponseCode::FormErr, true)
        }
        _ => Step::Ignore,
    }
}

fn reply_to(query: &Message) -> Message {
    let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
    reply.metadata.recursion_desired = query.metadata.recursion_desired;
    reply.metadata.recursion_available = true;
    reply.metadata.checking_disabled = query.metadata.checking_disabled;
    reply.queries.clone_from(&query.queries);
    if let Some(theirs) = &query.edns {
        let mut edns = Edns::new();
        // For now, what the client takes; it becomes what we take when the reply is encoded.
        edns.set_max_payload(theirs.max_payload());
        edns.set_dnssec_ok(theirs.flags().dnssec_ok);
        reply.edns = Some(edns);
    }
    reply
}

fn finish(reply: Message, code: ResponseCode, over_udp: bool) -> Step {
    Step::Reply(encode(reply, code, over_udp))
}

/// Encodes a reply. What does not fit is left out, and the client told to come by TCP.
fn encode(mut reply: Message, code: ResponseCode, over_udp: bool) -> Vec<u8> {
    reply.metadata.response_code = code;
    let taken = reply.edns.as_ref().map_or(UDP_PLAIN, Edns::max_payload);
    if let Some(edns) = &mut reply.edns {
        edns.set_max_payload(UDP_LARGEST);
        edns.set_rcode_high((u16::from(code) >> 4) as u8);
    }
    let limit = if over_udp { taken.clamp(UDP_PLAIN, UDP_LARGEST) } else { u16::MAX };
    let mut bytes = Vec::with_capacity(usize::from(UDP_PLAIN));
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    if let Err(error) = reply.emit(&mut encoder) {
        tracing::debug!(%error, "encoding a DNS answer");
        bytes = Message::error_msg(reply.metadata.id, OpCode::Query, ResponseCode::ServFail).to_vec().unwrap_or_default();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use gantry_ports::{RealClock, SeededRandom};

    use super::*;

    #[test]
    fn no_bytes_bring_the_server_down_and_no_reply_answers_a_reply() {
        let config = DnsConfig { domain: "cluster.local".to_owned(), upstreams: Vec::new() };
        let dns = Dns::new(config, Arc::new(RealClock::new()), Arc::new(SeededRandom::new(1)));
        let mut query = Message::new(1, MessageType::Query, OpCode::Query);
        let name = Name::from_ascii("_http._tcp.web.shop.svc.cluster.local.").unwrap();
        query.add_query(hickory_proto::op::Query::query(name, RecordType::SRV)).set_edns(Edns::new());
        let good = query.to_vec().unwrap();
        let random = SeededRandom::new(2);
        for _ in 0..50_000 {
            let mut bytes = good.clone();
            for _ in 0..=random.below(6) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.u64() as u8;
            }
            bytes.truncate(good.len() - random.below(3).saturating_mul(random.below(12)) as usize);
            match dns.inner.step(&bytes, true) {
                Step::Reply(reply) => {
                    assert!(bytes[2] & 0x80 == 0 && reply[2] & 0x80 != 0 && reply[..2] == bytes[..2]);
                    assert!(reply.len() <= usize::from(UDP_LARGEST));
                }
                Step::Forward(..) | Step::Ignore => {}
            }
        }
    }
}
