//! The API over HTTPS.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gantry_object::{Encoded, Reason, Revision, Status, Value};
use gantry_ports::{BoxFuture, Tasks};
use gantry_transport::{Body, HttpsClient, full};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::api::path;
use crate::{Api, Params, Request, Response, Verb, Watch, WatchEvent, WatchStream};

/// How this client calls itself, which is also the field manager of what it writes.
const AGENT: &str = concat!("gantry/", env!("CARGO_PKG_VERSION"));
/// How many events may wait for a slow watcher.
const BUFFER: usize = 256;

/// The Kubernetes API over HTTPS: ours or upstream's. The identity is that of the connection's certificate, or of a bearer token.
#[derive(Clone, Debug)]
pub struct HttpsApi {
    http: HttpsClient,
    tasks: Tasks,
    bearer: Option<Arc<str>>,
}

#[derive(serde::Deserialize)]
struct RawEvent<'a> {
    r#type: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(serde::Deserialize)]
struct RawList<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: String,
    r#continue: String,
}

fn unreachable(error: &dyn std::error::Error) -> Status {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    Status::unavailable(message)
}

fn malformed(error: impl std::fmt::Display) -> Status {
    Status::failure(500, Reason::InternalError, format!("the server's answer is malformed: {error}"))
}

impl HttpsApi {
    /// Talks through a client; `bearer` is a token to show, for those without a certificate.
    pub fn new(http: HttpsClient, bearer: Option<&str>, tasks: Tasks) -> Self {
        Self { http, tasks, bearer: bearer.map(Arc::from) }
    }

    async fn send(&self, method: http::Method, uri: &str, content_type: &str, body: Bytes) -> Result<http::Response<Incoming>, Status> {
        let mut request = http::Request::builder().method(method).uri(uri).header(ACCEPT, "application/json");
        request = request.header(USER_AGENT, AGENT);
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(token) = &self.bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request: http::Request<Body> = request.body(full(body)).map_err(|e| Status::bad_request(e.to_string()))?;
        let response = self.http.send(request).await.map_err(|e| unreachable(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status();
        let body = response.into_body().collect().await.map_err(|e| unreachable(&e))?.to_bytes();
        let text = || String::from_utf8_lossy(&body).into_owned();
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| Status::failure(code.as_u16(), Reason::Unknown, text())))
    }
}

fn escape(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-_.~".contains(&c);
    text.bytes().map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") }).collect()
}

fn query(params: &Params, more: &[(&str, String)]) -> String {
    let limit = if params.limit == 0 { String::new() } else { params.limit.to_string() };
    let force = if params.force { "true".to_owned() } else { String::new() };
    let given = [
        ("labelSelector", &params.label_selector),
        ("fieldSelector", &params.field_selector),
        ("limit", &limit),
        ("continue", &params.continue_token),
        ("resourceVersion", &params.resource_version),
        ("resourceVersionMatch", &params.resource_version_match),
        ("dryRun", &params.dry_run),
        ("fieldManager", &params.field_manager),
        ("force", &force),
    ];
    let pairs = given.into_iter().chain(more.iter().map(|(k, v)| (*k, v))).filter(|(_, v)| !v.is_empty());
    let text = pairs.map(|(k, v)| format!("{k}={}", escape(v))).collect::<Vec<_>>().join("&");
    if text.is_empty() { text } else { format!("?{text}") }
}

/// A list as bytes, its items cut out without building trees of them twice.
fn parse_list(body: &[u8]) -> Result<Response, Status> {
    let list: RawList<'_> = serde_json::from_slice(body).map_err(malformed)?;
    let items = list.items.unwrap_or_default().into_iter().map(|raw| Encoded::from_json(raw.get().as_bytes()));
    let items = items.collect::<Result<Vec<_>, _>>().map_err(malformed)?;
    let revision = Revision(list.metadata.resource_version.parse().unwrap_or(0));
    let continue_token = Some(list.metadata.r#continue).filter(|t| !t.is_empty());
    Ok(Response::List { items, revision, continue_token })
}

fn parse_object(body: Bytes) -> Result<Response, Status> {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        kind: Option<&'a str>,
    }
    let head: Head<'_> = serde_json::from_slice(&body).map_err(malformed)?;
    match head.kind {
        Some("Status") => Ok(Response::Status(Box::new(serde_json::from_slice(&body).map_err(malformed)?))),
        Some(kind) if kind.ends_with("List") => parse_list(&body),
        _ => match Encoded::from_json(&body) {
            Ok(object) if object.revision != Revision(0) => Ok(Response::Object(object)),
            _ => Ok(Response::Transient(body)),
        },
    }
}

impl Api for HttpsApi {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async move {
            let (method, content_type) = match request.verb {
                Verb::Get | Verb::List => (http::Method::GET, ""),
                Verb::Create => (http::Method::POST, "application/json"),
                Verb::Update => (http::Method::PUT, "application/json"),
                Verb::Patch(kind) => (http::Method::PATCH, kind.media_type()),
                Verb::Delete | Verb::DeleteCollection => (http::Method::DELETE, "application/json"),
            };
            let uri = format!("{}{}", request.path(), query(&request.params, &[]));
            let is_list = request.verb == Verb::List;
            let response = self.send(method, &uri, content_type, request.body).await?;
            let body = response.into_body().collect().await.map_err(|e| unreachable(&e))?.to_bytes();
            if is_list { parse_list(&body) } else { parse_object(body) }
        })
    }

    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(async move {
            let mut params = watch.params.clone();
            let mut more = vec![("watch", "true".to_owned()), ("allowWatchBookmarks", "true".to_owned())];
            match watch.from {
                Some(revision) => params.resource_version = revision.to_string(),
                // No version would mean everything that exists first: say where "now" is instead.
                None if !watch.initial_events => {
                    let mut now = Request::list(watch.resource, &watch.namespace);
                    now.params.limit = 1;
                    params.resource_version = self.call(now).await?.list()?.1.to_string();
                }
                None => {}
            }
            if watch.initial_events {
                params.resource_version_match = "NotOlderThan".into();
                more.push(("sendInitialEvents", "true".into()));
            }
            let uri = format!("{}{}", path(&watch.resource, &watch.namespace, "", None), query(&params, &more));
            let response = self.send(http::Method::GET, &uri, "", Bytes::new()).await?;
            let (send, events) = mpsc::channel(BUFFER);
            self.tasks.spawn(follow(response.into_body(), send));
            Ok(WatchStream::new(events))
        })
    }
}

/// Cuts the stream into lines and sends each as an event.
async fn follow(mut body: Incoming, send: mpsc::Sender<WatchEvent>) {
    let mut pending = BytesMut::new();
    let mut searched = 0;
    loop {
        while let Some(end) = pending[searched..].iter().position(|b| *b == b'\n') {
            let line = pending.split_to(searched + end + 1);
            searched = 0;
            let event = parse_event(&line).unwrap_or_else(|status| WatchEvent::Error(Box::new(status)));
            let ends = matches!(event, WatchEvent::Error(_));
            if send.send(event).await.is_err() || ends {
                return;
            }
        }
        searched = pending.len();
        let frame = gantry_ports::select! {
            frame = body.frame() => frame,
            () = send.closed() => return,
        };
        match frame {
            Some(Ok(frame)) => pending.extend_from_slice(frame.data_ref().map_or(&[], |d| d)),
            // The caller sees the stream end, and watches again from where it was.
            Some(Err(_)) | None => return,
        }
    }
}

fn parse_event(line: &[u8]) -> Result<WatchEvent, Status> {
    let event: RawEvent<'_> = serde_json::from_slice(line).map_err(malformed)?;
    let json = event.object.get();
    let object = || Encoded::from_json(json.as_bytes()).map_err(malformed);
    match event.r#type {
        "ADDED" => Ok(WatchEvent::Added(object()?)),
        "MODIFIED" => Ok(WatchEvent::Modified(object()?)),
        "DELETED" => Ok(WatchEvent::Deleted(object()?)),
        "BOOKMARK" => {
            let object: Value = serde_json::from_str(json).map_err(malformed)?;
            let revision = object["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok()).unwrap_or(0);
            let ends = object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
            Ok(WatchEvent::Bookmark { revision: Revision(revision), initial_events_end: ends })
        }
        "ERROR" => Err(serde_json::from_str(json).map_err(malformed)?),
        other => Err(malformed(format_args!("unknown event {other:?}"))),
    }
}
