//! Scenarios of writers, told line by line, and properties of the pieces.

use std::sync::Arc;

use gantry_object::Value;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Schema;

const TABLE: &str = "table t
version v1
struct T kind
  meta 1 string o
  n 2 *int32 o
  m 3 *int32 o
  tags 4 []string o list=set
  ports 5 []Port o list=map:port,protocol
  plain 6 []string o
  labels 7 map[]string o
  selector 8 map[]string o map=atomic
  ref 9 *Ref o
  in 10 *In o
  raw 11 RawExtension o
  size 12 *Quantity o
  in2 13 *In o struct=atomic
struct Port
  port 1 int32 req
  protocol 2 string o d=\"TCP\"
  name 3 string o
  more 4 map[]string o
struct Ref atomic
  a 1 string o
  b 2 string o
struct In
  a 1 string o
  b 2 string o";

struct OnlyThis;

impl Versions for OnlyThis {
    fn version(&self, _: &str) -> Option<Version> {
        None
    }

    fn convert(&self, _: &Value, _: &str) -> Option<Value> {
        None
    }
}

struct World {
    schema: Arc<Schema>,
    open: Option<Arc<Open>>,
    live: Value,
    managed: Managed,
    now: u32,
}

impl World {
    fn new() -> Self {
        let schema = Arc::new(Schema::parse(&[("t", TABLE)]).unwrap());
        Self { schema, open: None, live: json!({"apiVersion": "v1", "kind": "T"}), managed: Managed::default(), now: 0 }
    }

    fn version(&self) -> Version {
        let ty = self.schema.lookup(if self.open.is_some() { "t.In" } else { "t.T" }).unwrap();
        Version { schema: self.schema.clone(), ty, open: self.open.clone() }
    }

    fn write(&mut self, verb: &str, manager: &str, body: &str) -> Result<(), ApplyError> {
        self.now += 1;
        let now = format!("t{}", self.now);
        let version = self.version();
        let tracker = Tracker { version, api_version: "v1", scope: Scope::Except(&[&["meta"]]), versions: &OnlyThis };
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["apiVersion"] = "v1".into();
        body["kind"] = "T".into();
        let managed = std::mem::take(&mut self.managed);
        if verb == "update" {
            let comparison = tracker.compare(&self.live, &body);
            self.managed = tracker.update(&self.live, &body, comparison, managed, &Operation::Update.by(manager, "v1", ""), &now);
            self.live = body;
            return Ok(());
        }
        let writer = Operation::Apply.by(manager, "v1", "");
        let applied = tracker.apply(&self.live, &body, managed.clone(), &writer, verb == "force", &now);
        self.managed = applied.as_ref().map_or(managed, |a| a.managed.clone());
        self.live = applied?.object.unwrap_or_else(|| self.live.clone());
        Ok(())
    }

    fn owns(&self, who: &str) -> String {
        let entries = self.managed.entries().iter();
        let mine = entries.filter(|e| {
            if who.starts_with('+') { e.writer.operation == Operation::Update } else { e.writer.operation == Operation::Apply }
        });
        mine.filter(|e| e.writer.manager == who.trim_start_matches('+')).flat_map(|e| e.fields.paths()).collect::<Vec<_>>().join(" ")
    }
}

/// Plays a scenario. `apply|force|update WHO JSON` writes; `refused TEXT` tells why the apply before it failed; `object JSON` is what there is then;
/// `owns WHO PATHS` what a manager owns, with `+` before the name for updates; `at WHO TIME` when it last wrote.
#[track_caller]
fn check(scenario: &str) {
    play(World::new(), scenario);
}

/// The same with a custom resource, whose metadata have the members `a` and `b`.
#[track_caller]
fn check_custom(definition: &Value, scenario: &str) {
    play(World { open: Some(Arc::new(Open::read(definition))), ..World::new() }, scenario);
}

#[track_caller]
fn play(mut world: World, scenario: &str) {
    let mut refusal = None;
    for line in scenario.lines().map(str::trim).filter(|l| !l.is_empty()) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (who, what) = rest.split_once(' ').unwrap_or((rest, ""));
        if word != "refused" {
            assert_eq!(refusal.take(), None, "before {line}");
        }
        match word {
            "apply" | "force" | "update" => refusal = world.write(word, who, what).err().map(|e| told(&e)),
            "refused" => assert_eq!(refusal.take().as_deref(), Some(rest.replace("\\n", "\n").as_str())),
            "object" => {
                let mut want: Value = serde_json::from_str(rest).unwrap();
                want["apiVersion"] = "v1".into();
                want["kind"] = "T".into();
                assert_eq!(world.live, want, "{line}");
            }
            "owns" => assert_eq!(world.owns(who), what, "{line}"),
            "at" => {
                let entry = world.managed.entries().iter().find(|e| e.writer.manager == who).unwrap();
                assert_eq!(entry.time.as_deref().unwrap_or("never"), what, "{line}");
            }
            other => panic!("{other}?"),
        }
    }
    assert_eq!(refusal, None);
}

fn told(error: &ApplyError) -> String {
    match error {
        ApplyError::Misfit(why) => why.clone(),
        ApplyError::Conflicts(conflicts) => {
            let told = conflicts.iter().map(|c| format!("{}: {}", c.writer, c.fields.paths().join(" ")));
            told.collect::<Vec<_>>().join("; ")
        }
    }
}

#[test]
fn appliers_own_what_they_apply_and_share_equal_values() {
    check(
        r#"
        apply a {"n": 1, "labels": {"x": "1"}, "meta": "ignored"}
        owns a .n .labels.x
        apply b {"n": 1}
        owns a .n .labels.x
        owns b .n
        at a t1
        at b never
        apply b {"n": 2}
        refused "a": .n
        force b {"n": 2}
        owns a .labels.x
        owns b .n
        at b t4
        apply a {"labels": {"x": "1"}}
        object {"n": 2, "meta": "ignored", "labels": {"x": "1"}}
        at a t1
        "#,
    );
}

#[test]
fn what_is_applied_no_more_goes_unless_another_owns_it() {
    check(
        r#"
        apply a {"n": 1, "m": 1, "labels": {"x": "1", "y": "1"}, "tags": ["p", "q"]}
        apply b {"m": 1, "labels": {"y": "1"}, "tags": ["q", "r"]}
        object {"n": 1, "m": 1, "labels": {"x": "1", "y": "1"}, "tags": ["p", "q", "r"]}
        apply a {"tags": ["p"]}
        object {"m": 1, "labels": {"y": "1"}, "tags": ["p", "q", "r"]}
        owns a .tags[="p"]
        apply b {}
        object {"tags": ["p"]}
        owns b
        "#,
    );
}

#[test]
fn updates_take_what_they_change_and_nothing_else() {
    check(
        r#"
        apply a {"n": 1, "labels": {"x": "1"}}
        update c {"n": 1, "m": 3, "labels": {"x": "2"}}
        owns a .n
        owns +c .m .labels.x
        apply a {"n": 1, "labels": {"x": "1"}}
        refused "c" using v1: .labels.x
        update c {"n": 1, "labels": {"x": "2"}}
        owns +c .labels.x
        at c t2
        update d {"n": 1, "labels": {"x": "2"}}
        owns +d
        update d {"labels": {}}
        owns a
        owns +c
        "#,
    );
}

#[test]
fn an_update_that_adds_a_struct_owns_it_too() {
    check(
        r#"
        update c {"in": {"a": "1"}, "labels": {"x": "1"}, "ref": {"a": "1"}, "ports": [{"port": 1}], "tags": ["t"], "plain": ["z"]}
        owns +c .in .labels .plain .ports .ref .tags .in.a .labels.x .ports[port=1,protocol="TCP"] .ports[port=1,protocol="TCP"].port .tags[="t"]
        "#,
    );
}

#[test]
fn items_are_told_apart_by_keys_and_their_defaults() {
    check(
        r#"
        apply a {"ports": [{"port": 80}, {"port": 80, "protocol": "UDP"}]}
        owns a .ports[port=80,protocol="TCP"] .ports[port=80,protocol="UDP"] .ports[port=80,protocol="TCP"].port .ports[port=80,protocol="UDP"].port .ports[port=80,protocol="UDP"].protocol
        apply b {"ports": [{"port": 80, "protocol": "TCP", "name": "web"}]}
        object {"ports": [{"port": 80, "protocol": "TCP", "name": "web"}, {"port": 80, "protocol": "UDP"}]}
        apply a {"ports": [{"port": 80, "name": "other"}]}
        refused "b": .ports[port=80,protocol="TCP"].name
        apply a {}
        object {"ports": [{"port": 80, "protocol": "TCP", "name": "web"}]}
        apply b {"ports": [{"port": 80}, {"port": 80, "protocol": "TCP"}]}
        refused .ports: duplicate entries for key [port=80,protocol="TCP"]
        apply b {"tags": ["x", "x"]}
        refused .tags: duplicate entries for key [="x"]
        apply b {"ports": [{"name": "n"}, null]}
        refused .ports: element 1: associative list with keys may not have a null element
        apply b {"ports": [{"protocol": null, "port": "x"}]}
        refused .ports[port="x",protocol=null].port: expected numeric (int or float), got string
        "#,
    );
}

#[test]
fn atomic_lists_maps_and_structs_are_owned_whole() {
    check(
        r#"
        apply a {"plain": ["x"], "selector": {"k": "v"}, "ref": {"a": "1"}, "in2": {"a": "1"}}
        owns a .in2 .plain .ref .selector
        apply b {"selector": {"k2": "v"}}
        refused "a": .selector
        force b {"selector": {"k2": "v"}, "ref": {"b": "2"}}
        object {"plain": ["x"], "selector": {"k2": "v"}, "ref": {"b": "2"}, "in2": {"a": "1"}}
        owns a .in2 .plain
        "#,
    );
}

#[test]
fn lists_keep_the_order_that_is_applied() {
    check(
        r#"
        update u {"tags": ["a", "b", "c", "d"]}
        apply x {"tags": ["c", "b", "e"]}
        object {"tags": ["a", "c", "d", "b", "e"]}
        "#,
    );
    check(
        r#"
        update u {"tags": ["a", "b", "x"]}
        apply x {"tags": ["b", "a", "y"]}
        object {"tags": ["b", "x", "a", "y"]}
        apply x {"tags": ["y", "b"]}
        object {"tags": ["x", "a", "y", "b"]}
        "#,
    );
}

#[test]
fn nulls_and_empty_things_are_owned() {
    check(
        r#"
        apply a {"n": null, "labels": {}, "tags": [], "in": null}
        owns a .in .labels .n
        object {"n": null, "labels": {}, "tags": [], "in": null}
        apply a {"labels": {"x": "1"}}
        object {"tags": [], "labels": {"x": "1"}}
        update u {"labels": {"x": "1"}, "in": {"a": "1"}}
        apply a {"labels": null, "in": null}
        object {"labels": {}, "in": {"a": "1"}}
        "#,
    );
}

#[test]
fn numbers_are_equal_whatever_their_form() {
    check(
        r#"
        update u {"n": 1, "ports": [{"port": 1, "protocol": "TCP"}]}
        apply a {"n": 1.0, "ports": [{"port": 1.0}]}
        owns a .n .ports[port=1,protocol="TCP"] .ports[port=1,protocol="TCP"].port
        at a never
        object {"n": 1, "ports": [{"port": 1, "protocol": "TCP"}]}
        "#,
    );
}

#[test]
fn what_the_schema_does_not_know_is_merged_by_its_look() {
    check(
        r#"
        apply a {"raw": {"o": {"x": 1}, "l": [1]}}
        owns a .raw.l .raw.o .raw.o.x
        apply b {"raw": {"o": {"y": 2}}}
        object {"raw": {"o": {"x": 1, "y": 2}, "l": [1]}}
        apply b {"raw": {"l": [2]}}
        refused "a": .raw.l
        force b {"raw": {"o": 5}}
        object {"raw": {"o": 5, "l": [1]}}
        owns a .raw.l
        owns b .raw.o
        apply c {"bad": 1}
        refused .bad: field not declared in schema
        apply c {"in": "text"}
        refused .in: expected map, got &{text}
        "#,
    );
}

#[test]
fn custom_resources_are_owned_as_their_definition_says() {
    let definition = json!({"type": "object", "properties": {
        "n": {"type": "integer"},
        "either": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "spec": {"type": "object", "properties": {
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"], "items": {
                "type": "object", "properties": {
                    "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "name": {"type": "string"}}}},
            "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "plain": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"x": {"type": "string"}}},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"known": {"type": "object", "properties": {"x": {"type": "string"}}}}},
        }},
    }});
    check_custom(
        &definition,
        r#"
        apply a {"metadata": {"a": "1"}, "spec": {"ports": [{"port": 80}], "tags": ["x"], "plain": ["p"], "labels": {"l": "1"}, "whole": {"x": "1"}, "open": {"any": {"q": [1]}, "known": {"x": "y", "more": 1}}}}
        owns a .metadata.a .spec.plain .spec.whole .spec.labels.l .spec.open.any .spec.open.any.q .spec.open.known.more .spec.open.known.x .spec.ports[port=80,protocol="TCP"] .spec.ports[port=80,protocol="TCP"].port .spec.tags[="x"]
        apply b {"spec": {"ports": [{"port": 80, "protocol": "TCP", "name": "web"}, {"port": 81}], "tags": ["y"], "open": {"any": {"r": 1}}}, "either": "50%", "n": 1.0}
        object {"metadata": {"a": "1"}, "either": "50%", "n": 1.0, "spec": {"ports": [{"port": 80, "protocol": "TCP", "name": "web"}, {"port": 81}], "tags": ["x", "y"], "plain": ["p"], "labels": {"l": "1"}, "whole": {"x": "1"}, "open": {"any": {"q": [1], "r": 1}, "known": {"x": "y", "more": 1}}}}
        apply b {"spec": {"whole": {"x": "2"}, "plain": ["q"]}}
        refused "a": .spec.plain .spec.whole
        apply b {}
        object {"metadata": {"a": "1"}, "spec": {"ports": [{"port": 80}], "tags": ["x"], "plain": ["p"], "labels": {"l": "1"}, "whole": {"x": "1"}, "open": {"any": {"q": [1]}, "known": {"x": "y", "more": 1}}}}
        apply b {"spec": {"nonsense": 1}}
        refused .spec.nonsense: field not declared in schema
        apply b {"metadata": {"c": 1}}
        refused .metadata.c: field not declared in schema
        apply b {"n": "x"}
        refused .n: expected numeric (int or float), got string
        apply b {"spec": {"ports": [{"name": "x"}, {"port": 1, "name": 3}], "tags": ["x", "x"]}}
        refused errors:\n  .spec.ports[port=1,protocol="TCP"].name: expected string, got &value.valueUnstructured{Value:&{3}}\n  .spec.tags: duplicate entries for key [="x"]
        "#,
    );
    check_custom(
        &Value::Null,
        r#"
        update u {"spec": {"o": {"x": 1}, "l": [{"a": 1}]}}
        owns +u .spec .spec.l .spec.o .spec.o.x
        apply a {"spec": {"o": {"y": 1}}}
        object {"spec": {"o": {"x": 1, "y": 1}, "l": [{"a": 1}]}}
        apply a {"spec": {"l": []}}
        refused "u" using v1: .spec.l
        "#,
    );
}

#[test]
fn items_listed_twice_are_owned_as_one() {
    check(
        r#"
        update u {"ports": [{"port": 1}, {"port": 1, "name": "n"}, {"port": 2}]}
        owns +u .ports .ports[port=1,protocol="TCP"] .ports[port=2,protocol="TCP"] .ports[port=2,protocol="TCP"].port
        apply a {"ports": [{"port": 2, "name": "two"}]}
        object {"ports": [{"port": 1}, {"port": 1, "name": "n"}, {"port": 2, "name": "two"}]}
        force a {"ports": [{"port": 1, "name": "one"}]}
        object {"ports": [{"port": 1, "name": "one"}, {"port": 2}]}
        "#,
    );
}

#[test]
fn many_updates_become_one_ancient_one() {
    let mut world = World::new();
    for i in 0..14 {
        world.write("update", &format!("u{i:02}"), &format!(r#"{{"n": {i}, "labels": {{"l{i}": "1"}}}}"#)).unwrap();
    }
    let mut labels = json!({});
    for i in 0..14 {
        labels[format!("l{i}")] = "1".into();
        world.write("update", &format!("v{i:02}"), &json!({"labels": labels}).to_string()).unwrap();
    }
    let names: Vec<&str> = world.managed.entries().iter().map(|e| e.writer.manager.as_str()).collect();
    assert_eq!(names.len(), 10);
    assert!(names.contains(&"ancient-changes") && names.contains(&"v13") && !names.contains(&"v01"), "{names:?}");
    let ancient = world.managed.entries().iter().find(|e| e.writer.manager == "ancient-changes").unwrap();
    assert!(ancient.fields.contains(&["labels", "l0"]) && ancient.fields.contains(&["labels", "l4"]));
}

#[test]
fn entries_are_read_and_written_in_order() {
    let entries = json!([
        {"manager": "z", "operation": "Update", "apiVersion": "v1", "time": "2020-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:n": {}}},
        {"manager": "b", "operation": "Apply", "apiVersion": "v1", "time": "2021-01-01T00:00:00Z", "fieldsType": "FieldsV1",
         "fieldsV1": {"f:ports": {"k:{\"protocol\":\"TCP\",\"port\":1.0}": {".": {}, "f:port": {}}}, "x:later": {"f:y": {}}}},
        {"manager": "a", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:tags": {"v:\"t\"": {}}}, "subresource": "status"},
    ]);
    let encoded = Managed::decode(&entries).unwrap().encode();
    let managers: Vec<&str> = encoded.as_array().unwrap().iter().map(|e| e["manager"].as_str().unwrap()).collect();
    assert_eq!(managers, ["a", "b", "z"]);
    assert_eq!(encoded[1]["fieldsV1"], json!({"f:ports": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}));
    assert_eq!(encoded[0], entries[2]);
    for (member, wrong, why) in [
        ("operation", json!("Delete"), "operation must be `Apply` or `Update`"),
        ("apiVersion", json!(""), "apiVersion must not be empty"),
        ("fieldsType", json!(""), "missing fieldsType in managed fields entry 0"),
        ("fieldsType", json!("V2"), "invalid fieldsType \"V2\" in managed fields entry 0"),
        ("fieldsV1", json!({"nocolon": {}}), "error decoding set: missing colon: nocolon"),
        ("fieldsV1", json!({"k:[1]": {}}), "error decoding set: k:[1]: not an object"),
        ("fieldsV1", json!([]), "error decoding set: not a set of fields: []"),
    ] {
        let mut bad = json!([entries[0]]);
        bad[0][member] = wrong;
        assert_eq!(Managed::decode(&bad).unwrap_err(), why);
    }
}

#[test]
fn a_scope_may_name_the_only_fields() {
    let fields = json!({"f:a": {"k:{\"n\":1}": {".": {}, "f:x": {}, "f:y": {}}}, "f:b": {}, "f:c": {".": {}, "f:d": {}}});
    let mut set = FieldSet::decode(&fields).unwrap();
    set.retain_under(&[&["a", "*", "x"], &["c"]]);
    assert_eq!(set.encode(), json!({"f:a": {"k:{\"n\":1}": {".": {}, "f:x": {}}}, "f:c": {".": {}, "f:d": {}}}));
}

#[test]
fn what_became_atomic_is_owned_whole() {
    let mut world = World::new();
    world.managed = Managed::decode(&json!([{"manager": "a", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:selector": {".": {}, "f:k": {}}, "f:in": {"f:a": {}}}}]))
    .unwrap();
    world.live = json!({"apiVersion": "v1", "kind": "T", "selector": {"k": "v"}, "in": {"a": "1"}});
    world.write("update", "u", r#"{"selector": {"k": "v"}, "in": {"a": "1"}, "n": 1}"#).unwrap();
    assert_eq!(world.owns("a"), ".selector .in.a");
}

/// Objects of the test's type.
fn objects() -> impl Strategy<Value = Value> {
    let text = || prop::sample::select(vec!["a", "b", "c"]);
    let labels = || prop::collection::btree_map(text(), text(), 0..3).prop_map(|m| json!(m));
    let tags = prop::collection::btree_set(text(), 0..3).prop_map(|s| json!(s)).prop_shuffle_list();
    let ports =
        prop::collection::btree_map((0..3, prop::sample::select(vec!["TCP", "UDP"])), prop::option::of(text()), 0..3).prop_map(|m| {
            let item = |((port, protocol), name): (_, Option<&str>)| {
                let mut item = json!({"port": port, "protocol": protocol});
                name.into_iter().for_each(|n| item["name"] = n.into());
                item
            };
            Value::Array(m.into_iter().map(item).collect())
        });
    let parts = (
        prop::option::of(0..3),
        prop::option::of(labels()),
        prop::option::of(tags),
        prop::option::of(ports.prop_shuffle_list()),
        prop::option::of(labels()),
        prop::option::of(labels()),
    );
    parts.prop_map(|(n, labels, tags, ports, selector, raw)| {
        let members =
            [("n", n.map(Value::from)), ("labels", labels), ("tags", tags), ("ports", ports), ("selector", selector), ("raw", raw)];
        Value::Object(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    })
}

trait Shuffled: Strategy<Value = Value> + Sized {
    fn prop_shuffle_list(self) -> impl Strategy<Value = Value> {
        (self, any::<bool>()).prop_map(|(mut list, turn)| {
            if let (true, Some(items)) = (turn, list.as_array_mut()) {
                items.reverse();
            }
            list
        })
    }
}

impl<S: Strategy<Value = Value>> Shuffled for S {}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_apply_is_in_the_object_and_again_changes_nothing(before in objects(), config in objects()) {
        let mut world = World::new();
        world.write("update", "u", &before.to_string()).unwrap();
        world.write("force", "a", &config.to_string()).unwrap();
        prop_assert!(world.version().compare(&config, &world.live).changed.intersection(&world.version().fields_of(&config)).is_empty());
        let (live, managed) = (world.live.clone(), world.managed.clone());
        world.write("apply", "a", &config.to_string()).unwrap();
        prop_assert_eq!(live, world.live);
        prop_assert_eq!(managed, world.managed);
    }

    #[test]
    fn giving_up_everything_leaves_what_was_there_before(before in objects(), config in objects()) {
        let mut world = World::new();
        world.write("apply", "first", &before.to_string()).unwrap();
        let start = world.live.clone();
        if world.write("apply", "a", &config.to_string()).is_ok() {
            world.write("apply", "a", "{}").unwrap();
            let left = world.version().fields_of(&start);
            let mut now = world.version().fields_of(&world.live);
            now.subtract(&left);
            // Containers that came into being may stay behind, empty.
            prop_assert!(now.paths().iter().all(|p| !p.contains('[') && p.matches('.').count() == 1), "{:?}", now.paths());
            prop_assert!(world.owns("a").is_empty());
        }
    }

    #[test]
    fn two_updates_never_own_one_field(steps in prop::collection::vec((0..3, objects()), 1..6)) {
        let mut world = World::new();
        for (who, object) in steps {
            world.write("update", &format!("u{who}"), &object.to_string()).unwrap();
            let sets: Vec<_> = world.managed.entries().iter().map(|e| &e.fields).collect();
            for (i, a) in sets.iter().enumerate() {
                for b in &sets[i + 1..] {
                    prop_assert!(a.intersection(b).is_empty());
                }
            }
        }
    }

    #[test]
    fn sets_survive_their_encoding(object in objects()) {
        let world = World::new();
        let set = world.version().fields_of(&object);
        prop_assert_eq!(FieldSet::decode(&set.encode()).unwrap(), set);
    }

    #[test]
    fn a_comparison_finds_every_difference(a in objects(), b in objects()) {
        let world = World::new();
        let difference = world.version().compare(&a, &b);
        let reordered = |v: &Value| { let mut v = v.clone(); sorted(&mut v); v };
        prop_assert_eq!(difference.is_empty(), reordered(&a) == reordered(&b));
        let back = world.version().compare(&b, &a);
        // What one direction takes away, the other brings.
        prop_assert_eq!(&difference.removed.intersection(&back.changed), &difference.removed);
        prop_assert!(difference.changed.intersection(&difference.removed).is_empty());
    }
}

/// Puts lists in order, so that objects which differ in it alone are equal.
fn sorted(value: &mut Value) {
    match value {
        Value::Array(items) => items.sort_by_key(Value::to_string),
        Value::Object(members) => members.values_mut().for_each(sorted),
        _ => {}
    }
}
