//! Connections that switch from HTTP to a stream protocol, and what carries bytes on them afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use gantry_ports::{Clock, Tasks};
use gantry_transport::{Request, Response, full};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role};

use crate::http_api::Refusal;

/// Where SPDY clients and servers name the protocol inside it.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";
/// How long a client may take to hang up once all was said.
const LINGER: Duration = Duration::from_secs(5);
/// The largest piece read at once.
const PIECE: usize = 32 << 10;
/// How many pieces may wait either way.
const BUFFER: usize = 8;

/// A connection after the switch, by its own framing.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// What a connection switches to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire {
    WebSocket,
    Spdy,
}

/// A connection that is about to switch.
pub(crate) struct Switch {
    upgrade: hyper::upgrade::OnUpgrade,
    pub(crate) wire: Wire,
    /// The protocol agreed on; empty when the client named none and that has a meaning of its own.
    pub(crate) protocol: &'static str,
    key: String,
}

/// Looks whether a request can switch to one of our protocols, which are listed in our order of liking.
pub(crate) fn accept(mut request: Request, websocket: &[&'static str], spdy: &[&'static str]) -> Result<Switch, Refusal> {
    let asked = one(request.headers(), &UPGRADE);
    let wire = match () {
        () if asked.eq_ignore_ascii_case("websocket") => Wire::WebSocket,
        () if asked.eq_ignore_ascii_case(SPDY) => Wire::Spdy,
        () => return Err((StatusCode::BAD_REQUEST, format!("this stream needs a WebSocket or {SPDY}, the client asked for {asked:?}"))),
    };
    let (header, ours) = if wire == Wire::WebSocket { (&SEC_WEBSOCKET_PROTOCOL, websocket) } else { (&STREAM_PROTOCOL, spdy) };
    let protocol = agree(request.headers(), header, ours)?;
    let key = one(request.headers(), &SEC_WEBSOCKET_KEY);
    Ok(Switch { upgrade: hyper::upgrade::on(&mut request), wire, protocol, key })
}

fn one(headers: &HeaderMap, name: &HeaderName) -> String {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned()
}

fn agree(headers: &HeaderMap, header: &HeaderName, ours: &[&'static str]) -> Result<&'static str, Refusal> {
    let values = headers.get_all(header).iter().filter_map(|v| v.to_str().ok());
    let mut offered: Vec<&str> = values.flat_map(|v| v.split(',')).map(str::trim).filter(|p| !p.is_empty()).collect();
    if offered.is_empty() {
        offered.push("");
    }
    let agreed = ours.iter().copied().find(|p| offered.contains(p));
    agreed.ok_or_else(|| {
        (StatusCode::FORBIDDEN, format!("unable to negotiate protocol: client supports {offered:?}, server accepts {ours:?}"))
    })
}

impl Switch {
    /// Answers the request, and hands the connection on once it has switched. A client that goes away before is forgotten.
    pub(crate) fn start<F>(self, tasks: &Tasks, then: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let upgrade = self.upgrade;
        tasks.spawn(async move {
            if let Ok(connection) = upgrade.await {
                then(TokioIo::new(connection)).await;
            }
        });
        let mut response = http::Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        let (upgrade, protocol) = match self.wire {
            Wire::WebSocket => ("websocket", SEC_WEBSOCKET_PROTOCOL),
            Wire::Spdy => (SPDY, STREAM_PROTOCOL),
        };
        headers.insert(UPGRADE, HeaderValue::from_static(upgrade));
        if !self.protocol.is_empty() {
            headers.insert(protocol, HeaderValue::from_static(self.protocol));
        }
        if self.wire == Wire::WebSocket
            && let Ok(accept) = HeaderValue::from_str(&derive_accept_key(self.key.as_bytes()))
        {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }
}

/// A connection's bytes in both directions. It hangs up when `outgoing` is dropped and all was sent.
pub(crate) struct Carrier {
    pub(crate) incoming: mpsc::Receiver<Bytes>,
    pub(crate) outgoing: mpsc::Sender<Bytes>,
}

/// Carries bytes as they are.
pub(crate) fn plain(tasks: &Tasks, clock: Arc<dyn Clock>, connection: TokioIo<Upgraded>) -> Carrier {
    let (send, incoming) = mpsc::channel(BUFFER);
    let (outgoing, mut to_send) = mpsc::channel::<Bytes>(BUFFER);
    let (mut reader, mut writer) = tokio::io::split(connection);
    tasks.spawn(async move {
        let reading = async move {
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(PIECE);
                match reader.read_buf(&mut buffer).await {
                    Ok(n) if n > 0 => deliver(&send, buffer.split().freeze()).await,
                    _ => return,
                }
            }
        };
        let writing = async move {
            while let Some(bytes) = to_send.recv().await {
                if writer.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            // The client may have hung up first.
            let _ = writer.shutdown().await;
        };
        until_either(reading, writing, &*clock).await;
    });
    Carrier { incoming, outgoing }
}

/// Carries bytes in binary WebSocket messages.
pub(crate) fn tunnelled(tasks: &Tasks, clock: Arc<dyn Clock>, socket: Socket) -> Carrier {
    let (send, incoming) = mpsc::channel(BUFFER);
    let (outgoing, mut to_send) = mpsc::channel::<Bytes>(BUFFER);
    let (mut sink, mut stream) = socket.split();
    tasks.spawn(async move {
        let reading = async move {
            while let Some(Ok(message)) = stream.next().await {
                match message {
                    Message::Binary(bytes) => deliver(&send, bytes).await,
                    Message::Close(_) => return,
                    _ => {}
                }
            }
        };
        let writing = async move {
            while let Some(bytes) = to_send.recv().await {
                if sink.send(Message::Binary(bytes)).await.is_err() {
                    return;
                }
            }
            // The client may have hung up first.
            let _ = sink.send(goodbye()).await;
        };
        until_either(reading, writing, &*clock).await;
    });
    Carrier { incoming, outgoing }
}

/// Hands a piece on. When nobody wants it any more it is dropped: the client has yet to learn that all was said.
async fn deliver(to: &mpsc::Sender<Bytes>, bytes: Bytes) {
    let _ = to.send(bytes).await;
}

/// Runs both until the client hangs up, or all was said and it has had time to hang up: closing a connection on which
/// something unread lies would cut off what was sent last.
pub(crate) async fn until_either(reading: impl Future<Output = ()>, writing: impl Future<Output = ()>, clock: &dyn Clock) {
    let mut reading = std::pin::pin!(reading);
    gantry_ports::select! {
        () = &mut reading => return,
        () = writing => {}
    }
    gantry_ports::select! {
        () = reading => {}
        () = clock.sleep(LINGER) => {}
    }
}

/// The last message of an orderly end. One without a code is a failure to kubectl.
pub(crate) fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}

/// A connection's server end as a WebSocket.
pub(crate) async fn websocket(connection: TokioIo<Upgraded>) -> Socket {
    WebSocketStream::from_raw_socket(connection, Role::Server, None).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_we_like_best_is_agreed_on() {
        let check = |offered: &[&str], ours: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in offered {
                headers.append(STREAM_PROTOCOL, HeaderValue::from_str(value).unwrap());
            }
            agree(&headers, &STREAM_PROTOCOL, ours).map_err(|(code, _)| code)
        };
        assert_eq!(check(&["v2", "v4"], &["v4", "v2"]), Ok("v4"));
        assert_eq!(check(&["v1, v2"], &["v4", "v2"]), Ok("v2"));
        assert_eq!(check(&[], &["v4", ""]), Ok(""));
        assert_eq!(check(&["v9"], &["v4", ""]), Err(StatusCode::FORBIDDEN));
        assert_eq!(check(&[], &["v4"]), Err(StatusCode::FORBIDDEN));
    }
}
