//! What is refused of each kind, new or changed: object, change, and the causes clients see.

use gantry_object::Value;
use serde_json::json;

use crate::Registry;

/// What validation says about an object that replaces another, or of a new one.
fn causes(group: &str, version: &str, object: &Value, change: Option<&Value>) -> Vec<String> {
    let registry = Registry::builtin();
    let kind = registry.gvk(group, version, object["kind"].as_str().unwrap()).unwrap();
    let complete = |object: &Value| {
        let mut object = object.clone();
        object["apiVersion"] = kind.api_version().into();
        object["metadata"]["uid"] = "u".into();
        if kind.namespaced {
            object["metadata"]["namespace"] = "n".into();
        }
        let mut object = registry.schema().conform(kind.ty, object).unwrap().value;
        kind.apply_defaults(&mut object);
        object
    };
    let mut old = complete(object);
    let status = old.get("status").cloned();
    kind.prepare_create(&mut old);
    if let Some(status) = status {
        old["status"] = status;
    }
    let Some(change) = change else {
        return kind.validate_create(&old).iter().map(ToString::to_string).collect();
    };
    let mut new = old.clone();
    merge(&mut new, change);
    let mut new = complete(&new);
    kind.prepare_update(&mut new, &old, None);
    kind.validate_update(&new, &old, None).iter().map(ToString::to_string).collect()
}

fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        match value.is_null() {
            true => drop(target.as_object_mut().unwrap().remove(name)),
            false => merge(&mut target[name], value),
        }
    }
}

/// An object is good, and each of the changes has just these causes, made so and updated so as said.
fn check(gv: &str, object: Value, created: &[(Value, &[&str])], updated: &[(Value, &[&str])]) {
    let (group, version) = gv.split_once('/').unwrap_or(("", gv));
    assert_eq!(causes(group, version, &object, None), Vec::<String>::new(), "{object}");
    for (change, expected) in created {
        let mut changed = object.clone();
        merge(&mut changed, change);
        let found = causes(group, version, &changed, None);
        assert!(found.len() == expected.len() && found.iter().zip(*expected).all(|(f, e)| f.starts_with(e)), "create {change}: {found:#?}");
    }
    for (change, expected) in updated {
        let found = causes(group, version, &object, Some(change));
        assert!(found.len() == expected.len() && found.iter().zip(*expected).all(|(f, e)| f.starts_with(e)), "update {change}: {found:#?}");
    }
}

fn named(kind: &str, rest: Value) -> Value {
    let mut object = json!({"kind": kind, "metadata": {"name": "x"}});
    merge(&mut object, &rest);
    object
}

fn template(restart: &str) -> Value {
    json!({"metadata": {"labels": {"app": "x"}}, "spec": {"restartPolicy": restart, "containers": [{"name": "c", "image": "i"}]}})
}

#[test]
fn storage() {
    check(
        "storage.k8s.io/v1",
        named("StorageClass", json!({"provisioner": "a.b/c", "parameters": {"x": "y"}})),
        &[
            (json!({"provisioner": ""}), &["provisioner: Required value"]),
            (json!({"provisioner": "a/b/c"}), &["provisioner: Invalid value: \"a/b/c\""]),
            (
                json!({"reclaimPolicy": "Recycle"}),
                &["reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\""],
            ),
            (json!({"volumeBindingMode": "Never"}), &["volumeBindingMode: Unsupported value: \"Never\""]),
        ],
        &[
            (json!({"allowVolumeExpansion": true, "mountOptions": ["ro"]}), &[]),
            (
                json!({"provisioner": "d", "parameters": {"x": "z"}}),
                &["provisioner: Invalid value: \"d\": field is immutable", "parameters: Invalid value: {\"x\":\"z\"}: field is immutable"],
            ),
        ],
    );
    check(
        "storage.k8s.io/v1",
        named("VolumeAttributesClass", json!({"driverName": "d", "parameters": {"a": "b"}})),
        &[
            (json!({"parameters": null}), &["parameters: Required value: must contain at least one key/value pair"]),
            (json!({"driverName": ""}), &["driverName: Required value"]),
        ],
        &[(json!({"parameters": {"a": "c"}}), &["parameters: Forbidden: updates to parameters are forbidden."])],
    );
    check(
        "storage.k8s.io/v1",
        named("CSIDriver", json!({"spec": {}})),
        &[],
        &[
            (json!({"spec": {"attachRequired": false}}), &["spec.attachRequired: Invalid value: false: field is immutable"]),
            (json!({"spec": {"podInfoOnMount": true}}), &[]),
        ],
    );
}

#[test]
fn volumes_and_claims() {
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let fixed =
        "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    check(
        "v1",
        named("PersistentVolumeClaim", claim.clone()),
        &[
            (json!({"spec": {"accessModes": []}}), &["spec.accessModes: Required value: at least 1 access mode is required"]),
            (json!({"spec": {"accessModes": ["Any"]}}), &["spec.accessModes[0]: Unsupported value: \"Any\""]),
            (json!({"spec": {"resources": {"requests": null}}}), &["spec.resources[storage]: Required value"]),
            (json!({"spec": {"resources": {"requests": {"storage": "0"}}}}), &["spec.resources[storage]: Invalid value: \"0\""]),
            (
                json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadWriteMany"]}}),
                &["spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes"],
            ),
        ],
        &[
            (json!({"spec": {"volumeName": "v"}}), &[]),
            (json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}), &[fixed]),
            (json!({"spec": {"accessModes": ["ReadOnlyMany"]}}), &[fixed]),
        ],
    );
    let mut bound = named("PersistentVolumeClaim", claim);
    merge(&mut bound, &json!({"spec": {"volumeName": "v"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}));
    check(
        "v1",
        bound,
        &[],
        &[
            (json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}), &[]),
            (
                json!({"spec": {"resources": {"requests": {"storage": "1Mi"}}}}),
                &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
            ),
            (json!({"spec": {"volumeName": "w"}}), &[fixed]),
        ],
    );
    check(
        "v1",
        named(
            "PersistentVolume",
            json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}}),
        ),
        &[
            (json!({"spec": {"hostPath": null}}), &["spec: Required value: must specify a volume type"]),
            (json!({"spec": {"nfs": {"server": "s", "path": "/"}}}), &["spec.nfs: Forbidden: may not specify more than 1 volume type"]),
            (json!({"spec": {"capacity": null}}), &["spec.capacity: Required value"]),
            (json!({"spec": {"accessModes": []}}), &["spec.accessModes: Required value"]),
        ],
        &[
            (json!({"spec": {"capacity": {"storage": "2Gi"}, "persistentVolumeReclaimPolicy": "Delete"}}), &[]),
            (
                json!({"spec": {"hostPath": {"path": "/y"}}}),
                &["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"],
            ),
            (json!({"spec": {"volumeMode": "Block"}}), &["spec.volumeMode: Invalid value: \"Block\": field is immutable"]),
        ],
    );
}

#[test]
fn workloads() {
    let spec = json!({"spec": {"selector": {"matchLabels": {"app": "x"}}, "template": template("Always")}});
    let labels = json!({"spec": {"selector": {"matchLabels": {"app": "y"}}, "template": {"metadata": {"labels": {"app": "y"}}}}});
    let never = (
        json!({"spec": {"template": {"spec": {"restartPolicy": "Never"}}}}),
        ["spec.template.spec.restartPolicy: Unsupported value: \"Never\""],
    );
    for kind in ["Deployment", "ReplicaSet", "DaemonSet"] {
        check(
            "apps/v1",
            named(kind, spec.clone()),
            &[
                (never.0.clone(), &never.1),
                (json!({"spec": {"selector": {"matchLabels": {"app": "z"}}}}), &["spec.template.metadata.labels: Invalid value"]),
            ],
            &[(labels.clone(), &["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"y\"}}: field is immutable"])],
        );
    }
    check(
        "apps/v1",
        named("StatefulSet", spec.clone()),
        &[
            (never.0.clone(), &never.1),
            (
                json!({"spec": {"podManagementPolicy": "Any"}}),
                &["spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'"],
            ),
            (json!({"spec": {"replicas": -1}}), &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
        ],
        &[
            (json!({"spec": {"replicas": 3, "template": {"spec": {"hostname": "h"}}}}), &[]),
            (json!({"spec": {"serviceName": "s"}}), &["spec: Forbidden: updates to statefulset spec for fields other than"]),
        ],
    );
    check(
        "apps/v1",
        named("DaemonSet", spec),
        &[
            (
                json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}}}),
                &["spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero"],
            ),
            (
                json!({"spec": {"updateStrategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}}}}),
                &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
            ),
        ],
        &[],
    );
    check(
        "v1",
        named("ReplicationController", json!({"spec": {"selector": {"app": "x"}, "template": template("Always")}})),
        &[
            (never.0, &never.1),
            (
                json!({"spec": {"selector": {"app": "z"}}}),
                &["spec.template.metadata.labels: Invalid value: {\"app\":\"x\"}: `selector` does not match"],
            ),
            (json!({"spec": {"replicas": -1}}), &["spec.replicas: Invalid value: -1"]),
        ],
        &[(json!({"spec": {"selector": {"app": "y"}, "template": {"metadata": {"labels": {"app": "y"}}}}}), &[])],
    );
}

#[test]
fn jobs() {
    check(
        "batch/v1",
        named("Job", json!({"spec": {"template": template("Never")}})),
        &[
            (
                json!({"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}),
                &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
            ),
            (json!({"spec": {"parallelism": -1}}), &["spec.parallelism: Invalid value: -1: must be greater than or equal to 0"]),
            (
                json!({"spec": {"completionMode": "Indexed", "parallelism": 1}}),
                &["spec.completions: Required value: when completion mode is Indexed"],
            ),
            (
                json!({"spec": {"backoffLimitPerIndex": 1}}),
                &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
            ),
        ],
        &[
            (json!({"spec": {"parallelism": 5, "suspend": true}}), &[]),
            (json!({"spec": {"completions": 5}}), &["spec.completions: Invalid value: 5: field is immutable"]),
            (json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}), &["spec.template: Invalid value"]),
            (json!({"spec": {"completionMode": "Indexed"}}), &["spec.completionMode: Invalid value: \"Indexed\": field is immutable"]),
        ],
    );
    check(
        "batch/v1",
        named(
            "Job",
            json!({"spec": {"suspend": true, "completionMode": "Indexed", "completions": 2, "parallelism": 2, "template": template("Never")}}),
        ),
        &[],
        &[
            (json!({"spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}), &[]),
            (json!({"spec": {"completions": 3, "parallelism": 3}}), &[]),
            (
                json!({"spec": {"completions": 3}}),
                &["spec.completions: Invalid value: 3: can only be modified in tandem with spec.parallelism"],
            ),
        ],
    );
    check(
        "batch/v1",
        named("CronJob", json!({"spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": template("OnFailure")}}}})),
        &[
            (json!({"spec": {"schedule": ""}}), &["spec.schedule: Required value"]),
            (
                json!({"spec": {"schedule": "often"}}),
                &["spec.schedule: Invalid value: \"often\": expected exactly 5 fields, found 1: [often]"],
            ),
            (
                json!({"spec": {"schedule": "TZ=UTC 0 * * * *"}}),
                &["spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead"],
            ),
            (json!({"spec": {"timeZone": "../etc"}}), &["spec.timeZone: Invalid value: \"../etc\": unknown time zone ../etc"]),
            (json!({"spec": {"concurrencyPolicy": "Any"}}), &["spec.concurrencyPolicy: Unsupported value: \"Any\""]),
            (json!({"metadata": {"name": "a".repeat(53)}}), &["metadata.name: Invalid value"]),
            (
                json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Always"}}}}}}),
                &["spec.jobTemplate.spec.template.spec.restartPolicy: Required value"],
            ),
        ],
        &[(json!({"spec": {"schedule": "@daily", "jobTemplate": {"spec": {"completions": 4}}}}), &[])],
    );
}

#[test]
fn policies_and_classes() {
    let both = ["spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":1}: minAvailable and maxUnavailable cannot be both set"];
    check(
        "policy/v1",
        named("PodDisruptionBudget", json!({"spec": {"minAvailable": 1}})),
        &[
            (json!({"spec": {"maxUnavailable": 1}}), &both),
            (json!({"spec": {"minAvailable": "101%"}}), &["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"]),
            (json!({"spec": {"minAvailable": -1}}), &["spec.minAvailable: Invalid value: -1"]),
            (json!({"spec": {"unhealthyPodEvictionPolicy": "Never"}}), &["spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\""]),
        ],
        &[(json!({"spec": {"minAvailable": "50%"}}), &[])],
    );
    check(
        "scheduling.k8s.io/v1",
        named("PriorityClass", json!({"value": 5})),
        &[
            (json!({"value": 1_000_000_001}), &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"]),
            (
                json!({"metadata": {"name": "system-mine"}}),
                &["metadata.name: Forbidden: priority class names with 'system-' prefix are reserved"],
            ),
        ],
        &[
            (json!({"description": "d", "globalDefault": true}), &[]),
            (json!({"value": 6}), &["value: Forbidden: may not be changed in an update."]),
            (json!({"preemptionPolicy": "Never"}), &["preemptionPolicy: Invalid value: \"Never\": field is immutable"]),
        ],
    );
    check(
        "node.k8s.io/v1",
        named("RuntimeClass", json!({"handler": "h"})),
        &[(json!({"handler": ""}), &["handler: Required value"])],
        &[(json!({"handler": "i"}), &["handler: Invalid value: \"i\": field is immutable"])],
    );
    check(
        "networking.k8s.io/v1",
        named("IngressClass", json!({"spec": {"controller": "a.b/c"}})),
        &[(json!({"spec": {"controller": ""}}), &["spec.controller: Required value"])],
        &[(json!({"spec": {"controller": "a.b/d"}}), &["spec.controller: Invalid value: \"a.b/d\": field is immutable"])],
    );
}
