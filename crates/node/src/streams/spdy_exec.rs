//! Exec and attach over SPDY: a stream each for errors, standard input, output, error output and the terminal's size.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use gantry_ports::Clock;
use tokio::sync::mpsc;

use super::spdy::{Gone, Input, Output, Stream};
use super::websocket::size;
use super::{Incoming, Outgoing, Version, Wants};

/// How long a client may take to open its streams.
const PATIENCE: Duration = Duration::from_secs(30);
/// The most that is kept of a terminal size that isn't complete yet, in bytes.
const SIZE_LIMIT: usize = 1 << 10;

/// The streams of a session, as the client opened them.
#[derive(Default)]
struct Streams {
    error: Option<Stream>,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

impl Streams {
    /// Whether all that such a client opens are there.
    fn complete(&self, wants: Wants, version: Version) -> bool {
        let there = |wanted: bool, stream: &Option<Stream>| !wanted || stream.is_some();
        self.error.is_some()
            && there(wants.stdin, &self.stdin)
            && there(wants.stdout, &self.stdout)
            && there(wants.stderr && !wants.tty, &self.stderr)
            && there(wants.tty && version >= Version::V3, &self.resize)
    }

    fn add(&mut self, stream: Stream) -> bool {
        let place = match stream.headers.get("streamtype") {
            Some("error") => &mut self.error,
            Some("stdin") => &mut self.stdin,
            Some("stdout") => &mut self.stdout,
            Some("stderr") => &mut self.stderr,
            Some("resize") => &mut self.resize,
            _ => return false,
        };
        place.replace(stream).is_none()
    }
}

/// Joins a client's streams to a session's. Ends with the session, or with the connection.
pub(crate) async fn carry(
    mut opened: mpsc::Receiver<Stream>,
    incoming: mpsc::Sender<Incoming>,
    outgoing: mpsc::Receiver<Outgoing>,
    (wants, version): (Wants, Version),
    clock: Arc<dyn Clock>,
) {
    let mut streams = Streams::default();
    let mut late = std::pin::pin!(clock.sleep(PATIENCE));
    while !streams.complete(wants, version) {
        let stream = gantry_ports::select! {
            stream = opened.recv() => stream,
            () = &mut late => None,
        };
        if !stream.is_some_and(|stream| streams.add(stream)) {
            return;
        }
    }
    let Some(error) = streams.error else { return };
    let (stdin, resize) = (streams.stdin.map(|s| s.input), streams.resize.map(|s| s.input));
    let stdout = streams.stdout.map(|s| s.output);
    let stderr = streams.stderr.map(|s| s.output);
    gantry_ports::select! {
        // A connection that is gone needs no words.
        _ = speak(outgoing, stdout, stderr, &error.output, version) => {}
        () = error.output.gone() => {}
        () = listen(stdin, resize, incoming) => {}
    }
}

async fn speak(
    mut outgoing: mpsc::Receiver<Outgoing>,
    stdout: Option<Output>,
    stderr: Option<Output>,
    error: &Output,
    version: Version,
) -> Result<(), Gone> {
    while let Some(message) = outgoing.recv().await {
        match message {
            Outgoing::Stdout(bytes) => {
                if let Some(stdout) = &stdout {
                    stdout.data(bytes).await?;
                }
            }
            Outgoing::Stderr(bytes) => {
                if let Some(stderr) = &stderr {
                    stderr.data(bytes).await?;
                }
            }
            Outgoing::End(ended) => {
                for stream in [stdout, stderr].into_iter().flatten() {
                    stream.fin().await?;
                }
                let said = ended.said(version);
                if !said.is_empty() {
                    error.data(said.into()).await?;
                }
                return error.fin().await;
            }
        }
    }
    Ok(())
}

/// Passes on what the client sends. Never ends while the session goes on: a client that has nothing more to say still hears.
async fn listen(mut stdin: Option<mpsc::Receiver<Input>>, mut resize: Option<mpsc::Receiver<Input>>, incoming: mpsc::Sender<Incoming>) {
    let mut sizes = BytesMut::new();
    loop {
        let (heard, from_stdin) = gantry_ports::select! {
            input = next(&mut stdin) => (input, true),
            input = next(&mut resize) => (input, false),
        };
        let message = match (heard, from_stdin) {
            (Some(Input::Data(bytes)), true) => Incoming::Stdin(bytes),
            (Some(Input::Fin) | None, true) => {
                stdin = None;
                Incoming::StdinEnds
            }
            (Some(Input::Data(bytes)), false) => {
                sizes.extend_from_slice(&bytes);
                let Some(newest) = newest_size(&mut sizes) else { continue };
                newest
            }
            (Some(Input::Fin) | None, false) => {
                resize = None;
                continue;
            }
        };
        if incoming.send(message).await.is_err() {
            // The session listens no more: what it still says is all that counts.
            return std::future::pending().await;
        }
    }
}

async fn next(input: &mut Option<mpsc::Receiver<Input>>) -> Option<Input> {
    match input {
        Some(input) => input.recv().await,
        None => std::future::pending().await,
    }
}

/// Takes complete sizes, which are JSON objects one after the other, off the buffer; gives the last.
fn newest_size(buffer: &mut BytesMut) -> Option<Incoming> {
    let mut newest = None;
    while let Some(end) = buffer.iter().position(|b| *b == b'}') {
        newest = size(&buffer.split_to(end + 1)).or(newest);
    }
    if buffer.len() > SIZE_LIMIT {
        buffer.clear();
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_come_in_pieces() {
        let mut buffer = BytesMut::from(&b"{\"Width\":80,\"Height\":24}\n{\"Width\":100,"[..]);
        assert_eq!(newest_size(&mut buffer), Some(Incoming::Resize(80, 24)));
        buffer.extend_from_slice(b"\"Height\":30}\n");
        assert_eq!(newest_size(&mut buffer), Some(Incoming::Resize(100, 30)));
        buffer.extend_from_slice(&[b' '; SIZE_LIMIT + 1]);
        assert_eq!((newest_size(&mut buffer), buffer.len()), (None, 0));
    }
}
