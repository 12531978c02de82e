//! Custom resources: definitions, and the objects they describe.

use crate::world::*;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CRONTABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

/// The schema of a CronTab.
fn schema() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["cron"], "properties": {
            "cron": {"type": "string", "pattern": "^\\S+$"},
            "replicas": {"type": "integer", "minimum": 1, "maximum": 10, "default": 1},
            "color": {"type": "string"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}}}}}},
        "status": {"type": "object", "properties": {"replicas": {"type": "integer"}, "selector": {"type": "string"}, "phase": {"type": "string"}}}}})
}

fn version(name: &str, storage: bool) -> Value {
    json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema()},
        "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
        "selectableFields": [{"jsonPath": ".spec.color"}],
        "additionalPrinterColumns": [{"name": "Cron", "type": "string", "jsonPath": ".spec.cron"}, {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas", "priority": 1},
            {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]})
}

fn definition(plural: &str, kind: &str, versions: Value) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.stable.example.com")},
        "spec": {"group": "stable.example.com", "scope": "Namespaced", "versions": versions,
            "names": {"plural": plural, "kind": kind, "shortNames": [plural.get(..2).unwrap()], "categories": ["all"]}}})
}

fn crontab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

fn condition<'v>(definition: &'v Value, kind: &str) -> &'v Value {
    definition["status"]["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

/// A cluster with CronTabs in one version, or in more.
async fn with_crontabs(versions: Value) -> (World, Http) {
    let world = World::new().await;
    let mut admin = world.admin().await;
    admin.post(DEFINITIONS, &definition("crontabs", "CronTab", versions)).await.expect(201);
    world.settle().await;
    (world, admin)
}

#[tokio::test]
async fn a_definition_is_completed_accepted_and_established() {
    let (_world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let found = admin.get(&path).await.expect(200);
    assert_eq!(found["spec"]["names"]["singular"], "crontab");
    assert_eq!(found["spec"]["names"]["listKind"], "CronTabList");
    assert_eq!(found["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(found["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(found["status"]["acceptedNames"], found["spec"]["names"]);
    for (kind, reason) in [("NamesAccepted", "NoConflicts"), ("Established", "InitialNamesAccepted")] {
        assert_eq!((&condition(&found, kind)["status"], &condition(&found, kind)["reason"]), (&json!("True"), &json!(reason)));
    }
    assert_eq!(found["metadata"]["generation"], 1);
    let patch = json!({"status": {"conditions": [{"type": "Mine", "status": "True"}]}});
    let patched = admin.patch(&format!("{path}/status"), "merge", &patch).await.expect(200);
    assert_eq!(condition(&patched, "Mine")["status"], "True");
}

#[tokio::test]
async fn definitions_that_break_the_rules_are_refused_in_upstreams_words() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let mut wrong = async |change: fn(&mut Value), message: &str| {
        let mut definition = definition("crontabs", "CronTab", json!([version("v1", true)]));
        change(&mut definition);
        admin.post(DEFINITIONS, &definition).await.refused(422, "Invalid", message);
    };
    wrong(|d| d["metadata"]["name"] = json!("x.y"), "metadata.name: Invalid value: \"x.y\": must be spec.names.plural+\".\"+spec.group")
        .await;
    wrong(|d| d["spec"]["versions"][0]["storage"] = json!(false), "must have exactly one version marked as storage version").await;
    wrong(
        |d| d["spec"]["scope"] = json!("Everywhere"),
        "spec.scope: Unsupported value: \"Everywhere\": supported values: \"Cluster\", \"Namespaced\"",
    )
    .await;
    wrong(
        |d| d["spec"]["versions"][0]["schema"] = Value::Null,
        "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required",
    )
    .await;
    wrong(
        |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["type"] = json!(""),
        "spec.validation.openAPIV3Schema.properties[spec].type: Required value: must not be empty for specified object fields",
    )
    .await;
    wrong(
        |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["replicas"]["default"] = json!(99),
        "properties[replicas].default: Invalid value: 99: ",
    )
    .await;
    wrong(
        |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["cron"]["pattern"] = json!("("),
        "must be a valid regular expression, but isn't",
    )
    .await;
    wrong(
        |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["cron"]["uniqueItems"] = json!(true),
        "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
    )
    .await;
    wrong(
        |d| d["spec"]["versions"][0]["additionalPrinterColumns"][0]["type"] = json!("text"),
        "must be one of boolean,date,integer,number,string",
    )
    .await;
    wrong(|d| d["spec"]["versions"][0]["selectableFields"][0]["jsonPath"] = json!(".spec.none"), "is an invalid path").await;
    wrong(
        |d| {
            d["spec"]["group"] = json!("a.k8s.io");
            d["metadata"]["name"] = json!("crontabs.a.k8s.io");
        },
        "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation",
    )
    .await;
    let odd = definition("crontabs", "CronTab", json!([version("v1", true)]));
    let mut odd = odd;
    odd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["cron"]["format"] = json!("cron");
    let made = admin.post(DEFINITIONS, &odd).await;
    made.expect(201);
    assert_eq!(made.warnings(), ["299 - \"unrecognized format \\\"cron\\\"\""]);
    let rule = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/x-kubernetes-validations", "value": [{"rule": "has(self.spec)"}]}]);
    let ruled = admin.patch(&format!("{DEFINITIONS}/crontabs.stable.example.com"), "json", &rule).await;
    ruled.expect(200);
    assert!(ruled.warnings().is_empty());
}

#[tokio::test]
async fn validation_rules_are_enforced() {
    let (world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    let at = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations";
    let rules = |rules: Value| json!([{"op": "add", "path": spec, "value": rules}]);
    let bad = admin.patch(&at, "json", &rules(json!([{"rule": "self.nonesuch > 1"}]))).await;
    bad.expect(422);
    assert!(bad.json()["message"].as_str().is_some_and(|m| m.contains("undefined field 'nonesuch'")), "{}", bad.json());
    let cron = json!([{"rule": "self.cron != 'never'", "message": "some time it must run"}, {"rule": "self.cron == oldSelf.cron", "reason": "FieldValueForbidden", "fieldPath": ".cron"}]);
    admin.patch(&at, "json", &rules(cron)).await.expect(200);
    let object = |name: &str, cron: &str| json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": {"cron": cron}});
    let path = "/apis/stable.example.com/v1/namespaces/default/crontabs";
    let refused = admin.post(path, &object("a", "never")).await;
    refused.expect(422);
    assert_eq!(
        refused.json()["details"]["causes"][0],
        json!({"reason": "FieldValueInvalid", "message": "Invalid value: some time it must run", "field": "spec"})
    );
    admin.post(path, &object("a", "daily")).await.expect(201);
    let changed = admin.patch(&format!("{path}/a"), "merge", &json!({"spec": {"cron": "hourly"}})).await;
    changed.expect(422);
    assert_eq!(changed.json()["details"]["causes"][0]["field"], "spec.cron");
    admin.patch(&format!("{path}/a"), "merge", &json!({"metadata": {"labels": {"a": "b"}}})).await.expect(200);
    drop(world);
}

#[tokio::test]
async fn names_in_use_wait_until_they_are_free() {
    let (world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    let mut rival = definition("crons", "Cron", json!([version("v1", true)]));
    rival["spec"]["names"]["shortNames"] = json!(["cr"]);
    admin.post(DEFINITIONS, &rival).await.expect(201);
    world.settle().await;
    let path = format!("{DEFINITIONS}/crons.stable.example.com");
    let refused = admin.get(&path).await.expect(200);
    assert_eq!(condition(&refused, "NamesAccepted")["message"], "\"cr\" is already in use");
    assert_eq!(condition(&refused, "Established")["status"], "False");
    admin.get("/apis/stable.example.com/v1/crons").await.refused(404, "NotFound", "");
    admin.delete(&format!("{DEFINITIONS}/crontabs.stable.example.com"), &Value::Null).await.expect(200);
    world.settle().await;
    assert_eq!(condition(&admin.get(&path).await.expect(200), "Established")["status"], "True");
    admin.get("/apis/stable.example.com/v1/crons").await.expect(200);
}

#[tokio::test]
async fn objects_are_defaulted_pruned_and_validated() {
    let (_world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    let extra = crontab("a", json!({"cron": "*", "odd": 1, "free": {"x": {"y": 1}}}));
    let made = admin.post(CRONTABS, &extra).await;
    assert_eq!(made.warnings(), ["299 - \"unknown field \\\"spec.odd\\\"\""]);
    let made = made.expect(201);
    assert_eq!(made["spec"], json!({"cron": "*", "replicas": 1, "free": {"x": {"y": 1}}}));
    assert_eq!((&made["metadata"]["generation"], &made["apiVersion"]), (&json!(1), &json!("stable.example.com/v1")));
    assert_eq!(admin.get(&format!("{CRONTABS}/a")).await.expect(200), made);
    let strict = admin.post(&format!("{CRONTABS}?fieldValidation=Strict"), &crontab("b", json!({"cron": "*", "odd": 1}))).await;
    strict.refused(400, "BadRequest", "strict decoding error: unknown field \"spec.odd\"");
    let twice =
        r#"{"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": "b"}, "spec": {"cron": "a", "cron": "b"}}"#;
    let json = [("content-type", "application/json")];
    let twice = admin.send("POST", &format!("{CRONTABS}?fieldValidation=Strict"), &json, twice).await;
    twice.refused(400, "BadRequest", "duplicate field \"spec.cron\"");
    for (spec, message) in [
        (json!({}), "CronTab.stable.example.com \"b\" is invalid: spec.cron: Required value"),
        (json!({"cron": 1}), "spec.cron: Invalid value: \"integer\": spec.cron in body must be of type string: \"integer\""),
        (
            json!({"cron": "*", "replicas": 11}),
            "spec.replicas: Invalid value: 11: spec.replicas in body should be less than or equal to 10",
        ),
        (json!({"cron": "* *"}), "spec.cron: Invalid value: \"* *\": spec.cron in body should match '^\\S+$'"),
        (json!({"cron": "*", "ports": [{"port": 1}, {"port": 1}]}), "spec.ports[1]: Duplicate value: {\"port\":1}"),
    ] {
        admin.post(CRONTABS, &crontab("b", spec)).await.refused(422, "Invalid", message);
    }
    let mut other = crontab("b", json!({"cron": "*"}));
    other["kind"] = json!("Other");
    admin.post(CRONTABS, &other).await.refused(400, "BadRequest", "Other");
    let yaml = "apiVersion: stable.example.com/v1\nkind: CronTab\nmetadata: {generateName: y-}\nspec: {cron: x}\n";
    let made = admin.send("POST", CRONTABS, &[("content-type", "application/yaml")], yaml).await.expect(201);
    assert!(made["metadata"]["name"].as_str().unwrap().starts_with("y-"));
    let dry = admin.post(&format!("{CRONTABS}?dryRun=All"), &crontab("c", json!({"cron": "*"}))).await.expect(201);
    assert_eq!(dry["spec"]["replicas"], 1);
    admin.get(&format!("{CRONTABS}/c")).await.refused(404, "NotFound", "crontabs.stable.example.com \"c\" not found");
}

#[tokio::test]
async fn objects_are_changed_by_every_verb_that_there_is() {
    let (_world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    let path = format!("{CRONTABS}/a");
    let made = admin.post(CRONTABS, &crontab("a", json!({"cron": "*"}))).await.expect(201);
    let mut changed = made.clone();
    changed["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    admin.put(&path, &changed).await.refused(422, "Invalid", "metadata.resourceVersion: Invalid value");
    changed = made.clone();
    changed["spec"]["cron"] = json!("b");
    changed["status"] = json!({"phase": "odd"});
    let changed = admin.put(&path, &changed).await.expect(200);
    assert_eq!((&changed["metadata"]["generation"], changed.get("status")), (&json!(2), None));
    let patched = admin.patch(&path, "merge", &json!({"spec": {"color": "red"}, "metadata": {"labels": {"l": "m"}}})).await.expect(200);
    assert_eq!(patched["metadata"]["generation"], 3);
    let labelled = admin.patch(&path, "json", &json!([{"op": "add", "path": "/metadata/labels/n", "value": "o"}])).await.expect(200);
    assert_eq!(labelled["metadata"]["generation"], 3, "metadata are not part of a generation");
    admin.patch(&path, "strategic-merge", &json!({})).await.refused(415, "UnsupportedMediaType", "application/merge-patch+json");
    admin.patch(&path, "merge", &json!({"spec": {"replicas": 0}})).await.refused(422, "Invalid", "should be greater than or equal to 1");
    let status = json!({"status": {"replicas": 2, "selector": "a=b"}, "spec": {"cron": "no"}, "metadata": {"labels": {"x": "y"}}});
    let status = admin.patch(&format!("{path}/status"), "merge", &status).await.expect(200);
    assert_eq!((&status["spec"]["cron"], &status["status"]["replicas"]), (&json!("b"), &json!(2)));
    assert_eq!((&status["metadata"]["generation"], status["metadata"]["labels"].get("x")), (&json!(3), None));
    let mut scale = admin.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["spec"], &scale["status"]),
        (&json!("Scale"), &json!({"replicas": 1}), &json!({"replicas": 2, "selector": "a=b"}))
    );
    scale["spec"]["replicas"] = json!(5);
    assert_eq!(admin.put(&format!("{path}/scale"), &scale).await.expect(200)["spec"]["replicas"], 5);
    let now = admin.get(&path).await.expect(200);
    assert_eq!((&now["spec"]["replicas"], &now["metadata"]["generation"]), (&json!(5), &json!(4)));
    let protobuf = "application/vnd.kubernetes.protobuf";
    assert_eq!(admin.get_as(&path, protobuf).await.code, 406);
    assert_eq!(admin.get_as(&path, &format!("{protobuf},application/json")).await.expect(200), now);
    admin.post(CRONTABS, &crontab("b", json!({"cron": "*", "color": "blue"}))).await.expect(201);
    let names = |list: &Value| -> Vec<String> {
        list["items"].as_array().unwrap().iter().map(|i| i["metadata"]["name"].as_str().unwrap().into()).collect()
    };
    let list = admin.get(&format!("{CRONTABS}?fieldSelector=spec.color%3Dblue")).await.expect(200);
    assert_eq!(
        (names(&list), &list["kind"], &list["apiVersion"]),
        (vec!["b".into()], &json!("CronTabList"), &json!("stable.example.com/v1"))
    );
    assert_eq!(names(&admin.get(&format!("{CRONTABS}?labelSelector=l%3Dm")).await.expect(200)), ["a"]);
    admin.get(&format!("{CRONTABS}?fieldSelector=spec.cron%3Dx")).await.refused(400, "BadRequest", "field label not supported: spec.cron");
    admin.delete(&format!("{CRONTABS}/a"), &Value::Null).await.expect(200);
    admin.delete(CRONTABS, &Value::Null).await.expect(200);
    assert_eq!(names(&admin.get(CRONTABS).await.expect(200)), Vec::<String>::new());
}

#[tokio::test]
async fn tables_have_the_definitions_columns() {
    let (_world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    admin.post(CRONTABS, &crontab("a", json!({"cron": "x"}))).await.expect(201);
    let table = admin.get_as(CRONTABS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.expect(200);
    let columns: Vec<&Value> = table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(columns, ["Name", "Cron", "Replicas", "Age"]);
    assert_eq!(table["columnDefinitions"][2]["priority"], 1);
    assert_eq!(table["rows"][0]["cells"], json!(["a", "x", 1, "0s"]));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = admin.get_as(CRONTABS, "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io").await.expect(200);
    assert_eq!((&partial["kind"], partial["items"][0].get("spec")), (&json!("PartialObjectMetadataList"), None));
}

#[tokio::test]
async fn discovery_and_schema_documents_follow_at_once() {
    let (world, mut admin) = with_crontabs(json!([version("v1beta1", false), version("v1", true)])).await;
    let group = admin.get("/apis/stable.example.com").await.expect(200);
    assert_eq!((&group["preferredVersion"]["version"], &group["versions"][1]["version"]), (&json!("v1"), &json!("v1beta1")));
    let list = admin.get("/apis/stable.example.com/v1").await.expect(200);
    let names: Vec<&Value> = list["resources"].as_array().unwrap().iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["crontabs", "crontabs/status", "crontabs/scale"]);
    assert_eq!((&list["resources"][0]["shortNames"], &list["resources"][0]["categories"]), (&json!(["cr"]), &json!(["all"])));
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let has_group = |all: &Value| all["items"].as_array().unwrap().iter().any(|g| g["metadata"]["name"] == "stable.example.com");
    assert!(has_group(&admin.get_as("/apis", accept).await.expect(200)));
    let index = admin.get("/openapi/v3").await.expect(200);
    let url = index["paths"]["apis/stable.example.com/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let document = admin.get(&url).await.expect(200);
    let definition = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(definition["properties"]["spec"], schema()["properties"]["spec"]);
    assert_eq!(definition["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    let patch = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"]["requestBody"]["content"];
    assert!(patch.get("application/merge-patch+json").is_some() && patch.get("application/strategic-merge-patch+json").is_none());
    let v2 = admin.get("/openapi/v2").await.expect(200);
    assert_eq!(v2["definitions"]["com.example.stable.v1.CronTab"]["properties"]["spec"]["properties"]["cron"]["type"], "string");
    admin.delete(&format!("{DEFINITIONS}/crontabs.stable.example.com"), &Value::Null).await.expect(200);
    world.settle().await;
    admin.get("/apis/stable.example.com").await.refused(404, "NotFound", "");
    assert!(!has_group(&admin.get_as("/apis", accept).await.expect(200)));
    admin.get(&url).await.refused(404, "NotFound", "");
    admin.get(CRONTABS).await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn a_deleted_definition_takes_its_objects_along() {
    let (world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    let mut held = crontab("held", json!({"cron": "x"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    admin.post(CRONTABS, &held).await.expect(201);
    admin.post(CRONTABS, &crontab("free", json!({"cron": "x"}))).await.expect(201);
    let mut watch = world.admin().await.watch(&format!("{CRONTABS}?watch=1"), "").await;
    assert_eq!(watch.told().await.1, "free");
    assert_eq!(watch.told().await.1, "held");
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let going = admin.delete(&path, &Value::Null).await.expect(200);
    assert_eq!(going["metadata"]["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    assert_eq!(condition(&going, "Terminating")["status"], "True");
    world.settle().await;
    admin.get(&format!("{CRONTABS}/free")).await.refused(404, "NotFound", "");
    assert_eq!(condition(&admin.get(&path).await.expect(200), "Terminating")["reason"], "InstanceDeletionInProgress");
    admin.post(CRONTABS, &crontab("late", json!({"cron": "x"}))).await.refused(
        405,
        "MethodNotAllowed",
        "while custom resource definition is terminating",
    );
    admin.patch(&format!("{CRONTABS}/held"), "merge", &json!({"metadata": {"finalizers": []}})).await.expect(200);
    world.settle().await;
    admin.get(&path).await.refused(404, "NotFound", "");
    let mut deleted = Vec::new();
    while let Some(event) = watch.next().await {
        if event["type"] == "DELETED" {
            deleted.push(event["object"]["metadata"]["name"].clone());
        }
    }
    assert_eq!(deleted, ["free", "held"], "and then the watch ends");
}

#[tokio::test]
async fn versions_show_the_same_object() {
    let (world, mut admin) = with_crontabs(json!([version("v1", true), version("v2", false)])).await;
    admin.post(CRONTABS, &crontab("a", json!({"cron": "x"}))).await.expect(201);
    let v2 = "/apis/stable.example.com/v2/namespaces/default/crontabs";
    let seen = admin.get(&format!("{v2}/a")).await.expect(200);
    assert_eq!((&seen["apiVersion"], &seen["spec"]["cron"]), (&json!("stable.example.com/v2"), &json!("x")));
    let mut watch = world.admin().await.watch(&format!("{v2}?watch=1"), "").await;
    assert_eq!(watch.next().await.unwrap()["object"]["apiVersion"], "stable.example.com/v2");
    admin.patch(&format!("{CRONTABS}/a"), "merge", &json!({"spec": {"color": "red"}})).await.expect(200);
    assert_eq!(watch.next().await.unwrap()["object"]["apiVersion"], "stable.example.com/v2");
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    let storage = json!([{"op": "replace", "path": "/spec/versions/0/storage", "value": false}, {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
        {"op": "add", "path": "/spec/versions/0/deprecated", "value": true},
        {"op": "add", "path": "/spec/versions/1/schema/openAPIV3Schema/properties/spec/properties/fresh", "value": {"type": "string", "default": "yes"}}]);
    let changed = admin.patch(&path, "json", &storage).await.expect(200);
    assert_eq!((&changed["status"]["storedVersions"], &changed["metadata"]["generation"]), (&json!(["v1", "v2"]), &json!(2)));
    world.settle().await;
    assert_eq!(watch.next().await, None, "a kind that changed is watched anew");
    let old = admin.get(&format!("{CRONTABS}/a")).await;
    assert_eq!(old.warnings(), ["299 - \"stable.example.com/v1 CronTab is deprecated\""]);
    assert_eq!(old.expect(200)["spec"].get("fresh"), None);
    assert_eq!(admin.get(&format!("{v2}/a")).await.expect(200)["spec"]["fresh"], "yes", "defaults are filled in on reading");
    let gone = json!([{"op": "remove", "path": "/spec/versions/0"}]);
    admin.patch(&path, "json", &gone).await.refused(
        422,
        "Invalid",
        "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions",
    );
}

#[tokio::test]
async fn a_namespace_stays_while_custom_resources_are_in_it() {
    let (_world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    admin.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let tabs = "/apis/stable.example.com/v1/namespaces/n/crontabs";
    let mut held = crontab("held", json!({"cron": "x"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    admin.post(tabs, &held).await.expect(201);
    let namespace = admin.delete("/api/v1/namespaces/n", &Value::Null).await.expect(200);
    let mut empty = namespace.clone();
    empty["spec"]["finalizers"] = json!([]);
    empty["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    admin.put("/api/v1/namespaces/n/finalize", &empty).await.refused(409, "Conflict", "crontabs.stable.example.com are remaining in it");
    admin.delete(tabs, &Value::Null).await.expect(200);
    admin.put("/api/v1/namespaces/n/finalize", &empty).await.refused(409, "Conflict", "crontabs.stable.example.com are remaining in it");
    admin.patch(&format!("{tabs}/held"), "merge", &json!({"metadata": {"finalizers": null}})).await.expect(200);
    admin.put("/api/v1/namespaces/n/finalize", &empty).await.expect(200);
    admin.get("/api/v1/namespaces/n").await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn built_in_objects_are_out_of_a_definitions_reach() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    admin.post(leases, &json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}})).await.expect(201);
    let mut definition = definition("leases", "Lease", json!([version("v9", true)]));
    definition["spec"]["group"] = json!("coordination.k8s.io");
    definition["metadata"] =
        json!({"name": "leases.coordination.k8s.io", "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}});
    admin.post(DEFINITIONS, &definition).await.expect(201);
    world.settle().await;
    let path = format!("{DEFINITIONS}/leases.coordination.k8s.io");
    let found = admin.get(&path).await.expect(200);
    assert_eq!(condition(&found, "KubernetesAPIApprovalPolicyConformant")["reason"], "UnapprovedAnnotation");
    admin.get("/apis/coordination.k8s.io/v9/leases").await.refused(404, "NotFound", "");
    admin.delete(&path, &Value::Null).await.expect(200);
    world.settle().await;
    admin.get(&path).await.refused(404, "NotFound", "");
    admin.get(&format!("{leases}/l")).await.expect(200);
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let (world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    let mut held = crontab("held", json!({"cron": "x"}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    admin.post(CRONTABS, &held).await.expect(201);
    let path = format!("{DEFINITIONS}/crontabs.stable.example.com");
    admin.delete(&path, &Value::Null).await.expect(200);
    world.settle().await;
    // The tasks of one server end, another one begins with what is stored.
    world.tasks.shutdown();
    world.server.bootstrap().await.unwrap();
    let mut admin = world.admin().await;
    admin.patch(&format!("{CRONTABS}/held"), "merge", &json!({"metadata": {"finalizers": []}})).await.expect(200);
    world.settle().await;
    admin.get(&path).await.refused(404, "NotFound", "");
}

#[tokio::test]
async fn custom_resources_are_applied_and_owned() {
    let (_world, mut admin) = with_crontabs(json!([version("v1", true)])).await;
    let path = format!("{CRONTABS}/a");
    let yaml = [("content-type", "application/apply-patch+yaml")];
    let config = |spec: Value| crontab("a", spec).to_string();
    let mine = format!("{path}?fieldManager=me");
    let made = admin.send("PATCH", &mine, &yaml, config(json!({"cron": "x", "ports": [{"port": 1}]}))).await.expect(201);
    assert_eq!((&made["spec"]["replicas"], &made["metadata"]["generation"]), (&json!(1), &json!(1)));
    let owned = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (&owned["manager"], &owned["operation"], &owned["apiVersion"]),
        (&json!("me"), &json!("Apply"), &json!("stable.example.com/v1"))
    );
    assert!(owned["fieldsV1"]["f:spec"]["f:ports"].get("k:{\"port\":1}").is_some(), "{owned}");
    let yours = format!("{path}?fieldManager=you");
    let conflict = admin.send("PATCH", &yours, &yaml, config(json!({"cron": "y"}))).await;
    conflict.refused(409, "Conflict", "conflict with \"me\": .spec.cron");
    let both = admin.send("PATCH", &yours, &yaml, config(json!({"ports": [{"port": 2}]}))).await.expect(200);
    assert_eq!(both["spec"]["ports"].as_array().unwrap().len(), 2);
    let odd = config(json!({"cron": "x", "ports": [{"port": 1}], "replicas": 0}));
    admin.send("PATCH", &mine, &yaml, odd).await.refused(422, "Invalid", "should be greater than or equal to 1");
    let status = json!({"status": {"phase": "good"}});
    let status = admin.patch(&format!("{path}/status?fieldManager=it"), "merge", &status).await.expect(200);
    let managers: Vec<&Value> = status["metadata"]["managedFields"].as_array().unwrap().iter().map(|e| &e["manager"]).collect();
    assert!(managers.contains(&&json!("it")), "{managers:?}");
    let same = admin.send("PATCH", &mine, &yaml, config(json!({"cron": "x", "ports": [{"port": 1}]}))).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], status["metadata"]["resourceVersion"], "an apply that changes nothing writes nothing");
}
