//! A group that another server serves, behind an APIService.

use std::sync::Arc;

use gantry_ports::BoxFuture;
use gantry_transport::{Handler, Peer, Request, Response, full};
use http_body_util::BodyExt;

use crate::outside::listen;
use crate::world::{Http, Value, Who, World, json};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const GROUP: &str = "/apis/wardle.example.com/v1alpha1";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Serves flunders, and says who asked for them.
struct Wardle;

fn text(request: &Request, name: &str) -> Vec<String> {
    request.headers().get_all(name).iter().map(|v| v.to_str().unwrap().to_owned()).collect()
}

impl Handler for Wardle {
    fn handle(self: Arc<Self>, request: Request, peer: Peer) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let known = peer.certificate.as_ref().is_some_and(|c| c.common_name == "front-proxy-client");
            let path = request.uri().path().to_owned();
            let query = request.uri().query().unwrap_or_default().to_owned();
            let (user, groups, stray) =
                (text(&request, "x-remote-user"), text(&request, "x-remote-group"), text(&request, "authorization"));
            let method = request.method().to_string();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let (code, answer) = match path.as_str() {
                _ if !known => (401, json!({"message": "who are you"})),
                GROUP => (
                    200,
                    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1", "resources": [
                    {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get", "list"], "shortNames": ["fl"]},
                    {"name": "flunders/status", "namespaced": true, "kind": "Flunder", "verbs": ["get"]}]}),
                ),
                "/openapi/v3" => (
                    200,
                    json!({"paths": {"apis/wardle.example.com/v1alpha1": {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=X"}}}),
                ),
                "/openapi/v2" => {
                    (200, json!({"paths": {format!("{GROUP}/flunders"): {}, "/healthz": {}}, "definitions": {"com.example.Flunder": {}}}))
                }
                path if path.starts_with("/openapi/v3/") => (200, json!({"openapi": "3.0.0", "info": {"title": "wardle"}})),
                path if path.starts_with(GROUP) => (
                    200,
                    json!({"method": method, "path": path, "query": query, "user": user, "groups": groups,
                    "authorization": stray, "body": String::from_utf8_lossy(&body)}),
                ),
                _ => (404, json!({})),
            };
            let mut response = http::Response::new(full(answer.to_string()));
            *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
            response
        })
    }
}

fn api_service(bundle: &str, service: &str) -> Value {
    json!({"metadata": {"name": "v1alpha1.wardle.example.com"}, "spec": {"group": "wardle.example.com", "version": "v1alpha1",
        "groupPriorityMinimum": 2000, "versionPriority": 200, "caBundle": bundle, "service": {"namespace": "default", "name": service, "port": 443}}})
}

/// The condition of the group, once it says this reason.
async fn condition(world: &World, admin: &mut Http, reason: &str) -> Value {
    let mut last = Value::Null;
    for _ in 0..200 {
        world.settle().await;
        last = admin.get(&format!("{SERVICES}/v1alpha1.wardle.example.com")).await.expect(200)["status"]["conditions"][0].clone();
        if last["reason"] == reason {
            return last;
        }
    }
    panic!("never {reason}: {last}");
}

#[tokio::test]
async fn a_group_of_another_server_is_discovered_served_and_lost() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let (_, bundle) = listen(&world, &mut admin, "wardle", Arc::new(Wardle)).await;
    admin.post(SERVICES, &api_service(&bundle, "wardle")).await.expect(201);
    let said = condition(&world, &mut admin, "Passed").await;
    assert_eq!((&said["status"], &said["message"]), (&json!("True"), &json!("all checks passed")));

    let groups = admin.get("/apis").await.expect(200);
    assert!(groups["groups"].as_array().unwrap().iter().any(|g| g["name"] == "wardle.example.com"));
    let group = admin.get("/apis/wardle.example.com").await.expect(200);
    assert_eq!((&group["kind"], &group["preferredVersion"]["version"]), (&json!("APIGroup"), &json!("v1alpha1")));
    assert_eq!(admin.get(GROUP).await.expect(200)["resources"][0]["kind"], "Flunder");
    let all = admin.get_as("/apis", AGGREGATED).await.expect(200);
    let own = |all: &Value| {
        all["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == "wardle.example.com").unwrap()["versions"][0].clone()
    };
    assert_eq!(
        (&own(&all)["freshness"], &own(&all)["resources"][0]["subresources"][0]["subresource"]),
        (&json!("Current"), &json!("status"))
    );
    assert!(admin.get("/openapi/v3").await.expect(200)["paths"]["apis/wardle.example.com/v1alpha1"].is_object());
    assert_eq!(admin.get("/openapi/v3/apis/wardle.example.com/v1alpha1").await.expect(200)["info"]["title"], "wardle");
    let v2 = admin.get("/openapi/v2").await.expect(200);
    assert!(v2["paths"][format!("{GROUP}/flunders")].is_object() && v2["definitions"]["com.example.Flunder"].is_object());
    assert!(v2["paths"].get("/healthz").is_none() && v2["paths"]["/api/v1/pods"].is_object());

    let flunders = format!("{GROUP}/namespaces/default/flunders?limit=5");
    let stray = [("x-remote-user", "root"), ("content-type", "application/json"), ("authorization", "Basic x")];
    let echo = admin.send("POST", &flunders, &stray, "{\"a\":1}").await.expect(200);
    assert_eq!((&echo["method"], &echo["body"], &echo["query"]), (&json!("POST"), &json!("{\"a\":1}"), &json!("limit=5")));
    assert_eq!((&echo["user"], &echo["authorization"]), (&json!(["kubernetes-admin"]), &json!([])));
    assert_eq!(echo["groups"], json!(["system:masters", "system:authenticated"]));
    let mut ann = world.http(Who::Certificate("ann", "devs")).await;
    ann.get(&flunders).await.refused(403, "Forbidden", "cannot list resource \"flunders\" in API group \"wardle.example.com\"");

    admin.delete("/api/v1/namespaces/default/services/wardle", &Value::Null).await.expect(200);
    let said = condition(&world, &mut admin, "ServiceNotFound").await;
    assert_eq!((&said["status"], &said["message"]), (&json!("False"), &json!("service/wardle in \"default\" is not present")));
    let away = admin.get(&flunders).await;
    assert_eq!((away.code, &away.body[..]), (503, &b"service unavailable\n"[..]));
    assert_eq!(own(&admin.get_as("/apis", AGGREGATED).await.expect(200))["freshness"], "Stale");
    admin.get("/api/v1/pods").await.expect(200);
    admin.delete(&format!("{SERVICES}/v1alpha1.wardle.example.com"), &Value::Null).await.expect(200);
    admin.get("/apis/wardle.example.com").await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn groups_served_here_have_api_services_of_their_own() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    world.settle().await;
    let apps = admin.get(&format!("{SERVICES}/v1.apps")).await.expect(200);
    assert_eq!((&apps["status"]["conditions"][0]["reason"], &apps["spec"]["service"]), (&json!("Local"), &Value::Null));
    assert_eq!(apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    admin.get(&format!("{SERVICES}/v1.")).await.expect(200);
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let definition = json!({"metadata": {"name": "foos.example.org"}, "spec": {"group": "example.org", "scope": "Cluster",
        "names": {"plural": "foos", "kind": "Foo"}, "versions": [version]}});
    admin.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.expect(201);
    world.settle().await;
    admin.get(&format!("{SERVICES}/v1.example.org")).await.expect(200);
    admin.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/foos.example.org", &Value::Null).await.expect(200);
    world.settle().await;
    admin.get(&format!("{SERVICES}/v1.example.org")).await.refused(404, "NotFound", "");
}
