//! Bodies of requests: the first byte says of which kind.

use std::sync::LazyLock;

use gantry_kinds::{Kind, Registry};
use gantry_object::Value;
use gantry_schema::{Decoded, Envelope, to_yaml};

pub(crate) fn registry() -> &'static Registry {
    static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::builtin);
    &REGISTRY
}

/// The kind that a byte chooses, and the rest.
pub(crate) fn kind_of(data: &[u8]) -> Option<(&'static Kind, &[u8])> {
    let (first, rest) = data.split_first()?;
    let kinds = registry().kinds();
    Some((&kinds[usize::from(*first) % kinds.len()], rest))
}

/// What the server does with an object that was decoded; what comes out must mean the same in every encoding.
pub(crate) fn use_object(kind: &Kind, decoded: Decoded) -> Value {
    decoded.complaints();
    let mut object = decoded.value;
    kind.apply_defaults(&mut object);
    kind.prepare_create(&mut object);
    kind.validate_create(&object);
    let json = serde_json::to_vec(&object).expect("a tree has text keys");
    let again = kind.decode_json(&json).expect("what the server wrote can be read");
    assert_eq!((again.unknown, again.duplicates), (vec![], vec![]), "{object}");
    assert_eq!(again.value, object);
    object
}

pub(crate) fn json(data: &[u8]) {
    let Some((kind, body)) = kind_of(data) else { return };
    if let Ok(decoded) = kind.decode_json(body) {
        let object = use_object(kind, decoded);
        let schema = registry().schema();
        if let Some(ty) = registry().type_of(&kind.gvk()) {
            let bytes = schema.encode_protobuf(ty, &object);
            schema.decode_protobuf(ty, &bytes).expect("what the server encoded can be decoded");
        }
    }
}

pub(crate) fn yaml(data: &[u8]) {
    let Some((kind, body)) = kind_of(data) else { return };
    if let Ok(decoded) = kind.decode_yaml(body) {
        let object = use_object(kind, decoded);
        let again = kind.decode_yaml(to_yaml(&object).as_bytes()).expect("what the server wrote can be read");
        assert_eq!(again.value, object);
    }
}

pub(crate) fn protobuf(data: &[u8]) {
    // Whole bodies are seldom hit, so the raw message inside is tried too.
    let _ = Envelope::open(data);
    let Some((kind, body)) = kind_of(data) else { return };
    let Some(ty) = registry().type_of(&kind.gvk()) else { return };
    let schema = registry().schema();
    if let Ok(value) = schema.decode_protobuf(ty, body) {
        let bytes = schema.encode_protobuf(ty, &value);
        let again = schema.decode_protobuf(ty, &bytes).expect("what the server encoded can be decoded");
        assert_eq!(bytes, schema.encode_protobuf(ty, &again));
    }
}
