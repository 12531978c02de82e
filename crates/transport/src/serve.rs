use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gantry_pki::CertificateIdentity;
use gantry_ports::{BoxFuture, Connection, Listener, Tasks};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_rustls::TlsAcceptor;

use crate::{Request, Response, ServerTls};

/// How long a client may take over the TLS handshake or a request's head.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address.
    pub address: SocketAddr,
    /// Whom the certificate it showed names; it was verified against the server's client authority. Read once for a connection, not for
    /// every request on it.
    pub certificate: Option<Arc<CertificateIdentity>>,
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Errors are responses too.
    fn handle(self: Arc<Self>, request: Request, peer: Peer) -> BoxFuture<'static, Response>;
}

/// Takes connections and answers their requests until the tasks end.
pub fn serve(mut listener: Listener, tls: ServerTls, tasks: &Tasks, handler: Arc<impl Handler>) {
    let acceptor = TlsAcceptor::from(tls.config);
    let connections = tasks.clone();
    tasks.spawn(async move {
        loop {
            match listener.accept().await {
                Ok((connection, address)) => {
                    let (acceptor, handler) = (acceptor.clone(), handler.clone());
                    connections.spawn(async move {
                        if let Err(error) = converse(connection, address, acceptor, handler).await {
                            tracing::debug!(%address, error, "connection ended");
                        }
                    });
                }
                // Out of descriptors: those in use will come free. Not sleeping here would spin.
                Err(error) => {
                    tracing::warn!(%error, "taking a connection");
                    tokio::task::yield_now().await;
                }
            }
        }
    });
}

async fn converse(connection: Connection, address: SocketAddr, acceptor: TlsAcceptor, handler: Arc<impl Handler>) -> Result<(), String> {
    let stream = tokio::time::timeout(PATIENCE, acceptor.accept(connection)).await;
    let stream = stream.map_err(|_| "TLS handshake took too long".to_owned())?.map_err(|e| e.to_string())?;
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(<[_]>::first).map(|c| CertificateIdentity::of(c));
    let certificate = certificate.transpose().map_err(|e| e.to_string())?.map(Arc::new);
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    let peer = Peer { address, certificate };
    let service = service_fn(move |request| {
        let answer = handler.clone().handle(request, peer.clone());
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let io = TokioIo::new(stream);
    if is_http2 {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).max_concurrent_streams(1000).keep_alive_interval(PATIENCE);
        builder.serve_connection(io, service).await.map_err(|e| e.to_string())
    } else {
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).half_close(true);
        builder.serve_connection(io, service).with_upgrades().await.map_err(|e| e.to_string())
    }
}
