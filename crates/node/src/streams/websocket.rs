//! Streams over WebSocket: one message per piece, its first byte says which stream (`v4.channel.k8s.io`, `v5.channel.k8s.io`).

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use gantry_ports::Tasks;
use gantry_transport::{Request, Response, full};
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderValue, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::{Incoming, Outgoing};
use crate::http_api::Refusal;

const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Its second byte names the stream that ends (version 5).
const CLOSE: u8 = 255;

/// A connection that is about to become a WebSocket.
pub(crate) struct Switch {
    upgrade: hyper::upgrade::OnUpgrade,
    accept: String,
    protocol: &'static str,
}

/// Looks whether a request can become a WebSocket that speaks one of our protocols.
pub(crate) fn accept(mut request: Request) -> Result<Switch, Refusal> {
    let header = |name| request.headers().get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or("").to_owned();
    if !header(UPGRADE).eq_ignore_ascii_case("websocket") {
        let asked = header(UPGRADE);
        return Err((StatusCode::BAD_REQUEST, format!("this stream needs a WebSocket, the client asked for {asked:?}")));
    }
    let offered = header(SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<&str> = offered.split(',').map(str::trim).collect();
    let protocol = PROTOCOLS.into_iter().find(|p| offered.contains(p));
    let protocol = protocol.ok_or_else(|| (StatusCode::BAD_REQUEST, format!("none of the protocols {offered:?} is spoken here")))?;
    let accept = derive_accept_key(header(SEC_WEBSOCKET_KEY).as_bytes());
    Ok(Switch { upgrade: hyper::upgrade::on(&mut request), accept, protocol })
}

impl Switch {
    /// Answers the request, and carries frames from then on.
    pub(crate) fn start(self, tasks: &Tasks, incoming: mpsc::Sender<Incoming>, outgoing: mpsc::Receiver<Outgoing>) -> Response {
        let upgrade = self.upgrade;
        tasks.spawn(async move {
            // A client that goes away before the switch is gone.
            let Ok(connection) = upgrade.await else { return };
            let socket = WebSocketStream::from_raw_socket(TokioIo::new(connection), Role::Server, None).await;
            carry(socket, incoming, outgoing).await;
        });
        let mut response = http::Response::new(full(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(self.protocol));
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        response
    }
}

async fn carry(
    socket: WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>,
    incoming: mpsc::Sender<Incoming>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let (mut sink, mut stream) = socket.split();
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            let heard = match message {
                Message::Binary(bytes) => decode(&bytes),
                Message::Close(_) => return,
                _ => None,
            };
            if let Some(heard) = heard
                && incoming.send(heard).await.is_err()
            {
                return;
            }
        }
    };
    let writing = async {
        while let Some(message) = outgoing.recv().await {
            let last = matches!(message, Outgoing::End(_));
            if sink.send(Message::Binary(encode(message))).await.is_err() || last {
                break;
            }
        }
        // The client closes too; whether it still can is its affair.
        let _ = sink.close().await;
    };
    // What is read ends the process's input, never its output: only the writer ends the session, or a lost connection.
    let mut writing = std::pin::pin!(writing);
    gantry_ports::select! {
        () = &mut writing => {}
        () = reading => {}
    }
}

fn encode(message: Outgoing) -> Bytes {
    let (channel, bytes) = match &message {
        Outgoing::Stdout(bytes) => (STDOUT, &bytes[..]),
        Outgoing::Stderr(bytes) => (STDERR, &bytes[..]),
        Outgoing::End(status) => (ERROR, status.as_bytes()),
    };
    let mut out = Vec::with_capacity(bytes.len() + 1);
    out.push(channel);
    out.extend_from_slice(bytes);
    out.into()
}

fn decode(message: &Bytes) -> Option<Incoming> {
    match *message.first()? {
        STDIN => Some(Incoming::Stdin(message.slice(1..))),
        CLOSE if message.get(1) == Some(&STDIN) => Some(Incoming::StdinEnds),
        RESIZE => {
            #[derive(serde::Deserialize)]
            #[serde(rename_all = "PascalCase")]
            struct Size {
                width: u16,
                height: u16,
            }
            let size: Size = serde_json::from_slice(&message[1..]).ok()?;
            Some(Incoming::Resize(size.width, size.height))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_names_the_stream() {
        assert_eq!(decode(&Bytes::from_static(b"\0hi")), Some(Incoming::Stdin(Bytes::from_static(b"hi"))));
        assert_eq!(decode(&Bytes::from_static(b"\xff\0")), Some(Incoming::StdinEnds));
        assert_eq!(decode(&Bytes::from_static(b"\x04{\"Width\":80,\"Height\":24}")), Some(Incoming::Resize(80, 24)));
        assert_eq!(decode(&Bytes::from_static(b"\x09x")), None);
        assert_eq!(decode(&Bytes::new()), None);
        assert_eq!(encode(Outgoing::Stderr(Bytes::from_static(b"x"))), Bytes::from_static(b"\x02x"));
    }
}
