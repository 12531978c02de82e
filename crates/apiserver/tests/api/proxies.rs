//! Proxies to pods and services.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;

use crate::world::{Http, PODS, Value, Who, World, json};

async fn echo(request: http::Request<hyper::body::Incoming>) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let header = |name: &str| head.headers.get(name).map(|v| v.to_str().unwrap().to_owned());
    let said = json!({"method": head.method.as_str(), "uri": head.uri.to_string(), "body": String::from_utf8_lossy(&body),
        "authorization": header("authorization"), "forwarded": header("x-forwarded-uri"), "host": header("host")});
    let mut response = http::Response::new(Full::new(Bytes::from(said.to_string())));
    if head.uri.path() == "/away" {
        *response.status_mut() = http::StatusCode::FOUND;
        response.headers_mut().insert("location", "/next".parse().unwrap());
    }
    Ok(response)
}

/// A pod that runs, with a server in it, and a Service that leads there.
async fn scene() -> (World, Http) {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut listener = world.sockets.bind(SocketAddr::from(([10, 244, 0, 5], 8080))).await.unwrap();
    let tasks = world.tasks.clone();
    world.tasks.spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            tasks.spawn(async move {
                // Clients may go away at any time.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(connection), hyper::service::service_fn(echo))
                    .await;
            });
        }
    });
    let pod = json!({"metadata": {"name": "p", "labels": {"app": "p"}}, "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 8080}]}]}});
    admin.post(PODS, &pod).await.expect(201);
    let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}]}});
    admin.patch(&format!("{PODS}/p/status"), "merge", &status).await.expect(200);
    let service =
        json!({"metadata": {"name": "s"}, "spec": {"selector": {"app": "p"}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]}});
    admin.post("/api/v1/namespaces/default/services", &service).await.expect(201);
    let endpoint = |ip: &str, pod: &str| json!({"addresses": [ip], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": pod, "namespace": "default"}});
    let slice = json!({"metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}}, "addressType": "IPv4",
        "endpoints": [endpoint("10.244.0.5", "p"), endpoint("10.9.9.9", "p"), endpoint("10.244.0.5", "q")], "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}]});
    admin.post("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice).await.expect(201);
    (world, admin)
}

#[tokio::test]
async fn every_method_and_path_goes_through() {
    let (_world, mut admin) = scene().await;
    for target in ["pods/p", "pods/p:8080", "pods/http:p:8080", "services/s:web", "services/s:80", "services/http:s:web"] {
        let base = format!("/api/v1/namespaces/default/{target}/proxy");
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let said =
                admin.send(method, &format!("{base}/a%2Fb/c?x=1&command=y"), &[("content-type", "text/odd")], "body").await.expect(200);
            assert_eq!((&said["method"], &said["uri"], &said["body"]), (&json!(method), &json!("/a%2Fb/c?x=1&command=y"), &json!("body")));
            assert_eq!((&said["forwarded"], &said["host"]), (&json!(format!("{base}/a%2Fb/c")), &json!("10.244.0.5:8080")));
        }
        let moved = admin.get(&format!("{base}?q=1")).await;
        assert_eq!((moved.code, moved.header("location")), (301, format!("{base}/?q=1").as_str()));
        assert_eq!(admin.post(&base, &Value::Null).await.expect(200)["uri"], "/");
        let away = admin.get(&format!("{base}/away")).await;
        assert_eq!((away.code, away.header("location")), (302, format!("{base}/next").as_str()));
    }
}

#[tokio::test]
async fn proxies_lead_to_pods_and_nowhere_else() {
    let (world, mut admin) = scene().await;
    let token = admin.post("/api/v1/namespaces/default/serviceaccounts/default/token", &json!({"spec": {}})).await.expect(201);
    let mut nobody = world.http(Who::Token(token["status"]["token"].as_str().unwrap())).await;
    nobody.get(&format!("{PODS}/p/proxy/")).await.refused(403, "Forbidden", "cannot get resource \"pods/proxy\"");
    nobody.post(&format!("{PODS}/p/proxy/"), &Value::Null).await.refused(403, "Forbidden", "cannot create resource \"pods/proxy\"");
    admin.get(&format!("{PODS}/none/proxy/")).await.refused(404, "NotFound", "");
    admin.get(&format!("{PODS}/p:1/proxy/")).await.refused(
        503,
        "ServiceUnavailable",
        "error trying to reach service: dial tcp 10.244.0.5:1: connect: connection refused",
    );
    let services = "/api/v1/namespaces/default/services";
    admin.get(&format!("{services}/s:81/proxy/")).await.refused(503, "ServiceUnavailable", "no service port 81 found for service \"s\"");
    // Whoever may say where a pod is does not lead the server to itself.
    let status = json!({"status": {"podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}});
    admin.patch(&format!("{PODS}/p/status"), "merge", &status).await.expect(200);
    admin.get(&format!("{PODS}/p/proxy/")).await.refused(400, "BadRequest", "address not allowed");
    admin.get(&format!("{services}/s:web/proxy/")).await.refused(503, "ServiceUnavailable", "no endpoints available for service \"s\"");
}
