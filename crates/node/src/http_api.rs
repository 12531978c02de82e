//! The node's own HTTPS API: logs and streams of its containers, for the API server alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_containers::ContainerState;
use gantry_object::{Status, Timestamp};
use gantry_ports::BoxFuture;
use gantry_transport::{Handler, Peer, Request, Response, full, streaming};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::logs;

/// Who may ask: the API server's own client certificate names this user.
pub const API_SERVER: &str = "kube-apiserver-kubelet-client";
/// How many pieces of a log may wait for a slow reader.
const BUFFER: usize = 16;
/// How often a followed log is looked at for more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Handler for Agent {
    fn handle(self: Arc<Self>, request: Request, peer: Peer) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            match peer.certificate {
                None => text(StatusCode::UNAUTHORIZED, "Unauthorized"),
                Some(who) if who.common_name != API_SERVER => text(StatusCode::FORBIDDEN, "Forbidden"),
                Some(_) => self.answer(request).await.unwrap_or_else(|(code, why)| text(code, &why)),
            }
        })
    }
}

/// A failure as this API tells it: a code and a sentence.
pub(crate) type Refusal = (StatusCode, String);

fn text(code: StatusCode, body: &str) -> Response {
    let mut response = http::Response::new(full(body.to_owned()));
    *response.status_mut() = code;
    response
}

/// The value of a query parameter, percent-decoded by the caller's own encoding rules.
pub(crate) fn parameters(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let bytes = text.as_bytes();
        let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
        while i < bytes.len() {
            let hex = (bytes[i] == b'%').then(|| text.get(i + 1..i + 3).and_then(|h| u8::from_str_radix(h, 16).ok())).flatten();
            out.push(hex.unwrap_or(if bytes[i] == b'+' { b' ' } else { bytes[i] }));
            i += if hex.is_some() { 3 } else { 1 };
        }
        String::from_utf8_lossy(&out).into_owned()
    };
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(key), decode(value))
    };
    query.split('&').filter(|p| !p.is_empty()).map(pair).collect()
}

impl Agent {
    async fn answer(&self, request: Request) -> Result<Response, Refusal> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match segments[..] {
            ["healthz"] => Ok(text(StatusCode::OK, "ok")),
            ["pods"] => {
                let pods: Vec<Arc<Pod>> = self.pods();
                let items: Vec<&Pod> = pods.iter().map(|p| &**p).collect();
                Ok(text(
                    StatusCode::OK,
                    &serde_json::json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}).to_string(),
                ))
            }
            ["containerLogs", namespace, pod, container] => {
                let pod = self.find(namespace, pod)?;
                let pieces = self.logs(&pod, container, request.uri().query().unwrap_or(""))?;
                match request.headers().contains_key(http::header::UPGRADE) {
                    true => crate::streams::log(self, request, pieces),
                    false => Ok(http::Response::new(streaming(pieces))),
                }
            }
            ["exec" | "attach", namespace, pod, container] => {
                let pod = self.find(namespace, pod)?;
                let id = self.running(&pod, container).await?;
                crate::streams::exec(self, request, &id, segments[0] == "exec").await
            }
            ["portForward", namespace, pod] => {
                let pod = self.find(namespace, pod)?;
                crate::streams::port_forward(self, request, &pod).await
            }
            _ => Err((StatusCode::NOT_FOUND, "404 page not found".into())),
        }
    }

    fn find(&self, namespace: &str, name: &str) -> Result<Arc<Pod>, Refusal> {
        let is = |p: &Pod| p.metadata.namespace.as_deref() == Some(namespace) && p.metadata.name.as_deref() == Some(name);
        self.pods().into_iter().find(|p| is(p)).ok_or_else(|| (StatusCode::NOT_FOUND, format!("pod {name:?} not found")))
    }

    /// The newest attempt of a container, which must run.
    async fn running(&self, pod: &Pod, container: &str) -> Result<gantry_containers::ContainerId, Refusal> {
        let uid = pod.metadata.uid.as_deref().unwrap_or("");
        let status =
            self.shared.runtime.sandbox_status(uid).await.map_err(|e| (StatusCode::INTERNAL_SERVER_ERROR, gantry_object::chain(&e)))?;
        let newest = status.containers.into_iter().filter(|c| c.name == container).max_by_key(|c| c.attempt);
        match newest {
            Some(c) if c.state == ContainerState::Running => Ok(c.id),
            Some(_) => Err((StatusCode::BAD_REQUEST, format!("container {container:?} is not running"))),
            None => Err((StatusCode::NOT_FOUND, format!("container not found ({container:?})"))),
        }
    }

    fn logs(&self, pod: &Pod, container: &str, query: &str) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        let options = LogOptions::parse(query, self.shared.now()).map_err(|s| (StatusCode::BAD_REQUEST, s.message))?;
        let directory = self.shared.log_directory(pod).join(container);
        let mut attempts: Vec<u32> = std::fs::read_dir(&directory)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.strip_suffix(".log")?.parse().ok())
            .collect();
        attempts.sort_unstable();
        let wanted = if options.previous { attempts.iter().rev().nth(1) } else { attempts.last() };
        let Some(attempt) = wanted.copied() else {
            let name = pod.metadata.name.as_deref().unwrap_or("");
            let what = if options.previous { "previous terminated container" } else { "container" };
            return Err((StatusCode::BAD_REQUEST, format!("{what} {container:?} in pod {name:?} not found")));
        };
        let (send, pieces) = mpsc::channel(BUFFER);
        let path = directory.join(format!("{attempt}.log"));
        let (agent, uid, container) = (self.clone(), pod.metadata.uid.clone().unwrap_or_default(), container.to_owned());
        let id = gantry_containers::ContainerId::new(&uid, &container, attempt);
        self.shared.tasks.spawn(async move {
            // A reader that hangs up is no failure; a log that can't be read ends here.
            if let Err(error) = agent.send_log(path, &id, options, send).await {
                tracing::debug!(%error, container = %id, "reading a log");
            }
        });
        Ok(pieces)
    }

    async fn send_log(
        &self,
        path: PathBuf,
        id: &gantry_containers::ContainerId,
        mut options: LogOptions,
        send: mpsc::Sender<Bytes>,
    ) -> std::io::Result<()> {
        let mut file = tokio::fs::File::open(&path).await?;
        let mut pending = Vec::new();
        file.read_to_end(&mut pending).await?;
        options.skip_to_tail(&mut pending);
        loop {
            // Asked before the file is read to its end, so that nothing written before the end is missed.
            let status = if options.follow { self.shared.runtime.container_status(id).await.ok() } else { None };
            let goes_on = status.is_some_and(|s| s.state == ContainerState::Running);
            file.read_to_end(&mut pending).await?;
            let complete = pending.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1);
            let rest = pending.split_off(complete);
            let (out, done) = options.render(&pending);
            pending = rest;
            if (!out.is_empty() && send.send(out.into()).await.is_err()) || done || !goes_on {
                return Ok(());
            }
            gantry_ports::select! {
                () = send.closed() => return Ok(()),
                () = self.shared.clock.sleep(LOOK_EVERY) => {}
            }
        }
    }
}

/// What of a log is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct LogOptions {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit: Option<usize>,
    stream: Option<String>,
}

impl LogOptions {
    fn parse(query: &str, now: Timestamp) -> Result<Self, Status> {
        let mut options = Self::default();
        let wrong = |key: &str, value: &str| Status::bad_request(format!("invalid value {value:?} for {key}"));
        for (key, value) in parameters(query) {
            let number = || value.parse::<u64>().map_err(|_| wrong(&key, &value));
            let yes = matches!(value.as_str(), "" | "true" | "1");
            match key.as_str() {
                "follow" => options.follow = yes,
                "previous" => options.previous = yes,
                "timestamps" => options.timestamps = yes,
                "tailLines" => options.tail = Some(number()? as usize),
                "limitBytes" => options.limit = Some(number()? as usize),
                "sinceSeconds" => options.since = Some(Timestamp(now.0.saturating_sub(number()?.saturating_mul(1_000_000_000) as i64))),
                "sinceTime" => options.since = Some(Timestamp::parse(&value).ok_or_else(|| wrong(&key, &value))?),
                "stream" if value == "Stdout" || value == "Stderr" => options.stream = Some(value.to_lowercase()),
                _ => {}
            }
        }
        Ok(options)
    }

    /// Drops everything before the last lines that are wanted.
    fn skip_to_tail(&self, log: &mut Vec<u8>) {
        let Some(tail) = self.tail else { return };
        let mut ends: Vec<usize> = log.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
        ends.pop();
        let start = if tail == 0 {
            log.iter().rposition(|b| *b == b'\n').map_or(0, |i| i + 1)
        } else {
            ends.len().checked_sub(tail).map_or(0, |i| ends[i])
        };
        log.drain(..start);
    }

    /// What of complete lines is shown, and whether the limit is reached.
    fn render(&mut self, lines: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(lines.len());
        for entry in lines.split(|b| *b == b'\n').filter_map(logs::parse) {
            let early = self.since.is_some_and(|since| Timestamp::parse(entry.time).is_some_and(|t| t < since));
            if early || self.stream.as_deref().is_some_and(|s| s != entry.stream) {
                continue;
            }
            if self.timestamps {
                out.extend_from_slice(entry.time.as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(entry.text);
            if entry.ends_line {
                out.push(b'\n');
            }
        }
        match &mut self.limit {
            Some(limit) => {
                out.truncate(*limit);
                *limit -= out.len();
                (out, *limit == 0)
            }
            None => (out, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &[u8] = b"2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr F two\n2026-01-01T00:00:03Z stdout P th\n2026-01-01T00:00:03Z stdout F ree\n";

    fn shown(query: &str) -> String {
        let mut options = LogOptions::parse(query, Timestamp::parse("2026-01-01T00:00:04Z").unwrap()).unwrap();
        let mut log = LOG.to_vec();
        options.skip_to_tail(&mut log);
        String::from_utf8(options.render(&log).0).unwrap()
    }

    #[test]
    fn logs_are_cut_as_asked() {
        assert_eq!(shown(""), "one\ntwo\nthree\n");
        assert_eq!(shown("tailLines=2"), "three\n");
        assert_eq!(shown("tailLines=0"), "");
        assert_eq!(shown("tailLines=9"), "one\ntwo\nthree\n");
        assert_eq!(shown("sinceSeconds=2"), "two\nthree\n");
        assert_eq!(shown("sinceTime=2026-01-01T00%3A00%3A03Z"), "three\n");
        assert_eq!(shown("limitBytes=5"), "one\nt");
        assert_eq!(shown("stream=Stderr&timestamps=true"), "2026-01-01T00:00:02Z two\n");
        assert!(LogOptions::parse("tailLines=x", Timestamp(0)).is_err());
    }
}
