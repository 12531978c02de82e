//! JSON and YAML bodies to trees.

use std::collections::BTreeSet;
use std::fmt;

use gantry_object::{Map, Value};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::{DecodeError, Schema, TypeId};

/// A decoded body: the tree, normalized, and what strictness finds.
#[derive(Debug, Default, PartialEq)]
pub struct Decoded {
    /// The tree without the unknown fields.
    pub value: Value,
    /// Paths of unknown fields, for `unknown field "spec.foo"`.
    pub unknown: Vec<String>,
    /// Paths of fields given twice, for `duplicate field "spec.bar"`.
    pub duplicates: Vec<String>,
}

impl Decoded {
    /// What strictness finds, in upstream's words: `unknown field "spec.foo"`.
    pub fn complaints(&self) -> Vec<String> {
        let duplicates = self.duplicates.iter().map(|p| format!("duplicate field {p:?}"));
        duplicates.chain(self.unknown.iter().map(|p| format!("unknown field {p:?}"))).collect()
    }
}

impl Schema {
    /// Decodes a JSON body: unknown fields pruned and reported, presence normalized.
    ///
    /// # Errors
    /// When the body is not JSON or a value has the wrong type.
    pub fn decode_json(&self, ty: TypeId, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let (value, duplicates) = parse_json(bytes)?;
        Ok(Decoded { duplicates, ..self.conform(ty, value)? })
    }

    /// Decodes a YAML body, as [`Schema::decode_json`].
    ///
    /// # Errors
    /// When the body is not YAML or a value has the wrong type.
    pub fn decode_yaml(&self, ty: TypeId, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        let (value, duplicates) = parse_yaml(bytes)?;
        Ok(Decoded { duplicates, ..self.conform(ty, value)? })
    }
}

/// A JSON text as a tree, with the paths of members given twice.
pub(crate) fn parse_json(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let mut state = State::default();
    let mut de = serde_json::Deserializer::from_slice(bytes);
    let value = Tree(&mut state).deserialize(&mut de).and_then(|v| de.end().map(|()| v));
    Ok((value.map_err(|e| DecodeError(format!("error parsing JSON: {e}")))?, state.duplicates))
}

fn yaml_options() -> serde_saphyr::Options {
    let mut options = serde_saphyr::Options::default();
    options.duplicate_keys = serde_saphyr::options::DuplicateKeyPolicy::PassThrough;
    options.legacy_octal_numbers = true;
    options.with_snippet = false;
    options
}

/// A YAML text as a tree, with the paths of members given twice.
pub(crate) fn parse_yaml(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    let mut state = State::default();
    let value = serde_saphyr::with_deserializer_from_slice_with_options(bytes, yaml_options(), |de| Tree(&mut state).deserialize(de));
    Ok((value.map_err(|e| DecodeError(format!("error converting YAML to JSON: {e}")))?, state.duplicates))
}

/// A document in YAML, which JSON is too, as a tree, with what is said of members given twice: `line 9: key "foo" already set in map`.
///
/// # Errors
/// When it is not YAML.
pub fn parse_document(bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
    // Most clients send JSON, which is read much faster as such.
    if bytes.first() == Some(&b'{')
        && let Ok((value, twice)) = parse_json(bytes)
        && twice.is_empty()
    {
        return Ok((value, twice));
    }
    let (value, twice) = parse_yaml(bytes)?;
    Ok((value, if twice.is_empty() { twice } else { repeated_lines(bytes) }))
}

/// What is said of members that a YAML text gives twice.
fn repeated_lines(bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    // The text was read before, so nothing is left to fail but what lies beyond the last repetition.
    let _ = serde_saphyr::with_deserializer_from_slice_with_options(bytes, yaml_options(), |de| Repeats(&mut found).deserialize(de));
    found
}

/// Looks for members given twice.
struct Repeats<'a>(&'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for Repeats<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Repeats<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Repeats(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(key) = map.next_key::<serde_saphyr::Spanned<String>>()? {
            if seen.contains(&key.value) {
                self.0.push(format!("line {}: key {:?} already set in map", key.defined.line(), key.value));
            }
            map.next_value_seed(Repeats(self.0))?;
            seen.insert(key.value);
        }
        Ok(())
    }
}

/// Where the reader stands and what it found twice.
#[derive(Default)]
struct State {
    path: String,
    duplicates: Vec<String>,
}

struct Tree<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E>(self, v: f64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let here = self.0.path.len();
        loop {
            self.0.path.push_str(&format!("[{}]", items.len()));
            let item = seq.next_element_seed(Tree(self.0))?;
            self.0.path.truncate(here);
            match item {
                Some(item) => items.push(item),
                None => return Ok(Value::Array(items)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        let here = self.0.path.len();
        while let Some(name) = map.next_key::<String>()? {
            if here > 0 {
                self.0.path.push('.');
            }
            self.0.path.push_str(&name);
            let value = map.next_value_seed(Tree(self.0))?;
            if members.insert(name, value).is_some() && !self.0.duplicates.contains(&self.0.path) {
                self.0.duplicates.push(self.0.path.clone());
            }
            self.0.path.truncate(here);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_told_by_their_lines() {
        let text = "\na: 1\nspec:\n  foo: x\n  l:\n  - b: 1\n    b: 2\n  foo: z\na: 2\n";
        let (value, found) = parse_document(text.as_bytes()).unwrap();
        assert_eq!(value, serde_json::json!({"a": 2, "spec": {"foo": "z", "l": [{"b": 2}]}}));
        let told: Vec<String> = [(7, "b"), (8, "foo"), (9, "a")].map(|(n, k)| format!("line {n}: key {k:?} already set in map")).into();
        assert_eq!(found, told);
        assert_eq!(parse_document(br#"{"a":1,"a":2}"#).unwrap().1, ["line 1: key \"a\" already set in map"]);
        assert_eq!(parse_document(b"{\"a\":[1]}").unwrap(), (serde_json::json!({"a": [1]}), Vec::new()));
        assert!(parse_document(b"{a: [").is_err());
    }
}
