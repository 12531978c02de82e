//! A process's streams joined to a client's.

use bytes::Bytes;
use gantry_containers::{ExecSession, Resize};
use gantry_ports::Tasks;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::{Ended, Incoming, Outgoing, Wants};

/// The largest piece of output sent at once.
const PIECE: usize = 32 << 10;

/// Carries bytes both ways until the process has ended and all it said was sent; then says how it ended.
pub(crate) async fn run(
    session: ExecSession,
    hears: mpsc::Receiver<Incoming>,
    says: mpsc::Sender<Outgoing>,
    wants: Wants,
    runs_command: bool,
    tasks: &Tasks,
) {
    let feeding = tasks.spawn(feed(session.stdin, session.terminal, hears));
    let (out, err) = (says.clone(), says.clone());
    let out = drain(session.stdout.filter(|_| wants.stdout), out, Outgoing::Stdout);
    let err = drain(session.stderr.filter(|_| wants.stderr), err, Outgoing::Stderr);
    let both = gantry_ports::join_all(vec![Box::pin(out) as gantry_ports::BoxFuture<'_, ()>, Box::pin(err)]);
    let gone = says.closed();
    gantry_ports::select! {
        _ = both => {}
        () = gone => {}
    }
    feeding.abort();
    let ended = match session.exit.await {
        // Who only listened in is not told how it ended: the pod's status says that.
        Ok(_) if !runs_command => Ended::Exit(0),
        Ok(code) => Ended::Exit(code),
        Err(error) => Ended::Failed(gantry_object::chain(&error)),
    };
    // A client that has hung up doesn't want to know.
    let _ = says.send(Outgoing::End(ended)).await;
}

async fn feed(
    mut stdin: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    terminal: Option<Box<dyn Resize>>,
    mut hears: mpsc::Receiver<Incoming>,
) {
    while let Some(message) = hears.recv().await {
        match message {
            Incoming::Stdin(bytes) => {
                if let Some(input) = &mut stdin
                    && (input.write_all(&bytes).await.is_err() || input.flush().await.is_err())
                {
                    // The process has closed its input; what else comes for it is dropped.
                    stdin = None;
                }
            }
            Incoming::StdinEnds => stdin = None,
            Incoming::Resize(width, height) => {
                if let Some(Err(error)) = terminal.as_ref().map(|t| t.resize(width, height)) {
                    tracing::debug!(%error, "resizing a terminal");
                }
            }
        }
    }
}

async fn drain(stream: Option<Box<dyn AsyncRead + Send + Unpin>>, says: mpsc::Sender<Outgoing>, wrap: fn(Bytes) -> Outgoing) {
    let Some(mut stream) = stream else { return };
    let mut buffer = vec![0; PIECE];
    while let Ok(length) = stream.read(&mut buffer).await {
        if length == 0 || says.send(wrap(Bytes::copy_from_slice(&buffer[..length]))).await.is_err() {
            return;
        }
    }
}
