//! The peer for durable writes: one etcd member with fsync on, over TLS, spoken to in gRPC by hand.
//!
//! Of gRPC a put needs little: one HTTP/2 request whose body is a protobuf message after five bytes of frame.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use gantry_ports::{BoxFuture, Clock, join_all};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::figures::Samples;
use crate::load::Load;
use crate::{Bench, Result, cluster, constant, failed, machine};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running etcd, ended when dropped.
pub(crate) struct Etcd {
    child: Child,
    port: u16,
    tls: Arc<ClientConfig>,
    _directory: tempfile::TempDir,
}

/// One client's connection.
pub(crate) struct EtcdClient(SendRequest<Full<Bytes>>);

impl Etcd {
    /// Starts one, if it is installed.
    pub(crate) async fn start(bench: &Bench) -> Result<Option<Self>> {
        let (directory, port, peers) = (bench.directory()?, cluster::free_port()?, cluster::free_port()?);
        let (clients, peers) = (format!("https://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
        let mut command = Command::new("etcd");
        command.args(["--log-level", "error", "--name", "bench"]).arg("--data-dir").arg(directory.path().join("data"));
        let (authority, issued) = constant::issue()?;
        for (option, text) in [("--cert-file", &issued.certificate_pem), ("--key-file", &issued.key_pem)] {
            let path = directory.path().join(&option[2..]);
            std::fs::write(&path, text).map_err(failed(path.display()))?;
            command.arg(option).arg(path);
        }
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args([
            "--listen-peer-urls",
            &peers,
            "--initial-advertise-peer-urls",
            &peers,
            "--initial-cluster",
            &format!("bench={peers}"),
        ]);
        let log = std::fs::File::create(directory.path().join("log")).map_err(failed("etcd's log"))?;
        let child = match machine::ends_with_us(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log)).spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            spawned => spawned.map_err(failed("starting etcd"))?,
        };
        let mut tls = (*cluster::client_tls(&authority, None)?).clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let etcd = Self { child, port, tls: Arc::new(tls), _directory: directory };
        let begun = bench.clock.monotonic();
        loop {
            let answered = match etcd.connect(bench).await {
                Ok(mut client) => client.put(b"ready", b"ready").await,
                Err(why) => Err(why),
            };
            match answered {
                Ok(()) => return Ok(Some(etcd)),
                Err(why) if bench.clock.monotonic() - begun > PATIENCE => return Err(format!("etcd does not answer: {why}")),
                Err(_) => {}
            }
            bench.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        machine::cpu_seconds(self.child.id())
    }

    async fn connect(&self, bench: &Bench) -> Result<EtcdClient> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.map_err(failed("connecting to etcd"))?;
        stream.set_nodelay(true).map_err(failed("setting TCP_NODELAY"))?;
        let name = ServerName::try_from("localhost").map_err(failed("a name"))?;
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await.map_err(failed("TLS with etcd"))?;
        let handshake = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(failed("HTTP/2 with etcd"))?;
        bench.tasks.spawn(async move {
            // Requests under way learn of any failure.
            let _ = connection.await;
        });
        Ok(EtcdClient(sender))
    }

    /// Lets so many clients, each with a connection of its own, put values of this size.
    pub(crate) async fn puts(&self, bench: &Bench, clients: usize, size: usize, until: Duration) -> Result<Load> {
        let mut all = Vec::new();
        for _ in 0..clients {
            all.push(self.connect(bench).await?);
        }
        let (clock, value) = (bench.clock, Bytes::from(vec![b'v'; size]));
        let begun = clock.monotonic();
        let mut loads = Vec::new();
        for (number, mut client) in all.into_iter().enumerate() {
            let value = value.clone();
            let (done, ended) = tokio::sync::oneshot::channel();
            bench.tasks.spawn(async move {
                let mut took = Vec::new();
                let mut result = Ok(());
                while result.is_ok() && clock.monotonic() - begun < until {
                    let key = format!("/registry/configmaps/default/c{number}-{}", took.len());
                    let start = clock.monotonic();
                    result = client.put(key.as_bytes(), &value).await;
                    took.push(clock.monotonic() - start);
                }
                // The receiver is gone only when another client failed.
                let _ = done.send(result.map(|()| took));
            });
            loads.push(Box::pin(async { ended.await.map_err(failed("a client"))? }) as BoxFuture<'_, Result<Vec<Duration>>>);
        }
        let results: Result<Vec<Vec<Duration>>> = join_all(loads).await.into_iter().collect();
        Ok(Load { took: Samples::new(results?.concat()), lasted: clock.monotonic() - begun })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A field of bytes of a protobuf message.
fn put_field(out: &mut BytesMut, number: u8, bytes: &[u8]) {
    out.put_u8(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    out.put_slice(bytes);
}

/// `etcdserverpb.PutRequest` in a gRPC frame: not compressed, and its length.
fn put_request(key: &[u8], value: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(key.len() + value.len() + 16);
    put_field(&mut message, 1, key);
    put_field(&mut message, 2, value);
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(message.len() as u32);
    frame.put_slice(&message);
    frame.freeze()
}

impl EtcdClient {
    async fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let request = hyper::Request::post("https://localhost/etcdserverpb.KV/Put").header("content-type", "application/grpc");
        let request = request.header("te", "trailers").body(Full::new(put_request(key, value))).map_err(failed("a request"))?;
        let response = self.0.send_request(request).await.map_err(failed("putting"))?;
        let at_once = response.headers().get("grpc-status").cloned();
        let body = response.into_body().collect().await.map_err(failed("putting"))?;
        let status = at_once.or_else(|| body.trailers().and_then(|t| t.get("grpc-status").cloned()));
        match status {
            Some(status) if status == "0" => Ok(()),
            status => Err(format!("etcd answered {status:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_is_framed_as_grpc_frames_it() {
        let value = vec![b'v'; 200];
        let frame = put_request(b"k", &value);
        assert_eq!(frame[..5], [0, 0, 0, 0, 206]);
        assert_eq!(frame[5..11], [0x0a, 1, b'k', 0x12, 200, 1]);
        assert_eq!(frame.len(), 211);
    }
}
