//! Exec and attach over WebSocket: one message per piece, its first byte says which stream.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use gantry_ports::Clock;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::Message;

use super::switch::{Socket, goodbye, until_either};
use super::{Incoming, Outgoing, Version, Wants};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Its second byte names the stream that ends (version 5).
const CLOSE: u8 = 255;

/// Joins a client's messages to a session's. Ends with the session, or with the connection.
pub(crate) async fn carry(
    socket: Socket,
    incoming: mpsc::Sender<Incoming>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    (wants, version): (Wants, Version),
    clock: &dyn Clock,
) {
    let (mut sink, mut stream) = socket.split();
    let reading = async {
        while let Some(Ok(message)) = stream.next().await {
            let heard = match message {
                Message::Binary(bytes) => decode(&bytes),
                Message::Close(_) => return,
                _ => None,
            };
            if let Some(heard) = heard {
                // A session that listens no more may still have something to say.
                let _ = incoming.send(heard).await;
            }
        }
    };
    let writing = async {
        // An empty piece tells the client that it is connected.
        let mut next = if wants.stdout { Some(Outgoing::Stdout(Bytes::new())) } else { outgoing.recv().await };
        while let Some(message) = next {
            let last = matches!(message, Outgoing::End(_));
            let sent = match encode(message, version) {
                Some(bytes) => sink.send(Message::Binary(bytes)).await,
                None => Ok(()),
            };
            if sent.is_err() || last {
                break;
            }
            next = outgoing.recv().await;
        }
        // The client closes too; whether it still can is its affair.
        let _ = sink.send(goodbye()).await;
    };
    until_either(reading, writing, clock).await;
}

/// Sends pieces as messages of their own until they end.
pub(crate) async fn pour(socket: Socket, mut pieces: mpsc::Receiver<Bytes>, clock: &dyn Clock) {
    let (mut sink, mut stream) = socket.split();
    let reading = async { while let Some(Ok(_)) = stream.next().await {} };
    let writing = async {
        while let Some(piece) = pieces.recv().await {
            if sink.send(Message::Binary(piece)).await.is_err() {
                return;
            }
        }
        // As above.
        let _ = sink.send(goodbye()).await;
    };
    until_either(reading, writing, clock).await;
}

fn encode(message: Outgoing, version: Version) -> Option<Bytes> {
    let piece = |channel: u8, bytes: &[u8]| {
        let mut out = Vec::with_capacity(bytes.len() + 1);
        out.push(channel);
        out.extend_from_slice(bytes);
        Some(out.into())
    };
    match message {
        Outgoing::Stdout(bytes) => piece(STDOUT, &bytes),
        Outgoing::Stderr(bytes) => piece(STDERR, &bytes),
        Outgoing::End(ended) => match ended.said(version) {
            said if said.is_empty() => None,
            said => piece(ERROR, said.as_bytes()),
        },
    }
}

fn decode(message: &Bytes) -> Option<Incoming> {
    match *message.first()? {
        STDIN => Some(Incoming::Stdin(message.slice(1..))),
        CLOSE if message.get(1) == Some(&STDIN) => Some(Incoming::StdinEnds),
        RESIZE => size(&message[1..]),
        _ => None,
    }
}

/// A terminal's size as clients write it.
pub(crate) fn size(json: &[u8]) -> Option<Incoming> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Size {
        width: u16,
        height: u16,
    }
    let size: Size = serde_json::from_slice(json).ok()?;
    Some(Incoming::Resize(size.width, size.height))
}

#[cfg(test)]
mod tests {
    use super::super::Ended;
    use super::*;

    #[test]
    fn the_first_byte_names_the_stream() {
        assert_eq!(decode(&Bytes::from_static(b"\0hi")), Some(Incoming::Stdin(Bytes::from_static(b"hi"))));
        assert_eq!(decode(&Bytes::from_static(b"\xff\0")), Some(Incoming::StdinEnds));
        assert_eq!(decode(&Bytes::from_static(b"\x04{\"Width\":80,\"Height\":24}")), Some(Incoming::Resize(80, 24)));
        assert_eq!(decode(&Bytes::from_static(b"\x09x")), None);
        assert_eq!(decode(&Bytes::new()), None);
        assert_eq!(encode(Outgoing::Stderr(Bytes::from_static(b"x")), Version::V5), Some(Bytes::from_static(b"\x02x")));
        assert_eq!(encode(Outgoing::End(Ended::Exit(0)), Version::V1), None, "the first version says nothing when all went well");
        let status = encode(Outgoing::End(Ended::Exit(0)), Version::V4).unwrap();
        assert!(status.starts_with(b"\x03{") && status.ends_with(b"}"));
    }
}
