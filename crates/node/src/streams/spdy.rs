//! SPDY connections as streams that tasks can read and write.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use gantry_ports::Tasks;
use gantry_stream::spdy::{Encoder, Event, Frame, Headers, Role, Session, reset};
use tokio::sync::mpsc;

use super::switch::Carrier;

/// How many streams a client may have open on one connection.
const STREAMS: usize = 2048;
/// How many pieces may wait for whoever reads a stream. Then the whole connection waits, since SPDY as spoken here has no windows.
const PIECES: usize = 4;
/// How many frames may wait to be sent.
const FRAMES: usize = 16;

/// What a client sends on a stream. A stream that ends without [`Input::Fin`] was reset, or its connection lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Data(Bytes),
    /// Nothing more comes; it may still be sent something.
    Fin,
}

/// A stream that a client has opened.
pub(crate) struct Stream {
    pub(crate) headers: Headers,
    pub(crate) input: mpsc::Receiver<Input>,
    pub(crate) output: Output,
}

/// Our direction of a stream. Clones write to the same stream.
#[derive(Clone)]
pub(crate) struct Output {
    pub(crate) stream: u32,
    pub(crate) frames: mpsc::Sender<Frame>,
}

/// The connection is gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl Output {
    pub(crate) async fn data(&self, bytes: Bytes) -> Result<(), Gone> {
        self.send(Frame::Data { stream: self.stream, fin: false, bytes }).await
    }

    /// Nothing more will be sent.
    pub(crate) async fn fin(&self) -> Result<(), Gone> {
        self.send(Frame::Data { stream: self.stream, fin: true, bytes: Bytes::new() }).await
    }

    /// The stream is over, both ways.
    pub(crate) async fn reset(&self, status: u32) -> Result<(), Gone> {
        self.send(Frame::RstStream { stream: self.stream, status }).await
    }

    /// Resolves when the connection is gone.
    pub(crate) async fn gone(&self) {
        self.frames.closed().await;
    }

    async fn send(&self, frame: Frame) -> Result<(), Gone> {
        self.frames.send(frame).await.map_err(|_| Gone)
    }
}

/// Speaks SPDY on a connection: gives the streams that the client opens. When what is returned and all streams are dropped, the connection
/// ends; when the connection ends, so do they.
pub(crate) fn serve(tasks: &Tasks, carrier: Carrier) -> mpsc::Receiver<Stream> {
    let (opened, streams) = mpsc::channel(1);
    let (frames, to_send) = mpsc::channel(FRAMES);
    let Carrier { incoming, outgoing } = carrier;
    tasks.spawn(write(to_send, outgoing));
    let mut reader = Reader { session: Session::new(Role::Server, STREAMS), inputs: BTreeMap::new(), opened, frames };
    tasks.spawn(async move { reader.read(incoming).await });
    streams
}

async fn write(mut frames: mpsc::Receiver<Frame>, outgoing: mpsc::Sender<Bytes>) {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    loop {
        let frame = gantry_ports::select! {
            frame = frames.recv() => frame,
            () = outgoing.closed() => None,
        };
        let Some(frame) = frame else { return };
        if let Err(error) = encoder.encode(&frame, &mut out) {
            tracing::debug!(%error, "sending on a SPDY connection");
            return;
        }
        if outgoing.send(out.split().freeze()).await.is_err() {
            return;
        }
    }
}

struct Reader {
    session: Session,
    /// Where what comes on a stream goes.
    inputs: BTreeMap<u32, mpsc::Sender<Input>>,
    opened: mpsc::Sender<Stream>,
    frames: mpsc::Sender<Frame>,
}

impl Reader {
    async fn read(&mut self, mut incoming: mpsc::Receiver<Bytes>) {
        let mut buffer = BytesMut::new();
        loop {
            let bytes = gantry_ports::select! {
                bytes = incoming.recv() => bytes,
                () = self.opened.closed() => None,
            };
            let Some(bytes) = bytes else { return };
            buffer.extend_from_slice(&bytes);
            loop {
                match self.session.receive(&mut buffer) {
                    Ok(Some(event)) => {
                        if self.handle(event).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "a client broke the SPDY protocol");
                        return;
                    }
                }
            }
        }
    }

    async fn handle(&mut self, event: Event) -> Result<(), Gone> {
        match event {
            Event::Opened { stream, headers, fin } => self.open(stream, headers, fin).await,
            Event::Data { stream, fin, bytes } => {
                self.pass_on(stream, bytes, fin).await;
                Ok(())
            }
            Event::Reset { stream, .. } => {
                self.inputs.remove(&stream);
                Ok(())
            }
            Event::Answer(frame) => self.frames.send(frame).await.map_err(|_| Gone),
            // We open none, and streams that are open go on.
            Event::Replied { .. } | Event::GoAway => Ok(()),
        }
    }

    async fn open(&mut self, stream: u32, headers: Headers, fin: bool) -> Result<(), Gone> {
        self.forget_unread();
        let output = Output { stream, frames: self.frames.clone() };
        let (send, input) = mpsc::channel(PIECES);
        if fin {
            // There is room: nothing was sent yet.
            let _ = send.try_send(Input::Fin);
        } else {
            self.inputs.insert(stream, send);
        }
        self.frames.send(Frame::SynReply { stream, fin: false, headers: Headers::default() }).await.map_err(|_| Gone)?;
        if self.opened.send(Stream { headers, input, output: output.clone() }).await.is_err() {
            return output.reset(reset::REFUSED_STREAM).await;
        }
        Ok(())
    }

    async fn pass_on(&mut self, stream: u32, bytes: Bytes, fin: bool) {
        let Some(input) = self.inputs.get(&stream) else { return };
        let mut wanted = bytes.is_empty() || input.send(Input::Data(bytes)).await.is_ok();
        if fin {
            wanted = wanted && input.send(Input::Fin).await.is_ok();
        }
        if fin || !wanted {
            self.inputs.remove(&stream);
            self.session.forget(stream);
        }
    }

    /// Streams whose reader is done no longer count as open.
    fn forget_unread(&mut self) {
        let session = &mut self.session;
        self.inputs.retain(|stream, input| {
            let read = !input.is_closed();
            if !read {
                session.forget(*stream);
            }
            read
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::Handle;

    /// A client's end, frame by frame.
    struct Client {
        encoder: Encoder,
        session: Session,
        buffer: BytesMut,
        to_server: mpsc::Sender<Bytes>,
        from_server: mpsc::Receiver<Bytes>,
    }

    impl Client {
        fn new(tasks: &Tasks) -> (Self, mpsc::Receiver<Stream>) {
            let (to_server, incoming) = mpsc::channel(64);
            let (outgoing, from_server) = mpsc::channel(64);
            let streams = serve(tasks, Carrier { incoming, outgoing });
            let session = Session::new(Role::Client, 100);
            (Self { encoder: Encoder::default(), session, buffer: BytesMut::new(), to_server, from_server }, streams)
        }

        async fn send(&mut self, frame: Frame) {
            let mut out = BytesMut::new();
            self.encoder.encode(&frame, &mut out).unwrap();
            self.to_server.send(out.freeze()).await.unwrap();
        }

        async fn open(&mut self, kind: &str) -> u32 {
            let stream = self.session.open().unwrap();
            let headers = Headers::of([("streamType", kind)]);
            self.send(Frame::SynStream { stream, associated: 0, priority: 0, fin: false, unidirectional: false, headers }).await;
            assert_eq!(self.next().await, Some(Event::Replied { stream, fin: false }));
            stream
        }

        async fn next(&mut self) -> Option<Event> {
            loop {
                if let Some(event) = self.session.receive(&mut self.buffer).unwrap() {
                    return Some(event);
                }
                self.buffer.extend_from_slice(&self.from_server.recv().await?);
            }
        }
    }

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[tokio::test]
    async fn each_direction_of_a_stream_ends_on_its_own() {
        let tasks = Tasks::on(Handle::current());
        let (mut client, mut streams) = Client::new(&tasks);
        let stream = client.open("data").await;
        let mut server = streams.recv().await.unwrap();
        assert_eq!(server.headers.get("streamtype"), Some("data"));
        client.send(Frame::Data { stream, fin: true, bytes: bytes("all of it") }).await;
        assert_eq!(server.input.recv().await, Some(Input::Data(bytes("all of it"))));
        assert_eq!(server.input.recv().await, Some(Input::Fin));
        server.output.data(bytes("answer")).await.unwrap();
        server.output.fin().await.unwrap();
        assert_eq!(client.next().await, Some(Event::Data { stream, fin: false, bytes: bytes("answer") }));
        assert_eq!(client.next().await, Some(Event::Data { stream, fin: true, bytes: bytes("") }));
    }

    #[tokio::test]
    async fn a_reset_is_no_orderly_end_and_a_stream_that_nobody_reads_holds_nobody_up() {
        let tasks = Tasks::on(Handle::current());
        let (mut client, mut streams) = Client::new(&tasks);
        let (first, second) = (client.open("data").await, client.open("data").await);
        let (mut one, two) = (streams.recv().await.unwrap(), streams.recv().await.unwrap());
        drop(two.input);
        for _ in 0..PIECES * 3 {
            client.send(Frame::Data { stream: second, fin: false, bytes: bytes("lost") }).await;
        }
        client.send(Frame::Data { stream: first, fin: false, bytes: bytes("heard") }).await;
        client.send(Frame::RstStream { stream: first, status: reset::CANCEL }).await;
        assert_eq!(one.input.recv().await, Some(Input::Data(bytes("heard"))));
        assert_eq!(one.input.recv().await, None);
        client.send(Frame::Ping { id: 7 }).await;
        // Pings are answered, which the client's session takes for granted: the next stream shows that the connection lives.
        client.open("error").await;
        assert!(streams.recv().await.is_some());
    }

    #[tokio::test]
    async fn the_connection_ends_with_its_streams_and_they_with_it() {
        let tasks = Tasks::on(Handle::current());
        let (mut client, mut streams) = Client::new(&tasks);
        client.open("data").await;
        let stream = streams.recv().await.unwrap();
        drop((stream, streams));
        assert_eq!(client.next().await, None, "the server hangs up");

        let (mut client, mut streams) = Client::new(&tasks);
        client.open("data").await;
        let mut stream = streams.recv().await.unwrap();
        drop(client);
        assert_eq!(stream.input.recv().await, None);
        stream.output.gone().await;
        assert!(streams.recv().await.is_none());
    }
}
