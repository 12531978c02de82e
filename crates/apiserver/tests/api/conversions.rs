//! Custom resources whose definition names a webhook for conversion.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::outside::Outside;
use crate::world::{Http, Value, World, json};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn tabs(version: &str) -> String {
    format!("/apis/stable.example.com/{version}/namespaces/default/crontabs")
}

/// Versions differ: v1 has `hostPort`, v2 has `host` and `port`.
fn convert(object: &Value, wanted: &str) -> Value {
    let mut object = object.clone();
    let from = object["apiVersion"].as_str().unwrap().to_owned();
    object["apiVersion"] = json!(wanted);
    match (from.ends_with("v1"), wanted.ends_with("v2")) {
        (true, true) => {
            let (host, port) = object["hostPort"].as_str().unwrap().split_once(':').unwrap();
            let (host, port) = (json!(host), json!(port));
            object.as_object_mut().unwrap().remove("hostPort");
            object["host"] = host;
            object["port"] = port;
        }
        (false, false) => {
            object["hostPort"] = json!(format!("{}:{}", object["host"].as_str().unwrap(), object["port"].as_str().unwrap()));
            object.as_object_mut().unwrap().remove("host");
            object.as_object_mut().unwrap().remove("port");
        }
        _ => {}
    }
    object["metadata"]["generation"] = json!(77);
    object
}

fn answer(review: &Value, lies: bool) -> Option<(u16, String)> {
    let request = &review["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap();
    let mut objects: Vec<Value> = request["objects"].as_array().unwrap().iter().map(|o| convert(o, wanted)).collect();
    if lies {
        objects[0]["metadata"]["name"] = json!("another");
    }
    let response = json!({"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects});
    Some((200, json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "response": response}).to_string()))
}

fn version(name: &str, storage: bool) -> Value {
    let text = json!({"type": "string"});
    let properties = match name {
        "v1" => json!({"hostPort": text}),
        _ => json!({"host": text, "port": text}),
    };
    json!({"name": name, "served": true, "storage": storage, "subresources": {"status": {}},
        "schema": {"openAPIV3Schema": {"type": "object", "properties": properties}}})
}

async fn world(lies: Arc<AtomicBool>) -> (World, Http, Outside) {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let outside = Outside::start(&world, &mut admin, "converter", move |_, review| answer(review, lies.load(Ordering::Relaxed))).await;
    let definition = json!({"metadata": {"name": "crontabs.stable.example.com"}, "spec": {"group": "stable.example.com", "scope": "Namespaced",
        "versions": [version("v1", true), version("v2", false)], "names": {"plural": "crontabs", "kind": "CronTab"},
        "conversion": {"strategy": "Webhook", "webhook": {"clientConfig": outside.client_config("/convert"), "conversionReviewVersions": ["v1"]}}}});
    admin.post(DEFINITIONS, &definition).await.expect(201);
    world.settle().await;
    (world, admin, outside)
}

fn v1(name: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "hostPort": "h:1"})
}

#[tokio::test]
async fn objects_are_read_and_written_in_every_version() {
    let (_world, mut admin, outside) = world(Arc::default()).await;
    admin.post(&tabs("v1"), &v1("a")).await.expect(201);
    assert!(outside.paths().is_empty(), "the stored version is nobody's to convert");
    let got = admin.get(&format!("{}/a", tabs("v2"))).await.expect(200);
    assert_eq!((&got["host"], &got["port"], &got["hostPort"]), (&json!("h"), &json!("1"), &Value::Null));
    assert_eq!(got["metadata"]["generation"], 1, "of metadata only labels and annotations are the webhook's");
    assert_eq!(outside.paths(), ["/convert?timeout=30s"]);
    let patched = admin.patch(&format!("{}/a", tabs("v2")), "merge", &json!({"port": "2"})).await.expect(200);
    assert_eq!((&patched["apiVersion"], &patched["port"]), (&json!("stable.example.com/v2"), &json!("2")));
    assert_eq!(admin.get(&format!("{}/a", tabs("v1"))).await.expect(200)["hostPort"], "h:2");
    let second = json!({"apiVersion": "stable.example.com/v2", "kind": "CronTab", "metadata": {"name": "b"}, "host": "x", "port": "9"});
    let created = admin.post(&tabs("v2"), &second).await.expect(201);
    assert_eq!((&created["host"], &created["hostPort"]), (&json!("x"), &Value::Null));
    assert_eq!(admin.get(&format!("{}/b", tabs("v1"))).await.expect(200)["hostPort"], "x:9");
    let applied = json!({"apiVersion": "stable.example.com/v2", "kind": "CronTab", "metadata": {"name": "a"}, "host": "y"});
    let applied = admin.apply(&format!("{}/a", tabs("v2")), "m&force=true", &applied).await.expect(200);
    assert_eq!((&applied["host"], &applied["port"]), (&json!("y"), &json!("2")));
    admin.delete(&format!("{}/a", tabs("v2")), &Value::Null).await.expect(200);
    admin.get(&format!("{}/a", tabs("v1"))).await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn a_list_is_converted_in_one_call_and_watches_follow() {
    let (world, mut admin, outside) = world(Arc::default()).await;
    for name in ["a", "b", "c"] {
        admin.post(&tabs("v1"), &v1(name)).await.expect(201);
    }
    let list = admin.get(&tabs("v2")).await.expect(200);
    let hosts: Vec<&Value> = list["items"].as_array().unwrap().iter().map(|i| &i["host"]).collect();
    assert_eq!(hosts, ["h", "h", "h"]);
    assert_eq!(outside.told().len(), 1);
    let page = admin.get(&format!("{}?limit=2", tabs("v2"))).await.expect(200);
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    assert_eq!(outside.told()[0]["request"]["objects"].as_array().unwrap().len(), 2, "no more than the page needs");
    let rest = format!("{}?limit=2&continue={}", tabs("v2"), page["metadata"]["continue"].as_str().unwrap());
    let rest = admin.get(&rest).await.expect(200);
    assert_eq!((&rest["items"][0]["metadata"]["name"], &rest["items"][0]["host"]), (&json!("c"), &json!("h")));
    let from = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut events = world.admin().await.watch(&format!("{}?watch=true&resourceVersion={from}", tabs("v2")), "application/json").await;
    admin.patch(&format!("{}/b", tabs("v1")), "merge", &json!({"hostPort": "z:3"})).await.expect(200);
    let event = events.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["host"], &event["object"]["apiVersion"]),
        (&json!("MODIFIED"), &json!("z"), &json!("stable.example.com/v2"))
    );
    admin.delete(&format!("{}/b", tabs("v2")), &Value::Null).await.expect(200);
    let event = events.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["host"]), (&json!("DELETED"), &json!("z")));
}

#[tokio::test]
async fn what_a_webhook_gets_wrong_is_said() {
    let lies = Arc::new(AtomicBool::new(true));
    let (_world, mut admin, _outside) = world(lies.clone()).await;
    admin.post(&tabs("v1"), &v1("a")).await.expect(201);
    let said = admin.get(&format!("{}/a", tabs("v2"))).await.expect(500);
    assert_eq!(
        said["message"],
        "conversion webhook for stable.example.com/v1, Kind=CronTab returned invalid converted object at index 0: must have the same name: a != another"
    );
    lies.store(false, Ordering::Relaxed);
    admin.get(&format!("{}/a", tabs("v2"))).await.expect(200);
    admin.delete("/api/v1/namespaces/default/services/converter", &Value::Null).await.expect(200);
    let said = admin.get(&format!("{}/a", tabs("v2"))).await.expect(500);
    assert_eq!(
        said["message"],
        "conversion webhook for stable.example.com/v1, Kind=CronTab failed: Post \"https://converter.default.svc:443/convert?timeout=30s\": service \"converter\" not found"
    );
    admin.get(&format!("{}/a", tabs("v1"))).await.expect(200);
}
