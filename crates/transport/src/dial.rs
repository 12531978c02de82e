use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gantry_ports::{Sockets, Tasks};
use http::Uri;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;

use crate::{Body, ClientTls};

/// Where a server is and what its certificate must name.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// The name or address its certificate is for.
    pub name: String,
}

impl Target {
    /// Name and port, as URLs and the Host header have them.
    pub fn authority(&self) -> String {
        let port = self.address.port();
        if self.name.contains(':') { format!("[{}]:{port}", self.name) } else { format!("{}:{port}", self.name) }
    }
}

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The server is not there.
    #[error("connecting to {address}")]
    Connect {
        /// Where it should be.
        address: SocketAddr,
        /// The kernel's reason.
        #[source]
        source: std::io::Error,
    },
    /// TLS failed: one side does not trust the other.
    #[error("TLS with {address}")]
    Tls {
        /// Where it is.
        address: SocketAddr,
        /// The library's reason.
        #[source]
        source: std::io::Error,
    },
    /// HTTP failed.
    #[error("talking to {address}")]
    Http {
        /// Where it is.
        address: SocketAddr,
        /// The library's reason.
        #[source]
        source: hyper::Error,
    },
}

/// Talks to one server: all ordinary requests share one HTTP/2 connection, made when needed and again when lost.
#[derive(Clone)]
pub struct HttpsClient {
    target: Target,
    tls: ClientTls,
    sockets: Arc<dyn Sockets>,
    tasks: Tasks,
    shared: Arc<Mutex<Option<http2::SendRequest<Body>>>>,
}

impl std::fmt::Debug for HttpsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpsClient").field("target", &self.target).finish_non_exhaustive()
    }
}

impl HttpsClient {
    /// A client that has not connected yet.
    pub fn new(target: Target, tls: ClientTls, sockets: Arc<dyn Sockets>, tasks: Tasks) -> Self {
        Self { target, tls, sockets, tasks, shared: Arc::new(Mutex::new(None)) }
    }

    /// The server it talks to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request whose URI holds path and query only.
    ///
    /// # Errors
    /// When the server cannot be reached or breaks off. Whether it acted on the request is then unknown.
    pub async fn send(&self, mut request: http::Request<Body>) -> Result<http::Response<Incoming>, DialError> {
        let mut sender = self.connection().await?;
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str());
        *request.uri_mut() = format!("https://{}{path}", self.target.authority()).parse().unwrap_or_else(|_| Uri::default());
        let address = self.target.address;
        sender.send_request(request).await.map_err(|source| DialError::Http { address, source })
    }

    /// Sends a request on an HTTP/1.1 connection of its own, so that the response may switch protocols.
    ///
    /// # Errors
    /// As [`HttpsClient::send`].
    pub async fn send_alone(&self, mut request: http::Request<Body>) -> Result<http::Response<Incoming>, DialError> {
        let address = self.target.address;
        let stream = self.dial(&[b"http/1.1"]).await?;
        let failed = |source| DialError::Http { address, source };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        self.tasks.spawn(async move {
            // The request's own future learns of any failure.
            let _ = connection.with_upgrades().await;
        });
        if let Ok(host) = self.target.authority().parse() {
            request.headers_mut().insert(http::header::HOST, host);
        }
        sender.send_request(request).await.map_err(failed)
    }

    async fn connection(&self) -> Result<http2::SendRequest<Body>, DialError> {
        let lock = || self.shared.lock().expect("nothing panics while it holds this lock");
        if let Some(sender) = lock().as_ref().filter(|s| !s.is_closed()) {
            return Ok(sender.clone());
        }
        let address = self.target.address;
        let stream = self.dial(&[b"h2"]).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| DialError::Http { address, source })?;
        self.tasks.spawn(async move {
            // Requests under way learn of any failure.
            let _ = connection.await;
        });
        *lock() = Some(sender.clone());
        Ok(sender)
    }

    async fn dial(&self, protocols: &[&[u8]]) -> Result<tokio_rustls::client::TlsStream<gantry_ports::Connection>, DialError> {
        let address = self.target.address;
        let connection = self.sockets.connect(address).await.map_err(|source| DialError::Connect { address, source })?;
        tls_stream(connection, &self.target, &self.tls, protocols).await
    }
}

/// Does the TLS handshake with a server that a connection leads to.
pub(crate) async fn tls_stream(
    connection: gantry_ports::Connection,
    target: &Target,
    tls: &ClientTls,
    protocols: &[&[u8]],
) -> Result<tokio_rustls::client::TlsStream<gantry_ports::Connection>, DialError> {
    let address = target.address;
    let mut config = (*tls.config).clone();
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    let failed = |source| DialError::Tls { address, source };
    let name = ServerName::try_from(target.name.clone()).map_err(|e| failed(std::io::Error::other(e)))?;
    TlsConnector::from(Arc::new(config)).connect(name, connection).await.map_err(failed)
}
