//! Where a server is: a URL, or a port of a Service with a path.

use std::net::SocketAddr;

use gantry_object::Value;

use super::CallError;
use crate::server::Server;

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// By a URL.
    Url { https: bool, host: String, port: Option<u16>, path: String },
    /// By a Service.
    Service { namespace: String, name: String, port: u16, path: String },
    /// By nothing that makes sense; the reason.
    Nowhere(String),
}

impl Place {
    /// What a `clientConfig` names.
    pub(crate) fn of_client_config(config: &Value) -> Self {
        if config["service"].is_object() {
            return Self::of_service(&config["service"]);
        }
        match config["url"].as_str() {
            Some(url) => Self::of_url(url),
            None => Self::Nowhere("webhook configuration must have either service or URL".into()),
        }
    }

    /// What a reference to a Service names.
    pub(crate) fn of_service(service: &Value) -> Self {
        let text = |member: &str| service[member].as_str().unwrap_or_default().to_owned();
        let port = service["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(443);
        let mut path = text("path");
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        Self::Service { namespace: text("namespace"), name: text("name"), port, path }
    }

    fn of_url(url: &str) -> Self {
        let Ok(parsed) = url.parse::<http::Uri>() else { return Self::Nowhere(format!("Unparsable URL: parse {url:?}: invalid URL")) };
        let (Some(scheme), Some(host)) = (parsed.scheme_str(), parsed.host()) else {
            return Self::Nowhere(format!("Unparsable URL: parse {url:?}: host must be specified"));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self::Url { https: scheme != "http", host, port: parsed.port_u16(), path: parsed.path().into() }
    }

    pub(crate) fn is_https(&self) -> bool {
        !matches!(self, Self::Url { https: false, .. })
    }

    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Url { path, .. } | Self::Service { path, .. } => path,
            Self::Nowhere(_) => "/",
        }
    }

    /// What its certificate must name.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Url { host, .. } => host.clone(),
            Self::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
            Self::Nowhere(_) => String::new(),
        }
    }

    /// Name and port, as the Host header has them.
    pub(crate) fn authority(&self) -> String {
        let name = self.name();
        let name = if name.contains(':') { format!("[{name}]") } else { name };
        match self {
            Self::Url { port, .. } => port.map_or_else(|| name.clone(), |port| format!("{name}:{port}")),
            Self::Service { port, .. } => format!("{name}:{port}"),
            Self::Nowhere(_) => name,
        }
    }

    /// The URL without its path.
    pub(crate) fn base(&self) -> String {
        format!("{}://{}", if self.is_https() { "https" } else { "http" }, self.authority())
    }
}

impl Server {
    /// The address of a place now, and the name that its certificate must have.
    pub(crate) async fn find(&self, place: &Place) -> Result<(SocketAddr, String), CallError> {
        match place {
            Place::Service { namespace, name, port, .. } => {
                let backend = self.backend(namespace, name, *port).map_err(|e| CallError(e.to_string()))?;
                Ok((self.look_up(&backend.host, backend.port).await?, place.name()))
            }
            Place::Url { https, host, port, .. } => {
                let port = port.unwrap_or(if *https { 443 } else { 80 });
                Ok((self.look_up(host, port).await?, host.clone()))
            }
            Place::Nowhere(why) => Err(CallError(why.clone())),
        }
    }

    /// The first address of a host.
    async fn look_up(&self, host: &str, port: u16) -> Result<SocketAddr, CallError> {
        if let Ok(address) = host.parse() {
            return Ok(SocketAddr::new(address, port));
        }
        let found = gantry_transport::resolve(host, self.clock(), self.random()).await;
        let no_such = |why: &str| CallError(format!("dial tcp: lookup {host}: {why}"));
        let first = found.map_err(|e| no_such(&e.to_string()))?.into_iter().next().ok_or_else(|| no_such("no such host"))?;
        Ok(SocketAddr::new(first, port))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn places_are_read_from_client_configs() {
        let service = json!({"service": {"namespace": "n", "name": "s", "path": "hook"}});
        let place = Place::of_client_config(&service);
        assert_eq!((place.base().as_str(), place.path(), place.is_https()), ("https://s.n.svc:443", "/hook", true));
        let place = Place::of_client_config(&json!({"url": "https://[::1]:8443/a/b"}));
        assert_eq!((place.base().as_str(), place.path(), place.name().as_str()), ("https://[::1]:8443", "/a/b", "::1"));
        assert_eq!(Place::of_client_config(&json!({"url": "https://h"})).authority(), "h");
        for bad in [json!({}), json!({"url": "::"}), json!({"url": "/path"})] {
            assert!(matches!(Place::of_client_config(&bad), Place::Nowhere(_)), "{bad}");
        }
    }
}
