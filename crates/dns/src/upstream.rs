//! Asks other name servers.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use gantry_ports::{Clock, Random, select};
use hickory_proto::op::{Message, MessageType};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

use crate::server::read_message;

/// How long an upstream has for an answer, before the next one is asked; as in resolvers' libraries, all are asked twice.
const PATIENCE: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;

/// The name servers for names that are not the cluster's.
pub(crate) struct Upstreams {
    servers: Vec<SocketAddr>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Upstreams {
    pub(crate) fn new(servers: Vec<SocketAddr>, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { servers, clock, random }
    }

    /// The answer of the first that gives one. The query goes out under another, random number each time, from a port of its own.
    pub(crate) async fn ask(&self, query: &Message) -> io::Result<Message> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "there is no upstream name server");
        for server in self.servers.iter().cycle().take(self.servers.len() * ROUNDS) {
            let mut query = query.clone();
            query.metadata.id = self.random.u64() as u16;
            let answer = select! {
                answer = ask_one(*server, &query) => answer,
                () = self.clock.sleep(PATIENCE) => Err(io::ErrorKind::TimedOut.into()),
            };
            match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

async fn ask_one(server: SocketAddr, query: &Message) -> io::Result<Message> {
    let bytes = query.to_vec().map_err(io::Error::other)?;
    let here: SocketAddr = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(here).await?;
    socket.connect(server).await?;
    socket.send(&bytes).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let answer = loop {
        let length = socket.recv(&mut buffer).await?;
        // Anybody may send anything to our port: only the answer to this question counts.
        if let Some(answer) = answer_to(query, &buffer[..length]) {
            break answer;
        }
    };
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes()[..], &bytes].concat()).await?;
    let reply = read_message(&mut stream).await?;
    answer_to(query, &reply).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn answer_to(query: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.id == query.metadata.id && answer.metadata.message_type == MessageType::Response;
    (fits && answer.queries == query.queries).then_some(answer)
}
