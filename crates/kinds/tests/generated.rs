//! Objects made by walking the schema keep what they hold through every encoding.

use gantry_kinds::Registry;
use gantry_object::{Map, Timestamp, Value};
use gantry_schema::{Field, Node, Schema, Short, TypeId};
use proptest::prelude::*;
use proptest::test_runner::TestRng;
use serde_json::json;

/// How deep generated objects are filled; below, everything is left out.
const DEPTH: u32 = 7;

fn pick(rng: &mut TestRng, below: u32) -> u32 {
    rng.next_u32() % below
}

fn text(rng: &mut TestRng) -> String {
    const TEXTS: [&str; 7] = ["", "a", "nginx:1.27", "häß-日本 \"quoted\"", "line\nbreak", "10.0.0.1", "0"];
    TEXTS[pick(rng, 7) as usize].into()
}

fn number(rng: &mut TestRng) -> i64 {
    const NUMBERS: [i64; 7] = [0, 1, -1, 80, 65535, 2_147_483_647, -2_147_483_648];
    NUMBERS[pick(rng, 7) as usize]
}

fn one_of(rng: &mut TestRng, texts: &[&str]) -> Value {
    texts[pick(rng, texts.len() as u32) as usize].into()
}

fn value(schema: &Schema, ty: TypeId, depth: u32, rng: &mut TestRng) -> Value {
    match schema.node(ty) {
        Node::Bool => (pick(rng, 2) == 0).into(),
        Node::Int32 => number(rng).into(),
        Node::Int64 => (number(rng) * i64::from(pick(rng, 3) as i32 * 1000 + 1)).into(),
        Node::Double => (f64::from(pick(rng, 1000)) / 8.0).into(),
        Node::String(_) => text(rng).into(),
        Node::Bytes => one_of(rng, &["", "AA==", "aGFsbG8="]),
        Node::Quantity => one_of(rng, &["0", "100m", "1Gi", "1500M", "2e3", "0.5", "1024Ki"]),
        Node::Time => one_of(rng, &["2026-11-23T05:00:00Z", "1999-12-31T23:59:59Z"]),
        Node::MicroTime => one_of(rng, &["2026-11-23T05:00:00.000001Z", "2026-11-23T05:00:00.999999Z"]),
        Node::Duration => one_of(rng, &["0s", "1m30s", "1h0m0.5s"]),
        Node::IntOrString => [json!(8080), json!("http"), json!(0), json!("25%")][pick(rng, 4) as usize].clone(),
        Node::Raw | Node::FieldsV1 => json!({"f:a": {".": {}}, "n": pick(rng, 9)}),
        Node::Any => one_of(rng, &["x", "y"]),
        Node::Json => [json!({"a": [1, "b"]}), json!("x"), json!(7), json!([])][pick(rng, 4) as usize].clone(),
        Node::Either(short, item) => match (short, pick(rng, 2)) {
            (_, 0) if depth > 0 => value(schema, *item, depth - 1, rng),
            (Short::Bool, n) => (n == 1).into(),
            (Short::Strings, _) => json!(["a", "b"]),
            (Short::Array, _) => Value::Array(vec![json!({"type": "string"})]),
        },
        Node::List(item) | Node::Wrapped(item) => (0..pick(rng, 3)).map(|_| value(schema, *item, depth, rng)).collect(),
        Node::Map(item) => {
            let members: Map = (0..pick(rng, 3)).map(|i| (format!("k{i}"), value(schema, *item, depth, rng))).collect();
            members.into()
        }
        Node::Struct(s) => {
            let mut members = Map::new();
            for field in &s.fields {
                if depth > 0 && is_encoded(schema, field) && pick(rng, 3) > 0 {
                    members.insert(field.name.clone(), value(schema, field.ty, depth - 1, rng));
                }
            }
            members.into()
        }
    }
}

/// Whether a member has a protobuf form: apiVersion, kind and untyped members have none.
fn is_encoded(schema: &Schema, field: &Field) -> bool {
    field.number > 0 && !matches!(schema.node(field.ty), Node::Any)
}

/// Where two trees differ first.
fn difference(a: &Value, b: &Value, path: &str) -> Option<String> {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let names = x.keys().chain(y.keys());
            names.into_iter().find_map(|n| {
                difference(x.get(n).unwrap_or(&json!("<missing>")), y.get(n).unwrap_or(&json!("<missing>")), &format!("{path}.{n}"))
            })
        }
        (Value::Array(x), Value::Array(y)) if x.len() == y.len() => {
            x.iter().zip(y).enumerate().find_map(|(i, (x, y))| difference(x, y, &format!("{path}[{i}]")))
        }
        _ if a == b => None,
        _ => Some(format!("{path}: {a} is not {b}")),
    }
}

/// Null and empty wrapped lists and bytes are one thing in protobuf lists, so the tree after one trip is the one to keep.
fn check(schema: &Schema, ty: TypeId, object: Value) -> Result<(), TestCaseError> {
    let json = serde_json::to_vec(&object).expect("JSON");
    let decoded = schema.decode_json(ty, &json).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!(decoded.complaints(), Vec::<String>::new());
    let once = decoded.value;
    let again = schema.conform(ty, once.clone()).map_err(|e| TestCaseError::fail(e.to_string()))?.value;
    prop_assert_eq!(difference(&again, &once, "normalized twice"), None);
    let bytes = schema.encode_protobuf(ty, &once);
    let back = schema.decode_protobuf(ty, &bytes).map_err(|e| TestCaseError::fail(e.to_string()))?;
    prop_assert_eq!(difference(&back, &once, "through protobuf"), None);
    prop_assert_eq!(schema.encode_protobuf(ty, &back), bytes, "protobuf of the same object");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_objects_survive_every_encoding(rng in any::<()>().prop_perturb(|(), rng| rng)) {
        let registry = Registry::builtin();
        let schema = registry.schema();
        let mut rng = rng;
        for kind in registry.kinds() {
            let object = value(schema, kind.ty, DEPTH, &mut rng);
            check(schema, kind.ty, object)?;
        }
    }

    #[test]
    fn rules_take_any_object_that_fits_its_type(rng in any::<()>().prop_perturb(|(), rng| rng)) {
        let registry = Registry::builtin();
        let mut rng = rng;
        for kind in registry.kinds() {
            let mut make = || {
                let object = value(registry.schema(), kind.ty, DEPTH, &mut rng);
                let mut object = registry.schema().conform(kind.ty, object).map_err(|e| TestCaseError::fail(e.to_string()))?.value;
                object["apiVersion"] = kind.api_version().into();
                object["kind"] = kind.kind.as_str().into();
                kind.apply_defaults(&mut object);
                Ok::<_, TestCaseError>(object)
            };
            let (mut old, mut new) = (make()?, make()?);
            kind.prepare_create(&mut old);
            let mut twice = old.clone();
            kind.apply_defaults(&mut twice);
            prop_assert_eq!(difference(&twice, &old, "defaulted twice"), None);
            kind.validate_create(&old);
            for subresource in std::iter::once(None).chain(kind.subresources.iter().map(|s| Some(s.name.as_str()))) {
                kind.prepare_update(&mut new, &old, subresource);
                kind.validate_update(&new, &old, subresource);
            }
            prop_assert_eq!(kind.cells(&new, Timestamp::from_seconds(1_800_000_000)).len(), kind.columns.len().max(if kind.stored() { 0 } else { 2 }));
            let shown = kind.from_storage(kind.to_storage(new.clone()));
            if kind.api_version() == "autoscaling/v1" {
                // What version 1 leaves unsaid, the stored version says; after that nothing is added or lost.
                let again = kind.from_storage(kind.to_storage(shown.clone()));
                prop_assert_eq!(difference(&again, &shown, "twice through storage"), None);
            } else {
                prop_assert_eq!(difference(&shown, &new, "through storage"), None);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_message_are_refused_or_read_but_never_crash(noise in proptest::collection::vec(any::<u8>(), 0..200), at in 0usize..100) {
        let registry = Registry::builtin();
        let pod = registry.resource("", "v1", "pods").expect("served");
        let message = registry.schema().encode_protobuf(pod.ty, &json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}}));
        let mut damaged = message.clone();
        damaged.splice(at.min(message.len()).., noise.iter().copied());
        for bytes in [noise.as_slice(), damaged.as_slice()] {
            // What is read fits its type, whatever it was.
            if let Ok(value) = registry.schema().decode_protobuf(pod.ty, bytes) {
                prop_assert!(registry.schema().conform(pod.ty, value).is_ok());
            }
            let _ = gantry_schema::Envelope::open(bytes);
            let _ = pod.decode_json(bytes);
            let _ = pod.decode_yaml(bytes);
        }
    }
}
