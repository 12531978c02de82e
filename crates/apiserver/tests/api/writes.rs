//! Creates, updates, patches and subresources.

use crate::world::*;

#[tokio::test]
async fn names_are_generated_and_never_twice() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut object = config_map("", &[]);
    object["metadata"] = json!({"generateName": "x-"});
    let (a, b) = (admin.post(MAPS, &object).await.expect(201), admin.post(MAPS, &object).await.expect(201));
    let name = |o: &Value| o["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name(&a).len() == 7 && name(&a).starts_with("x-") && name(&a) != name(&b));
    object["metadata"] = json!({});
    admin.post(MAPS, &object).await.refused(422, "Invalid", "name or generateName is required");
    let again = admin.post(MAPS, &config_map(&name(&a), &[])).await;
    let status = again.refused(409, "AlreadyExists", "already exists");
    assert_eq!((&status["details"]["kind"], &status["details"]["name"]), (&json!("configmaps"), &json!(name(&a))));
}

#[tokio::test]
async fn a_stale_update_conflicts_and_an_unversioned_one_wins() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let first = admin.post(MAPS, &config_map("a", &[])).await.expect(201);
    let path = format!("{MAPS}/a");
    let mut second = first.clone();
    second["data"]["k"] = json!("w");
    let second = admin.put(&path, &second).await.expect(200);
    assert_ne!(first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
    let unchanged = admin.put(&path, &second).await.expect(200);
    assert_eq!(unchanged, second, "a write that changes nothing makes no new version");
    admin.put(&path, &first).await.refused(
        409,
        "Conflict",
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified",
    );
    admin.put(&path, &config_map("a", &[])).await.expect(200);
    let mut other = config_map("a", &[]);
    other["metadata"]["uid"] = json!("not-this");
    admin.put(&path, &other).await.refused(409, "Conflict", "Precondition failed: UID in precondition: not-this");
    admin.put(&path, &config_map("b", &[])).await.refused(400, "BadRequest", "does not match the name on the URL (a)");
    admin.put(&format!("{MAPS}/none"), &config_map("none", &[])).await.refused(404, "NotFound", "configmaps \"none\" not found");
    let mut elsewhere = config_map("c", &[]);
    elsewhere["metadata"]["namespace"] = json!("kube-system");
    admin.post(MAPS, &elsewhere).await.refused(400, "BadRequest", "does not match the namespace sent on the request");
    elsewhere["metadata"] = json!({"name": "c", "resourceVersion": "7"});
    admin.post(MAPS, &elsewhere).await.expect(500);
    admin.post("/api/v1/namespaces/none/configmaps", &config_map("a", &[])).await.refused(404, "NotFound", "namespaces \"none\" not found");
    let patch = json!({"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}, "data": {"k": "z"}});
    admin.patch(&path, "merge", &patch).await.refused(409, "Conflict", "the object has been modified");
}

#[tokio::test]
async fn some_kinds_are_created_by_an_update_and_leases_name_their_version() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let lease =
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {"holderIdentity": "me"}});
    let made = admin.put(path, &lease).await.expect(201);
    admin.put(path, &lease).await.refused(422, "Invalid", "metadata.resourceVersion: Invalid value");
    admin.put(path, &made).await.expect(200);
}

#[tokio::test]
async fn patches_do_what_their_language_says() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(DEPLOYMENTS, &deployment("d", 1)).await.expect(201);
    let path = format!("{DEPLOYMENTS}/d");
    let env = |image: &str| json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "1"}], "image": image}]}}}});
    let second = json!({"spec": {"template": {"spec": {"containers": [{"name": "c2", "image": "j"}]}}}});
    admin.patch(&path, "strategic-merge", &env("i2")).await.expect(200);
    let merged = admin.patch(&path, "strategic-merge", &second).await.expect(200);
    let containers = merged["spec"]["template"]["spec"]["containers"].as_array().unwrap().clone();
    assert_eq!(containers.len(), 2);
    assert!(containers.iter().any(|c| c["image"] == "i2" && c["env"][0]["value"] == "1"));
    let replaced = admin.patch(&path, "merge", &second).await.expect(200);
    assert_eq!(replaced["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    let operations = json!([{"op": "test", "path": "/spec/replicas", "value": 1}, {"op": "replace", "path": "/spec/replicas", "value": 4}]);
    assert_eq!(admin.patch(&path, "json", &operations).await.expect(200)["spec"]["replicas"], 4);
    admin.patch(&path, "json", &operations).await.refused(422, "Invalid", "");
    let missing = json!([{"op": "remove", "path": "/spec/none"}]);
    admin.patch(&path, "json", &missing).await.refused(422, "Invalid", "the server rejected our request due to an error in our request");
    admin.patch(&path, "json", &json!({"op": "remove"})).await.refused(400, "BadRequest", "");
    admin.patch(&path, "merge", &json!([1])).await.refused(400, "BadRequest", "");
    admin.patch(&path, "strategic-merge", &json!({"spec": {"replicas": "many"}})).await.refused(400, "BadRequest", "");
    admin.patch(&path, "strategic-merge", &json!({"spec": {"replicas": -1}})).await.refused(
        422,
        "Invalid",
        "spec.replicas: Invalid value: -1",
    );
    admin.patch(&path, "merge", &json!({"metadata": {"name": "e"}})).await.refused(400, "BadRequest", "does not match the name on the URL");
    admin.patch(&format!("{DEPLOYMENTS}/none"), "merge", &json!({})).await.refused(404, "NotFound", "deployments.apps \"none\" not found");
    let unknown = [("content-type", "application/apply-patch+cbor")];
    admin.send("PATCH", &path, &unknown, "{}").await.refused(415, "UnsupportedMediaType", "application/apply-patch+yaml");
}

#[tokio::test]
async fn a_trial_changes_nothing() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let before = admin.get(MAPS).await.expect(200)["metadata"]["resourceVersion"].clone();
    let made = admin.post(&format!("{MAPS}?dryRun=All"), &config_map("a", &[])).await.expect(201);
    assert!(made["metadata"]["uid"].is_string() && made["metadata"].get("resourceVersion").is_none());
    admin.get(&format!("{MAPS}/a")).await.refused(404, "NotFound", "");
    assert_eq!(admin.get(MAPS).await.expect(200)["metadata"]["resourceVersion"], before);
    admin.post(MAPS, &config_map("a", &[])).await.expect(201);
    let now = admin.get(&format!("{MAPS}/a")).await.expect(200);
    admin.post(&format!("{MAPS}?dryRun=All"), &config_map("a", &[])).await.refused(409, "AlreadyExists", "");
    let patched = admin.patch(&format!("{MAPS}/a?dryRun=All"), "merge", &json!({"data": {"k": "w"}})).await.expect(200);
    assert_eq!(patched["data"]["k"], "w");
    admin.put(&format!("{MAPS}/a?dryRun=All"), &config_map("a", &[("l", "m")])).await.expect(200);
    admin.delete(&format!("{MAPS}/a?dryRun=All"), &Value::Null).await.expect(200);
    admin.delete(&format!("{MAPS}/a"), &json!({"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]})).await.expect(200);
    admin.delete(&format!("{MAPS}?dryRun=All"), &Value::Null).await.expect(200);
    assert_eq!(admin.get(&format!("{MAPS}/a")).await.expect(200), now);
    let odd = admin.post(&format!("{MAPS}?dryRun=Some"), &config_map("b", &[])).await;
    odd.refused(422, "Invalid", "dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"");
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut object = deployment("d", 2);
    object["status"] = json!({"replicas": 9});
    let made = admin.post(DEPLOYMENTS, &object).await.expect(201);
    assert_eq!((&made["status"], &made["metadata"]["generation"]), (&json!({}), &json!(1)));
    let path = format!("{DEPLOYMENTS}/d");
    let both = json!({"spec": {"replicas": 5}, "status": {"replicas": 1}});
    let spec = admin.patch(&path, "merge", &both).await.expect(200);
    assert_eq!((&spec["spec"]["replicas"], spec["status"].get("replicas"), &spec["metadata"]["generation"]), (&json!(5), None, &json!(2)));
    let both = json!({"spec": {"replicas": 7}, "status": {"replicas": 1}});
    let status = admin.patch(&format!("{path}/status"), "merge", &both).await.expect(200);
    assert_eq!(
        (&status["spec"]["replicas"], &status["status"]["replicas"], &status["metadata"]["generation"]),
        (&json!(5), &json!(1), &json!(2))
    );
    assert_eq!(admin.get(&format!("{path}/status")).await.expect(200), status);
    admin.get(&format!("{path}/nothing")).await.refused(404, "NotFound", "could not find the requested resource");
    admin.post(&format!("{path}/status"), &status).await.refused(405, "MethodNotAllowed", "");
}

#[tokio::test]
async fn a_scale_sets_replicas_and_nothing_else() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(DEPLOYMENTS, &deployment("d", 2)).await.expect(201);
    let path = format!("{DEPLOYMENTS}/d/scale");
    let mut scale = admin.get(&path).await.expect(200);
    assert_eq!((&scale["kind"], &scale["spec"], &scale["status"]["selector"]), (&json!("Scale"), &json!({"replicas": 2}), &json!("app=d")));
    let stale = scale.clone();
    scale["spec"]["replicas"] = json!(4);
    assert_eq!(admin.put(&path, &scale).await.expect(200)["spec"]["replicas"], 4);
    admin.put(&path, &stale).await.refused(409, "Conflict", "");
    assert_eq!(admin.patch(&path, "merge", &json!({"spec": {"replicas": 3}})).await.expect(200)["spec"]["replicas"], 3);
    admin.patch(&path, "merge", &json!({"spec": {"replicas": -3}})).await.refused(422, "Invalid", "must be greater than or equal to 0");
    assert_eq!(admin.get(&format!("{DEPLOYMENTS}/d")).await.expect(200)["metadata"]["generation"], 3);
}

#[tokio::test]
async fn pods_are_bound_once_evicted_and_given_debug_containers() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(PODS, &pod("p")).await.expect(201);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let bound = admin.post(&format!("{PODS}/p/binding"), &binding).await.expect(201);
    assert_eq!((&bound["kind"], &bound["status"]), (&json!("Status"), &json!("Success")));
    admin.post(&format!("{PODS}/p/binding"), &binding).await.refused(409, "Conflict", "pod p is already assigned to node \"n\"");
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "dbg", "image": "i"}]}});
    admin.patch(&format!("{PODS}/p"), "strategic-merge", &debug).await.refused(422, "Invalid", "");
    let with = admin.patch(&format!("{PODS}/p/ephemeralcontainers"), "strategic-merge", &debug).await.expect(200);
    assert_eq!(with["spec"]["ephemeralContainers"][0]["name"], "dbg");
    let eviction = |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    admin.post(&format!("{PODS}/p/eviction"), &eviction("q")).await.refused(400, "BadRequest", "name in URL does not match");
    admin.post(&format!("{PODS}/p/eviction"), &eviction("p")).await.expect(201);
    assert_eq!(admin.get(&format!("{PODS}/p")).await.expect(200)["metadata"]["deletionGracePeriodSeconds"], 30);
}
