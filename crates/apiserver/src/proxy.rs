//! Proxies to pods, services and nodes: any method, any path, upgrades included.

use std::net::{IpAddr, SocketAddr};

use gantry_object::{GroupResource, Status, Value};
use gantry_transport::{Origin, Request, Response, Target, forward};
use http::{HeaderValue, Method, Uri};

use crate::admission;
use crate::call::Call;
use crate::encode::response;
use crate::outside::{Callee, Place, explain};
use crate::path::Query;
use crate::server::Server;

/// What the name of a proxied object holds: `name`, `name:port` or `scheme:name:port`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named<'a> {
    scheme: &'a str,
    pub(crate) name: &'a str,
    port: &'a str,
}

impl<'a> Named<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme @ ("" | "http" | "https"), name, port] => (scheme, name, port),
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { scheme, name, port })
    }
}

/// The other end of a proxy.
struct Far {
    origin: Origin,
    /// As URLs have it, for redirects that lead back there.
    authority: String,
}

impl Server {
    /// Passes a request on to what a proxy's object stands for. It is authorized already.
    pub(crate) async fn proxy(&self, call: &Call, mut request: Request, query: &Query) -> Result<Response, Status> {
        let uri = request.uri().clone();
        let (prefix, rest) = split(uri.path(), call.kind.namespaced);
        let upgrades = request.headers().contains_key(http::header::UPGRADE);
        if rest.is_none() && !upgrades && matches!(*request.method(), Method::GET | Method::HEAD) {
            return Ok(with_slash(&uri));
        }
        let Some(named) = Named::parse(&call.object.name) else {
            let what = call.kind.singular.as_str();
            return Err(Status::bad_request(format!("invalid {what} request {:?}", call.object.name)));
        };
        let far = match call.kind.kind.as_str() {
            "Pod" => self.pod_end(call, &named)?,
            "Service" => self.service_end(call, &named)?,
            _ => self.node_end(&named)?,
        };
        admission::connect(self, call, query).await?;
        let host = request.headers().get(http::header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default().to_owned();
        let path = format!("/{}{}", rest.unwrap_or_default(), uri.query().map(|q| format!("?{q}")).unwrap_or_default());
        *request.uri_mut() = path.parse::<Uri>().map_err(|_| Status::bad_request("the request's path is malformed"))?;
        let headers = request.headers_mut();
        // Who the caller is stays here.
        headers.remove(http::header::AUTHORIZATION);
        for (name, value) in [("x-forwarded-uri", uri.path()), ("x-forwarded-host", &host), ("x-forwarded-proto", "https")] {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(http::HeaderName::from_static(name), value);
            }
        }
        let host = HeaderValue::from_str(&far.authority).map_err(|_| Status::bad_request("address not allowed"))?;
        headers.insert(http::header::HOST, host);
        let answer = forward(&far.origin, request, self.tasks()).await;
        let mut answer = answer.map_err(|e| Status::unavailable(format!("error trying to reach service: {}", explain(&e))))?;
        if let Some(location) = answer.headers().get(http::header::LOCATION).and_then(|l| l.to_str().ok())
            && let Ok(value) = HeaderValue::from_str(&relocated(location, prefix, &far.authority))
        {
            answer.headers_mut().insert(http::header::LOCATION, value);
        }
        Ok(answer)
    }

    fn pod_end(&self, call: &Call, named: &Named<'_>) -> Result<Far, Status> {
        let namespace = &call.object.namespace;
        let missing = || Status::not_found(&GroupResource::new("", "pods"), named.name);
        let pod = self.stored_tree("pods", namespace, named.name).ok_or_else(missing)?;
        let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
        let first = containers.flat_map(|c| c["ports"].as_array().into_iter().flatten()).find_map(|p| p["containerPort"].as_u64());
        let default = if named.scheme == "https" { 443 } else { 80 };
        let port = match named.port {
            "" => first.and_then(|p| u16::try_from(p).ok()).unwrap_or(default),
            given => given.parse().map_err(|_| Status::bad_request(format!("invalid pod request {:?}", call.object.name)))?,
        };
        let ip = pod_addresses(&pod).into_iter().next();
        let ip = ip.filter(is_reachable).ok_or_else(|| Status::bad_request("address not allowed"))?;
        self.plain_end(named.scheme, SocketAddr::new(ip, port))
    }

    fn service_end(&self, call: &Call, named: &Named<'_>) -> Result<Far, Status> {
        let namespace = &call.object.namespace;
        let unavailable = |e: crate::outside::ServiceError| match e {
            crate::outside::ServiceError::NotFound(name) => Status::not_found(&GroupResource::new("", "services"), &name),
            other => Status::unavailable(other.to_string()),
        };
        let number: Option<u16> = named.port.parse().ok();
        let is = |p: &Value| match number {
            Some(number) => p["port"].as_u64() == Some(number.into()),
            None => p["name"].as_str().unwrap_or_default() == named.port,
        };
        let pods = |ip: &str, pod: &str| {
            let pod = self.stored_tree("pods", namespace, pod);
            pod.is_some_and(|p| ip.parse().is_ok_and(|ip: IpAddr| pod_addresses(&p).contains(&ip)))
        };
        let backend = self.pod_behind(namespace, named.name, &is, named.port, &pods).map_err(unavailable)?;
        let ip = backend.host.parse().ok().filter(is_reachable).ok_or_else(|| Status::bad_request("address not allowed"))?;
        self.plain_end(named.scheme, SocketAddr::new(ip, backend.port))
    }

    fn node_end(&self, named: &Named<'_>) -> Result<Far, Status> {
        let target = self.node_target(named.name)?;
        let own = target.address.port().to_string();
        if named.port.is_empty() || named.port == own {
            let authority = target.authority();
            let origin = self.node_origin(target).ok_or_else(|| Status::unavailable("this server has no way to nodes' own APIs"))?;
            return Ok(Far { origin, authority });
        }
        let port = named.port.parse().map_err(|_| Status::bad_request(format!("invalid node request {:?}", named.name)))?;
        let ip = Some(target.address.ip()).filter(is_reachable).ok_or_else(|| Status::bad_request("address not allowed"))?;
        self.plain_end(named.scheme, SocketAddr::new(ip, port))
    }

    /// An address without anybody to vouch for it.
    fn plain_end(&self, scheme: &str, address: SocketAddr) -> Result<Far, Status> {
        let (host, port) = (address.ip().to_string(), Some(address.port()));
        let place = Place::Url { https: scheme == "https", host: host.clone(), port, path: "/".into() };
        let authority = place.authority();
        let origin = self.origin(address, &host, &Callee::unverified(place)).map_err(|e| Status::internal(e.0))?;
        Ok(Far { origin, authority })
    }

    fn node_origin(&self, target: Target) -> Option<Origin> {
        let access = self.node_access()?;
        Some(Origin::new(target, Some(access.tls.clone()), access.sockets.clone(), self.tasks().clone()))
    }
}

fn pod_addresses(pod: &Value) -> Vec<IpAddr> {
    let all = pod["status"]["podIPs"].as_array().into_iter().flatten().map(|ip| &ip["ip"]);
    all.chain([&pod["status"]["podIP"]]).filter_map(|ip| ip.as_str()?.parse().ok()).collect()
}

/// Whether an address is one that others may be led to: not this machine's own, and none of those that mean many or none.
fn is_reachable(ip: &IpAddr) -> bool {
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local)
}

/// A path up to and with `proxy`, and what follows its slash; `None` when there is none.
fn split(path: &str, namespaced: bool) -> (&str, Option<&str>) {
    // /api/v1/namespaces/NS/pods/NAME/proxy and /api/v1/nodes/NAME/proxy
    let slashes = if namespaced { 8 } else { 6 };
    match path.match_indices('/').nth(slashes - 1) {
        Some((at, _)) => (&path[..at], Some(&path[at + 1..])),
        None => (path, None),
    }
}

/// Sends a browser to where its relative links work.
fn with_slash(uri: &Uri) -> Response {
    let location = format!("{}/{}", uri.path(), uri.query().map(|q| format!("?{q}")).unwrap_or_default());
    let mut redirect = response(301, "text/plain; charset=utf-8", "");
    if let Ok(value) = HeaderValue::from_str(&location) {
        redirect.headers_mut().insert(http::header::LOCATION, value);
    }
    redirect
}

/// Where a redirect leads, as the client sees it: what leads to the same server leads through the proxy.
fn relocated(location: &str, prefix: &str, authority: &str) -> String {
    let rest = match location.split_once("://") {
        Some((_, rest)) => match rest.strip_prefix(authority) {
            Some(path) if path.is_empty() || path.starts_with('/') => path,
            _ => return location.into(),
        },
        None if location.starts_with("//") || !location.starts_with('/') => return location.into(),
        None => location,
    };
    if rest.starts_with(prefix) { rest.into() } else { format!("{prefix}{}", if rest.is_empty() { "/" } else { rest }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_schemes_and_ports() {
        let parse = |text| Named::parse(text).map(|n| (n.scheme, n.name, n.port));
        assert_eq!(parse("p"), Some(("", "p", "")));
        assert_eq!(parse("p:80"), Some(("", "p", "80")));
        assert_eq!(parse("https:p:"), Some(("https", "p", "")));
        assert_eq!(parse("http:p:web"), Some(("http", "p", "web")));
        for bad in ["", ":80", "ftp:p:1", "a:b:c:d"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn paths_are_split_after_the_proxy() {
        let pod = "/api/v1/namespaces/n/pods/p/proxy";
        assert_eq!(split(pod, true), (pod, None));
        assert_eq!(split(&format!("{pod}/"), true), (pod, Some("")));
        assert_eq!(split(&format!("{pod}/a%2Fb/c"), true), (pod, Some("a%2Fb/c")));
        assert_eq!(split("/api/v1/nodes/x/proxy/logs/", false), ("/api/v1/nodes/x/proxy", Some("logs/")));
    }

    #[test]
    fn redirects_lead_through_the_proxy() {
        let see = |location| relocated(location, "/p/proxy", "10.0.0.1:80");
        assert_eq!(see("/next"), "/p/proxy/next");
        assert_eq!(see("http://10.0.0.1:80/next?q=1"), "/p/proxy/next?q=1");
        assert_eq!(see("http://10.0.0.1:80"), "/p/proxy/");
        assert_eq!(see("http://10.0.0.1:8080/x"), "http://10.0.0.1:8080/x");
        assert_eq!(see("https://example.com/x"), "https://example.com/x");
        assert_eq!(see("next"), "next");
        assert_eq!(see("/p/proxy/x"), "/p/proxy/x");
    }

    #[test]
    fn nobody_is_led_to_this_machine() {
        for (ip, reachable) in [
            ("10.0.0.1", true),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("0.0.0.0", false),
            ("::1", false),
            ("fe80::1", false),
            ("224.0.0.1", false),
        ] {
            assert_eq!(is_reachable(&ip.parse().unwrap()), reachable, "{ip}");
        }
    }
}
