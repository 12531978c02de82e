//! The server: one line that says who answers.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::http::{header, read_head};

/// What the answers say of this server.
struct Who {
    version: String,
    host: String,
}

impl Who {
    fn here() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self { version: std::env::var("VERSION").unwrap_or_else(|_| "0".into()), host: host.trim().into() }
    }

    /// Status line and body for a request line.
    fn answer(&self, request: &str) -> (&'static str, String) {
        let mut words = request.split(' ');
        match (words.next(), words.next()) {
            (Some("GET" | "HEAD"), Some("/healthz")) => ("200 OK", "ok\n".into()),
            (Some("GET" | "HEAD"), Some(path)) => ("200 OK", format!("hello version {} from {} at {path}\n", self.version, self.host)),
            (Some(_), Some(_)) => ("405 Method Not Allowed", "only GET\n".into()),
            _ => ("400 Bad Request", "not a request\n".into()),
        }
    }
}

/// Answers until SIGTERM or SIGINT; then takes no more connections, finishes the requests it has, and returns.
pub(crate) async fn serve() -> Result<(), String> {
    let port = std::env::var("PORT").unwrap_or_else(|_| "8080".into());
    let address = format!("0.0.0.0:{port}");
    let listener = TcpListener::bind(&address).await.map_err(|e| format!("listening on {address}: {e}"))?;
    let listen = |kind| signal(kind).map_err(|e| format!("listening for signals: {e}"));
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let who = Arc::new(Who::here());
    println!("version {} answers on {address}", who.version);
    let (stop, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                connections.spawn(converse(stream, who.clone(), stopping.clone()));
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    println!("stopping: {} connections to finish", connections.len());
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Answers the requests of a connection; between two of them it ends when the server stops.
async fn converse(mut stream: TcpStream, who: Arc<Who>, mut stopping: watch::Receiver<bool>) {
    let mut buffer = Vec::new();
    loop {
        let head = tokio::select! {
            biased;
            head = read_head(&mut stream, &mut buffer) => head,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let Ok(Some(head)) = head else { return };
        let request = head.lines().next().unwrap_or("");
        let (status, body) = who.answer(request);
        let close = *stopping.borrow() || status.starts_with('4') || header(&head, "connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        let connection = if close { "close" } else { "keep-alive" };
        let length = body.len();
        let shown = if request.starts_with("HEAD ") { "" } else { body.as_str() };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: {connection}\r\n\r\n{shown}");
        if stream.write_all(answer.as_bytes()).await.is_err() || close {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_name_version_host_and_path() {
        let who = Who { version: "7".into(), host: "pod-1".into() };
        assert_eq!(who.answer("GET /a HTTP/1.1"), ("200 OK", "hello version 7 from pod-1 at /a\n".into()));
        assert_eq!(who.answer("GET /healthz HTTP/1.1").1, "ok\n");
        assert_eq!(who.answer("POST / HTTP/1.1").0, "405 Method Not Allowed");
        assert_eq!(who.answer("").0, "400 Bad Request");
    }
}
