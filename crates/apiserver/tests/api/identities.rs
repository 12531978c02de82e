//! Who is asking, and what each may do.

use std::time::Duration;

use gantry_object::Resource;

use crate::world::*;

const NODES: Resource = Resource::cluster("", "v1", "nodes", "Node");
const POD: Resource = Resource::namespaced("", "v1", "pods", "Pod");
const SECRETS: Resource = Resource::namespaced("", "v1", "secrets", "Secret");
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles";
const BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
const CLUSTER_ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
const CLUSTER_BINDINGS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";
const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";

/// Two nodes, each with a pod that reads a secret of its own.
async fn two_nodes(world: &World) {
    for n in ["n1", "n2"] {
        world.create(NODES, "", json!({"metadata": {"name": n}})).await;
        world.create(SECRETS, "default", json!({"metadata": {"name": format!("secret-{n}")}})).await;
        let mut pod = pod(&format!("pod-{n}"));
        pod["spec"]["nodeName"] = json!(n);
        pod["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": format!("secret-{n}")}}]);
        world.create(POD, "default", pod).await;
    }
}

fn token_request(pod: &str, uid: &Value) -> Value {
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": uid});
    json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"boundObjectRef": bound}})
}

#[tokio::test]
async fn a_node_reads_its_own_pods_secrets_and_touches_nothing_of_others() {
    let world = World::new().await;
    two_nodes(&world).await;
    let mut node = world.http(Who::Certificate("system:node:n1", "system:nodes")).await;
    node.get("/api/v1/namespaces/default/secrets/secret-n1").await.expect(200);
    let refused = "no relationship found between node 'n1' and this object";
    node.get("/api/v1/namespaces/default/secrets/secret-n2").await.refused(403, "Forbidden", refused);
    node.get("/api/v1/namespaces/default/secrets").await.refused(403, "Forbidden", "");
    node.delete("/api/v1/namespaces/default/secrets/secret-n1", &Value::Null).await.refused(403, "Forbidden", "");

    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    node.patch("/api/v1/nodes/n1/status", "strategic-merge", &ready).await.expect(200);
    node.patch("/api/v1/nodes/n2/status", "strategic-merge", &ready).await.refused(403, "Forbidden", "not allowed to modify node \"n2\"");
    let taint = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
    node.patch("/api/v1/nodes/n1", "strategic-merge", &taint).await.refused(403, "Forbidden", "is not allowed to modify taints");
    let label = json!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}});
    node.patch("/api/v1/nodes/n1", "merge", &label).await.refused(403, "Forbidden", "is not allowed to modify labels");

    let running = json!({"status": {"phase": "Running"}});
    node.patch(&format!("{PODS}/pod-n1/status"), "strategic-merge", &running).await.expect(200);
    let other = node.patch(&format!("{PODS}/pod-n2/status"), "strategic-merge", &running).await;
    other.refused(403, "Forbidden", "can only update pod status for pods with spec.nodeName set to itself");
    node.delete(&format!("{PODS}/pod-n2"), &Value::Null).await.refused(403, "Forbidden", "can only delete pods");
    node.post(PODS, &pod("mine")).await.refused(403, "Forbidden", "can only create mirror pods");

    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    node.post(leases, &lease("n1")).await.expect(201);
    node.post(leases, &lease("n2")).await.refused(403, "Forbidden", "can only access node lease with the same name");
}

#[tokio::test]
async fn a_node_gets_tokens_for_its_own_pods_alone() {
    let world = World::new().await;
    two_nodes(&world).await;
    let mut admin = world.admin().await;
    let uid = |pod: Value| pod["metadata"]["uid"].clone();
    let (own, other) =
        (uid(admin.get(&format!("{PODS}/pod-n1")).await.expect(200)), uid(admin.get(&format!("{PODS}/pod-n2")).await.expect(200)));
    let mut node = world.http(Who::Certificate("system:node:n1", "system:nodes")).await;
    let token = node.post(TOKEN, &token_request("pod-n1", &own)).await.expect(201);
    let mut of_pod = world.http(Who::Token(token["status"]["token"].as_str().unwrap())).await;
    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let extra =
        of_pod.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &who).await.expect(201)["status"]["userInfo"]["extra"].clone();
    let uid = admin.get("/api/v1/nodes/n1").await.expect(200)["metadata"]["uid"].clone();
    assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["n1"]));
    assert_eq!(extra["authentication.kubernetes.io/node-uid"], json!([uid]));
    node.post(TOKEN, &token_request("pod-n2", &other)).await.refused(403, "Forbidden", "bound to a pod scheduled on a different node");
    let unbound = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    node.post(TOKEN, &unbound).await.refused(403, "Forbidden", "not bound to a pod");
    node.post(TOKEN, &token_request("pod-n1", &other)).await.refused(403, "Forbidden", "UID in the bound object reference");
}

#[tokio::test]
async fn a_bound_token_ends_with_its_pod_and_with_its_time() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let uid = admin.post(PODS, &pod("p")).await.expect(201)["metadata"]["uid"].clone();
    let bound = admin.post(TOKEN, &token_request("p", &uid)).await.expect(201);
    let free = admin.post(TOKEN, &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}})).await.expect(201);
    let text = |answer: &Value| answer["status"]["token"].as_str().unwrap().to_owned();
    let (mut of_pod, mut of_account) = (world.http(Who::Token(&text(&bound))).await, world.http(Who::Token(&text(&free))).await);
    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let info = of_pod.post(reviews, &who).await.expect(201)["status"]["userInfo"].clone();
    assert_eq!(info["username"], "system:serviceaccount:default:default");
    assert_eq!(info["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(info["groups"], json!(["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"]));
    of_pod.get(PODS).await.refused(403, "Forbidden", "cannot list resource \"pods\" in API group \"\" in the namespace \"default\"");
    admin.delete(&format!("{PODS}/p"), &Value::Null).await.expect(200);
    of_pod.post(reviews, &who).await.refused(401, "Unauthorized", "Unauthorized");
    of_account.post(reviews, &who).await.expect(201);
    world.clock.advance(Duration::from_secs(3700));
    of_account.post(reviews, &who).await.refused(401, "Unauthorized", "Unauthorized");
}

#[tokio::test]
async fn a_bootstrap_token_counts_while_its_secret_says_so() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let secret = |id: &str, groups: &str| {
        let data = json!({"token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "auth-extra-groups": groups, "expiration": "2023-11-14T23:00:00Z"});
        json!({"apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": format!("bootstrap-token-{id}")}, "stringData": data})
    };
    let secrets = "/api/v1/namespaces/kube-system/secrets";
    admin.post(secrets, &secret("aaaaaa", "system:bootstrappers:mine")).await.expect(201);
    admin.post(secrets, &secret("bbbbbb", "system:masters")).await.expect(201);
    let mut joining = world.http(Who::Token("aaaaaa.0123456789abcdef")).await;
    joining.get("/api/v1/namespaces/kube-public/configmaps/gantry-cluster").await.expect(200);
    joining.get(PODS).await.refused(403, "Forbidden", "User \"system:bootstrap:aaaaaa\" cannot list resource \"pods\"");
    for wrong in ["aaaaaa.0123456789abcdee", "cccccc.0123456789abcdef", "bbbbbb.0123456789abcdef", "a.b.c", "x"] {
        world.http(Who::Token(wrong)).await.get("/api").await.refused(401, "Unauthorized", "Unauthorized");
    }
    world.clock.advance(Duration::from_secs(3600));
    joining.get("/api").await.refused(401, "Unauthorized", "Unauthorized");
}

#[tokio::test]
async fn nobody_in_particular_sees_health_and_version_and_no_more() {
    let world = World::new().await;
    let mut nobody = world.http(Who::Nobody).await;
    for path in ["/healthz", "/livez", "/readyz"] {
        let reply = nobody.get(path).await;
        assert_eq!((reply.code, &reply.body[..]), (200, &b"ok"[..]), "{path}");
    }
    let verbose = nobody.get("/readyz?verbose").await;
    assert!(verbose.body.ends_with(b"readyz check passed\n") && verbose.body.starts_with(b"[+]ping ok\n"));
    nobody.get("/readyz/ping").await.refused(403, "Forbidden", "");
    assert_eq!(&world.admin().await.get("/readyz/ping").await.body[..], b"ok");
    let excluded = nobody.get("/readyz?verbose&exclude=etcd&exclude=x").await;
    let text = String::from_utf8(excluded.body.to_vec()).unwrap();
    assert!(text.contains("[+]etcd excluded: ok\n") && text.contains("no matches for \"x\"\n"), "{text}");
    nobody.get("/version").await.expect(200);
    let why = "User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope";
    nobody.get("/api/v1/pods").await.refused(403, "Forbidden", why);
    nobody.get("/apis").await.refused(403, "Forbidden", "User \"system:anonymous\" cannot get path \"/apis\"");
    // What there is and what isn't looks the same to those who may not look.
    nobody.get("/apis/none.example/v1/things").await.refused(403, "Forbidden", "cannot list resource \"things\"");
    nobody.send("PATCH", "/api/v1/pods", &[("content-type", "text/plain")], "{}").await.refused(403, "Forbidden", "");
}

#[tokio::test]
async fn impersonation_takes_permission_for_every_part() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let who = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}).to_string();
    let reviews = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let json_type = ("content-type", "application/json");
    let headers = [
        json_type,
        ("impersonate-user", "ann"),
        ("impersonate-group", "dev"),
        ("impersonate-uid", "u-1"),
        ("impersonate-extra-Acme.com%2Fproject", "x"),
    ];
    let info = admin.send("POST", reviews, &headers, who.clone()).await.expect(201)["status"]["userInfo"].clone();
    let expected =
        json!({"username": "ann", "uid": "u-1", "groups": ["dev", "system:authenticated"], "extra": {"acme.com/project": ["x"]}});
    assert_eq!(info, expected);
    let account = [json_type, ("impersonate-user", "system:serviceaccount:a:b")];
    let groups = admin.send("POST", reviews, &account, who.clone()).await.expect(201)["status"]["userInfo"]["groups"].clone();
    assert_eq!(groups, json!(["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]));
    let mut ann = world.http(Who::Certificate("ann", "dev")).await;
    for (name, value, why) in [
        ("impersonate-user", "bob", "User \"ann\" cannot impersonate resource \"users\""),
        (
            "impersonate-user",
            "system:serviceaccount:a:b",
            "cannot impersonate resource \"serviceaccounts\" in API group \"\" in the namespace \"a\"",
        ),
    ] {
        ann.send("GET", "/api", &[(name, value)], "").await.refused(403, "Forbidden", why);
    }
    let nobody = admin.send("GET", "/api", &[("impersonate-group", "dev")], "").await;
    nobody.refused(500, "InternalError", "without impersonating a user");
}

/// A user who may write roles and bindings in the namespace `default` and read its pods.
async fn granter(world: &World) -> Http {
    let mut admin = world.admin().await;
    let rules = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": ["get", "create", "update", "patch"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]);
    admin.post(ROLES, &role("granter", rules)).await.expect(201);
    admin.post(BINDINGS, &binding("granter", "Role", "granter", "ann")).await.expect(201);
    world.http(Who::Certificate("ann", "dev")).await
}

fn role(name: &str, rules: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": name}, "rules": rules})
}

fn binding(name: &str, kind: &str, role: &str, user: &str) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]})
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let world = World::new().await;
    let mut ann = granter(&world).await;
    let rule = |resource: &str, verbs: &[&str]| json!([{"apiGroups": [""], "resources": [resource], "verbs": verbs}]);
    ann.post(ROLES, &role("small", rule("pods", &["get"]))).await.expect(201);
    let refused = ann.post(ROLES, &role("large", rule("secrets", &["get", "list"]))).await;
    let why = "user \"ann\" (groups=[\"dev\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}";
    refused.refused(403, "Forbidden", why);
    ann.put(&format!("{ROLES}/small"), &role("small", rule("pods", &["*"]))).await.refused(403, "Forbidden", "not currently held");
    let wider = json!([{"op": "add", "path": "/rules/0/verbs/-", "value": "delete"}]);
    ann.patch(&format!("{ROLES}/small"), "json", &wider).await.refused(403, "Forbidden", "not currently held");
    // A PUT of what isn't there is a create, and no way around.
    ann.put(&format!("{ROLES}/new"), &role("new", rule("secrets", &["get"]))).await.refused(403, "Forbidden", "not currently held");
    ann.put(&format!("{ROLES}/new"), &role("new", rule("pods", &["list"]))).await.expect(201);

    ann.post(BINDINGS, &binding("a", "Role", "small", "bob")).await.expect(201);
    ann.post(BINDINGS, &binding("b", "ClusterRole", "view", "ann")).await.refused(403, "Forbidden", "not currently held");
    ann.post(BINDINGS, &binding("c", "Role", "none", "ann")).await.refused(404, "NotFound", "\"none\" not found");
    let mut admin = world.admin().await;
    let bind =
        json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["view"], "verbs": ["bind"]}]);
    admin.post(ROLES, &role("binder", bind)).await.expect(201);
    admin.post(BINDINGS, &binding("binder", "Role", "binder", "ann")).await.expect(201);
    ann.post(BINDINGS, &binding("b", "ClusterRole", "view", "ann")).await.expect(201);
    ann.post(BINDINGS, &binding("d", "ClusterRole", "edit", "ann")).await.refused(403, "Forbidden", "not currently held");
    let escalate = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"]}]);
    admin.post(ROLES, &role("escalator", escalate)).await.expect(201);
    admin.post(BINDINGS, &binding("escalator", "Role", "escalator", "ann")).await.expect(201);
    ann.post(ROLES, &role("large", rule("secrets", &["get", "list"]))).await.expect(201);
}

#[tokio::test]
async fn cluster_roles_that_gather_others_are_for_those_who_may_everything() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let rules = json!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["create"]}]);
    let version = "rbac.authorization.k8s.io/v1";
    admin
        .post(CLUSTER_ROLES, &json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": rules}))
        .await
        .expect(201);
    let mut bound = binding("r", "ClusterRole", "r", "ann");
    bound["kind"] = json!("ClusterRoleBinding");
    admin.post(CLUSTER_BINDINGS, &bound).await.expect(201);
    let mut ann = world.http(Who::Certificate("ann", "dev")).await;
    let gather = json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]});
    let role = json!({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": "x"}, "aggregationRule": gather});
    ann.post(CLUSTER_ROLES, &role).await.refused(403, "Forbidden", "must have cluster-admin privileges to use the aggregationRule");
    admin.post(CLUSTER_ROLES, &role).await.expect(201);
}

#[tokio::test]
async fn a_query_does_not_lend_a_name_to_what_writes() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get", "list", "watch", "create", "deletecollection"]}]);
    admin.post(ROLES, &role("one", rules)).await.expect(201);
    admin.post(BINDINGS, &binding("one", "Role", "one", "ann")).await.expect(201);
    let mut ann = world.http(Who::Certificate("ann", "dev")).await;
    ann.get(&format!("{MAPS}?fieldSelector=metadata.name%3Done")).await.expect(200);
    ann.get(MAPS).await.refused(403, "Forbidden", "");
    ann.post(&format!("{MAPS}?fieldSelector=metadata.name%3Done"), &config_map("two", &[])).await.refused(403, "Forbidden", "");
    ann.delete(&format!("{MAPS}?fieldSelector=metadata.name%3Done"), &Value::Null).await.refused(403, "Forbidden", "");
}

#[tokio::test]
async fn a_server_that_cannot_write_any_more_says_that_it_is_not_well() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    assert_eq!(admin.get("/livez/etcd").await.code, 200);
    world.disk.fail_syncs(1);
    let namespace = json!({"metadata": {"name": "late"}}).to_string();
    let refused = admin.send("POST", "/api/v1/namespaces", &[("content-type", "application/json")], namespace).await;
    assert_eq!(refused.code, 500);
    let verbose = admin.get("/livez").await;
    assert_eq!(verbose.code, 500);
    let text = String::from_utf8(verbose.body.to_vec()).unwrap();
    assert!(text.contains("[-]etcd failed: reason withheld\n") && text.ends_with("livez check failed\n"), "{text}");
    assert_eq!(admin.get("/livez/ping").await.code, 200);
    assert_eq!(admin.get("/readyz/etcd").await.code, 500);
}
