//! Every kind walked through the same operations, and what a fresh cluster has of them.

use crate::world::*;

/// What an object needs besides its metadata to be valid, for kinds that need something: kind, members.
fn members(kind: &str) -> Value {
    let template = |policy: &str| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": policy, "containers": [{"name": "c", "image": "i:1"}]}});
    let selector = json!({"matchLabels": {"a": "b"}});
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"});
    let always = template("Always");
    let rule = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
    let role = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "r"});
    let hook =
        json!([{"name": "a.b.c", "clientConfig": {"url": "https://localhost/"}, "sideEffects": "None", "admissionReviewVersions": ["v1"]}]);
    let requests = json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    let matched = json!({"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]});
    match kind {
        "Pod" => json!({"spec": always["spec"]}),
        "Service" => json!({"spec": {"ports": [{"port": 80}]}}),
        "PodTemplate" => json!({"template": always}),
        "ReplicationController" => json!({"spec": {"selector": {"a": "b"}, "template": always}}),
        "Deployment" | "ReplicaSet" | "DaemonSet" | "StatefulSet" => json!({"spec": {"selector": selector, "template": always}}),
        "ControllerRevision" => json!({"data": {"x": 1}, "revision": 1}),
        "Job" => json!({"spec": {"template": template("Never")}}),
        "CronJob" => json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template("Never")}}}}),
        "HorizontalPodAutoscaler" => json!({"spec": {"scaleTargetRef": target, "maxReplicas": 3}}),
        "PodDisruptionBudget" => json!({"spec": {"minAvailable": 1, "selector": selector}}),
        "LimitRange" => json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}}]}}),
        "ResourceQuota" => json!({"spec": {"hard": {"pods": "5"}}}),
        "PersistentVolume" => {
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}})
        }
        "PersistentVolumeClaim" => json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        "Event" => json!({"involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "reason": "r"}),
        "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": []}),
        "Role" | "ClusterRole" => json!({"rules": rule}),
        "RoleBinding" | "ClusterRoleBinding" => json!({"roleRef": role("ClusterRole")}),
        "CertificateSigningRequest" => json!({"spec": {"request": "LS0tLS1CRUdJTg==", "signerName": "a.b/c", "usages": ["client auth"]}}),
        "CSIDriver" | "NetworkPolicy" => json!({"spec": {}}),
        "IngressClass" => json!({"spec": {"controller": "a.b/c"}}),
        "CSINode" => json!({"spec": {"drivers": []}}),
        "CSIStorageCapacity" => json!({"storageClassName": "s"}),
        "StorageClass" => json!({"provisioner": "a.b/c"}),
        "VolumeAttachment" => json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
        "VolumeAttributesClass" => json!({"driverName": "d", "parameters": {"a": "b"}}),
        "Ingress" => json!({"spec": {"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}}),
        "IPAddress" => json!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}}),
        "ServiceCIDR" => json!({"spec": {"cidrs": ["10.99.0.0/16"]}}),
        "PriorityClass" => json!({"value": 7}),
        "RuntimeClass" => json!({"handler": "h"}),
        "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration" => json!({"webhooks": hook}),
        "ValidatingAdmissionPolicy" => json!({"spec": {"matchConstraints": matched, "validations": [{"expression": "true"}]}}),
        "ValidatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        "MutatingAdmissionPolicy" => json!({"spec": {"reinvocationPolicy": "Never", "matchConstraints": matched,
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
        "MutatingAdmissionPolicyBinding" => json!({"spec": {"policyName": "p"}}),
        // One of a Service would have its availability written meanwhile.
        "APIService" => json!({"spec": {"group": "walked.example", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10}}),
        "FlowSchema" => json!({"spec": {"priorityLevelConfiguration": {"name": "exempt"}, "matchingPrecedence": 9000}}),
        "PriorityLevelConfiguration" => json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}),
        "ResourceClaim" => json!({"spec": requests}),
        "ResourceClaimTemplate" => json!({"spec": {"spec": requests}}),
        "ResourceSlice" => {
            json!({"spec": {"driver": "d.x", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "nodeName": "n"}})
        }
        "DeviceClass" => json!({"spec": {}}),
        _ => json!({}),
    }
}

/// The name of the object that is walked; some kinds' names say something.
fn name_of(kind: &str) -> &'static str {
    match kind {
        "IPAddress" => "10.99.0.7",
        "APIService" => "v1.walked.example",
        _ => "walked",
    }
}

/// A resource, as discovery tells of it.
struct Walked {
    api_version: String,
    kind: String,
    /// The collection.
    path: String,
    with_status: bool,
}

async fn everything_served(admin: &mut Http) -> Vec<Walked> {
    let mut versions = vec![("v1".to_owned(), "/api/v1".to_owned())];
    for group in admin.get("/apis").await.expect(200)["groups"].as_array().unwrap() {
        let names = group["versions"].as_array().unwrap().iter().map(|v| v["groupVersion"].as_str().unwrap().to_owned());
        versions.extend(names.map(|gv| (gv.clone(), format!("/apis/{gv}"))));
    }
    let mut all = Vec::new();
    for (api_version, root) in versions {
        let list = admin.get(&root).await.expect(200);
        let resources = list["resources"].as_array().unwrap();
        for resource in resources.iter().filter(|r| r["verbs"].as_array().unwrap().contains(&json!("update")) && r["singularName"] != "") {
            let name = resource["name"].as_str().unwrap();
            let namespace = if resource["namespaced"] == true { "/namespaces/default" } else { "" };
            all.push(Walked {
                api_version: api_version.clone(),
                kind: resource["kind"].as_str().unwrap().into(),
                path: format!("{root}{namespace}/{name}"),
                with_status: resources.iter().any(|r| r["name"] == format!("{name}/status")),
            });
        }
    }
    all
}

async fn walk(world: &World, admin: &mut Http, walked: &Walked) {
    let Walked { api_version, kind, path, .. } = walked;
    let about = format!("{api_version} {kind}");
    let name = name_of(kind);
    let mut object = members(kind);
    if api_version == "events.k8s.io/v1" {
        object = json!({"regarding": object["involvedObject"], "reason": "r", "eventTime": "2026-11-23T05:00:00.000000Z",
            "reportingController": "c", "reportingInstance": "i", "action": "a", "type": "Normal"});
    }
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    object["metadata"] = json!({"name": name, "labels": {"walked": "yes"}});
    let dry = admin.post(&format!("{path}?dryRun=All"), &object).await;
    assert_eq!(dry.code, 201, "{about}: {}", dry.json());
    let made = admin.post(path, &object).await;
    assert_eq!(made.code, 201, "{about}: {}", made.json());
    let mut made = made.json();
    if kind == "FlowSchema" {
        // Its condition is written meanwhile.
        world.settle().await;
        made = admin.get(&format!("{path}/{name}")).await.expect(200);
    }
    assert_eq!((&made["apiVersion"], &made["kind"]), (&json!(api_version), &json!(kind)));
    let own = format!("{path}/{name}");
    assert_eq!(admin.get(&own).await.expect(200), made, "{about}");
    let listed = admin.get(&format!("{path}?labelSelector=walked%3Dyes&fieldSelector=metadata.name%3D{name}")).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{about}: {listed}");
    assert_eq!(listed["kind"], format!("{kind}List"));
    let table = admin.get_as(path, "application/json;as=Table;g=meta.k8s.io;v=v1").await.expect(200);
    assert_eq!(table["rows"][0]["cells"].as_array().map(Vec::len), table["columnDefinitions"].as_array().map(Vec::len), "{about}");
    let change = json!({"metadata": {"annotations": {"patched": "true"}}});
    let patched = admin.patch(&own, "merge", &change).await;
    assert_eq!(patched.code, 200, "{about}: {}", patched.json());
    let mut patched = patched.json();
    assert_eq!(patched["metadata"]["annotations"]["patched"], "true", "{about}");
    patched["metadata"]["annotations"]["updated"] = json!("true");
    let updated = admin.put(&own, &patched).await;
    assert_eq!(updated.code, 200, "{about}: {}", updated.json());
    let updated = updated.json();
    assert_eq!(updated["metadata"]["annotations"]["updated"], "true", "{about}");
    let generations = [&made, &updated].map(|o| o["metadata"]["generation"].clone());
    assert_eq!(generations[0].is_null(), generations[1].is_null(), "{about}: annotations make no generation appear");
    admin
        .put(&own, &{
            let mut stale = patched.clone();
            stale["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
            stale
        })
        .await
        .refused(409, "Conflict", "");
    if walked.with_status {
        assert_eq!(admin.get(&format!("{own}/status")).await.expect(200), updated, "{about}");
        // What is not the status is left alone, whatever is sent.
        let status = admin.put(&format!("{own}/status"), &updated).await;
        assert_eq!(status.code, 200, "{about}: {}", status.json());
        assert_eq!(status.json()["spec"], updated["spec"], "{about}");
    }
    let applied = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "labels": {"applied": "true"}}});
    let applied = admin.apply(&own, "walker", &applied).await;
    assert_eq!(applied.code, 200, "{about}: {}", applied.json());
    let gone = admin.delete(&own, &json!({"gracePeriodSeconds": 0})).await;
    assert_eq!(gone.code, 200, "{about}: {}", gone.json());
}

#[tokio::test]
async fn every_kind_is_made_read_changed_and_deleted_alike() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let all = everything_served(&mut admin).await;
    assert!(all.len() > 50, "only {} resources are served", all.len());
    for walked in all.iter().filter(|w| !matches!(w.kind.as_str(), "CustomResourceDefinition" | "Namespace")) {
        walk(&world, &mut admin, walked).await;
    }
}

#[tokio::test]
async fn groups_stand_in_upstreams_order_and_prefer_what_upstream_prefers() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let groups = admin.get("/apis").await.expect(200);
    let names: Vec<&str> = groups["groups"].as_array().unwrap().iter().map(|g| g["name"].as_str().unwrap()).collect();
    assert_eq!(&names[..4], ["apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io"]);
    let autoscaling = admin.get("/apis/autoscaling").await.expect(200);
    assert_eq!(autoscaling["preferredVersion"]["version"], "v2");
}

#[tokio::test]
async fn a_fresh_cluster_has_its_api_services_priorities_and_flow_schemas() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let service = admin.get("/apis/apiregistration.k8s.io/v1/apiservices/v1.apps").await.expect(200);
    assert_eq!(service["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"], "onstart");
    assert_eq!(
        (&service["status"]["conditions"][0]["type"], &service["status"]["conditions"][0]["status"]),
        (&json!("Available"), &json!("True"))
    );
    let class = admin.get("/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical").await.expect(200);
    assert_eq!(class["value"], 2_000_001_000);
    let schemas = admin.get("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas").await.expect(200);
    assert_eq!(schemas["items"].as_array().map(Vec::len), Some(11));
    let level = admin.get("/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/catch-all").await.expect(200);
    assert_eq!(level["spec"]["limited"]["limitResponse"]["type"], "Reject");
    let range = admin.get("/apis/networking.k8s.io/v1/servicecidrs/kubernetes").await.expect(200);
    assert_eq!(range["status"]["conditions"][0]["type"], "Ready");
}

#[tokio::test]
async fn component_statuses_tell_of_the_store() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    let list = admin.get("/api/v1/componentstatuses").await.expect(200);
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]["name"]), (&json!("ComponentStatusList"), &json!("etcd-0")));
    let one = admin.get("/api/v1/componentstatuses/etcd-0").await.expect(200);
    assert_eq!((&one["conditions"][0]["type"], &one["conditions"][0]["status"]), (&json!("Healthy"), &json!("True")));
    admin.get("/api/v1/componentstatuses/nobody").await.refused(404, "NotFound", "componentstatuses \"nobody\" not found");
    let table = admin.get_as("/api/v1/componentstatuses", "application/json;as=Table;g=meta.k8s.io;v=v1").await.expect(200);
    assert_eq!(table["rows"][0]["cells"], json!(["etcd-0", "Healthy", "ok", ""]));
}

#[tokio::test]
async fn what_every_cluster_has_comes_back_and_schemas_say_whether_they_dangle() {
    let world = World::new().await;
    let mut admin = world.admin().await;
    world.settle().await;
    let flow = "/apis/flowcontrol.apiserver.k8s.io/v1";
    for path in [
        format!("{flow}/flowschemas/catch-all"),
        format!("{flow}/prioritylevelconfigurations/workload-low"),
        "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical".to_owned(),
    ] {
        let uid = admin.get(&path).await.expect(200)["metadata"]["uid"].clone();
        admin.delete(&path, &Value::Null).await.expect(200);
        world.settle().await;
        assert_ne!(admin.get(&path).await.expect(200)["metadata"]["uid"], uid, "{path}");
    }
    let schema =
        json!({"metadata": {"name": "mine"}, "spec": {"priorityLevelConfiguration": {"name": "none"}, "matchingPrecedence": 9000}});
    admin.post(&format!("{flow}/flowschemas"), &schema).await.expect(201);
    world.settle().await;
    let mine = format!("{flow}/flowschemas/mine");
    let condition = admin.get(&mine).await.expect(200)["status"]["conditions"][0].clone();
    assert_eq!((&condition["type"], &condition["status"], &condition["reason"]), (&json!("Dangling"), &json!("True"), &json!("NotFound")));
    let level = json!({"metadata": {"name": "none"}, "spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}});
    admin.post(&format!("{flow}/prioritylevelconfigurations"), &level).await.expect(201);
    world.settle().await;
    let condition = admin.get(&mine).await.expect(200)["status"]["conditions"][0].clone();
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Found")));
}
