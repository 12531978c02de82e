use std::sync::{Arc, Mutex};

use gantry_ports::{Sockets, Tasks};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::dial::tls_stream;
use crate::{Body, ClientTls, DialError, Target};

/// How many connections to one server may wait for their next request.
const MOST_IDLE: usize = 32;

/// Talks HTTP/1.1 to one server, with or without TLS: a request has a connection to itself while it lasts, and leaves it to the next.
///
/// For servers that other people write and that many stand behind: shared HTTP/2 connections would all end at one of those.
#[derive(Clone)]
pub struct Origin {
    target: Target,
    tls: Option<ClientTls>,
    sockets: Arc<dyn Sockets>,
    tasks: Tasks,
    idle: Arc<Mutex<Vec<http1::SendRequest<Body>>>>,
}

impl std::fmt::Debug for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Origin").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Origin {
    /// A server that has not been connected to yet; `tls` is absent for plain HTTP.
    pub fn new(target: Target, tls: Option<ClientTls>, sockets: Arc<dyn Sockets>, tasks: Tasks) -> Self {
        Self { target, tls, sockets, tasks, idle: Arc::default() }
    }

    /// The server it talks to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a request whose URI holds path and query only. The response may switch protocols.
    ///
    /// A connection that the server has closed in the meantime is replaced without the caller noticing. Dropping the future gives
    /// the request up and closes its connection.
    ///
    /// # Errors
    /// When the server cannot be reached or breaks off. Whether it acted on the request is then unknown.
    pub async fn send(&self, mut request: http::Request<Body>) -> Result<http::Response<Incoming>, DialError> {
        if !request.headers().contains_key(http::header::HOST)
            && let Ok(host) = self.target.authority().parse()
        {
            request.headers_mut().insert(http::header::HOST, host);
        }
        while let Some(mut sender) = self.take_idle() {
            match sender.try_send_request(request).await {
                Ok(response) => {
                    self.keep(sender);
                    return Ok(response);
                }
                Err(mut failed) => match failed.take_message() {
                    // Nothing of it was sent.
                    Some(unsent) => request = unsent,
                    None => return Err(self.failed(failed.into_error())),
                },
            }
        }
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await.map_err(|e| self.failed(e))?;
        self.keep(sender);
        Ok(response)
    }

    fn failed(&self, source: hyper::Error) -> DialError {
        DialError::Http { address: self.target.address, source }
    }

    fn take_idle(&self) -> Option<http1::SendRequest<Body>> {
        let mut idle = self.idle.lock().expect("nothing panics while it holds this lock");
        idle.retain(|sender| !sender.is_closed());
        // One whose last response is still being read is not ready.
        let ready = idle.iter().position(http1::SendRequest::is_ready)?;
        Some(idle.swap_remove(ready))
    }

    fn keep(&self, sender: http1::SendRequest<Body>) {
        let mut idle = self.idle.lock().expect("nothing panics while it holds this lock");
        if idle.len() < MOST_IDLE {
            idle.push(sender);
        }
    }

    async fn connect(&self) -> Result<http1::SendRequest<Body>, DialError> {
        let address = self.target.address;
        let connection = match self.sockets.connect(address).await {
            Ok(connection) => connection,
            Err(source) => return Err(DialError::Connect { address, source }),
        };
        match &self.tls {
            Some(tls) => self.shake_hands(tls_stream(connection, &self.target, tls, &[b"http/1.1"]).await?).await,
            None => self.shake_hands(connection).await,
        }
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<http1::SendRequest<Body>, DialError>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.failed(e))?;
        self.tasks.spawn(async move {
            // Requests under way learn of any failure.
            let _ = driver.with_upgrades().await;
        });
        Ok(sender)
    }
}
