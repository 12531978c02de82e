//! Deletes: grace, propagation, preconditions, finalizers, collections.

use crate::world::*;

async fn bound_pod(admin: &mut Http, name: &str) {
    let mut object = pod(name);
    object["spec"]["nodeName"] = json!("n");
    admin.post(PODS, &object).await.expect(201);
}

#[tokio::test]
async fn a_running_pod_goes_gracefully_and_faster_when_told() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    bound_pod(&mut admin, "p").await;
    let path = format!("{PODS}/p");
    let going = admin.delete(&path, &Value::Null).await.expect(200);
    assert_eq!((&going["kind"], &going["metadata"]["deletionGracePeriodSeconds"]), (&json!("Pod"), &json!(30)));
    let slower = admin.delete(&path, &json!({"gracePeriodSeconds": 60})).await.expect(200);
    assert_eq!(slower["metadata"]["deletionTimestamp"], going["metadata"]["deletionTimestamp"]);
    let faster = admin.delete(&format!("{path}?gracePeriodSeconds=5"), &Value::Null).await.expect(200);
    assert_eq!(faster["metadata"]["deletionGracePeriodSeconds"], 5);
    assert_eq!(admin.delete(&path, &json!({"gracePeriodSeconds": 0})).await.expect(200)["kind"], "Pod");
    admin.get(&path).await.refused(404, "NotFound", "pods \"p\" not found");
    admin.delete(&path, &Value::Null).await.refused(404, "NotFound", "pods \"p\" not found");
    // What no node runs goes at once.
    admin.post(PODS, &pod("q")).await.expect(201);
    admin.delete(&format!("{PODS}/q"), &Value::Null).await.expect(200);
    admin.get(&format!("{PODS}/q")).await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn preconditions_hold_or_nothing_happens() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let made = admin.post(MAPS, &config_map("a", &[])).await.expect(201);
    let path = format!("{MAPS}/a");
    let with = |what: Value| json!({"preconditions": what});
    admin.delete(&path, &with(json!({"uid": "other"}))).await.refused(409, "Conflict", "Precondition failed: UID in precondition: other");
    let stale = with(json!({"uid": made["metadata"]["uid"], "resourceVersion": "1"}));
    admin.delete(&path, &stale).await.refused(409, "Conflict", "Precondition failed: ResourceVersion in precondition: 1");
    let right = with(json!({"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}));
    let done = admin.delete(&path, &right).await.expect(200);
    assert_eq!(
        (&done["status"], &done["details"]),
        (&json!("Success"), &json!({"name": "a", "kind": "configmaps", "uid": made["metadata"]["uid"]}))
    );
    admin.delete(&path, &json!({"propagationPolicy": "Sideways"})).await.refused(
        422,
        "Invalid",
        "propagationPolicy: Unsupported value: \"Sideways\"",
    );
    let both = json!({"propagationPolicy": "Orphan", "orphanDependents": true});
    admin.delete(&path, &both).await.refused(422, "Invalid", "orphanDependents and deletionPropagation cannot be both set");
    admin.delete(&path, &json!({"gracePeriodSeconds": "soon"})).await.refused(400, "BadRequest", "");
}

#[tokio::test]
async fn finalizers_hold_until_they_are_taken_away() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut object = config_map("a", &[]);
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    admin.post(MAPS, &object).await.expect(201);
    let path = format!("{MAPS}/a");
    let held = admin.delete(&path, &Value::Null).await.expect(200);
    assert!(held["metadata"]["deletionTimestamp"].is_string());
    let more = json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    admin.patch(&path, "merge", &more).await.refused(422, "Invalid", "no new finalizers can be added if the object is being deleted");
    admin.patch(&path, "merge", &json!({"metadata": {"finalizers": null}})).await.expect(200);
    admin.get(&path).await.refused(404, "NotFound", "");
    for (policy, finalizer) in [("Orphan", "orphan"), ("Foreground", "foregroundDeletion")] {
        admin.post(MAPS, &config_map("b", &[])).await.expect(201);
        let path = format!("{MAPS}/b");
        let held = admin.delete(&format!("{path}?propagationPolicy={policy}"), &Value::Null).await.expect(200);
        assert_eq!(held["metadata"]["finalizers"], json!([finalizer]));
        admin.delete(&path, &json!({"propagationPolicy": "Background"})).await.expect(200);
        admin.get(&path).await.refused(404, "NotFound", "");
    }
}

#[tokio::test]
async fn a_collection_goes_by_selector() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    for (name, app) in [("a", "x"), ("b", "y"), ("c", "x")] {
        admin.post(MAPS, &config_map(name, &[("app", app)])).await.expect(201);
    }
    let gone = admin.delete(&format!("{MAPS}?labelSelector=app%3Dx"), &Value::Null).await.expect(200);
    assert_eq!((&gone["kind"], gone["items"].as_array().unwrap().len()), (&json!("ConfigMapList"), 2));
    let left = admin.get(MAPS).await.expect(200);
    assert_eq!((left["items"].as_array().unwrap().len(), &left["items"][0]["metadata"]["name"]), (1, &json!("b")));
    admin.delete("/api/v1/configmaps", &Value::Null).await.refused(405, "MethodNotAllowed", "");
    admin.delete("/api/v1/namespaces/default", &Value::Null).await.refused(403, "Forbidden", "this namespace may not be deleted");
}
