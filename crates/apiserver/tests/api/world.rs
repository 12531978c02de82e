//! A server with everything around it that a test needs: a disk, a clock, an authority, and clients that speak HTTP to it.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_apiserver::{Config, Parts, Server, User};
use gantry_client::{Api, Request};
use gantry_kinds::Registry;
use gantry_object::{Resource, Timestamp};
use gantry_pki::{Authority, CertificateIdentity, Profile, TokenKey};
use gantry_ports::disk::SimDisk;
use gantry_ports::{Clock, SeededRandom, SimulatedClock, SimulatedSockets, Sockets, Tasks};
use gantry_store::{Limits, log};
use gantry_transport::{Handler, Peer};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
pub(crate) use serde_json::{Value, json};

pub(crate) const SERVICE_ACCOUNTS: Resource = Resource::namespaced("", "v1", "serviceaccounts", "ServiceAccount");
const AUTHORIZATION: &str = "authorization";

/// One cluster's control plane, without components.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) clock: SimulatedClock,
    pub(crate) random: Arc<SeededRandom>,
    pub(crate) tasks: Tasks,
    pub(crate) authority: Arc<Authority>,
    pub(crate) disk: SimDisk,
    /// The network on which servers that the API server calls may listen.
    pub(crate) sockets: Arc<dyn Sockets>,
    _log: log::LogStore,
}

/// How a client shows who it is.
pub(crate) enum Who<'a> {
    /// By a certificate with this name and these groups.
    Certificate(&'a str, &'a str),
    /// By a bearer token.
    Token(&'a str),
    /// Not at all.
    Nobody,
}

impl World {
    /// A fresh cluster: bootstrapped, with the default service account of the default namespace.
    pub(crate) async fn new() -> Self {
        let clock = SimulatedClock::at(Timestamp::from_seconds(1_700_000_000));
        let random = Arc::new(SeededRandom::new(7));
        let tasks = Tasks::on(tokio::runtime::Handle::current());
        // Little history, so that tests can outlive it.
        let limits = Limits { ring_events: 200, ..Limits::default() };
        let options = log::Options { inline: true, limits, ..log::Options::default() };
        let disk = SimDisk::new();
        let (store, log) = log::open(Arc::new(disk.clone()), options).unwrap();
        let authority = Arc::new(Authority::generate("test", clock.now(), &*random).unwrap());
        let sockets: Arc<dyn Sockets> = Arc::new(SimulatedSockets::default());
        let server = Server::new(Parts {
            config: Config {
                cluster_id: "test".into(),
                issuer: "https://test".into(),
                advertised: SocketAddr::from(([10, 0, 0, 1], 6443)),
                service_network: (Ipv4Addr::new(10, 96, 0, 0), 16),
                pod_network: (Ipv4Addr::new(10, 244, 0, 0), 16),
                node_ports: 30000..=32767,
                authority: authority.certificate_pem().into(),
            },
            registry: Registry::builtin(),
            store,
            token_key: TokenKey::generate().unwrap().0,
            clock: Arc::new(clock.clone()),
            random: random.clone(),
            tasks: tasks.clone(),
            sockets: sockets.clone(),
            nodes: None,
        });
        server.bootstrap().await.unwrap();
        let world = Self { server, clock, random, tasks, authority, disk, sockets, _log: log };
        world.create(SERVICE_ACCOUNTS, "default", json!({"metadata": {"name": "default"}})).await;
        world
    }

    /// Creates an object as the administrator, in process.
    pub(crate) async fn create(&self, resource: Resource, namespace: &str, object: Value) -> Value {
        let created = self.server.client(User::admin()).call(Request::create(resource, namespace, &object)).await;
        created.unwrap().object().unwrap().decode().unwrap()
    }

    /// A client over HTTP. What it shows is checked as TLS would have it.
    pub(crate) async fn http(&self, who: Who<'_>) -> Http {
        let (certificate, bearer) = match who {
            Who::Certificate(name, groups) => (Some(self.certificate(name, groups)), None),
            Who::Token(token) => (None, Some(token.to_owned())),
            Who::Nobody => (None, None),
        };
        let here = self.connection(certificate);
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(here)).await.unwrap();
        self.tasks.spawn(async move {
            let _ = connection.await;
        });
        Http { sender, bearer }
    }

    /// A connection of somebody with a certificate on which a test writes what it likes.
    pub(crate) fn raw(&self, name: &str, group: &str) -> tokio::io::DuplexStream {
        self.connection(Some(self.certificate(name, group)))
    }

    fn connection(&self, certificate: Option<Arc<CertificateIdentity>>) -> tokio::io::DuplexStream {
        let (here, there) = tokio::io::duplex(1 << 20);
        let peer = Peer { address: SocketAddr::from(([127, 0, 0, 1], 1)), certificate };
        let handler = Arc::new(self.server.clone());
        let service = hyper::service::service_fn(move |request| {
            let answer = handler.clone().handle(request, peer.clone());
            async move { Ok::<_, Infallible>(answer.await) }
        });
        self.tasks.spawn(async move {
            // A client that goes away in the middle is what some tests are about.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(there), service).await;
        });
        here
    }

    /// A client of the administrator.
    pub(crate) async fn admin(&self) -> Http {
        self.http(Who::Certificate("kubernetes-admin", "system:masters")).await
    }

    fn certificate(&self, name: &str, group: &str) -> Arc<CertificateIdentity> {
        let profile = Profile { common_name: name.into(), organization: group.into(), client: true, ..Profile::default() };
        let issued = self.authority.issue(&profile, Duration::from_secs(3600), self.clock.now(), &*self.random).unwrap();
        let der = rustls_pki_types::CertificateDer::from_pem_slice(issued.certificate_pem.as_bytes()).unwrap();
        Arc::new(CertificateIdentity::of(&der).unwrap())
    }

    /// Lets a future and every task do what they can without time passing; the future is not done by then.
    pub(crate) async fn settle_beside<T>(&self, future: std::pin::Pin<&mut impl Future<Output = T>>) {
        gantry_ports::select! {
            _ = future => panic!("it was to wait"),
            () = self.settle() => {}
        }
    }

    /// Lets every task do what it can without time passing.
    pub(crate) async fn settle(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.tasks.shutdown();
    }
}

/// A connection of one client.
pub(crate) struct Http {
    sender: SendRequest<Full<Bytes>>,
    bearer: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    /// The values of the Warning headers.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        self.headers.get_all("warning").iter().map(|v| v.to_str().unwrap()).collect()
    }

    /// The JSON body of an answer with this code.
    #[track_caller]
    pub(crate) fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// Checks a refusal: code and reason agree, the message holds a text, and it is a Status.
    #[track_caller]
    pub(crate) fn refused(&self, code: u16, reason: &str, message: &str) -> Value {
        let status = self.expect(code);
        assert_eq!((&status["kind"], &status["apiVersion"], &status["status"]), (&json!("Status"), &json!("v1"), &json!("Failure")));
        assert_eq!((status["code"].as_u64(), status["reason"].as_str()), (Some(code.into()), Some(reason)), "{status}");
        let found = status["message"].as_str().unwrap_or("");
        assert!(found.contains(message), "{found:?} does not say {message:?}");
        status
    }
}

impl Http {
    /// Sends anything.
    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
        let response = self.begin(method, path, headers, body).await;
        let (head, body) = response.into_parts();
        Reply { code: head.status.as_u16(), headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
    }

    async fn begin(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<hyper::body::Incoming> {
        let mut request = http::Request::builder().method(method).uri(path).header("host", "test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(token) = &self.bearer {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Full::new(body.into())).unwrap();
        self.sender.ready().await.unwrap();
        self.sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    pub(crate) async fn get_as(&mut self, path: &str, accept: &str) -> Reply {
        self.send("GET", path, &[("accept", accept)], "").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn put(&mut self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// `kind` is `json`, `merge` or `strategic-merge`.
    pub(crate) async fn patch(&mut self, path: &str, kind: &str, body: &Value) -> Reply {
        self.send("PATCH", path, &[("content-type", &format!("application/{kind}-patch+json"))], body.to_string()).await
    }

    /// Applies a configuration in YAML or JSON as a manager, with more of a query behind it.
    pub(crate) async fn apply(&mut self, path: &str, query: &str, config: &(impl std::fmt::Display + ?Sized)) -> Reply {
        let path = format!("{path}?fieldManager={query}");
        self.send("PATCH", &path, &[("content-type", "application/apply-patch+yaml")], config.to_string()).await
    }

    pub(crate) async fn delete(&mut self, path: &str, body: &Value) -> Reply {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        self.send("DELETE", path, &[("content-type", "application/json")], text).await
    }

    /// Begins a watch. It takes the connection.
    pub(crate) async fn watch(mut self, path: &str, accept: &str) -> Events {
        let response = self.begin("GET", path, &[("accept", accept)], "").await;
        assert_eq!(response.status(), 200);
        let media_type = response.headers()["content-type"].to_str().unwrap().to_owned();
        Events { body: response.into_body(), read: Vec::new(), media_type, _client: self }
    }
}

/// A watch under way.
pub(crate) struct Events {
    body: hyper::body::Incoming,
    read: Vec<u8>,
    pub(crate) media_type: String,
    _client: Http,
}

impl Events {
    /// More bytes; false when the watch is over.
    async fn fill(&mut self) -> bool {
        match self.body.frame().await {
            Some(frame) => {
                self.read.extend_from_slice(&frame.unwrap().into_data().unwrap());
                true
            }
            None => false,
        }
    }

    /// The next event of a JSON stream; `None` when the watch is over.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            if !self.fill().await {
                assert!(self.read.is_empty(), "the stream ended in the middle of an event");
                return None;
            }
        }
    }

    /// The next event's type and object's name.
    pub(crate) async fn told(&mut self) -> (String, String) {
        let event = self.next().await.expect("the watch goes on");
        (event["type"].as_str().unwrap().into(), event["object"]["metadata"]["name"].as_str().unwrap_or("").into())
    }

    /// The next frame of a protobuf stream.
    pub(crate) async fn frame(&mut self) -> Vec<u8> {
        loop {
            if let Some(head) = self.read.first_chunk::<4>() {
                let end = 4 + u32::from_be_bytes(*head) as usize;
                if self.read.len() >= end {
                    return self.read.drain(..end).skip(4).collect();
                }
            }
            assert!(self.fill().await, "the stream ended");
        }
    }
}

/// A pod that validation takes.
pub(crate) fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

/// A ConfigMap with labels.
pub(crate) fn config_map(name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> = labels.iter().map(|(k, v)| ((*k).into(), json!(v))).collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}, "data": {"k": "v"}})
}

/// A Deployment that validation takes.
pub(crate) fn deployment(name: &str, replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": replicas,
        "selector": {"matchLabels": {"app": name}}, "template": {"metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
