//! What a container finds in its files and its environment.

use crate::harness::Cluster;

const OBJECTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, "app.conf": "line one\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: password}
stringData: {word: swordfish}
---
apiVersion: v1
kind: Pod
metadata:
  name: reader
  labels: {tier: back}
spec:
  restartPolicy: Never
  initContainers:
  - {name: first, image: "box:1", command: [sh, -c, "echo one >> /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
  - {name: second, image: "box:1", command: [sh, -c, "echo two >> /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: main
    image: box:1
    command: [sleep, "3600"]
    env:
    - {name: PLAIN, value: "is $(COLOUR)"}
    - {name: COLOUR, valueFrom: {configMapKeyRef: {name: settings, key: colour}}}
    - {name: WORD, valueFrom: {secretKeyRef: {name: password, key: word}}}
    - {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
    - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
    - {name: AFTER, value: "is $(COLOUR)"}
    envFrom: [{configMapRef: {name: settings}, prefix: FROM_}]
    resources: {limits: {memory: 64Mi}}
    volumeMounts:
    - {name: settings, mountPath: /etc/settings}
    - {name: settings, mountPath: /etc/one.conf, subPath: app.conf}
    - {name: password, mountPath: /etc/password, readOnly: true}
    - {name: all, mountPath: /etc/all}
    - {name: shared, mountPath: /shared}
  volumes:
  - {name: settings, configMap: {name: settings}}
  - {name: password, secret: {secretName: password, defaultMode: 0400}}
  - {name: shared, emptyDir: {medium: Memory}}
  - name: all
    projected:
      sources:
      - serviceAccountToken: {path: token, expirationSeconds: 3600, audience: somebody}
      - downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}
      - configMap: {name: settings, items: [{key: colour, path: deep/colour}]}
"#;

#[test]
fn config_maps_secrets_tokens_and_fields_reach_containers() {
    let cluster = Cluster::start().with_box();
    cluster.apply(OBJECTS);
    cluster.ready("reader");
    let shell = |command: &str| cluster.shell("reader", command).unwrap_or_else(|| panic!("`{command}` failed")).trim_end().to_owned();

    assert_eq!(shell("cat /shared/order"), "one\ntwo", "init containers run one after the other");
    assert_eq!(shell("cat /etc/settings/colour /etc/one.conf /etc/password/word"), "blueline one\nswordfish");
    assert_eq!(shell("stat -L -c %a /etc/password/word"), "400");
    assert_eq!(shell("cat /etc/all/deep/colour /etc/all/labels"), "bluetier=\"back\"");
    assert!(cluster.shell("reader", "echo x > /etc/password/word").is_none(), "secrets are read-only");
    assert!(shell("grep ' /shared ' /proc/mounts").starts_with("tmpfs"));

    // A variable knows those before it, and only those.
    assert_eq!(shell("echo $PLAIN/$AFTER/$COLOUR/$WORD/$LIMIT/$FROM_colour"), "is $(COLOUR)/is blue/blue/swordfish/67108864/blue");
    assert_eq!(shell("echo $POD_IP"), cluster.value("get pod reader -o jsonpath={.status.podIP}"));

    // The token that every pod gets opens the API from inside; the projected one is for somebody else.
    let token = shell("cat /var/run/secrets/kubernetes.io/serviceaccount/token");
    let review = |token: &str, audience: &str| {
        let body = format!(
            r#"{{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{{"token":"{token}","audiences":["{audience}"]}}}}"#
        );
        cluster.kubectl_with(&["create", "-f", "-", "-o", "jsonpath={.status.authenticated} {.status.user.username}"], &body).stdout
    };
    assert_eq!(review(&shell("cat /etc/all/token"), "somebody"), "true system:serviceaccount:default:default");
    assert!(!review(&token, "somebody").starts_with("true"));

    // What changes in the API changes in the files.
    cluster.kubectl_with(&["patch", "configmap", "settings", "-p", r#"{"data":{"colour":"red"}}"#], "").says("patched");
    cluster.kubectl("annotate pod reader touched=yes").says("annotated");
    crate::harness::wait_until("the new colour", || (shell("cat /etc/settings/colour") == "red").then_some(()));
}
