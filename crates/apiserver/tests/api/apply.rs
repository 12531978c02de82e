//! Server-side apply and managed fields.

use std::time::Duration;

use crate::world::*;

/// The entries of an object's managed fields: manager, operation, subresource and fields.
fn owners(object: &Value) -> Vec<(String, String, Value)> {
    let text = |entry: &Value, member: &str| entry[member].as_str().unwrap_or("").to_owned();
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let owner = |e: &Value| {
        let sub = text(e, "subresource");
        let how = if sub.is_empty() { text(e, "operation") } else { format!("{}/{sub}", text(e, "operation")) };
        assert_eq!(e["fieldsType"], "FieldsV1");
        (text(e, "manager"), how, e["fieldsV1"].clone())
    };
    entries.iter().map(owner).collect()
}

fn owner(manager: &str, how: &str, fields: Value) -> (String, String, Value) {
    (manager.into(), how.into(), fields)
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

#[tokio::test]
async fn apply_creates_changes_and_takes_back() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let path = format!("{MAPS}/a");
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  labels: {l: x}\ndata: {k: v, m: w}\n";
    let made = admin.apply(&path, "me", config).await.expect(201);
    assert_eq!(made["data"], json!({"k": "v", "m": "w"}));
    let fields = json!({"f:data": {"f:k": {}, "f:m": {}}, "f:metadata": {"f:labels": {"f:l": {}}}});
    assert_eq!(owners(&made), [owner("me", "Apply", fields)]);
    assert_eq!(made["metadata"]["managedFields"][0]["time"], made["metadata"]["creationTimestamp"]);
    assert_eq!(made["metadata"]["managedFields"][0]["apiVersion"], "v1");
    world.clock.advance(Duration::from_secs(60));
    let again = admin.apply(&path, "me", config).await.expect(200);
    assert_eq!(again, made, "an apply that changes nothing makes no new version");
    let less = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v2"}});
    let changed = admin.apply(&path, "me", &less).await.expect(200);
    assert_eq!((&changed["data"], changed["metadata"].get("labels")), (&json!({"k": "v2"}), None));
    assert_ne!(changed["metadata"]["managedFields"][0]["time"], made["metadata"]["managedFields"][0]["time"]);
    let trial = admin
        .apply(&format!("{MAPS}/b"), "me&dryRun=All", &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}))
        .await;
    trial.expect(201);
    admin.get(&format!("{MAPS}/b")).await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn conflicts_name_owners_and_fields_and_force_takes_over() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let path = format!("{DEPLOYMENTS}/d");
    admin.apply(&path, "first", &deployment("d", 1)).await.expect(201);
    let scaled = json!({"spec": {"replicas": 3}});
    let agent = [("content-type", "application/merge-patch+json"), ("user-agent", "scaler/v1.2 (linux)")];
    admin.send("PATCH", &path, &agent, scaled.to_string()).await.expect(200);
    let status = admin.apply(&path, "first", &deployment("d", 1)).await;
    let status = status.refused(409, "Conflict", "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1: .spec.replicas");
    let causes =
        json!([{"reason": "FieldManagerConflict", "message": "conflict with \"scaler\" using apps/v1", "field": ".spec.replicas"}]);
    assert_eq!(status["details"]["causes"], causes);
    let mut other = deployment("d", 2);
    other["spec"]["template"]["spec"]["containers"][0]["image"] = json!("j");
    admin.apply(&path, "second", &other).await.refused(
        409,
        "Conflict",
        "Apply failed with 2 conflicts: conflicts with \"first\":\n- .spec.template.spec.containers[name=\"c\"].image\nconflicts with \"scaler\" using apps/v1:\n- .spec.replicas",
    );
    let forced = admin.apply(&path, "second&force=true", &other).await.expect(200);
    assert_eq!((&forced["spec"]["replicas"], &forced["spec"]["template"]["spec"]["containers"][0]["image"]), (&json!(2), &json!("j")));
    let owners = owners(&forced);
    let names: Vec<&str> = owners.iter().map(|o| o.0.as_str()).collect();
    assert_eq!(names, ["first", "second"], "who has nothing left goes: {owners:?}");
    assert!(owners[0].2.pointer("/f:spec/f:replicas").is_none());
    // Shared values conflict with nobody; who stops naming them leaves them to the others.
    let mut shared = deployment("d", 2);
    shared["spec"]["template"]["spec"]["containers"][0].as_object_mut().unwrap().remove("image");
    admin.apply(&path, "first", &shared).await.expect(200);
    let mut gone = other.clone();
    gone["spec"].as_object_mut().unwrap().remove("replicas");
    assert_eq!(admin.apply(&path, "second", &gone).await.expect(200)["spec"]["replicas"], 2);
    shared["spec"].as_object_mut().unwrap().remove("replicas");
    assert_eq!(admin.apply(&path, "first", &shared).await.expect(200)["spec"]["replicas"], 1, "nobody's any more: the default");
}

#[tokio::test]
async fn every_write_says_who_owns_what() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let made = admin.post(&format!("{DEPLOYMENTS}?fieldManager=maker"), &deployment("d", 1)).await.expect(201);
    let container = json!({".": {}, "f:image": {}, "f:imagePullPolicy": {}, "f:name": {}, "f:resources": {}, "f:terminationMessagePath": {}, "f:terminationMessagePolicy": {}});
    let fields = json!({"f:spec": {
        "f:progressDeadlineSeconds": {}, "f:replicas": {}, "f:revisionHistoryLimit": {}, "f:selector": {},
        "f:strategy": {"f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}}, "f:type": {}},
        "f:template": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {
            "f:containers": {"k:{\"name\":\"c\"}": container}, "f:dnsPolicy": {}, "f:restartPolicy": {}, "f:schedulerName": {},
            "f:securityContext": {}, "f:terminationGracePeriodSeconds": {}}}}});
    assert_eq!(owners(&made), [owner("maker", "Update", fields)]);
    let path = format!("{DEPLOYMENTS}/d");
    let patched =
        admin.patch(&format!("{path}?fieldManager=p"), "merge", &json!({"metadata": {"annotations": {"a": "1"}}})).await.expect(200);
    assert_eq!(owners(&patched)[1], owner("p", "Update", json!({"f:metadata": {"f:annotations": {".": {}, "f:a": {}}}})));
    let mut changed = patched.clone();
    changed["metadata"].as_object_mut().unwrap().remove("managedFields");
    changed["metadata"]["annotations"] = json!({});
    changed["spec"]["paused"] = json!(true);
    changed["status"]["replicas"] = json!(7);
    let changed = admin.put(&format!("{path}?fieldManager=u"), &changed).await.expect(200);
    let names: Vec<String> = owners(&changed).into_iter().map(|o| o.0).collect();
    assert_eq!(names, ["maker", "u"]);
    assert_eq!(owners(&changed)[1].2, json!({"f:spec": {"f:paused": {}}}), "the status is not written here");
    let mut status = changed.clone();
    status["status"] = json!({"replicas": 1, "conditions": [{"type": "Available", "status": "True"}]});
    status["spec"]["replicas"] = json!(9);
    status["metadata"]["managedFields"] = json!([]);
    let status = admin.put(&format!("{path}/status?fieldManager=s"), &status).await.expect(200);
    let condition = json!({".": {}, "f:lastTransitionTime": {}, "f:lastUpdateTime": {}, "f:status": {}, "f:type": {}});
    let own = json!({"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Available\"}": condition}, "f:replicas": {}}});
    let found = owners(&status);
    assert_eq!(found.len(), 3, "{found:?}");
    let of_status = found.iter().find(|o| o.0 == "s").unwrap();
    assert_eq!(of_status.1, "Update/status");
    assert_eq!(of_status.2["f:status"]["f:replicas"], own["f:status"]["f:replicas"]);
    assert!(of_status.2.get("f:spec").is_none() && of_status.2["f:status"]["f:conditions"].get("k:{\"type\":\"Available\"}").is_some());
    world.clock.advance(Duration::from_secs(5));
    let again = admin.put(&format!("{path}/status?fieldManager=other"), &status).await.expect(200);
    assert_eq!(again, status, "a write that changes nothing makes nobody an owner");
}

#[tokio::test]
async fn managed_fields_can_be_forgotten_renamed_and_not_spoilt() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let path = format!("{MAPS}/a");
    let config = config_map("a", &[("l", "x")]);
    for (kind, forget) in [
        ("merge", json!({"metadata": {"managedFields": [{}]}})),
        ("strategic-merge", json!({"metadata": {"managedFields": [{}]}})),
        ("json", json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}])),
        ("merge", json!({"metadata": {"managedFields": []}})),
        ("json", json!([{"op": "replace", "path": "/metadata/managedFields", "value": []}])),
    ] {
        admin.apply(&path, "me", &config).await;
        let forgotten = admin.patch(&path, kind, &forget).await.expect(200);
        assert_eq!(forgotten["metadata"].get("managedFields"), None, "{forget}");
        // An update of an object nobody is followed on keeps it so.
        let quiet = admin.patch(&path, "merge", &json!({"data": {"k": "z"}})).await.expect(200);
        assert_eq!(quiet["metadata"].get("managedFields"), None);
        let first = admin.apply(&path, "me&force=true", &config).await.expect(200);
        let names: Vec<(String, String)> = owners(&first).into_iter().map(|o| (o.0, o.1)).collect();
        assert_eq!(names, [("me".into(), "Apply".into()), ("before-first-apply".to_owned(), "Update".to_owned())]);
    }
    let mut now = admin.get(&path).await.expect(200);
    let managed = now["metadata"]["managedFields"].clone();
    for spoilt in
        [json!(null), json!([{"manager": "x", "operation": "Nonsense", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {}}])]
    {
        now["metadata"]["managedFields"] = spoilt;
        let kept = admin.put(&path, &now).await.expect(200);
        assert_eq!(kept["metadata"]["managedFields"], managed);
        now = kept;
    }
    now["metadata"]["managedFields"][0]["manager"] = json!("renamed");
    let renamed = admin.put(&path, &now).await.expect(200);
    assert_eq!(owners(&renamed)[0].0, "renamed");
    now["metadata"]["managedFields"][0]["manager"] = json!("x".repeat(129));
    now["metadata"]["resourceVersion"] = json!("");
    admin.put(&path, &now).await.refused(422, "Invalid", "metadata.managedFields[0].manager: Too long");
    let mut bare = config_map("bare", &[]);
    bare["metadata"]["managedFields"] = json!([{"manager": "other", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:q": {}}}}]);
    let made = admin.post(&format!("{MAPS}?fieldManager=maker"), &bare).await.expect(201);
    let names: Vec<String> = owners(&made).into_iter().map(|o| o.0).collect();
    assert_eq!(names, ["other", "maker"]);
    bare["metadata"]["managedFields"] = json!([]);
    bare["metadata"]["name"] = json!("bare2");
    assert_eq!(owners(&admin.post(MAPS, &bare).await.expect(201)).len(), 1);
}

#[tokio::test]
async fn bad_applies_are_refused() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let path = format!("{MAPS}/a");
    let config = config_map("a", &[]);
    let apply = [("content-type", "application/apply-patch+yaml")];
    admin.send("PATCH", &path, &apply, config.to_string()).await.refused(
        422,
        "Invalid",
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
    );
    let long = "x".repeat(129);
    admin.apply(&path, &long, &config).await.refused(422, "Invalid", "fieldManager: Too long");
    admin.apply(&path, "a%07b", &config).await.refused(422, "Invalid", "invalid character U+0007 (at position 1)");
    admin.patch(&format!("{path}?force=true"), "merge", &config).await.refused(
        422,
        "Invalid",
        "force: Forbidden: may not be specified for non-apply patch",
    );
    admin.apply(&path, "me", "{a: [").await.refused(400, "BadRequest", "error decoding YAML");
    admin.apply(&path, "me", "just text").await.refused(400, "BadRequest", "error decoding YAML");
    admin.apply(&path, "me", "{}").await.refused(400, "BadRequest", "invalid object type: /, Kind=");
    admin.apply(&path, "me", &deployment("a", 1)).await.refused(400, "BadRequest", "invalid object type: apps/v1, Kind=Deployment");
    let with = |pointer: &str, value: Value| {
        let mut config = config.clone();
        let (holder, member) = pointer.rsplit_once('/').unwrap();
        config.pointer_mut(holder).unwrap()[member] = value;
        config
    };
    admin.apply(&path, "me", &with("/metadata/managedFields", json!([]))).await.refused(
        400,
        "BadRequest",
        "metadata.managedFields must be nil",
    );
    admin.apply(&path, "me", &with("/metadata/name", json!("b"))).await.refused(
        400,
        "BadRequest",
        "the name of the object (b) does not match",
    );
    admin.apply(&path, "me", &with("/metadata/name", json!(null))).await.refused(
        400,
        "BadRequest",
        "was undeterminable: name must be provided",
    );
    admin.apply(&path, "me", &with("/metadata/namespace", json!("other"))).await.refused(400, "BadRequest", "namespace");
    let uid = "88e00824-7f0e-11e8-94a1-c8d3ffb15800";
    admin.apply(&path, "me", &with("/metadata/uid", json!(uid))).await.refused(
        409,
        "Conflict",
        &format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found"),
    );
    let unknown = admin.apply(&path, "me&fieldValidation=Ignore", &with("/nonsense", json!(1))).await;
    let unknown = unknown.expect(500);
    let told = "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .nonsense: field not declared in schema";
    assert_eq!(unknown["message"], told);
    admin.get(&path).await.refused(404, "NotFound", "");
    let twice = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  k: v\n  k: w\n";
    let line = "yaml: unmarshal errors:\n  line 7: key \"k\" already set in map";
    admin.apply(&path, "me&fieldValidation=Strict", twice).await.refused(400, "BadRequest", line);
    let warned = admin.apply(&path, "me", twice).await;
    warned.expect(201);
    assert!(warned.warnings()[0].contains("line 7: key \\\"k\\\" already set in map"), "{:?}", warned.warnings());
    admin.apply(&format!("{DEPLOYMENTS}/none/status"), "me", &deployment("none", 1)).await.refused(404, "NotFound", "");
    let stale = with("/metadata/resourceVersion", json!("1"));
    admin.apply(&path, "me", &stale).await.refused(409, "Conflict", "the object has been modified");
    let mut reader = world.http(Who::Certificate("nobody", "none")).await;
    reader.apply(&path, "me", &config).await.refused(403, "Forbidden", "cannot patch resource \"configmaps\"");
}

#[tokio::test]
async fn who_may_patch_but_not_create_applies_only_to_what_is_there() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "patcher"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]}]});
    admin.apply(&format!("{rbac}/roles/patcher"), "me", &role).await.expect(201);
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "b"},
        "subjects": [{"kind": "User", "name": "pat", "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "Role", "name": "patcher", "apiGroup": "rbac.authorization.k8s.io"}});
    admin.apply(&format!("{rbac}/rolebindings/b"), "me", &binding).await.expect(201);
    let mut pat = world.http(Who::Certificate("pat", "people")).await;
    pat.apply(&format!("{MAPS}/a"), "pat", &config_map("a", &[])).await.refused(403, "Forbidden", "cannot create resource \"configmaps\"");
    admin.post(MAPS, &config_map("a", &[])).await.expect(201);
    pat.apply(&format!("{MAPS}/a"), "pat", &config_map("a", &[("l", "x")])).await.expect(200);
}

#[tokio::test]
async fn subresources_are_applied_by_themselves() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let path = format!("{DEPLOYMENTS}/d");
    admin.apply(&path, "app", &deployment("d", 1)).await.expect(201);
    let status = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "labels": {"x": "y"}},
        "spec": {"replicas": 8}, "status": {"observedGeneration": 1, "replicas": 1}});
    let applied = admin.apply(&format!("{path}/status"), "app", &status).await.expect(200);
    assert_eq!((&applied["spec"]["replicas"], &applied["status"]["replicas"]), (&json!(1), &json!(1)));
    let own = owners(&applied).into_iter().find(|o| o.1 == "Apply/status").unwrap();
    assert_eq!(own, owner("app", "Apply/status", json!({"f:status": {"f:observedGeneration": {}, "f:replicas": {}}})));
    // The object's own apply leaves the status alone, and the status's the object.
    let mut main = deployment("d", 1);
    main["status"] = json!({"replicas": 4});
    let main = admin.apply(&path, "app", &main).await.expect(200);
    assert_eq!(main["status"]["replicas"], 1);
    assert!(owners(&main).iter().filter(|o| o.1 == "Apply").all(|o| o.2.get("f:status").is_none()));
}

#[tokio::test]
async fn a_scale_takes_the_replicas_over() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let path = format!("{DEPLOYMENTS}/d");
    let scale = |n: i64| json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": n}});
    let of_replicas = |object: &Value| -> Vec<(String, String)> {
        let all = owners(object).into_iter().filter(|o| o.2.pointer("/f:spec/f:replicas").is_some());
        all.map(|o| (o.0, o.1)).collect()
    };
    let told = |name: &str, how: &str| vec![(name.to_owned(), how.to_owned())];
    admin.apply(&path, "app", &deployment("d", 1)).await.expect(201);
    admin.patch(&format!("{path}/scale?fieldManager=scaler"), "merge", &json!({"spec": {"replicas": 5}})).await.expect(200);
    let scaled = admin.get(&path).await.expect(200);
    assert_eq!((&scaled["spec"]["replicas"], of_replicas(&scaled)), (&json!(5), told("scaler", "Update/scale")));
    assert!(scaled["metadata"]["managedFields"].as_array().unwrap().iter().all(|e| e["apiVersion"] == "apps/v1"));
    admin.apply(&path, "app", &deployment("d", 1)).await.refused(
        409,
        "Conflict",
        "conflict with \"scaler\" with subresource \"scale\" using apps/v1",
    );
    admin.apply(&path, "app&force=1", &deployment("d", 1)).await.expect(200);
    admin.apply(&format!("{path}/scale"), "by-scale", &scale(17)).await.refused(409, "Conflict", "conflict with \"app\": .spec.replicas");
    let forced = admin.apply(&format!("{path}/scale"), "by-scale&force=true", &scale(17)).await.expect(200);
    assert_eq!((&forced["kind"], &forced["spec"]["replicas"]), (&json!("Scale"), &json!(17)));
    assert_eq!(of_replicas(&admin.get(&path).await.expect(200)), told("by-scale", "Apply/scale"));
    admin.put(&format!("{path}/scale?fieldManager=putter"), &scale(7)).await.expect(200);
    assert_eq!(of_replicas(&admin.get(&path).await.expect(200)), told("putter", "Update/scale"));
    admin.apply(&format!("{path}/scale"), "too", &scale(7)).await.expect(200);
    let both = of_replicas(&admin.get(&path).await.expect(200));
    assert_eq!(both, [told("too", "Apply/scale"), told("putter", "Update/scale")].concat());
    admin.patch(&format!("{path}/scale?fieldManager=scaler"), "merge", &json!({"spec": {"replicas": 5}})).await.expect(200);
    let last = admin.get(&path).await.expect(200);
    assert_eq!(of_replicas(&last), told("scaler", "Update/scale"));
    admin.apply(&format!("{path}/scale"), "too", &deployment("d", 1)).await.refused(
        400,
        "BadRequest",
        "invalid object type: apps/v1, Kind=Deployment",
    );
}

#[tokio::test]
async fn kubectl_goes_on_where_its_client_side_apply_ended() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let path = format!("{MAPS}/a");
    let plain = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {"k": "v", "gone": "<1>"}});
    let mut annotated = plain.clone();
    annotated["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": plain.to_string()});
    admin.post(&format!("{MAPS}?fieldManager=kubectl-client-side-apply"), &annotated).await.expect(201);
    let mut next = plain.clone();
    next["data"] = json!({"k": "w&"});
    admin.apply(&path, "somebody", &next).await.refused(409, "Conflict", "conflict with \"kubectl-client-side-apply\" using v1: .data.k");
    let applied = admin.apply(&path, "kubectl", &next).await.expect(200);
    let last = applied["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str().unwrap();
    assert!(last.ends_with('\n') && last.contains("w\\u0026") && serde_json::from_str::<Value>(last).unwrap() == next, "{last}");
    // What changed since is somebody's own.
    admin.patch(&format!("{path}?fieldManager=editor"), "merge", &json!({"data": {"k": "edited"}})).await.expect(200);
    admin.apply(&path, "kubectl", &next).await.refused(409, "Conflict", "conflict with \"editor\" using v1: .data.k");
}

#[tokio::test]
async fn items_of_lists_have_owners_of_their_own() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let path = "/api/v1/namespaces/default/services/s";
    let service = |ports: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"a": "b"}, "ports": ports}});
    admin.apply(path, "a", &service(json!([{"port": 80, "name": "one"}]))).await.expect(201);
    let both = admin
        .apply(path, "b", &service(json!([{"port": 81, "name": "two"}, {"port": 81, "protocol": "UDP", "name": "three"}])))
        .await
        .expect(200);
    let ports: Vec<i64> = both["spec"]["ports"].as_array().unwrap().iter().map(|p| p["port"].as_i64().unwrap()).collect();
    assert_eq!(ports.len(), 3, "{both}");
    let own = owners(&both).into_iter().find(|o| o.0 == "a").unwrap();
    let keys: Vec<&String> = own.2["f:spec"]["f:ports"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["k:{\"port\":80,\"protocol\":\"TCP\"}"]);
    let left = admin.apply(path, "b", &service(json!([{"port": 81, "protocol": "UDP", "name": "three"}]))).await.expect(200);
    let names: Vec<&str> = left["spec"]["ports"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["one", "three"]);
    let twice = service(json!([{"port": 80, "name": "x"}, {"port": 80, "protocol": "TCP", "name": "y"}]));
    let twice = admin.apply(path, "c", &twice).await.expect(500);
    assert!(twice["message"].as_str().unwrap().ends_with(".spec.ports: duplicate entries for key [port=80,protocol=\"TCP\"]"), "{twice}");
    let selector = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"selector": {"c": "d"}}});
    admin.apply(path, "c", &selector).await.refused(
        409,
        "Conflict",
        "conflicts with \"a\":\n- .spec.selector\nconflicts with \"b\":\n- .spec.selector",
    );
}

#[tokio::test]
async fn an_apply_of_defaults_and_quantities_makes_no_new_version() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut config = pod("p");
    config["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1000m", "memory": "1024Mi"}});
    config["metadata"]["creationTimestamp"] = json!(null);
    let path = format!("{PODS}/p");
    let made = admin.apply(&path, "me", &config).await.expect(201);
    assert_eq!(made["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "1", "memory": "1Gi"}));
    world.clock.advance(Duration::from_secs(10));
    let again = admin.apply(&path, "me", &config).await.expect(200);
    assert_eq!(version(&again), version(&made));
    assert_eq!(again, made);
}

#[tokio::test]
async fn components_write_under_their_own_names() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let role = admin.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin").await.expect(200);
    assert_eq!(owners(&role)[0].0, "kube-apiserver");
    let unnamed = admin.post(MAPS, &config_map("u", &[])).await.expect(201);
    assert_eq!(owners(&unnamed)[0].0, "unknown");
}
