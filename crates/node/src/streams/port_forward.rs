//! Port-forwarding: pairs of streams, one for bytes and one for what went wrong, each joined to a connection inside the pod.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use gantry_ports::{Clock, Tasks};
use gantry_stream::spdy::reset;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::spdy::{Gone, Input, Output, Stream};

/// How long a stream may wait for its other half.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a port may take to answer.
const DIAL: Duration = Duration::from_secs(30);
/// The largest piece read at once.
const PIECE: usize = 32 << 10;

/// Where ports are reached.
pub(crate) struct Target {
    /// The pod's network namespace; `None`: the one that this process is in.
    pub(crate) namespace: Option<PathBuf>,
    /// How messages name the pod.
    pub(crate) pod: String,
    pub(crate) uid: String,
    pub(crate) tasks: Tasks,
}

/// A stream that waits for its other half.
struct Half {
    stream: Stream,
    is_data: bool,
    /// It was waiting already when time was last called.
    old: bool,
}

/// Joins the pairs of a connection to a pod's ports until the connection ends.
pub(crate) async fn run(mut opened: mpsc::Receiver<Stream>, target: Arc<Target>, clock: Arc<dyn Clock>) {
    let mut halves: BTreeMap<String, Half> = BTreeMap::new();
    let mut tick = clock.sleep(PATIENCE);
    loop {
        let stream = gantry_ports::select! {
            stream = opened.recv() => stream,
            () = &mut tick => {
                tick = clock.sleep(PATIENCE);
                halves.retain(|_, half| !std::mem::replace(&mut half.old, true));
                continue;
            }
        };
        let Some(stream) = stream else { return };
        let Some((request, port, is_data)) = request_of(&stream) else {
            // What isn't understood is refused; the connection goes on.
            let _ = stream.output.reset(reset::PROTOCOL_ERROR).await;
            continue;
        };
        match halves.remove(&request) {
            Some(half) if half.is_data != is_data => {
                let (data, error) = if is_data { (stream, half.stream) } else { (half.stream, stream) };
                let target = target.clone();
                // Its own task ends with the pair, so nothing else needs its handle.
                target.tasks.clone().spawn(async move { forward(data, error.output, port, &target).await });
            }
            Some(half) => {
                halves.insert(request, half);
                let _ = stream.output.reset(reset::STREAM_IN_USE).await;
            }
            None => {
                halves.insert(request, Half { stream, is_data, old: false });
            }
        }
    }
}

/// The request a stream belongs to, the port, and whether it carries the bytes. Clients that don't number their requests open the error stream first.
fn request_of(stream: &Stream) -> Option<(String, u16, bool)> {
    let port = stream.headers.get("port")?.parse().ok().filter(|p| *p > 0)?;
    let is_data = match stream.headers.get("streamtype")? {
        "data" => true,
        "error" => false,
        _ => return None,
    };
    let unnumbered = || stream.output.stream.wrapping_sub(if is_data { 2 } else { 0 }).to_string();
    Some((stream.headers.get("requestid").map_or_else(unnumbered, str::to_owned), port, is_data))
}

/// Joins one pair to a port. What goes wrong is told on the error stream.
pub(crate) async fn forward(data: Stream, error: Output, port: u16, target: &Target) {
    let Stream { input, output, .. } = data;
    let outcome = match dial(target.namespace.clone(), port, &target.tasks).await {
        Ok(connection) => join(connection, input, &output, &error).await,
        Err(why) => Err(Failure::Told(format!("failed to connect to localhost:{port} inside the pod: {why}"))),
    };
    // A client that is gone hears nothing, which is no failure. One that gave up its bytes alone still waits for the error stream's end.
    let _ = match outcome {
        Ok(()) => Ok(()),
        Err(Failure::Client) => error.fin().await,
        Err(Failure::Told(why)) => {
            let message = format!("error forwarding port {port} to pod {}, uid {}: {why}", target.pod, target.uid);
            let told = error.data(message.into()).await.and(error.fin().await);
            told.and(output.reset(reset::INTERNAL_ERROR).await)
        }
    };
}

enum Failure {
    /// The client has gone away or given up the stream.
    Client,
    Told(String),
}

/// Connects to a port where the pod's own processes would: a thread goes into its namespace, connects, and ends.
async fn dial(namespace: Option<PathBuf>, port: u16, tasks: &Tasks) -> io::Result<TcpStream> {
    let (done, dialled) = tokio::sync::oneshot::channel();
    tasks.thread("port-forward", move || {
        // Nobody waits any more when the client has gone.
        let _ = done.send(connect_within(namespace, port));
    })?;
    let stream = dialled.await.map_err(|_| io::Error::other("the connecting thread ended"))??;
    TcpStream::from_std(stream)
}

fn connect_within(namespace: Option<PathBuf>, port: u16) -> io::Result<std::net::TcpStream> {
    if let Some(path) = namespace {
        let namespace = File::open(path)?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
    }
    let connect = |address: SocketAddr| std::net::TcpStream::connect_timeout(&address, DIAL);
    let first = connect((Ipv4Addr::LOCALHOST, port).into());
    // A port bound to the IPv6 loopback alone; if there is none either, the first answer is the one to tell.
    let stream = first.or_else(|error| connect((Ipv6Addr::LOCALHOST, port).into()).map_err(|_| error))?;
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Carries bytes both ways; either side may end its own direction first. Once the pod has, nothing that the client needs to know can go
/// wrong any more: the error stream is ended here, for clients wait for that before they hang up.
async fn join(connection: TcpStream, input: mpsc::Receiver<Input>, output: &Output, error: &Output) -> Result<(), Failure> {
    let (reader, writer) = connection.into_split();
    let mut up = std::pin::pin!(up(input, writer));
    let mut down = std::pin::pin!(down(reader, output));
    gantry_ports::select! {
        ended = &mut up => {
            ended?;
            down.await?;
            error.fin().await.map_err(|Gone| Failure::Client)
        }
        ended = &mut down => {
            ended?;
            error.fin().await.map_err(|Gone| Failure::Client)?;
            up.await
        }
    }
}

async fn up(mut input: mpsc::Receiver<Input>, mut writer: OwnedWriteHalf) -> Result<(), Failure> {
    loop {
        match input.recv().await {
            Some(Input::Data(bytes)) => {
                if writer.write_all(&bytes).await.is_err() {
                    // The pod takes no more, but may still be saying something.
                    return Ok(());
                }
            }
            Some(Input::Fin) => {
                // The same.
                let _ = writer.shutdown().await;
                return Ok(());
            }
            None => return Err(Failure::Client),
        }
    }
}

async fn down(mut reader: OwnedReadHalf, output: &Output) -> Result<(), Failure> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(PIECE);
        let length = gantry_ports::select! {
            length = reader.read_buf(&mut buffer) => length,
            () = output.gone() => return Err(Failure::Client),
        };
        let sent = match length {
            Ok(0) => return output.fin().await.map_err(|Gone| Failure::Client),
            Ok(_) => output.data(buffer.split().freeze()).await,
            Err(error) => return Err(Failure::Told(error.to_string())),
        };
        sent.map_err(|Gone| Failure::Client)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use gantry_stream::spdy::{Frame, Headers};
    use tokio::runtime::Handle;

    fn target() -> Target {
        Target { namespace: None, pod: "a_default".into(), uid: "u".into(), tasks: Tasks::on(Handle::current()) }
    }

    fn stream(number: u32, headers: &[(&str, &str)], frames: &mpsc::Sender<Frame>) -> (Stream, mpsc::Sender<Input>) {
        let (send, input) = mpsc::channel(8);
        let output = Output { stream: number, frames: frames.clone() };
        (Stream { headers: Headers::of(headers.iter().copied()), input, output }, send)
    }

    #[tokio::test]
    async fn streams_say_which_request_they_belong_to() {
        let (frames, _kept) = mpsc::channel(1);
        let check = |number, headers: &[(&str, &str)]| request_of(&stream(number, headers, &frames).0);
        assert_eq!(check(5, &[("streamType", "data"), ("port", "80"), ("requestID", "3")]), Some(("3".into(), 80, true)));
        assert_eq!(check(5, &[("streamType", "error"), ("port", "80")]), Some(("5".into(), 80, false)));
        assert_eq!(check(7, &[("streamType", "data"), ("port", "80")]), Some(("5".into(), 80, true)));
        assert_eq!(check(7, &[("streamType", "data"), ("port", "0")]), None);
        assert_eq!(check(7, &[("streamType", "other"), ("port", "80")]), None);
        assert_eq!(check(7, &[("port", "80")]), None);
    }

    #[tokio::test]
    async fn the_error_stream_ends_when_the_pod_has_said_all() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = target();
        let (frames, mut sent) = mpsc::channel(8);
        let (data, to_pod) = stream(3, &[], &frames);
        let forwarding = forward(data, Output { stream: 1, frames }, port, &target);
        let meanwhile = async {
            let (mut pod, _) = listener.accept().await.unwrap();
            pod.write_all(b"bye").await.unwrap();
            pod.shutdown().await.unwrap();
            let frame = |stream, fin, bytes| Some(Frame::Data { stream, fin, bytes: Bytes::from_static(bytes) });
            assert_eq!(sent.recv().await, frame(3, false, b"bye"));
            assert_eq!(sent.recv().await, frame(3, true, b""));
            assert_eq!(sent.recv().await, frame(1, true, b""));
            to_pod.send(Input::Data(Bytes::from_static(b"late"))).await.unwrap();
            to_pod.send(Input::Fin).await.unwrap();
            let mut heard = String::new();
            pod.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "late", "the client's own direction goes on");
        };
        tokio::join!(forwarding, meanwhile);
    }

    #[tokio::test]
    async fn a_port_that_nobody_listens_on_is_told() {
        // Bound, never listening: it stays refused for as long as the socket lives.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = socket.local_addr().unwrap().port();
        let (frames, mut sent) = mpsc::channel(8);
        let (data, _to_pod) = stream(3, &[], &frames);
        forward(data, Output { stream: 1, frames }, port, &target()).await;
        let Some(Frame::Data { stream: 1, fin: false, bytes }) = sent.recv().await else { panic!("something is told") };
        let told = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(told.starts_with(&format!("error forwarding port {port} to pod a_default, uid u: ")) && told.contains("refused"), "{told}");
    }
}
