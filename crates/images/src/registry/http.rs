//! Requests to a registry: plain HTTP to this machine, HTTPS elsewhere; redirects and tokens.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Mutex;

use base64::Engine as _;
use gantry_transport::{Body, ClientTls, HttpsClient, Target, full};
use http::header::{ACCEPT, AUTHORIZATION, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use super::{Credentials, Registries};
use crate::{Error, Result};

const REDIRECTS: u32 = 5;

/// Talks to one registry on one repository's behalf.
pub(super) struct Session<'a> {
    pub(super) registries: &'a Registries,
    /// As images name it.
    pub(super) registry: String,
    pub(super) credentials: Option<&'a Credentials>,
    /// What the last challenge got us, as the header's value.
    pub(super) authorization: Mutex<Option<String>>,
}

/// What a registry wants to see.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// Whether a registry is on this machine, where plain HTTP shows nobody anything.
fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_loopback())
}

impl Session<'_> {
    fn failed<E: Into<Box<dyn std::error::Error + Send + Sync>>>(&self, act: &'static str) -> impl FnOnce(E) -> Error + use<E> {
        let registry = self.registry.clone();
        move |source| Error::Connection { registry, act, source: source.into() }
    }

    pub(super) fn said(&self, act: impl Into<String>, why: impl Into<String>) -> Error {
        Error::Registry { registry: self.registry.clone(), act: act.into(), why: why.into() }
    }

    fn base(&self) -> String {
        // Docker Hub's registry doesn't answer by the name that images have.
        let host = if self.registry == "docker.io" { "registry-1.docker.io" } else { &self.registry };
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let scheme = if is_local(name) || self.registries.plain_http.contains(&self.registry) { "http" } else { "https" };
        format!("{scheme}://{host}")
    }

    /// Gets a path of the registry, answering its challenge and following where it points.
    pub(super) async fn get(&self, path: &str, accept: &str) -> Result<Response<Incoming>> {
        let mut url = format!("{}{path}", self.base());
        let mut challenged = false;
        let mut ours = true;
        for _ in 0..REDIRECTS {
            let authorization =
                if ours { self.authorization.lock().expect("nothing panics while it holds this lock").clone() } else { None };
            let response = self.get_once(&url, accept, authorization.as_deref()).await?;
            match response.status() {
                StatusCode::OK => return Ok(response),
                StatusCode::UNAUTHORIZED if ours && !challenged => {
                    challenged = true;
                    let header = response.headers().get(WWW_AUTHENTICATE).and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned();
                    let answer = self.answer(&header).await?;
                    *self.authorization.lock().expect("nothing panics while it holds this lock") = Some(answer);
                }
                status if status.is_redirection() => {
                    let to = response
                        .headers()
                        .get(LOCATION)
                        .and_then(|l| l.to_str().ok())
                        .ok_or_else(|| self.said(path, "a redirect to nowhere"))?;
                    let next = absolute(&url, to).ok_or_else(|| self.said(path, format!("a redirect to {to:?}")))?;
                    // What is for the registry isn't for its storage provider.
                    ours &= host_of(&next) == host_of(&url);
                    url = next;
                }
                StatusCode::NOT_FOUND => return Err(self.said(path, "not found")),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.said(path, "access denied")),
                other => return Err(self.said(path, other.to_string())),
            }
        }
        Err(self.said(path, "redirected too often"))
    }

    async fn get_once(&self, url: &str, accept: &str, authorization: Option<&str>) -> Result<Response<Incoming>> {
        let uri: Uri = url.parse().map_err(self.failed("read its address"))?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        let mut request =
            Request::builder().uri(path).header(ACCEPT, accept).header(USER_AGENT, concat!("gantry/", env!("CARGO_PKG_VERSION")));
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(full("")).map_err(self.failed("make a request"))?;
        let host = uri.host().unwrap_or_default();
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let addresses = gantry_transport::resolve(host, &*self.registries.clock, &*self.registries.random)
            .await
            .map_err(self.failed("look up its name"))?;
        let mut last = self.said("look up its name", "it has no address");
        for address in addresses {
            let address = SocketAddr::new(address, port);
            let sent = if tls {
                self.send_tls(address, host, clone(&request)).await
            } else {
                self.send_plain(address, &uri, clone(&request)).await
            };
            match sent {
                Ok(response) => return Ok(response),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    async fn send_tls(&self, address: SocketAddr, host: &str, request: Request<Body>) -> Result<Response<Incoming>> {
        let ca = self.registries.authorities().map_err(self.failed("find certificate authorities"))?;
        let tls = ClientTls::new(&ca, None).map_err(self.failed("read certificate authorities"))?;
        let target = Target { address, name: host.trim_start_matches('[').trim_end_matches(']').to_owned() };
        let client = HttpsClient::new(target, tls, self.registries.sockets.clone(), self.registries.tasks.clone());
        client.send_alone(request).await.map_err(self.failed("talk to it"))
    }

    async fn send_plain(&self, address: SocketAddr, uri: &Uri, mut request: Request<Body>) -> Result<Response<Incoming>> {
        let connection = self.registries.sockets.connect(address).await.map_err(self.failed("connect"))?;
        let (mut sender, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(self.failed("talk to it"))?;
        self.registries.tasks.spawn(async move {
            // The request's own future learns of any failure.
            let _ = driver.await;
        });
        if let Some(host) = uri.authority().and_then(|a| a.as_str().parse().ok()) {
            request.headers_mut().insert(HOST, host);
        }
        sender.send_request(request).await.map_err(self.failed("talk to it"))
    }

    /// Gets what a challenge asks for.
    async fn answer(&self, header: &str) -> Result<String> {
        let challenge = Challenge::parse(header).ok_or_else(|| self.said("log in", format!("challenge {header:?} isn't understood")))?;
        let basic = self.credentials.map(|c| {
            let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", c.username, c.password));
            format!("Basic {encoded}")
        });
        if challenge.scheme == "basic" {
            return basic.ok_or_else(|| self.said("log in", "it wants a user name and password"));
        }
        let realm = challenge.parameters.get("realm").ok_or_else(|| self.said("log in", "a challenge without a realm"))?;
        if self.base().starts_with("https:") && !realm.starts_with("https:") {
            return Err(self.said("log in", format!("it sends us to {realm}, where others could listen")));
        }
        let query: Vec<String> =
            ["service", "scope"].iter().filter_map(|k| Some(format!("{k}={}", escape(challenge.parameters.get(*k)?)))).collect();
        let url = format!("{realm}{}{}", if realm.contains('?') { '&' } else { '?' }, query.join("&"));
        let response = self.get_once(&url, "application/json", basic.as_deref()).await?;
        if response.status() != StatusCode::OK {
            return Err(self.said("log in", response.status().to_string()));
        }
        let bytes = self.read_small(response).await?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|e| self.said("log in", e.to_string()))?;
        let token = token.token.or(token.access_token).ok_or_else(|| self.said("log in", "no token in the answer"))?;
        Ok(format!("Bearer {token}"))
    }

    /// Reads a document's body.
    pub(super) async fn read_small(&self, response: Response<Incoming>) -> Result<Vec<u8>> {
        let limited = http_body_util::Limited::new(response.into_body(), 4 << 20);
        let collected = http_body_util::BodyExt::collect(limited).await.map_err(self.failed("read a document"))?;
        Ok(collected.to_bytes().to_vec())
    }
}

/// The same request again: they have no bodies.
fn clone(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(full(""));
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn host_of(url: &str) -> Option<String> {
    url.parse::<Uri>().ok()?.authority().map(|a| a.as_str().to_owned())
}

/// Where a redirect leads. Never from HTTPS to HTTP.
fn absolute(from: &str, to: &str) -> Option<String> {
    if to.starts_with("https://") || (to.starts_with("http://") && from.starts_with("http://")) {
        return Some(to.to_owned());
    }
    let from: Uri = from.parse().ok()?;
    to.starts_with('/').then(|| format!("{}://{}{to}", from.scheme_str().unwrap_or("https"), from.authority().map_or("", |a| a.as_str())))
}

fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~:/,".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

impl Challenge {
    /// Reads `Bearer realm="…",service="…",scope="a,b"` (RFC 9110, 11.6.1), the first challenge of a header.
    fn parse(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        let mut parameters = BTreeMap::new();
        while let Some((key, value)) = rest.split_once('=') {
            let key = key.trim_matches([' ', ',']).to_ascii_lowercase();
            let (value, left) = match value.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => value.split_once(',').unwrap_or((value, "")),
            };
            parameters.insert(key, value.to_owned());
            rest = left;
        }
        let scheme = scheme.to_ascii_lowercase();
        ["bearer", "basic"].contains(&scheme.as_str()).then_some(Self { scheme, parameters })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let c = Challenge::parse(r#"Bearer realm="https://auth.x/token",service="registry.x",scope="repository:a/b:pull,push""#).unwrap();
        assert_eq!((c.scheme.as_str(), c.parameters["realm"].as_str()), ("bearer", "https://auth.x/token"));
        assert_eq!(c.parameters["scope"], "repository:a/b:pull,push");
        assert_eq!(Challenge::parse("Basic realm=x").unwrap().parameters["realm"], "x");
        assert_eq!(Challenge::parse("Negotiate"), None);
    }

    #[test]
    fn redirects_never_lose_encryption() {
        assert_eq!(absolute("https://a/x", "/y?z"), Some("https://a/y?z".into()));
        assert_eq!(absolute("https://a/x", "https://b/y"), Some("https://b/y".into()));
        assert_eq!(absolute("http://a/x", "http://b/y"), Some("http://b/y".into()));
        assert_eq!(absolute("https://a/x", "http://b/y"), None);
        assert_eq!(absolute("http://a/x", "file:///etc/passwd"), None);
    }

    #[test]
    fn only_this_machine_is_local() {
        assert!(is_local("localhost") && is_local("127.0.0.1") && is_local("[::1]"));
        assert!(!is_local("localhost.example") && !is_local("10.0.0.1") && !is_local("127.0.0.1.example"));
    }
}
