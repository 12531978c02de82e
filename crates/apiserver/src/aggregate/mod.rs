//! Groups that other servers serve: APIService objects, and requests passed on to what they name.
//!
//! The caller has proved to this server who they are; the other server is told so in headers, and believes it because this server shows a
//! certificate that only it has. A group whose server is away harms nobody else: what is known of it is kept apart.

mod documents;
mod keeper;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_object::{Encoded, GroupVersion, Status, Value};
use gantry_pki::{Authority, Issued, Profile};
use gantry_transport::{Request, Response, forward};
use http::{HeaderName, HeaderValue};

use crate::authorize::{Attributes, Follow};
use crate::encode::response;
use crate::outside::{Callee, Place, decode_bundle, explain};
use crate::path::Target;
use crate::server::Server;
use crate::user::User;

pub(crate) use documents::Remembered;

/// The store's name for them.
pub(crate) const API_SERVICES: &str = "apiservices.apiregistration.k8s.io";
/// Who this server is to those it passes requests on to.
const FRONT_PROXY: &str = "front-proxy-client";
/// How long the certificate lasts that shows it: as long as its authority, which is made anew at every start.
const LASTS: Duration = Duration::from_secs(10 * 365 * 86400);
/// How long another server may take to say what it serves.
const PATIENCE: Duration = Duration::from_secs(5);

/// This server's identity towards those it passes requests on to.
pub(crate) struct FrontProxy {
    pub(crate) authority: String,
    issued: Issued,
}

impl FrontProxy {
    /// Makes an authority that signs nothing but this.
    fn generate(server: &Server) -> Result<Self, Status> {
        let now = server.clock().now();
        let authority =
            Authority::generate("front-proxy-ca", now, server.random()).map_err(|e| Status::internal(gantry_object::chain(&e)))?;
        let profile = Profile { common_name: FRONT_PROXY.into(), client: true, ..Profile::default() };
        let issued = authority.issue(&profile, LASTS, now, server.random()).map_err(|e| Status::internal(gantry_object::chain(&e)))?;
        Ok(Self { authority: authority.certificate_pem().into(), issued })
    }

    /// What extension servers are told about it, in `kube-system/extension-apiserver-authentication`.
    pub(crate) fn published(&self, client_authority: &str) -> Value {
        serde_json::json!({
            "client-ca-file": client_authority,
            "requestheader-allowed-names": format!("[{FRONT_PROXY:?}]"),
            "requestheader-client-ca-file": self.authority,
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        })
    }
}

/// A group and version that another server serves.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) name: String,
    pub(crate) gv: GroupVersion,
    pub(crate) namespace: String,
    pub(crate) service: String,
    pub(crate) port: u16,
    bundle: Option<String>,
    insecure: bool,
    group_priority: i64,
    version_priority: i64,
    available: bool,
}

impl Remote {
    fn read(object: &Value) -> Option<Self> {
        let spec = &object["spec"];
        let service = spec["service"].as_object()?;
        let text = |member: &str| service.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        Some(Self {
            name: gantry_object::meta::name(object).into(),
            gv: GroupVersion::new(spec["group"].as_str().unwrap_or_default(), spec["version"].as_str().unwrap_or_default()),
            namespace: text("namespace"),
            service: text("name"),
            port: service.get("port").and_then(Value::as_u64).and_then(|p| u16::try_from(p).ok()).unwrap_or(443),
            bundle: decode_bundle(&spec["caBundle"]),
            insecure: spec["insecureSkipTLSVerify"] == true,
            group_priority: spec["groupPriorityMinimum"].as_i64().unwrap_or_default(),
            version_priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            available: conditions.into_iter().any(|c| c["type"] == "Available" && c["status"] == "True"),
        })
    }

    /// Where it says what it serves.
    fn discovery_path(&self) -> String {
        if self.gv.group.is_empty() { format!("/api/{}", self.gv.version) } else { format!("/apis/{}", self.gv) }
    }

    fn callee(&self, shown: &Issued) -> Callee {
        let place = Place::Service { namespace: self.namespace.clone(), name: self.service.clone(), port: self.port, path: "/".into() };
        if self.insecure { Callee::unverified_showing(place, shown) } else { Callee::new(place, self.bundle.as_deref(), Some(shown)) }
    }
}

/// The groups and versions that others serve.
#[derive(Default)]
pub(crate) struct Remotes {
    by_version: BTreeMap<GroupVersion, Arc<Remote>>,
    names: BTreeMap<String, GroupVersion>,
}

impl Follow for Remotes {
    const RESOURCES: &'static [&'static str] = &[API_SERVICES];

    fn apply(&mut self, _: &str, path: &str, object: Option<&Encoded>) {
        if let Some(gv) = self.names.remove(path) {
            self.by_version.remove(&gv);
        }
        let Some(remote) = object.and_then(|o| o.decode::<Value>().ok()).and_then(|o| Remote::read(&o)) else { return };
        self.names.insert(path.into(), remote.gv.clone());
        self.by_version.insert(remote.gv.clone(), Arc::new(remote));
    }
}

/// What aggregation needs beside the store.
#[derive(Default)]
pub(crate) struct Aggregation {
    front_proxy: Mutex<Option<Arc<FrontProxy>>>,
    pub(super) remembered: Remembered,
}

fn plain(code: u16, text: &str) -> Response {
    response(code, "text/plain; charset=utf-8", format!("{text}\n"))
}

impl Server {
    /// This server's identity towards those it passes requests on to; made when it is first asked for.
    pub(crate) fn front_proxy(&self) -> Result<Arc<FrontProxy>, Status> {
        let mut known = self.aggregation().front_proxy.lock().expect("nothing panics while it holds this lock");
        if let Some(known) = &*known {
            return Ok(known.clone());
        }
        let made = Arc::new(FrontProxy::generate(self)?);
        *known = Some(made.clone());
        Ok(made)
    }

    /// Every group and version that another server serves, unless this one does itself.
    pub(crate) fn remotes(&self) -> Vec<Arc<Remote>> {
        let mut follower = self.remotes_follower().lock().expect("nothing panics while it holds this lock");
        let all: Vec<_> = follower.current(self.store()).by_version.values().cloned().collect();
        all
    }

    /// Who serves what a path is about, if it is another server.
    pub(crate) fn remote_for(&self, path: &str, target: &Target) -> Option<Arc<Remote>> {
        let mut follower = self.remotes_follower().lock().expect("nothing panics while it holds this lock");
        let remotes = &follower.current(self.store()).by_version;
        if remotes.is_empty() {
            return None;
        }
        let gv = match target {
            Target::Resource(resource) => GroupVersion::new(&resource.group, &resource.version),
            Target::Other => match path.trim_matches('/').split('/').collect::<Vec<_>>()[..] {
                ["apis", group, version] | ["openapi", "v3", "apis", group, version] => GroupVersion::new(group, version),
                _ => return None,
            },
        };
        remotes.get(&gv).cloned()
    }

    /// Passes a request on to the server of its group, if the caller may make it.
    pub(crate) async fn pass_on(&self, mut request: Request, user: User, what: &Attributes, remote: &Remote) -> Result<Response, Status> {
        self.authorizer().check(self.store(), &user, what)?;
        if !remote.available {
            return Ok(plain(503, "service unavailable"));
        }
        let front_proxy = self.front_proxy()?;
        let callee = remote.callee(&front_proxy.issued);
        let Ok((address, name)) = self.find(&callee.place).await else { return Ok(plain(503, "service unavailable")) };
        let origin = match self.origin(address, &name, &callee) {
            Ok(origin) => origin,
            Err(e) => return Ok(plain(500, &e.0)),
        };
        identify(request.headers_mut(), &user);
        if let Ok(host) = HeaderValue::from_str(&callee.place.authority()) {
            request.headers_mut().insert(http::header::HOST, host);
        }
        let path = request.uri().path_and_query().map_or("/", |p| p.as_str()).to_owned();
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        match forward(&origin, request, self.tasks()).await {
            Ok(answer) if answer.status().is_redirection() && answer.headers().contains_key(http::header::LOCATION) => {
                Ok(plain(502, "the backend attempted to redirect this request, which is not permitted"))
            }
            Ok(answer) => Ok(answer),
            Err(e) => Ok(plain(503, &format!("error trying to reach service: {}", explain(&e)))),
        }
    }
}

/// Says in a request's headers who the caller is, and nothing else of what the caller said of that.
fn identify(headers: &mut http::HeaderMap, user: &User) {
    let own = |name: &str| name.starts_with("x-remote-") || name.starts_with("impersonate-") || name == "authorization";
    let strays: Vec<HeaderName> = headers.keys().filter(|name| own(name.as_str())).cloned().collect();
    for name in strays {
        headers.remove(name);
    }
    let mut say = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    };
    say("x-remote-user", &user.name);
    if !user.uid.is_empty() {
        say("x-remote-uid", &user.uid);
    }
    for group in &user.groups {
        say("x-remote-group", group);
    }
    for (key, values) in &user.extra {
        let name = format!("x-remote-extra-{}", escape(key));
        for value in values {
            say(&name, value);
        }
    }
}

/// A key as part of a header's name, what may not stand there percent-encoded.
fn escape(key: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&c);
    key.bytes().map(|c| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_says_of_themselves_who_they_are() {
        let mut headers = http::HeaderMap::new();
        for (name, value) in [("x-remote-user", "root"), ("x-remote-extra-a", "b"), ("authorization", "Bearer x"), ("accept", "y")] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut user = User::authenticated("ann", &["g"]);
        user.extra.insert("example.org/k".into(), vec!["v".into()]);
        identify(&mut headers, &user);
        let all = |name: &str| headers.get_all(name).iter().map(|v| v.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(all("x-remote-user"), ["ann"]);
        assert_eq!(all("x-remote-group"), ["g", "system:authenticated"]);
        assert_eq!(all("x-remote-extra-example.org%2fk"), ["v"]);
        assert!(all("authorization").is_empty() && all("x-remote-extra-a").is_empty());
        assert_eq!(all("accept"), ["y"]);
    }
}
