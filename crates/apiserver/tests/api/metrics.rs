//! What the server counts.

use crate::world::{MAPS, PODS, Value, Who, World, config_map};

#[tokio::test]
async fn requests_objects_and_watches_are_counted_under_upstreams_names() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(MAPS, &config_map("m", &[])).await.expect(201);
    admin.post(MAPS, &config_map("m", &[])).await.refused(409, "AlreadyExists", "");
    admin.get(&format!("{MAPS}/m")).await.expect(200);
    admin.get(&format!("{MAPS}/m")).await.expect(200);
    admin.delete(&format!("{PODS}/none"), &Value::Null).await.refused(404, "NotFound", "");
    admin.get("/apis/made.up/v1/things").await.refused(404, "NotFound", "");
    let mut events = world.admin().await.watch(&format!("{MAPS}?watch=true&resourceVersion=0"), "application/json").await;
    events.told().await;
    let text = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    let series = |name: &str, labels: &[&str]| -> String {
        let fits = |line: &&str| line.starts_with(name) && labels.iter().all(|l| line.contains(l));
        text.lines().find(fits).unwrap_or_else(|| panic!("no {name} {labels:?} in {text}")).rsplit(' ').next().unwrap().to_owned()
    };
    let maps = "resource=\"configmaps\"";
    assert_eq!(series("apiserver_request_total{", &[maps, "code=\"201\"", "verb=\"POST\"", "scope=\"namespace\""]), "1");
    assert_eq!(series("apiserver_request_total{", &[maps, "code=\"409\"", "verb=\"POST\""]), "1");
    assert_eq!(series("apiserver_request_total{", &[maps, "code=\"200\"", "verb=\"GET\"", "scope=\"resource\""]), "2");
    assert_eq!(series("apiserver_request_total{", &["resource=\"pods\"", "code=\"404\"", "verb=\"DELETE\""]), "1");
    assert_eq!(series("apiserver_request_duration_seconds_count{", &[maps, "verb=\"GET\""]), "2");
    assert_eq!(series("apiserver_longrunning_requests{", &[maps, "verb=\"WATCH\""]), "1");
    assert_eq!(series("apiserver_watch_events_total{", &["kind=\"ConfigMap\""]), "1");
    assert_eq!(series("apiserver_storage_objects{", &["resource=\"namespaces\""]), "4");
    assert_eq!(series("apiserver_current_inflight_requests{", &["mutating"]), "0");
    assert_eq!(series("process_start_time_seconds ", &[]), "1700000000");
    assert_ne!(series("process_resident_memory_bytes ", &[]), "0");
    assert!(!text.contains("made.up"), "what anybody may make up makes no series");
    drop(events);
    world.settle().await;
    let text = String::from_utf8(admin.get("/metrics").await.body.to_vec()).unwrap();
    assert!(text.lines().any(|l| l.starts_with("apiserver_longrunning_requests{") && l.contains(maps) && l.ends_with(" 0")), "{text}");
    world.http(Who::Nobody).await.get("/metrics").await.refused(403, "Forbidden", "cannot get path \"/metrics\"");
}
