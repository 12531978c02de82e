//! From a Service to one of its endpoints that is ready.

use gantry_object::{Encoded, Value};
use gantry_store::Key;

use crate::server::Server;
use crate::verbs::tree;

const SERVICES: &str = "services";
const SLICES: &str = "endpointslices.discovery.k8s.io";

/// Where a Service leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    /// An address, or the name that an ExternalName Service stands for.
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Why a Service leads nowhere, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("service {0:?} not found")]
    NotFound(String),
    #[error("no service port {port} found for service {name:?}")]
    NoPort { name: String, port: String },
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
}

impl Server {
    /// An endpoint of a port of a Service, any of those that are ready.
    pub(crate) fn backend(&self, namespace: &str, name: &str, port: u16) -> Result<Backend, ServiceError> {
        self.backend_of(namespace, name, &|p| p["port"].as_u64() == Some(port.into()), &port.to_string())
    }

    /// The same for the port that `is` tells; `called` is what errors call it.
    pub(crate) fn backend_of(
        &self,
        namespace: &str,
        name: &str,
        is: &dyn Fn(&Value) -> bool,
        called: &str,
    ) -> Result<Backend, ServiceError> {
        let Some(service) = self.store().get(&Key::new(SERVICES, namespace, name)) else {
            return Err(ServiceError::NotFound(name.into()));
        };
        let service = tree(&service);
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let port = ports.into_iter().find(|p| is(p)).ok_or_else(|| ServiceError::NoPort { name: name.into(), port: called.into() })?;
        if service["spec"]["type"] == "ExternalName" {
            let host = service["spec"]["externalName"].as_str().unwrap_or_default().to_owned();
            return Ok(Backend { host, port: number(&port["port"]).unwrap_or_default() });
        }
        let ready = self.ready_endpoints(namespace, name, port["name"].as_str().unwrap_or_default());
        let chosen = usize::try_from(self.random().below(ready.len().max(1) as u64)).unwrap_or_default();
        ready.into_iter().nth(chosen).ok_or_else(|| ServiceError::NoEndpoints(name.into()))
    }

    fn ready_endpoints(&self, namespace: &str, service: &str, port: &str) -> Vec<Backend> {
        let snapshot = self.store().snapshot();
        // Stored objects are written without spaces: few others are decoded in vain.
        let label = format!("\"kubernetes.io/service-name\":\"{service}\"");
        let slices = snapshot.list(SLICES, Some(namespace), None).filter(|item| mentions(item.object, &label));
        let mut found = Vec::new();
        for slice in slices.map(|item| tree(item.object)) {
            if slice["metadata"]["labels"]["kubernetes.io/service-name"] != service {
                continue;
            }
            let ports = slice["ports"].as_array().into_iter().flatten();
            let Some(port) = ports.into_iter().find(|p| p["name"].as_str().unwrap_or_default() == port).and_then(|p| number(&p["port"]))
            else {
                continue;
            };
            let endpoints = slice["endpoints"].as_array().into_iter().flatten();
            let ready = endpoints.filter(|e| e["conditions"]["ready"] != false);
            found.extend(ready.filter_map(|e| Some(Backend { host: e["addresses"][0].as_str()?.to_owned(), port })));
        }
        found
    }
}

fn number(port: &Value) -> Option<u16> {
    port.as_u64().and_then(|p| u16::try_from(p).ok())
}

fn mentions(object: &Encoded, text: &str) -> bool {
    object.body.windows(text.len()).any(|w| w == text.as_bytes())
}
