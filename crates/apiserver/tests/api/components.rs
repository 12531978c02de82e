//! Components as themselves: each is stopped by its own missing rule, and by nobody else's.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_apiserver::User;
use gantry_client::{Api, DeleteOptions, Request, Response, Watch, WatchStream};
use gantry_controllers::certificates::{Signer, Subject};
use gantry_object::{Resource, Status};
use gantry_ports::{BoxFuture, Clock};

use crate::world::*;

const BINDINGS: Resource = Resource::cluster("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding");
const DEPLOYMENT: Resource = Resource::namespaced("apps", "v1", "deployments", "Deployment");
const REPLICA_SETS: Resource = Resource::namespaced("apps", "v1", "replicasets", "ReplicaSet");
const POD: Resource = Resource::namespaced("", "v1", "pods", "Pod");

/// Who was refused something.
type Refused = Arc<Mutex<BTreeSet<String>>>;

/// A component's client, which notes refusals.
struct Recording {
    name: String,
    api: Arc<dyn Api>,
    refused: Refused,
}

impl Recording {
    fn note<T>(&self, outcome: Result<T, Status>) -> Result<T, Status> {
        if outcome.as_ref().is_err_and(|s| s.code == 403) {
            self.refused.lock().unwrap().insert(self.name.clone());
        }
        outcome
    }
}

impl Api for Recording {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async move { self.note(self.api.call(request).await) })
    }

    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(async move { self.note(self.api.watch(watch).await) })
    }
}

struct NoSigner;

impl Signer for NoSigner {
    fn subject(&self, _request: &str) -> Option<Subject> {
        None
    }

    fn sign(&self, _request: &str, _signer: &str, _usages: &[String], _lifetime: Option<Duration>) -> Result<String, String> {
        Err("nothing is signed here".into())
    }
}

/// Starts all controllers and the scheduler, each as itself.
fn start_components(world: &World) -> Refused {
    let refused = Refused::default();
    let client = |user: User| -> Arc<dyn Api> {
        let name = user.name.clone();
        Arc::new(Recording { name, api: Arc::new(world.server.client(user)), refused: refused.clone() })
    };
    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    let settings = gantry_controllers::Settings {
        resources: world.server.deletable_resources(),
        root_ca: world.authority.certificate_pem().into(),
        signer: Arc::new(NoSigner),
        node_grace: Duration::from_secs(40),
        started: world.clock.now(),
        keep_finished_pods: 100,
    };
    let reader = client(User::authenticated("system:kube-controller-manager", &[]));
    let writer = |name: &'static str| client(User::service_account("kube-system", name));
    gantry_scheduler::run(&client(User::authenticated("system:kube-scheduler", &[])), clock.clone(), &world.tasks);
    gantry_reconcile::run(gantry_controllers::all(&settings), &reader, &writer, clock, &world.tasks);
    refused
}

/// Lets half a minute pass, in steps, with everybody at work.
async fn half_a_minute(world: &World) {
    for _ in 0..60 {
        world.settle().await;
        world.clock.advance(Duration::from_millis(500));
    }
}

async fn names(world: &World, resource: Resource) -> Vec<String> {
    let (items, _) = world.server.client(User::admin()).call(Request::list(resource, "default")).await.unwrap().list().unwrap();
    items.iter().map(|i| i.decode::<Value>().unwrap()["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

async fn count(world: &World, resource: Resource) -> usize {
    names(world, resource).await.len()
}

/// A component loses its binding: what it makes is missing, and it alone was refused. With the binding back all goes on.
async fn without(binding: &str, identity: &str, expected: (usize, usize)) {
    let world = World::new().await;
    let admin = world.server.client(User::admin());
    let taken: Value = admin.call(Request::get(BINDINGS, "", binding)).await.unwrap().object().unwrap().decode().unwrap();
    admin.call(Request::delete(BINDINGS, "", binding, &DeleteOptions::default())).await.unwrap();
    let refused = start_components(&world);
    world.create(DEPLOYMENT, "default", deployment("web", 3)).await;
    half_a_minute(&world).await;
    assert_eq!((count(&world, REPLICA_SETS).await, count(&world, POD).await), expected);
    assert_eq!(*refused.lock().unwrap(), BTreeSet::from([identity.to_owned()]));
    let mut again = taken;
    again["metadata"] = json!({"name": binding});
    world.create(BINDINGS, "", again).await;
    for _ in 0..40 {
        half_a_minute(&world).await;
        if count(&world, POD).await == 3 {
            break;
        }
    }
    assert_eq!((count(&world, REPLICA_SETS).await, count(&world, POD).await), (1, 3));
}

#[tokio::test]
async fn with_all_rules_in_place_nobody_is_refused() {
    let world = World::new().await;
    let refused = start_components(&world);
    world.create(DEPLOYMENT, "default", deployment("web", 3)).await;
    half_a_minute(&world).await;
    assert_eq!((count(&world, REPLICA_SETS).await, count(&world, POD).await), (1, 3));
    assert_eq!(*refused.lock().unwrap(), BTreeSet::new());
}

#[tokio::test]
async fn without_its_rule_the_replica_set_controller_alone_fails() {
    without("system:controller:replicaset-controller", "system:serviceaccount:kube-system:replicaset-controller", (1, 0)).await;
}

#[tokio::test]
async fn without_its_rule_the_deployment_controller_alone_fails() {
    without("system:controller:deployment-controller", "system:serviceaccount:kube-system:deployment-controller", (0, 0)).await;
}

#[tokio::test]
async fn two_servers_in_one_process_share_nothing() {
    let (one, other) = (World::new().await, World::new().await);
    start_components(&one);
    one.create(DEPLOYMENT, "default", deployment("web", 2)).await;
    half_a_minute(&one).await;
    assert_eq!((count(&one, POD).await, count(&other, POD).await), (2, 0));
    other.create(DEPLOYMENT, "default", deployment("web", 2)).await;
    assert_eq!(count(&other, REPLICA_SETS).await, 0, "nobody works for the other server");
    // A token of one cluster opens nothing in the other.
    let mut admin = one.admin().await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = admin.post("/api/v1/namespaces/default/serviceaccounts/default/token", &request).await.expect(201);
    let token = answer["status"]["token"].as_str().unwrap();
    one.http(Who::Token(token)).await.get("/api").await.expect(200);
    other.http(Who::Token(token)).await.get("/api").await.refused(401, "Unauthorized", "Unauthorized");
    one.tasks.shutdown();
    other.admin().await.get(PODS).await.expect(200);
}

#[tokio::test]
async fn custom_resources_are_collected_and_go_with_their_namespace() {
    let world = World::new().await;
    let refused = start_components(&world);
    let mut admin = world.admin().await;
    let version = json!({"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.x.example.com"},
        "spec": {"group": "x.example.com", "scope": "Namespaced", "versions": [version], "names": {"plural": "things", "kind": "Thing"}}});
    admin.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &definition).await.expect(201);
    admin.post("/api/v1/namespaces", &json!({"metadata": {"name": "n"}})).await.expect(201);
    let thing = |name: &str, owners: Value| json!({"apiVersion": "x.example.com/v1", "kind": "Thing", "metadata": {"name": name, "ownerReferences": owners}});
    let owned_by = |owner: &Value| {
        let meta = &owner["metadata"];
        json!([{"apiVersion": "x.example.com/v1", "kind": "Thing", "name": meta["name"], "uid": meta["uid"], "blockOwnerDeletion": true}])
    };
    let things = "/apis/x.example.com/v1/namespaces/n/things";
    half_a_minute(&world).await;
    for policy in ["Background", "Foreground", "Orphan"] {
        let owner = admin.post(things, &thing("owner", json!([]))).await.expect(201);
        admin.post(things, &thing("part", owned_by(&owner))).await.expect(201);
        let mut map = config_map("part", &[]);
        map["metadata"]["ownerReferences"] = owned_by(&owner);
        admin.post("/api/v1/namespaces/n/configmaps", &map).await.expect(201);
        half_a_minute(&world).await;
        admin.get(&format!("{things}/part")).await.expect(200);
        admin.delete(&format!("{things}/owner"), &json!({"propagationPolicy": policy})).await.expect(200);
        half_a_minute(&world).await;
        admin.get(&format!("{things}/owner")).await.refused(404, "NotFound", "");
        for part in [format!("{things}/part"), "/api/v1/namespaces/n/configmaps/part".to_owned()] {
            if policy == "Orphan" {
                assert_eq!(admin.get(&part).await.expect(200)["metadata"].get("ownerReferences"), None, "{part}");
            } else {
                admin.get(&part).await.refused(404, "NotFound", "");
            }
        }
    }
    admin.delete("/api/v1/namespaces/n", &Value::Null).await.expect(200);
    half_a_minute(&world).await;
    admin.get("/api/v1/namespaces/n").await.refused(404, "NotFound", "");
    admin.get(&format!("{things}/part")).await.refused(404, "NotFound", "");
    assert_eq!(*refused.lock().unwrap(), BTreeSet::new());
}

#[tokio::test]
async fn replication_controllers_run_and_roles_gather_rules() {
    let world = World::new().await;
    let refused = start_components(&world);
    let mut admin = world.admin().await;
    let template = json!({"metadata": {"labels": {"app": "s"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let controller = json!({"apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "s"}, "spec": {"replicas": 2, "template": template}});
    let controllers = "/api/v1/namespaces/default/replicationcontrollers";
    admin.post(controllers, &controller).await.expect(201);
    let extra = json!({"metadata": {"name": "extra", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["x.example.com"], "resources": ["things"], "verbs": ["get"]}]});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    admin.post(roles, &extra).await.expect(201);
    half_a_minute(&world).await;
    assert_eq!(count(&world, POD).await, 2);
    let scaled = admin.patch(&format!("{controllers}/s/scale"), "merge", &json!({"spec": {"replicas": 1}})).await.expect(200);
    assert_eq!(scaled["status"]["replicas"], 2);
    for role in ["view", "edit", "admin"] {
        let rules = admin.get(&format!("{roles}/{role}")).await.expect(200)["rules"].clone();
        assert!(rules.as_array().unwrap().contains(&extra["rules"][0]), "{role}");
    }
    half_a_minute(&world).await;
    assert_eq!((count(&world, POD).await, &admin.get(&format!("{controllers}/s")).await.expect(200)["status"]["replicas"]), (1, &json!(1)));
    assert_eq!(*refused.lock().unwrap(), BTreeSet::new());
}
