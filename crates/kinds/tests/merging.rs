//! Strategic merge, case by case: a base, a patch, what comes of it.

use gantry_kinds::Registry;
use gantry_object::Value;
use gantry_schema::Decoded;

fn yaml(registry: &Registry, text: &str) -> Value {
    // Trees are compared before they are conformed, so any type that keeps them as they are does for reading.
    let raw = registry.schema().lookup("meta_v1.TableRow").expect("a type with an untyped member");
    let wrapped = format!("object:\n{}", text.lines().map(|l| format!("  {l}\n")).collect::<String>());
    let Decoded { value, .. } = registry.schema().decode_yaml(raw, wrapped.as_bytes()).expect("the case is YAML");
    value["object"].clone()
}

fn merge(kind: &str, base: &str, patch: &str) -> Result<Value, String> {
    let registry = Registry::builtin();
    let ty = registry.schema().lookup(kind).expect("a known type");
    registry.schema().strategic_merge(ty, yaml(&registry, base), &yaml(&registry, patch)).map_err(|e| e.to_string())
}

#[track_caller]
fn check(kind: &str, base: &str, patch: &str, want: &str) {
    let registry = Registry::builtin();
    assert_eq!(merge(kind, base, patch), Ok(yaml(&registry, want)));
}

#[track_caller]
fn check_refused(kind: &str, base: &str, patch: &str, want: &str) {
    assert_eq!(merge(kind, base, patch), Err(want.to_owned()));
}

#[test]
fn maps_are_merged_and_nulls_delete() {
    check(
        "core_v1.ConfigMap",
        "data: {a: '1', b: '2'}\nimmutable: true",
        "data: {b: null, c: '3', gone: null}\nimmutable: null",
        "data: {a: '1', c: '3'}",
    );
}

#[test]
fn a_map_that_is_new_comes_without_nulls_and_directives() {
    check(
        "core_v1.Pod",
        "spec: {}",
        "spec: {nodeSelector: {a: b, c: null}, containers: [{name: x, image: i, command: null}, {$patch: delete, name: y}]}",
        "spec: {nodeSelector: {a: b}, containers: [{name: x, image: i}]}",
    );
}

#[test]
fn maps_are_replaced_and_emptied_by_directive() {
    check("core_v1.Pod", "spec: {nodeSelector: {a: b}}", "spec: {nodeSelector: {$patch: replace, c: d}}", "spec: {nodeSelector: {c: d}}");
    check("core_v1.Pod", "spec: {nodeSelector: {a: b}}", "spec: {nodeSelector: {$patch: delete}}", "spec: {nodeSelector: {}}");
    check_refused(
        "core_v1.Pod",
        "spec: {}",
        "spec: 1\n$patch: shuffle",
        r#"unknown patch type: shuffle in map: {"$patch":"shuffle","spec":1}"#,
    );
}

#[test]
fn list_items_are_merged_by_key_and_new_ones_follow_the_live() {
    check(
        "core_v1.PodSpec",
        "containers: [{name: a, image: one, env: [{name: X, value: '1'}, {name: Z, value: '2'}]}, {name: b, image: two}]",
        "containers: [{name: a, image: new, env: [{name: Z, value: '3'}]}, {name: c, image: three}]",
        "containers: [{name: a, image: new, env: [{name: X, value: '1'}, {name: Z, value: '3'}]}, {name: b, image: two}, {name: c, image: three}]",
    );
}

#[test]
fn list_items_are_deleted_and_lists_replaced_by_directive() {
    let base = "containers: [{name: a, image: one}, {name: b, image: two}]";
    check("core_v1.PodSpec", base, "containers: [{$patch: delete, name: a}]", "containers: [{name: b, image: two}]");
    check("core_v1.PodSpec", base, "containers: [{name: c, image: three}, {$patch: replace}]", "containers: [{name: c, image: three}]");
    check_refused(
        "core_v1.PodSpec",
        base,
        "containers: [{image: three}]",
        r#"map: {"image":"three"} does not contain declared merge key: name"#,
    );
    check_refused("core_v1.PodSpec", base, "containers: [{$patch: merge, name: a}]", "merging lists cannot yet be specified in the patch");
}

#[test]
fn order_directives_put_items_in_their_order() {
    let base = "containers: [{name: a, image: one}, {name: b, image: two}, {name: server, image: side}]";
    check(
        "core_v1.PodSpec",
        base,
        "$setElementOrder/containers: [{name: b}, {name: a}]\ncontainers: [{name: a, image: new}]",
        "containers: [{name: b, image: two}, {name: a, image: new}, {name: server, image: side}]",
    );
    check_refused(
        "core_v1.PodSpec",
        base,
        "$setElementOrder/containers: [{name: b}]\ncontainers: [{name: a, image: new}]",
        "The order in patch list:\n[{\"image\":\"new\",\"name\":\"a\"}]\n doesn't match $setElementOrder list:\n[{\"name\":\"b\"}]\n",
    );
}

#[test]
fn primitive_lists_are_sets_where_the_table_says_so() {
    check("meta_v1.ObjectMeta", "finalizers: [a, b]", "finalizers: [b, c]", "finalizers: [a, b, c]");
    check(
        "meta_v1.ObjectMeta",
        "finalizers: [a, b, c]",
        "$deleteFromPrimitiveList/finalizers: [a]\n$setElementOrder/finalizers: [c, b]",
        "finalizers: [c, b]",
    );
    check("core_v1.Container", "name: x\nargs: [a, b]", "args: [c]", "name: x\nargs: [c]");
}

#[test]
fn retained_keys_clear_the_others() {
    check(
        "apps_v1.DeploymentSpec",
        "strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}",
        "strategy: {$retainKeys: [type], type: Recreate}",
        "strategy: {type: Recreate}",
    );
    check(
        "core_v1.PodSpec",
        "volumes: [{name: v, emptyDir: {}}]",
        "volumes: [{name: v, $retainKeys: [name, configMap], configMap: {name: c}}]",
        "volumes: [{name: v, configMap: {name: c}}]",
    );
    check_refused(
        "apps_v1.DeploymentSpec",
        "strategy: {}",
        "strategy: {$retainKeys: [type], type: Recreate, rollingUpdate: {}}",
        "invalid patch format of retainKeys",
    );
}

#[test]
fn ports_merge_by_their_number_alone() {
    check(
        "core_v1.ServiceSpec",
        "ports: [{port: 80, protocol: TCP, nodePort: 30000}]",
        "ports: [{port: 80, name: web}]",
        "ports: [{port: 80, protocol: TCP, nodePort: 30000, name: web}]",
    );
}

#[test]
fn merge_and_json_patches_do_what_their_standards_say() {
    let registry = Registry::builtin();
    let base = yaml(&registry, "a: {b: 1, c: [1, 2]}\nd: x");
    let merged = gantry_schema::merge_patch(base.clone(), &yaml(&registry, "a: {b: null, c: [3]}\ne: {f: 1}"));
    assert_eq!(merged, yaml(&registry, "a: {c: [3]}\nd: x\ne: {f: 1}"));
    let patch = br#"[{"op":"test","path":"/d","value":"x"},{"op":"add","path":"/a/c/-","value":3},{"op":"remove","path":"/d"}]"#;
    assert_eq!(gantry_schema::json_patch(base.clone(), patch), Ok(yaml(&registry, "a: {b: 1, c: [1, 2, 3]}")));
    let failing = br#"[{"op":"test","path":"/d","value":"y"}]"#;
    assert!(matches!(gantry_schema::json_patch(base.clone(), failing), Err(gantry_schema::PatchError::Inapplicable(_))));
    assert!(matches!(gantry_schema::json_patch(base, b"{}"), Err(gantry_schema::PatchError::Malformed(_))));
}
