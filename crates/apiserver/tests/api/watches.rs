//! Watches: where they begin, what they tell, how they end.

use std::time::Duration;

use gantry_apiserver::User;
use gantry_client::{Api, Params, Watch, WatchEvent};
use gantry_object::Resource;

use crate::world::*;

const JSON: &str = "application/json";

fn told(kind: &str, name: &str) -> (String, String) {
    (kind.into(), name.into())
}

fn version(object: &Value) -> String {
    object["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_watch_begins_where_it_is_told_to() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let a = admin.post(MAPS, &config_map("a", &[])).await.expect(201);
    admin.post(MAPS, &config_map("b", &[])).await.expect(201);
    let mut after_a = world.admin().await.watch(&format!("{MAPS}?watch=1&resourceVersion={}", version(&a)), JSON).await;
    assert_eq!(after_a.media_type, "application/json");
    assert_eq!(after_a.told().await, told("ADDED", "b"));
    for query in ["watch=true", "watch=true&resourceVersion=0"] {
        let mut all = world.admin().await.watch(&format!("{MAPS}?{query}"), JSON).await;
        assert_eq!((all.told().await, all.told().await), (told("ADDED", "a"), told("ADDED", "b")), "{query}");
    }
    let mut old =
        world.admin().await.watch(&format!("/api/v1/watch/namespaces/default/configmaps/b?resourceVersion={}", version(&a)), JSON).await;
    assert_eq!(old.told().await, told("ADDED", "b"));
    // A watch of a name is no watch unless the path says so: it reads the object.
    assert_eq!(admin.get(&format!("{MAPS}/a?watch=true")).await.expect(200)["metadata"]["name"], "a");
    admin.patch(&format!("{MAPS}/b"), "merge", &json!({"data": {"k": "w"}})).await.expect(200);
    admin.delete(&format!("{MAPS}/b"), &Value::Null).await.expect(200);
    assert_eq!((after_a.told().await, old.told().await), (told("MODIFIED", "b"), told("MODIFIED", "b")));
    let gone = after_a.next().await.unwrap();
    assert_eq!((&gone["type"], &gone["object"]["data"]["k"]), (&json!("DELETED"), &json!("w")));
    let now: u64 = version(&admin.get(MAPS).await.expect(200)).parse().unwrap();
    assert_eq!(version(&gone["object"]).parse::<u64>().unwrap(), now, "a deletion is told at its own revision");
}

#[tokio::test]
async fn initial_events_end_with_a_bookmark_that_says_so() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(MAPS, &config_map("a", &[])).await.expect(201);
    let options = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";
    let mut events = world.admin().await.watch(&format!("{MAPS}?{options}"), JSON).await;
    assert_eq!(events.told().await, told("ADDED", "a"));
    let bookmark = events.next().await.unwrap();
    assert_eq!((&bookmark["type"], &bookmark["object"]["kind"]), (&json!("BOOKMARK"), &json!("ConfigMap")));
    assert_eq!(bookmark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let now = version(&admin.get(MAPS).await.expect(200));
    assert_eq!(version(&bookmark["object"]), now);
    // Later bookmarks come with time, and say only how far things are.
    admin.post("/api/v1/namespaces/kube-system/configmaps", &config_map("b", &[])).await.expect(201);
    world.settle().await;
    world.clock.advance(Duration::from_secs(61));
    let later = events.next().await.unwrap();
    assert_eq!((&later["type"], later["object"]["metadata"].get("annotations")), (&json!("BOOKMARK"), None));
    assert!(version(&later["object"]).parse::<u64>().unwrap() > now.parse().unwrap());
    for (query, why) in [
        ("sendInitialEvents=true&allowWatchBookmarks=true", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
        ("resourceVersion=1&resourceVersionMatch=NotOlderThan", "forbidden for watch unless sendInitialEvents is provided"),
        ("sendInitialEvents=true&resourceVersionMatch=Exact&resourceVersion=1", "Unsupported value: \"Exact\""),
    ] {
        admin.get(&format!("{MAPS}?watch=true&{query}")).await.refused(422, "Invalid", why);
    }
}

#[tokio::test]
async fn objects_come_and_go_with_the_selector() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(MAPS, &config_map("a", &[("app", "x")])).await.expect(201);
    let mut events = world.admin().await.watch(&format!("{MAPS}?watch=true&labelSelector=app%3Dx"), JSON).await;
    assert_eq!(events.told().await, told("ADDED", "a"));
    let label = |value: Value| json!({"metadata": {"labels": {"app": value}}});
    admin.patch(&format!("{MAPS}/a"), "merge", &label(json!("y"))).await.expect(200);
    let left = events.next().await.unwrap();
    assert_eq!((&left["type"], &left["object"]["metadata"]["labels"]["app"]), (&json!("DELETED"), &json!("x")));
    admin.patch(&format!("{MAPS}/a"), "merge", &json!({"data": {"unseen": "1"}})).await.expect(200);
    admin.patch(&format!("{MAPS}/a"), "merge", &label(json!("x"))).await.expect(200);
    let back = events.next().await.unwrap();
    assert_eq!((&back["type"], &back["object"]["data"]["unseen"]), (&json!("ADDED"), &json!("1")));
    let mut pods = world.admin().await.watch("/api/v1/pods?watch=true&fieldSelector=spec.nodeName%3Dn", JSON).await;
    admin.post(PODS, &pod("p")).await.expect(201);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    admin.post(&format!("{PODS}/p/binding"), &binding).await.expect(201);
    assert_eq!(pods.told().await, told("ADDED", "p"));
}

#[tokio::test]
async fn a_watch_ends_in_time() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let now = version(&admin.get(MAPS).await.expect(200));
    let mut events = world.admin().await.watch(&format!("{MAPS}?watch=true&timeoutSeconds=5&resourceVersion={now}"), JSON).await;
    admin.post(MAPS, &config_map("a", &[])).await.expect(201);
    assert_eq!(events.told().await, told("ADDED", "a"));
    world.settle().await;
    world.clock.advance(Duration::from_secs(6));
    assert_eq!(events.next().await, None);
}

#[tokio::test]
async fn a_watch_from_long_ago_is_told_to_list_again() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(MAPS, &config_map("a", &[])).await.expect(201);
    let path = format!("{MAPS}?watch=true&resourceVersion=1");
    for i in 0..5_000 {
        admin.patch(&format!("{MAPS}/a"), "merge", &json!({"data": {"k": i.to_string()}})).await.expect(200);
        if i % 100 == 99 {
            let first = world.admin().await.watch(&path, JSON).await.next().await.unwrap();
            if first["type"] == "ERROR" {
                assert_eq!((&first["object"]["code"], &first["object"]["reason"]), (&json!(410), &json!("Expired")));
                return;
            }
        }
    }
    panic!("history is never given up");
}

#[tokio::test]
async fn in_process_a_watch_without_a_revision_begins_now() {
    let world = World::new().await;
    let maps = Resource::namespaced("", "v1", "configmaps", "ConfigMap");
    world.create(maps, "default", config_map("a", &[])).await;
    let watch = Watch { resource: maps, namespace: "default".into(), params: Params::default(), from: None, initial_events: false };
    let mut events = world.server.client(User::admin()).watch(watch).await.unwrap();
    world.create(maps, "default", config_map("b", &[])).await;
    let Some(WatchEvent::Added(first)) = events.next().await else { panic!("nothing is told") };
    assert_eq!(first.decode::<Value>().unwrap()["metadata"]["name"], "b");
}
