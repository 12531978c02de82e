//! Admission webhooks, asked over HTTPS behind a Service.

use base64::Engine;
use std::time::Duration;

use crate::outside::Outside;
use crate::world::{DEPLOYMENTS, Http, MAPS, PODS, Value, World, config_map, deployment, json, pod};

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

fn review(request: &Value, response: Value) -> Option<(u16, String)> {
    let mut response = response;
    response["uid"] = request["request"]["uid"].clone();
    Some((200, json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string()))
}

fn patch(request: &Value, patch: Value) -> Option<(u16, String)> {
    let patch = base64::engine::general_purpose::STANDARD.encode(patch.to_string());
    review(request, json!({"allowed": true, "patch": patch, "patchType": "JSONPatch"}))
}

/// Paths say what is answered.
fn answer(path: &str, request: &Value) -> Option<(u16, String)> {
    let object = &request["request"]["object"];
    match path {
        "/allow" => review(request, json!({"allowed": true, "warnings": ["mind the gap"]})),
        "/deny" => review(request, json!({"allowed": false, "status": {"code": 403, "reason": "Forbidden", "message": "not today"}})),
        "/hang" => None,
        "/broken" => Some((500, "no good".into())),
        "/huge" => Some((200, "x".repeat(20 << 20))),
        "/garble" => {
            patch(request, json!([{"op": "add", "path": "/metadata/managedFields", "value": [{"manager": "x", "operation": "Nonsense"}]}]))
        }
        "/a" => match object["data"]["b"].is_null() {
            true => patch(request, json!([{"op": "add", "path": "/data/a", "value": "1"}])),
            false => patch(request, json!([{"op": "add", "path": "/data/a-saw-b", "value": "1"}])),
        },
        "/b" => patch(request, json!([{"op": "add", "path": "/data/b", "value": "1"}])),
        "/scale" => patch(request, json!([{"op": "replace", "path": "/spec/replicas", "value": 7}])),
        _ => None,
    }
}

struct Scene {
    world: World,
    admin: Http,
    outside: Outside,
}

fn rule(operations: &[&str], group: &str, version: &str, resource: &str) -> Value {
    json!({"operations": operations, "apiGroups": [group], "apiVersions": [version], "resources": [resource]})
}

impl Scene {
    async fn new() -> Self {
        let world = World::new().await;
        let mut admin = world.admin().await;
        let outside = Outside::start(&world, &mut admin, "hook", answer).await;
        Self { world, admin, outside }
    }

    /// Adds a configuration of webhooks at these paths, each with the rule and what else `more` says.
    async fn hook(&mut self, at: &str, name: &str, paths: &[&str], rule: Value, more: Value) {
        let hooks: Vec<Value> = paths
            .iter()
            .map(|path| {
                let mut hook = json!({"name": format!("{}.{name}.io", path.trim_start_matches('/')), "clientConfig": self.outside.client_config(path),
                    "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"]});
                for (member, value) in more.as_object().unwrap() {
                    hook[member] = value.clone();
                }
                hook
            })
            .collect();
        self.admin.post(at, &json!({"metadata": {"name": name}, "webhooks": hooks})).await.expect(201);
    }
}

#[tokio::test]
async fn a_validating_webhook_sees_the_request_and_may_deny_it() {
    let mut scene = Scene::new().await;
    scene.hook(VALIDATING, "deny", &["/deny"], rule(&["CREATE", "DELETE"], "", "v1", "configmaps"), json!({})).await;
    let refused = scene.admin.post(&format!("{MAPS}?fieldManager=me"), &config_map("m", &[])).await;
    refused.refused(403, "Forbidden", "admission webhook \"deny.deny.io\" denied the request: not today");
    let told = scene.outside.told();
    let request = &told[0]["request"];
    assert_eq!((&told[0]["kind"], &told[0]["apiVersion"]), (&json!("AdmissionReview"), &json!("admission.k8s.io/v1")));
    assert_eq!(request["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(request["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&request["name"], &request["namespace"], &request["operation"]), (&json!("m"), &json!("default"), &json!("CREATE")));
    assert_eq!(request["userInfo"]["username"], "kubernetes-admin");
    assert_eq!((&request["object"]["data"]["k"], &request["oldObject"], &request["dryRun"]), (&json!("v"), &Value::Null, &json!(false)));
    assert_eq!(request["options"]["fieldManager"], "me");
    assert_eq!(request["options"]["kind"], "CreateOptions");
    scene.admin.get(&format!("{MAPS}/m")).await.refused(404, "NotFound", "");
    scene.admin.delete(&format!("{VALIDATING}/deny"), &Value::Null).await.expect(200);
    scene.admin.post(MAPS, &config_map("m", &[])).await.expect(201);
    scene.hook(VALIDATING, "deny", &["/deny"], rule(&["DELETE"], "", "*", "*"), json!({})).await;
    scene.admin.delete(&format!("{MAPS}/m"), &Value::Null).await.refused(403, "Forbidden", "not today");
    let request = &scene.outside.told()[0]["request"];
    assert_eq!((&request["object"], &request["oldObject"]["data"]["k"]), (&Value::Null, &json!("v")));
    assert_eq!(request["options"]["kind"], "DeleteOptions");
    scene.admin.delete(MAPS, &Value::Null).await.refused(403, "Forbidden", "not today");
    // What is wrong with webhooks can be mended, whatever they say.
    scene.hook(VALIDATING, "all", &["/deny"], rule(&["*"], "*", "*", "*/*"), json!({})).await;
    scene.admin.delete(&format!("{VALIDATING}/all"), &Value::Null).await.expect(200);
}

#[tokio::test]
async fn mutating_webhooks_go_in_order_and_see_what_others_did_after_them() {
    let mut scene = Scene::new().await;
    let maps = || rule(&["CREATE"], "", "v1", "configmaps");
    scene.hook(MUTATING, "m1", &["/a", "/b"], maps(), json!({"reinvocationPolicy": "IfNeeded"})).await;
    let made = scene.admin.post(MAPS, &config_map("m", &[])).await.expect(201);
    assert_eq!(made["data"], json!({"k": "v", "a": "1", "b": "1", "a-saw-b": "1"}));
    assert_eq!(scene.outside.paths().len(), 4, "each has seen what the other did since");
    scene.admin.delete(&format!("{MUTATING}/m1"), &Value::Null).await.expect(200);
    scene.hook(MUTATING, "m2", &["/a", "/b"], maps(), json!({"reinvocationPolicy": "Never"})).await;
    let made = scene.admin.post(MAPS, &config_map("n", &[])).await.expect(201);
    assert_eq!(made["data"], json!({"k": "v", "a": "1", "b": "1"}));
    let mine = made["metadata"]["managedFields"][0]["fieldsV1"]["f:data"].as_object().unwrap();
    assert!(mine.contains_key("f:k") && !mine.contains_key("f:a"), "what admission adds is nobody's");
    scene.hook(MUTATING, "m3", &["/garble"], rule(&["CREATE"], "", "v1", "pods"), json!({})).await;
    let made = scene.admin.post(PODS, &pod("p")).await;
    assert!(made.warnings().iter().any(|w| w.contains("managedFields was in an invalid state")), "{:?}", made.warnings());
    assert!(made.expect(201)["metadata"]["managedFields"][0]["manager"].is_string());
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_fails_as_its_policy_says() {
    let mut scene = Scene::new().await;
    let maps = || rule(&["CREATE"], "", "v1", "configmaps");
    for (path, why) in [
        ("/broken", "an error on the server (\"no good\") has prevented the request from succeeding"),
        ("/huge", "the answer is larger than"),
    ] {
        scene.hook(VALIDATING, "v", &[path], maps(), json!({"failurePolicy": "Fail"})).await;
        let refused = scene.admin.post(MAPS, &config_map("m", &[])).await;
        let name = format!("{}.v.io", path.trim_start_matches('/'));
        refused.refused(
            500,
            "InternalError",
            &format!("Internal error occurred: failed calling webhook {name:?}: failed to call webhook: "),
        );
        refused.refused(500, "InternalError", why);
        scene.admin.delete(&format!("{VALIDATING}/v"), &Value::Null).await.expect(200);
    }
    scene.hook(VALIDATING, "v", &["/broken"], maps(), json!({"failurePolicy": "Ignore"})).await;
    scene.admin.post(MAPS, &config_map("m", &[])).await.expect(201);
    scene.admin.delete(&format!("{VALIDATING}/v"), &Value::Null).await.expect(200);
    scene.hook(VALIDATING, "v", &["/hang"], maps(), json!({"failurePolicy": "Fail", "timeoutSeconds": 1})).await;
    scene.outside.told();
    let mut other = scene.world.admin().await;
    let held = async { other.post(MAPS, &config_map("slow", &[])).await };
    let passing = async {
        while scene.outside.paths().is_empty() {
            tokio::task::yield_now().await;
        }
        scene.world.clock.advance(Duration::from_secs(2));
    };
    let (held, ()) = tokio::join!(held, passing);
    held.refused(500, "InternalError", "Post \"https://hook.default.svc:443/hang?timeout=1s\": context deadline exceeded");
    scene.admin.delete(&format!("{VALIDATING}/v"), &Value::Null).await.expect(200);
    let nowhere = json!({"clientConfig": {"service": {"namespace": "default", "name": "nowhere"}, "caBundle": scene.outside.bundle}});
    scene.hook(VALIDATING, "v", &["/x"], maps(), nowhere).await;
    scene.admin.post(MAPS, &config_map("m2", &[])).await.refused(500, "InternalError", "service \"nowhere\" not found");
}

#[tokio::test]
async fn selectors_dry_runs_and_warnings() {
    let mut scene = Scene::new().await;
    let maps = || rule(&["*"], "", "v1", "configmaps");
    let selects = json!({"objectSelector": {"matchLabels": {"watched": "yes"}}, "namespaceSelector": {"matchExpressions": [{"key": "free", "operator": "DoesNotExist"}]}});
    scene.hook(VALIDATING, "v", &["/deny"], maps(), selects).await;
    scene.admin.post(MAPS, &config_map("a", &[])).await.expect(201);
    scene.admin.post(MAPS, &config_map("b", &[("watched", "yes")])).await.refused(403, "Forbidden", "not today");
    let free = json!({"metadata": {"name": "free", "labels": {"free": "yes"}}});
    scene.admin.post("/api/v1/namespaces", &free).await.expect(201);
    scene.admin.post("/api/v1/namespaces/free/configmaps", &config_map("b", &[("watched", "yes")])).await.expect(201);
    scene.admin.delete(&format!("{VALIDATING}/v"), &Value::Null).await.expect(200);
    scene.hook(VALIDATING, "w", &["/allow"], maps(), json!({"sideEffects": "NoneOnDryRun"})).await;
    let made = scene.admin.post(&format!("{MAPS}?dryRun=All"), &config_map("c", &[])).await;
    assert_eq!((made.code, made.warnings()), (201, vec!["299 - \"mind the gap\""]));
    assert_eq!(scene.outside.told().last().unwrap()["request"]["dryRun"], true);
    scene.admin.delete(&format!("{VALIDATING}/w"), &Value::Null).await.expect(200);
    scene.hook(VALIDATING, "x", &["/allow"], maps(), json!({"sideEffects": "Some"})).await;
    let refused = scene.admin.post(&format!("{MAPS}?dryRun=All"), &config_map("c", &[])).await;
    refused.refused(400, "BadRequest", "admission webhook \"allow.x.io\" does not support dry run");
    scene.admin.post(MAPS, &config_map("c", &[])).await.expect(201);
}

#[tokio::test]
async fn scales_and_other_versions_are_shown_as_themselves() {
    let mut scene = Scene::new().await;
    scene.admin.post(DEPLOYMENTS, &deployment("d", 1)).await.expect(201);
    scene.hook(MUTATING, "s", &["/scale"], rule(&["UPDATE"], "apps", "v1", "deployments/scale"), json!({})).await;
    scene.admin.patch(&format!("{DEPLOYMENTS}/d/scale"), "merge", &json!({"spec": {"replicas": 3}})).await.expect(200);
    let told = scene.outside.told();
    assert_eq!((&told[0]["request"]["object"]["kind"], &told[0]["request"]["object"]["spec"]["replicas"]), (&json!("Scale"), &json!(3)));
    assert_eq!(told[0]["request"]["kind"], json!({"group": "autoscaling", "version": "v1", "kind": "Scale"}));
    assert_eq!(scene.admin.get(&format!("{DEPLOYMENTS}/d")).await.expect(200)["spec"]["replicas"], 7);
    // Events of both groups are the same objects: a rule for one holds for the other.
    scene.hook(VALIDATING, "e", &["/allow"], rule(&["CREATE"], "events.k8s.io", "v1", "events"), json!({})).await;
    scene.hook(VALIDATING, "f", &["/deny"], rule(&["CREATE"], "events.k8s.io", "v1", "events"), json!({"matchPolicy": "Exact"})).await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "message": "hello", "reason": "R", "type": "Normal"});
    scene.admin.post("/api/v1/namespaces/default/events", &event).await.expect(201);
    let told = scene.outside.told();
    assert_eq!(told.len(), 1, "the exact rule is about the other group alone");
    let request = &told[0]["request"];
    assert_eq!((&request["kind"]["group"], &request["requestKind"]["group"]), (&json!("events.k8s.io"), &json!("")));
    assert_eq!((&request["object"]["apiVersion"], &request["object"]["note"]), (&json!("events.k8s.io/v1"), &json!("hello")));
}

#[tokio::test]
async fn connections_are_put_before_webhooks() {
    let mut scene = Scene::new().await;
    scene.admin.post(PODS, &pod("p")).await.expect(201);
    scene.hook(VALIDATING, "c", &["/deny"], rule(&["CONNECT"], "", "v1", "pods/exec"), json!({})).await;
    let refused = scene.admin.post(&format!("{PODS}/p/exec?command=ls&command=-l&stdout=true&container=c"), &Value::Null).await;
    refused.refused(403, "Forbidden", "not today");
    let request = &scene.outside.told()[0]["request"];
    assert_eq!((&request["operation"], &request["subResource"], &request["name"]), (&json!("CONNECT"), &json!("exec"), &json!("p")));
    let options = json!({"kind": "PodExecOptions", "apiVersion": "v1", "stdout": true, "container": "c", "command": ["ls", "-l"]});
    assert_eq!(request["object"], options);
}
