//! Defaults, preparation and validation, case by case.

use gantry_kinds::{IncludeObject, Kind, Registry};
use gantry_object::{Timestamp, Value};
use serde_json::json;

fn kind<'a>(registry: &'a Registry, name: &str) -> &'a Kind {
    registry.kinds().iter().find(|k| k.kind == name).expect("a known kind")
}

/// An object as it stands just before it is validated for creation.
fn created(name: &str, yaml: &str) -> Value {
    let registry = Registry::builtin();
    let kind = kind(&registry, name);
    let decoded = kind.decode_yaml(yaml.as_bytes()).expect("the case is a valid body");
    assert_eq!(decoded.complaints(), Vec::<String>::new());
    let mut object = decoded.value;
    kind.apply_defaults(&mut object);
    kind.prepare_create(&mut object);
    object
}

fn problems(name: &str, yaml: &str) -> Vec<String> {
    let registry = Registry::builtin();
    kind(&registry, name).validate_create(&created(name, yaml)).iter().map(ToString::to_string).collect()
}

/// Changes an object by a merge patch; the result, prepared, and what is wrong with it.
fn changed(name: &str, yaml: &str, patch: Value, subresource: Option<&str>) -> (Value, Vec<String>) {
    let registry = Registry::builtin();
    let kind = kind(&registry, name);
    let old = created(name, yaml);
    let mut new = registry.schema().conform(kind.ty, gantry_schema::merge_patch(old.clone(), &patch)).expect("a valid change").value;
    kind.apply_defaults(&mut new);
    kind.prepare_update(&mut new, &old, subresource);
    let problems = kind.validate_update(&new, &old, subresource).iter().map(ToString::to_string).collect();
    (new, problems)
}

const POD: &str = "
metadata: {name: p, namespace: default}
spec:
  serviceAccountName: sa
  containers:
  - name: web
    image: nginx
    ports: [{containerPort: 80}]
    resources: {limits: {cpu: 0.5, memory: 1024Mi}}
    readinessProbe: {httpGet: {port: 80}}
    env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
  volumes: [{name: scratch}, {name: conf, configMap: {name: c}}]
";

#[test]
fn pods_get_their_defaults() {
    let pod = created("Pod", POD);
    let want = json!({
        "metadata": {"name": "p", "namespace": "default", "generation": 1},
        "spec": {
            "containers": [{
                "name": "web", "image": "nginx", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
                "readinessProbe": {
                    "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"},
                    "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3,
                },
                "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nodeName"}}}],
            }],
            "volumes": [{"name": "scratch", "emptyDir": {}}, {"name": "conf", "configMap": {"name": "c", "defaultMode": 420}}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
            "terminationGracePeriodSeconds": 30, "securityContext": {}, "enableServiceLinks": true,
            "serviceAccount": "sa", "serviceAccountName": "sa",
        },
        "status": {"phase": "Pending", "qosClass": "Guaranteed"},
    });
    assert_eq!(pod, want);
    assert_eq!(problems("Pod", POD), Vec::<String>::new());
}

#[test]
fn deployments_get_their_defaults() {
    let yaml = "
metadata: {name: d, namespace: default}
spec:
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: 'x:1'}]}}
status: {replicas: 7}
";
    let deployment = created("Deployment", yaml);
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}})
    );
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(deployment["spec"]["progressDeadlineSeconds"], 600);
    assert_eq!(deployment["spec"]["template"]["metadata"], json!({"labels": {"a": "b"}}));
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["resources"], json!({}));
    assert!(deployment["spec"]["template"]["spec"].get("enableServiceLinks").is_none());
    assert_eq!(deployment["status"], json!({}));
    assert_eq!(problems("Deployment", yaml), Vec::<String>::new());

    let (scaled, wrong) = changed("Deployment", yaml, json!({"spec": {"replicas": 3}, "status": {"replicas": 9}}), None);
    assert_eq!((&scaled["metadata"]["generation"], &scaled["status"]), (&json!(2), &json!({})));
    assert_eq!(wrong, Vec::<String>::new());
    let (annotated, _) = changed("Deployment", yaml, json!({"metadata": {"annotations": {"x": "y"}}}), None);
    assert_eq!(annotated["metadata"]["generation"], 2);
    let (status, _) = changed("Deployment", yaml, json!({"spec": {"replicas": 3}, "status": {"replicas": 9}}), Some("status"));
    assert_eq!(
        (&status["metadata"]["generation"], &status["spec"]["replicas"], &status["status"]),
        (&json!(1), &json!(1), &json!({"replicas": 9}))
    );
    let (_, wrong) = changed("Deployment", yaml, json!({"spec": {"selector": {"matchLabels": {"a": "c"}}}}), None);
    assert_eq!(
        wrong,
        [
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            "spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"c\"}}: field is immutable",
        ]
    );
}

#[test]
fn services_get_their_defaults() {
    let yaml = "{metadata: {name: s, namespace: default}, spec: {selector: {a: b}, ports: [{port: 80}]}}";
    let service = created("Service", yaml);
    let want = json!({
        "selector": {"a": "b"}, "type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 80}],
    });
    assert_eq!(service["spec"], want);
    assert_eq!(service["status"], json!({"loadBalancer": {}}));
    assert_eq!(problems("Service", yaml), Vec::<String>::new());

    let with_ip = "{metadata: {name: s, namespace: default}, spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}}";
    let (kept, wrong) = changed("Service", with_ip, json!({"spec": {"clusterIP": null, "clusterIPs": null}}), None);
    assert_eq!((&kept["spec"]["clusterIP"], &kept["spec"]["clusterIPs"], wrong), (&json!("10.0.0.1"), &json!(["10.0.0.1"]), vec![]));
    let (_, wrong) = changed("Service", with_ip, json!({"spec": {"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}}), None);
    assert_eq!(wrong, ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]);
}

#[test]
fn the_small_kinds_get_their_defaults() {
    let namespace = created("Namespace", "metadata: {name: ns}");
    assert_eq!(namespace["metadata"]["labels"], json!({"kubernetes.io/metadata.name": "ns"}));
    assert_eq!(namespace["spec"], json!({"finalizers": ["kubernetes"]}));
    assert_eq!(namespace["status"], json!({"phase": "Active"}));
    let secret = created("Secret", "{metadata: {name: s, namespace: d}, stringData: {a: hello}, data: {a: AA==, b: AA==}}");
    assert_eq!((&secret["type"], &secret["data"]), (&json!("Opaque"), &json!({"a": "aGVsbG8=", "b": "AA=="})));
    assert!(secret.get("stringData").is_none());
    let binding = created(
        "ClusterRoleBinding",
        "{metadata: {name: b}, roleRef: {kind: ClusterRole, name: r}, subjects: [{kind: User, name: u}, {kind: ServiceAccount, name: s, namespace: ns}]}",
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert!(binding["subjects"][1].get("apiGroup").is_none());
}

#[test]
fn bodies_are_decoded_strictly() {
    let registry = Registry::builtin();
    let pod = kind(&registry, "Pod");
    let decoded = pod
        .decode_json(br#"{"spec":{"containers":[{"name":"a","name":"b","imag":"x","resources":null}],"Containers":[]},"foo":1}"#)
        .expect("a body");
    assert_eq!(
        decoded.complaints(),
        [
            "duplicate field \"spec.containers[0].name\"",
            "unknown field \"foo\"",
            "unknown field \"spec.Containers\"",
            "unknown field \"spec.containers[0].imag\"",
        ]
    );
    assert_eq!(decoded.value["spec"]["containers"], json!([{"name": "b", "resources": {}}]));
    for (body, want) in [
        (
            r#"{"spec":{"containers":{}}}"#,
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            r#"{"spec":{"containers":[{"name":5}]}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string",
        ),
        (r#"{"spec":{"priority":"x"}}"#, "json: cannot unmarshal string into Go struct field PodSpec.spec.priority of type int32"),
        (
            r#"{"spec":{"priority":3000000000}}"#,
            "json: cannot unmarshal number 3000000000 into Go struct field PodSpec.spec.priority of type int32",
        ),
        (
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        ("[]", "json: cannot unmarshal array into Go value of type v1.Pod"),
        (
            r#"{"spec":{"overhead":{"cpu":"x"}}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ] {
        assert_eq!(pod.decode_json(body.as_bytes()).expect_err(body).to_string(), want);
    }
    assert!(pod.decode_json(b"{\"spec\":").is_err());
    assert!(pod.decode_json(&[b'['; 5000]).is_err());
}

#[track_caller]
fn check_problems(kind: &str, yaml: &str, want: &[&str]) {
    assert_eq!(problems(kind, yaml), want, "{yaml}");
}

#[test]
fn bad_metadata_is_refused_in_upstreams_words() {
    let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
    check_problems("Namespace", "metadata: {name: Bad}", &[&format!("metadata.name: Invalid value: \"Bad\": {label}")]);
    check_problems("ConfigMap", "metadata: {namespace: d}", &["metadata.name: Required value: name or generateName is required"]);
    check_problems("Namespace", "metadata: {name: ns, namespace: d}", &["metadata.namespace: Forbidden: not allowed on this type"]);
    check_problems("ConfigMap", "metadata: {name: c, namespace: d, annotations: {a: x}}", &[]);
    let big = format!("metadata: {{name: c, namespace: d, annotations: {{a: {}}}}}", "x".repeat(256 << 10));
    check_problems("ConfigMap", &big, &["metadata.annotations: Too long: may not be more than 262144 bytes"]);
}

#[test]
fn bad_pods_are_refused_in_upstreams_words() {
    let pod = |spec: &str| format!("{{metadata: {{name: p, namespace: d}}, spec: {spec}}}");
    check_problems("Pod", &pod("{}"), &["spec.containers: Required value"]);
    check_problems(
        "Pod",
        &pod("{restartPolicy: Sometimes, containers: [{image: x, imagePullPolicy: Now, ports: [{containerPort: 70000}]}]}"),
        &[
            "spec.containers[0].name: Required value",
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Now\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\"",
        ],
    );
    check_problems(
        "Pod",
        &pod(
            "{containers: [{name: a, image: x, volumeMounts: [{name: v, mountPath: /x}], resources: {requests: {cpu: 2}, limits: {cpu: 1}}}, {name: a, image: x, livenessProbe: {}}]}",
        ),
        &[
            "spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.containers[1].name: Duplicate value: \"a\"",
            "spec.containers[1].livenessProbe: Required value: must specify a handler type",
        ],
    );
    check_problems(
        "Pod",
        &pod(
            "{containers: [{name: a, image: x}], tolerations: [{key: k, operator: Exists, value: v}], volumes: [{name: v, emptyDir: {}, hostPath: {path: /a/../b}}]}",
        ),
        &[
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
            "spec.tolerations[0].operator: Invalid value: \"v\": value must be empty when `operator` is 'Exists'",
        ],
    );
}

#[test]
fn label_keys_become_part_of_selectors() {
    let pod = created(
        "Pod",
        "{metadata: {name: p, namespace: d, labels: {hash: abc}}, spec: {containers: [{name: a, image: x}], topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {hash: abc}}, matchLabelKeys: [hash, missing]}]}}",
    );
    let expressions = &pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchExpressions"];
    assert_eq!(*expressions, json!([{"key": "hash", "operator": "In", "values": ["abc"]}]));
}

#[test]
fn signing_requests_name_their_signer_and_usages() {
    check_problems(
        "CertificateSigningRequest",
        "{metadata: {name: c}, spec: {request: AA==, signerName: kubelet, usages: [client auth, client auth, flying]}}",
        &[
            "spec.usages[2]: Unsupported value: \"flying\": supported values: \"any\", \"cert sign\", \"client auth\", \"code signing\", \"content commitment\", \"crl sign\", \"data encipherment\", \"decipher only\", \"digital signature\", \"email protection\", \"encipher only\", \"ipsec end system\", \"ipsec tunnel\", \"ipsec user\", \"key agreement\", \"key encipherment\", \"microsoft sgc\", \"netscape sgc\", \"ocsp signing\", \"s/mime\", \"server auth\", \"signing\", \"timestamping\"",
            "spec.usages[1]: Duplicate value: \"client auth\"",
            "spec.signerName: Invalid value: \"kubelet\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
        ],
    );
}

#[test]
fn reviews_ask_one_thing_about_somebody() {
    check_problems(
        "SubjectAccessReview",
        "spec: {}",
        &[
            "spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified",
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        ],
    );
    check_problems("SelfSubjectAccessReview", "spec: {resourceAttributes: {verb: get, resource: pods}}", &[]);
    check_problems(
        "LocalSubjectAccessReview",
        "{metadata: {namespace: a}, spec: {user: u, resourceAttributes: {namespace: b}}}",
        &["spec.resourceAttributes.namespace: Invalid value: \"b\": must match metadata.namespace"],
    );
}

#[test]
fn running_pods_change_little() {
    let (_, wrong) = changed("Pod", POD, json!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}}), None);
    assert_eq!(wrong, Vec::<String>::new());
    let (moved, wrong) = changed("Pod", POD, json!({"spec": {"nodeName": "n"}}), None);
    assert_eq!(moved["metadata"]["generation"], 2);
    assert!(wrong[0].starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"), "{wrong:?}");
    let (status, wrong) = changed("Pod", POD, json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running"}}), Some("status"));
    assert_eq!((status["spec"].get("nodeName"), &status["status"]["phase"]), (None, &json!("Running")));
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_other_kinds_are_checked() {
    check_problems(
        "Service",
        "{metadata: {name: 1a, namespace: d}, spec: {ports: [{port: 0}, {port: 80, protocol: X}]}}",
        &[
            "metadata.name: Invalid value: \"1a\": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
            "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
            "spec.ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            "spec.ports[0].name: Required value",
            "spec.ports[1].name: Required value",
        ],
    );
    check_problems(
        "Role",
        "{metadata: {name: r, namespace: d}, rules: [{verbs: [get], nonResourceURLs: [/x]}, {apiGroups: ['']}]}",
        &[
            "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            "rules[1].verbs: Required value: verbs must contain at least one value",
            "rules[1].resources: Required value: resource rules must supply at least one resource",
        ],
    );
    let (_, wrong) =
        changed("Secret", "{metadata: {name: s, namespace: d}, immutable: true, data: {a: AA==}}", json!({"data": {"a": "AQ=="}}), None);
    assert_eq!(wrong, ["data: Forbidden: field is immutable when `immutable` is set"]);
    let (_, wrong) = changed(
        "RoleBinding",
        "{metadata: {name: b, namespace: d}, roleRef: {kind: Role, name: r}}",
        json!({"roleRef": {"name": "other"}}),
        None,
    );
    assert_eq!(wrong.len(), 1);
    assert!(wrong[0].ends_with("cannot change roleRef"), "{wrong:?}");
}

#[test]
fn events_are_stored_once_and_seen_in_both_forms() {
    let registry = Registry::builtin();
    let new = registry.gvk("events.k8s.io", "v1", "Event").expect("served");
    let body = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "d"}, "eventTime": "2026-11-23T05:00:00.000001Z",
        "reportingController": "c", "reportingInstance": "i", "action": "a", "reason": "r", "note": "n", "type": "Normal",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "d"},
    });
    let object = new.decode_json(body.to_string().as_bytes()).expect("a body").value;
    let stored = new.to_storage(object.clone());
    assert_eq!((&stored["message"], &stored["involvedObject"]["name"], &stored["apiVersion"]), (&json!("n"), &json!("p"), &json!("v1")));
    assert_eq!(new.from_storage(stored.clone()), object);
    assert_eq!(new.field(&object, "regarding.name").as_deref(), Some("p"));
    let old = registry.gvk("", "v1", "Event").expect("served");
    assert_eq!(old.field(&stored, "involvedObject.name").as_deref(), Some("p"));
    assert_eq!(old.field(&stored, "spec.x"), None);
}

#[test]
fn tables_show_what_kubectl_get_shows() {
    let registry = Registry::builtin();
    let now = Timestamp::parse("2026-11-23T05:00:00Z").expect("a time");
    let mut pod = created("Pod", POD);
    pod["metadata"]["creationTimestamp"] = "2026-11-23T04:55:00Z".into();
    pod["status"]["containerStatuses"] = json!([{
        "name": "web", "ready": true, "restartCount": 2, "state": {"running": {}},
        "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-11-23T04:59:00Z"}},
    }]);
    pod["status"]["phase"] = "Running".into();
    pod["status"]["podIPs"] = json!([{"ip": "10.0.0.7"}]);
    let kind = kind(&registry, "Pod");
    let shown = |pod: &Value| serde_json::to_string(&kind.cells(pod, now)).expect("cells");
    assert_eq!(shown(&pod), r#"["p","1/1","Running","2 (60s ago)","5m","10.0.0.7","<none>","<none>","<none>"]"#);
    pod["status"]["containerStatuses"][0]["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert!(shown(&pod).starts_with(r#"["p","0/1","CrashLoopBackOff""#));
    pod["metadata"]["deletionTimestamp"] = "2026-11-23T04:59:00Z".into();
    assert!(shown(&pod).starts_with(r#"["p","0/1","Terminating""#));
    let table = kind.table([&pod], json!({"resourceVersion": "7"}), IncludeObject::Metadata, true, now);
    assert_eq!(
        table["columnDefinitions"][0],
        json!({"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0})
    );
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    for kind in registry.kinds().iter().filter(|k| !k.columns.is_empty()) {
        let object = json!({"metadata": {"name": "x"}});
        assert_eq!(kind.cells(&object, now).len(), kind.columns.len(), "{kind:?}");
    }
}

#[test]
fn schema_documents_hold_what_kubectl_reads() {
    let registry = Registry::builtin();
    let served: Vec<_> = registry.kinds().iter().cloned().map(std::sync::Arc::new).collect();
    let core = registry.openapi_v3(&gantry_object::GroupVersion::new("", "v1"), &served).expect("served");
    let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "", "version": "v1", "kind": "Pod"}));
    assert!(patch["parameters"].as_array().expect("parameters").iter().any(|p| p["name"] == "fieldValidation"));
    let schemas = core["components"]["schemas"].as_object().expect("schemas");
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["items"], json!({"allOf": [{"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}]}));
    // Every reference leads somewhere, in both versions.
    for (document, prefix) in [(core.to_string(), "#/components/schemas/"), (registry.openapi_v2(&served).to_string(), "#/definitions/")] {
        let whole: Value = serde_json::from_str(&document).expect("JSON");
        let definitions = whole.get("definitions").or_else(|| whole.pointer("/components/schemas")).expect("definitions");
        for reference in document.split(prefix).skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(definitions.get(name).is_some(), "{name}");
        }
    }
}

#[test]
fn what_switched_off_features_own_is_dropped() {
    let pod = created(
        "Pod",
        "{metadata: {name: p, namespace: d}, spec: {schedulingGroup: {podGroupName: g}, hostnameOverride: h, containers: [{name: a, image: x}]}}",
    );
    assert_eq!((pod["spec"].get("schedulingGroup"), &pod["spec"]["hostnameOverride"]), (None, &json!("h")));
}

#[test]
fn every_subresource_has_a_type() {
    let registry = Registry::builtin();
    for kind in registry.kinds() {
        for sub in &kind.subresources {
            assert!(registry.type_of(&sub.gvk).is_some(), "{kind:?} {}", sub.name);
        }
    }
    for kind in ["DeleteOptions", "Status", "PartialObjectMetadataList", "WatchEvent"] {
        assert!(registry.type_of(&gantry_object::GroupVersionKind::new("apps", "v1", kind)).is_some(), "{kind}");
    }
}
