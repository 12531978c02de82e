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
        let (service, port) = self.service_port(namespace, name, &|p| p["port"].as_u64() == Some(port.into()), &port.to_string())?;
        if service["spec"]["type"] == "ExternalName" {
            let host = service["spec"]["externalName"].as_str().unwrap_or_default().to_owned();
            return Ok(Backend { host, port: number(&port["port"]).unwrap_or_default() });
        }
        self.any(name, self.ready_endpoints(namespace, name, port["name"].as_str().unwrap_or_default(), &|_, _| true))
    }

    /// The same for the port that `is` tells (`called` is what errors call it), and only what is a pod as `is_pod` has it by address and name.
    pub(crate) fn pod_behind(
        &self,
        namespace: &str,
        name: &str,
        is: &dyn Fn(&Value) -> bool,
        called: &str,
        is_pod: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Backend, ServiceError> {
        let (_, port) = self.service_port(namespace, name, is, called)?;
        let fits = |ip: &str, target: &Value| target["kind"] == "Pod" && is_pod(ip, target["name"].as_str().unwrap_or_default());
        self.any(name, self.ready_endpoints(namespace, name, port["name"].as_str().unwrap_or_default(), &fits))
    }

    fn any(&self, name: &str, found: Vec<Backend>) -> Result<Backend, ServiceError> {
        let chosen = usize::try_from(self.random().below(found.len().max(1) as u64)).unwrap_or_default();
        found.into_iter().nth(chosen).ok_or_else(|| ServiceError::NoEndpoints(name.into()))
    }

    fn service_port(&self, namespace: &str, name: &str, is: &dyn Fn(&Value) -> bool, called: &str) -> Result<(Value, Value), ServiceError> {
        let Some(service) = self.store().get(&Key::new(SERVICES, namespace, name)) else {
            return Err(ServiceError::NotFound(name.into()));
        };
        let service = tree(&service);
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let port = ports.into_iter().find(|p| is(p)).cloned();
        let port = port.ok_or_else(|| ServiceError::NoPort { name: name.into(), port: called.into() })?;
        Ok((service, port))
    }

    /// Whether a Service has any slices, whatever is in them.
    pub(crate) fn has_slices(&self, namespace: &str, service: &str) -> bool {
        let label = format!("\"kubernetes.io/service-name\":\"{service}\"");
        self.store().snapshot().list(SLICES, Some(namespace), None).any(|item| mentions(item.object, &label))
    }

    fn ready_endpoints(&self, namespace: &str, service: &str, port: &str, fits: &dyn Fn(&str, &Value) -> bool) -> Vec<Backend> {
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
            let ready = ready.filter_map(|e| Some((e["addresses"][0].as_str()?, &e["targetRef"])));
            found.extend(ready.filter(|(ip, target)| fits(ip, target)).map(|(ip, _)| Backend { host: ip.into(), port }));
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
