//! The loader: HTTP/1.1 over TLS on connections that are kept, with as little work of its own as can be, since it shares the
//! machine with what it loads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use gantry_ports::{Clock, Tasks, join_all};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::figures::Samples;
use crate::{Result, failed};

/// Where a server is, and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
}

/// One connection.
pub(crate) struct Client {
    stream: TlsStream<TcpStream>,
    unread: BytesMut,
}

/// How the body of an answer is delimited.
enum Framing {
    Length(usize),
    Chunks,
}

/// A request as bytes.
pub(crate) fn request(method: &str, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\naccept: application/json\r\n");
    let kind = if body.is_empty() { String::new() } else { format!("content-type: {content_type}\r\ncontent-length: {}\r\n", body.len()) };
    [head.as_bytes(), kind.as_bytes(), b"\r\n", body].concat()
}

impl Client {
    pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Self> {
        let stream = TcpStream::connect(endpoint.address).await.map_err(failed(format!("connecting to {}", endpoint.address)))?;
        stream.set_nodelay(true).map_err(failed("setting TCP_NODELAY"))?;
        let name = ServerName::try_from("localhost").map_err(failed("a name"))?;
        let stream = TlsConnector::from(endpoint.tls.clone()).connect(name, stream).await.map_err(failed("TLS"))?;
        Ok(Self { stream, unread: BytesMut::with_capacity(16 << 10) })
    }

    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<()> {
        self.stream.write_all(request).await.map_err(failed("sending a request"))?;
        self.stream.flush().await.map_err(failed("sending a request"))
    }

    async fn read_more(&mut self) -> Result<()> {
        match self.stream.read_buf(&mut self.unread).await.map_err(failed("reading an answer"))? {
            0 => Err("the server closed the connection".into()),
            _ => Ok(()),
        }
    }

    /// Reads an answer's head: its code and how its body is delimited.
    async fn head(&mut self) -> Result<(u16, Framing)> {
        let end = loop {
            if let Some(end) = find(&self.unread, b"\r\n\r\n") {
                break end;
            }
            self.read_more().await?;
        };
        let head = self.unread.split_to(end + 4);
        let head = std::str::from_utf8(&head).map_err(failed("an answer's head"))?;
        let code = head.get(9..12).and_then(|c| c.parse().ok()).ok_or("an answer without a code")?;
        let header = |name: &str| {
            let mut lines = head.lines().filter_map(|l| l.split_once(':'));
            lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
        };
        let framing = match header("content-length") {
            Some(length) => Framing::Length(length.parse().map_err(failed("content-length"))?),
            None => Framing::Chunks,
        };
        Ok((code, framing))
    }

    /// The next chunk of an answer without a length; `None` at its end.
    async fn chunk(&mut self) -> Result<Option<BytesMut>> {
        let end = loop {
            if let Some(end) = find(&self.unread, b"\r\n") {
                break end;
            }
            self.read_more().await?;
        };
        let line = std::str::from_utf8(&self.unread[..end]).map_err(failed("a chunk's length"))?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(failed("a chunk's length"))?;
        self.unread.advance(end + 2);
        while self.unread.len() < length + 2 {
            self.read_more().await?;
        }
        let chunk = self.unread.split_to(length);
        self.unread.advance(2);
        Ok((length > 0).then_some(chunk))
    }

    /// Sends a request and reads the whole answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<(u16, BytesMut)> {
        self.send(request).await?;
        let (code, framing) = self.head().await?;
        let length = match framing {
            Framing::Length(length) => length,
            Framing::Chunks => {
                let mut body = BytesMut::new();
                while let Some(chunk) = self.chunk().await? {
                    body.extend_from_slice(&chunk);
                }
                return Ok((code, body));
            }
        };
        self.unread.reserve(length.saturating_sub(self.unread.len()));
        while self.unread.len() < length {
            self.read_more().await?;
        }
        Ok((code, self.unread.split_to(length)))
    }

    /// Sends a request that must succeed; its answer's body.
    pub(crate) async fn succeed(&mut self, request: &[u8]) -> Result<BytesMut> {
        let (code, body) = self.exchange(request).await?;
        if (200..300).contains(&code) {
            return Ok(body);
        }
        let line = String::from_utf8_lossy(&request[..find(request, b"\r\n").unwrap_or(request.len())]).into_owned();
        Err(format!("{line}: {code} {}", String::from_utf8_lossy(&body[..body.len().min(400)])))
    }

    /// Begins a watch; its events come from [`Client::lines`].
    pub(crate) async fn watch(&mut self, path: &str) -> Result<()> {
        self.send(&request("GET", path, "", b"")).await?;
        match self.head().await? {
            (200, Framing::Chunks) => Ok(()),
            (code, _) => Err(format!("watching {path}: {code}")),
        }
    }

    /// What has come of a watch since: one or more whole lines. `None` when the server ended it.
    pub(crate) async fn lines(&mut self) -> Result<Option<BytesMut>> {
        // The server sends each event as one chunk.
        self.chunk().await
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|w| w == what)
}

/// What came of a load.
pub(crate) struct Load {
    /// How long each request took.
    pub(crate) took: Samples,
    /// How long all of it took.
    pub(crate) lasted: Duration,
}

impl Load {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.took.count() as f64 / self.lasted.as_secs_f64()
    }
}

/// Connects so many clients.
pub(crate) async fn connect(endpoint: &Endpoint, clients: usize) -> Result<Vec<Client>> {
    let mut all = Vec::with_capacity(clients);
    for _ in 0..clients {
        all.push(Client::connect(endpoint).await?);
    }
    Ok(all)
}

/// When a client has done enough.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// This much time has passed.
    Passed(Duration),
    /// Each client has made so many requests.
    Made(usize),
}

/// Lets each client make one request after the other; all must succeed. `make` gets the client's number and the request's.
pub(crate) async fn load(
    tasks: &Tasks,
    clock: &Arc<dyn Clock>,
    clients: &mut Vec<Client>,
    until: Until,
    make: impl Fn(usize, usize) -> Vec<u8> + Clone + Send + Sync + 'static,
) -> Result<Load> {
    let begun = clock.monotonic();
    let mut loads = Vec::new();
    for (number, mut client) in std::mem::take(clients).into_iter().enumerate() {
        let (clock, make) = (clock.clone(), make.clone());
        let (done, ended) = tokio::sync::oneshot::channel();
        // A task each, so that both of the loader's threads have work.
        tasks.spawn(async move {
            let mut took = Vec::new();
            let result = loop {
                let start = clock.monotonic();
                let enough = match until {
                    Until::Passed(lasts) => start - begun >= lasts,
                    Until::Made(count) => took.len() >= count,
                };
                if enough {
                    break Ok((client, took));
                }
                let request = make(number, took.len());
                let start = clock.monotonic();
                match client.succeed(&request).await {
                    Ok(_) => took.push(clock.monotonic() - start),
                    Err(why) => break Err(why),
                }
            };
            // The receiver is gone only when another client failed.
            let _ = done.send(result);
        });
        loads.push(Box::pin(async { ended.await.map_err(failed("a client"))? }) as gantry_ports::BoxFuture<'_, _>);
    }
    let mut all = Vec::new();
    for result in join_all(loads).await {
        let (client, took): (Client, Vec<Duration>) = result?;
        clients.push(client);
        all.extend(took);
    }
    Ok(Load { took: Samples::new(all), lasted: clock.monotonic() - begun })
}
