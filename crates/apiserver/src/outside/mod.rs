//! Servers outside this process that the API server calls: found by URL or by Service, trusted by the bundle that goes with them.
//!
//! What is called and why is for the callers to say. Every call has a time limit and a limit on what is read of its answer.

mod place;
mod service;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use gantry_object::Value;
use gantry_pki::Issued;
use gantry_transport::{Body, ClientTls, DialError, Origin, Target, full};
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http_body_util::{BodyExt, LengthLimitError, Limited};

pub(crate) use place::Place;
pub(crate) use service::ServiceError;

use crate::server::Server;

/// How many servers are remembered with their connections.
const MOST_ORIGINS: usize = 200;
/// How this server calls itself to those it calls.
const AGENT: &str = "kube-apiserver-admission";

/// A server to call, and how to know it.
#[derive(Clone, Debug)]
pub(crate) struct Callee {
    pub(crate) place: Place,
    tls: Result<ClientTls, String>,
    /// Tells whom this callee trusts, and what is shown to it, from others at the same address.
    trust: Arc<str>,
}

/// Why a call came to nothing, in the words that Go's HTTP client has for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct CallError(pub(crate) String);

/// A call of one JSON document for another.
pub(crate) struct Post<'a> {
    pub(crate) callee: &'a Callee,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
    /// The most that is read of an answer, in bytes.
    pub(crate) largest_answer: usize,
}

impl Callee {
    /// What a `clientConfig` of a webhook names.
    pub(crate) fn of_client_config(config: &Value) -> Self {
        let bundle = decode_bundle(&config["caBundle"]);
        Self::new(Place::of_client_config(config), bundle.as_deref(), None)
    }

    /// A place whose certificate a bundle (PEM) vouches for; without one, the authorities that the machine trusts.
    pub(crate) fn new(place: Place, bundle: Option<&str>, shown: Option<&Issued>) -> Self {
        let authorities = match bundle {
            Some(bundle) => Ok(bundle.to_owned()),
            None => gantry_transport::system_authorities().map_err(|e| gantry_object::chain(&e)),
        };
        let trust = format!("{}\0{}", bundle.unwrap_or_default(), shown.map_or("", |i| &i.certificate_pem));
        let tls = authorities.and_then(|pem| ClientTls::new(&pem, shown).map_err(|e| gantry_object::chain(&e)));
        Self { place, tls, trust: trust.into() }
    }

    /// The same, with a certificate shown.
    pub(crate) fn unverified_showing(place: Place, shown: &Issued) -> Self {
        let tls = ClientTls::unverified_showing(shown).map_err(|e| gantry_object::chain(&e));
        Self { place, tls, trust: format!("unverified\0{}", shown.certificate_pem).into() }
    }

    /// A place that is taken for what it says it is.
    pub(crate) fn unverified(place: Place) -> Self {
        let tls = ClientTls::unverified().map_err(|e| gantry_object::chain(&e));
        Self { place, tls, trust: "unverified".into() }
    }
}

/// A bundle of certificates as objects hold it: base64 of PEM. What is empty is none.
pub(crate) fn decode_bundle(bundle: &Value) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(bundle.as_str()?).ok()?;
    String::from_utf8(bytes).ok().filter(|pem| !pem.trim().is_empty())
}

/// The servers called so far, with the connections to them.
#[derive(Default)]
pub(crate) struct Outside {
    origins: Mutex<BTreeMap<OriginKey, Origin>>,
}

/// Where a server is, what its certificate must name, and whom its callers trust.
type OriginKey = (SocketAddr, String, Arc<str>);

impl Server {
    /// The way to a server at an address.
    pub(crate) fn origin(&self, address: SocketAddr, name: &str, callee: &Callee) -> Result<Origin, CallError> {
        let tls = match callee.place.is_https() {
            true => Some(callee.tls.clone().map_err(|why| CallError(format!("unable to load root certificates: {why}")))?),
            false => None,
        };
        let trust = if tls.is_some() { callee.trust.clone() } else { "".into() };
        let mut origins = self.outside().origins.lock().expect("nothing panics while it holds this lock");
        let key = (address, name.to_owned(), trust);
        if let Some(known) = origins.get(&key) {
            return Ok(known.clone());
        }
        if origins.len() >= MOST_ORIGINS {
            // Rare enough that all may be found anew.
            origins.clear();
        }
        let target = Target { address, name: name.into() };
        let origin = Origin::new(target, tls, self.sockets().clone(), self.tasks().clone());
        origins.insert(key, origin.clone());
        Ok(origin)
    }

    /// Sends a document and reads the answer to its end.
    pub(crate) async fn post(&self, call: Post<'_>) -> Result<Bytes, CallError> {
        let seconds = call.timeout.as_secs() + u64::from(call.timeout.subsec_nanos() > 0);
        let path = format!("{}?timeout={seconds}s", call.callee.place.path());
        let url = format!("{}{path}", call.callee.place.base());
        let deadline = self.clock().sleep(call.timeout);
        let answer = gantry_ports::select! {
            answer = self.post_to(&call, &path) => answer,
            () = deadline => Err(PostError::Network("context deadline exceeded".into())),
        };
        answer.map_err(|error| match error {
            PostError::Network(why) => CallError(format!("Post {url:?}: {why}")),
            PostError::Answer(why) => CallError(why),
        })
    }

    async fn post_to(&self, call: &Post<'_>, path: &str) -> Result<Bytes, PostError> {
        let network = |e: CallError| PostError::Network(e.0);
        let (address, name) = self.find(&call.callee.place).await.map_err(network)?;
        let origin = self.origin(address, &name, call.callee).map_err(network)?;
        let request = http::Request::post(path).header(CONTENT_TYPE, "application/json").header(ACCEPT, "application/json, */*");
        let request = request.header(USER_AGENT, AGENT).header(http::header::HOST, call.callee.place.authority());
        let request: http::Request<Body> = request.body(full(call.body.clone())).map_err(|e| PostError::Network(e.to_string()))?;
        let response = origin.send(request).await.map_err(|e| PostError::Network(explain(&e)))?;
        let status = response.status();
        let body = match Limited::new(response.into_body(), call.largest_answer).collect().await {
            Ok(body) => body.to_bytes(),
            Err(e) if e.is::<LengthLimitError>() => {
                return Err(PostError::Answer(format!("the answer is larger than {} bytes", call.largest_answer)));
            }
            Err(_) => return Err(PostError::Answer("unexpected EOF".into())),
        };
        if status.is_success() { Ok(body) } else { Err(PostError::Answer(refused(status.as_u16(), &body))) }
    }
}

enum PostError {
    /// There was no answer.
    Network(String),
    /// The answer is no good.
    Answer(String),
}

/// What a client of the API says of an answer that is not a success.
fn refused(code: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(2048)]).trim().to_owned();
    let text = if text.is_empty() { "unknown".to_owned() } else { text };
    match code {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 | 406 | 415 => text,
        404 => "the server could not find the requested resource".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        409 => "the server reported a conflict".into(),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request".into(),
        500.. => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

/// Why there was no answer, as Go's client would put it.
pub(crate) fn explain(error: &DialError) -> String {
    match error {
        DialError::Connect { address, source } => {
            let why = match source.kind() {
                std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
                std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
                std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
                std::io::ErrorKind::TimedOut => "i/o timeout".into(),
                _ => format!("connect: {source}"),
            };
            format!("dial tcp {address}: {why}")
        }
        DialError::Tls { source, .. } => {
            let inner = source.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
            inner.map_or_else(|| source.to_string(), distrust)
        }
        DialError::Http { source, .. } if source.is_incomplete_message() => "EOF".into(),
        DialError::Http { source, .. } => gantry_object::chain(source),
    }
}

fn distrust(error: &rustls::Error) -> String {
    use rustls::{CertificateError as Bad, Error};
    let why = match error {
        Error::InvalidCertificate(Bad::UnknownIssuer) => "x509: certificate signed by unknown authority".into(),
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => "x509: certificate has expired or is not yet valid".into(),
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            "x509: certificate has expired or is not yet valid".into()
        }
        Error::InvalidCertificate(other) => format!("x509: {other}"),
        other => return format!("tls: {other}"),
    };
    format!("tls: failed to verify certificate: {why}")
}
