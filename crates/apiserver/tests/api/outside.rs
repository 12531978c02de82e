//! A server that the API server calls: HTTPS behind a Service, with answers that the test makes up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use gantry_pki::{Authority, Profile};
use gantry_ports::{BoxFuture, Clock};
use gantry_transport::{Handler, Peer, Request, Response, ServerTls, ServingCertificate, full, serve};
use http_body_util::BodyExt;

use crate::world::{Http, Value, World, json};

/// What a test's server answers to a request's path and JSON body: code and body. `None`: nothing, ever.
type Answer = dyn Fn(&str, &Value) -> Option<(u16, String)> + Send + Sync;

/// A server of the test's own.
pub(crate) struct Outside {
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    /// Its authority's certificate, as client configurations hold it.
    pub(crate) bundle: String,
    /// The Service that leads to it, in the default namespace.
    service: String,
}

struct Answering {
    calls: Arc<Mutex<Vec<(String, Value)>>>,
    answer: Box<Answer>,
}

impl Handler for Answering {
    fn handle(self: Arc<Self>, request: Request, _: Peer) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap_or_default();
            let path_only = path.split('?').next().unwrap_or_default().to_owned();
            self.calls.lock().unwrap().push((path, body.clone()));
            let Some((code, text)) = (self.answer)(&path_only, &body) else { return std::future::pending().await };
            let mut response = http::Response::new(full(text));
            *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
            response
        })
    }
}

impl Outside {
    /// Starts a server behind a new Service of this name.
    pub(crate) async fn start(
        world: &World,
        admin: &mut Http,
        service: &str,
        answer: impl Fn(&str, &Value) -> Option<(u16, String)> + Send + Sync + 'static,
    ) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let (_, bundle) = listen(world, admin, service, Arc::new(Answering { calls: calls.clone(), answer: Box::new(answer) })).await;
        Self { calls, bundle, service: service.into() }
    }

    /// How webhooks are told to find it.
    pub(crate) fn client_config(&self, path: &str) -> Value {
        json!({"service": {"namespace": "default", "name": self.service, "path": path}, "caBundle": self.bundle})
    }

    /// The bodies sent to it since this was last called.
    pub(crate) fn told(&self) -> Vec<Value> {
        self.calls.lock().unwrap().drain(..).map(|(_, body)| body).collect()
    }

    /// The paths asked for since either was last called.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.calls.lock().unwrap().drain(..).map(|(path, _)| path).collect()
    }
}

/// Serves behind a new Service; returns the address and the bundle that vouches for the certificate. Clients may show a certificate of the front proxy.
pub(crate) async fn listen(world: &World, admin: &mut Http, service: &str, handler: Arc<impl Handler>) -> (SocketAddr, String) {
    let known = admin.get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication").await.expect(200);
    let clients = known["data"]["requestheader-client-ca-file"].as_str().unwrap().to_owned();
    let listener = world.sockets.bind(SocketAddr::from(([10, 244, 9, 9], 0))).await.unwrap();
    let address = listener.local_addr().unwrap();
    // TLS reads the machine's own clock: what is issued at the world's start is good for decades.
    let now = world.clock.now();
    let authority = Authority::generate("outside", now, &*world.random).unwrap();
    let profile = Profile { dns_names: vec![format!("{service}.default.svc")], server: true, ..Profile::default() };
    let issued = authority.issue(&profile, Duration::from_secs(1 << 30), now, &*world.random).unwrap();
    let tls = ServerTls::new(ServingCertificate::new(&issued).unwrap(), &clients).unwrap();
    serve(listener, tls, &world.tasks, handler);
    let ports = json!([{"port": 443, "targetPort": address.port()}]);
    let object = json!({"metadata": {"name": service}, "spec": {"ports": ports, "selector": {"app": service}}});
    admin.post("/api/v1/namespaces/default/services", &object).await.expect(201);
    let slice = json!({"metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.244.9.8"], "conditions": {"ready": false}}, {"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"port": address.port(), "protocol": "TCP"}]});
    admin.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await.expect(201);
    (address, base64::engine::general_purpose::STANDARD.encode(authority.certificate_pem()))
}
