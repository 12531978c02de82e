//! Fitting a tree to its type: unknown members pruned, nulls dropped, wrong types refused in Go's words.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gantry_object::{Quantity, Timestamp, Value};

use crate::Decoded;
use crate::go;
use crate::model::{Node, Schema, Short, Struct, TypeId};

/// A body that cannot be decoded; its Display is the message upstream's clients see.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// An object with an empty list of managed fields asks that ownership be forgotten. Normalization would lose that, but not the other way to ask the
/// same: a list of one empty entry.
fn keep_reset(object: &mut Value) {
    if let Some(managed) = object.pointer_mut("/metadata/managedFields")
        && managed.as_array().is_some_and(Vec::is_empty)
    {
        *managed = serde_json::json!([{}]);
    }
}

/// How many unknown fields are reported at most.
const MOST_UNKNOWN: usize = 100;

struct Walk<'s> {
    schema: &'s Schema,
    /// The path with list indexes, for unknown fields.
    path: String,
    /// The path of member names alone, for wrong types.
    names: String,
    /// Go's name of the innermost struct.
    holder: &'s str,
    unknown: Vec<String>,
}

impl Schema {
    /// Takes a tree that came from elsewhere (a patched object): unknown fields pruned and reported, presence normalized.
    ///
    /// # Errors
    /// When a value has the wrong type.
    pub fn conform(&self, ty: TypeId, mut value: Value) -> Result<Decoded, DecodeError> {
        let mut walk = Walk { schema: self, path: String::new(), names: String::new(), holder: "", unknown: Vec::new() };
        if value.is_null() {
            value = self.zero(ty);
        }
        walk.fit(ty, &mut value)?;
        let unknown = walk.unknown;
        keep_reset(&mut value);
        self.normalize(ty, &mut value);
        Ok(Decoded { value, unknown, duplicates: Vec::new() })
    }

    /// Go's name for a type.
    pub(crate) fn go_name(&self, ty: TypeId) -> String {
        match self.node(ty) {
            Node::Bool => "bool".into(),
            Node::Int32 => "int32".into(),
            Node::Int64 => "int64".into(),
            Node::Double => "float64".into(),
            Node::String(Some(named)) => named.go.clone(),
            Node::String(None) | Node::Time | Node::MicroTime | Node::Duration | Node::Quantity => "string".into(),
            Node::Bytes => "[]uint8".into(),
            Node::IntOrString => "intstr.IntOrString".into(),
            Node::Raw => "runtime.RawExtension".into(),
            Node::FieldsV1 => "v1.FieldsV1".into(),
            Node::Any => "interface {}".into(),
            Node::Json => "v1.JSON".into(),
            Node::Either(short, _) => match short {
                Short::Array => "v1.JSONSchemaPropsOrArray".into(),
                Short::Bool => "v1.JSONSchemaPropsOrBool".into(),
                Short::Strings => "v1.JSONSchemaPropsOrStringArray".into(),
            },
            Node::List(item) | Node::Wrapped(item) => format!("[]{}", self.go_name(*item)),
            Node::Map(item) => format!("map[string]{}", self.go_name(*item)),
            Node::Struct(s) => s.go.clone(),
        }
    }
}

/// What a JSON value is, in Go's words.
fn described(value: &Value, with_number: bool) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(n) if with_number => format!("number {n}"),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(_) => "array".into(),
        Value::Object(_) => "object".into(),
    }
}

impl<'s> Walk<'s> {
    fn wrong(&self, ty: TypeId, value: &Value) -> DecodeError {
        let numeric = matches!(self.schema.node(ty), Node::Int32 | Node::Int64 | Node::Double);
        let (got, want) = (described(value, numeric), self.schema.go_name(ty));
        if self.names.is_empty() {
            return DecodeError(format!("json: cannot unmarshal {got} into Go value of type {want}"));
        }
        let holder = self.holder.rsplit('.').next().unwrap_or(self.holder);
        DecodeError(format!("json: cannot unmarshal {got} into Go struct field {holder}.{} of type {want}", self.names))
    }

    fn fit(&mut self, ty: TypeId, value: &mut Value) -> Result<(), DecodeError> {
        match (self.schema.node(ty), &mut *value) {
            (Node::Struct(s), Value::Object(_)) => self.fit_struct(s, value),
            (Node::List(item) | Node::Wrapped(item) | Node::Either(Short::Array, item), Value::Array(items)) => {
                let here = self.path.len();
                for (i, v) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{i}]"));
                    self.fit_item(*item, v)?;
                    self.path.truncate(here);
                }
                Ok(())
            }
            (Node::Map(item), Value::Object(members)) => {
                let here = self.path.len();
                for (name, v) in members.iter_mut() {
                    self.path.push_str(&format!(".{name}"));
                    self.fit_item(*item, v)?;
                    self.path.truncate(here);
                }
                Ok(())
            }
            (Node::Either(_, item), Value::Object(_)) => self.fit(*item, value),
            (Node::Either(Short::Bool, _), Value::Bool(_)) => Ok(()),
            (Node::Either(Short::Strings, _), Value::Array(items)) if items.iter().all(Value::is_string) => Ok(()),
            _ => self.fit_scalar(ty, value),
        }
    }

    /// An item of a list or map: a null stands for the zero value.
    fn fit_item(&mut self, ty: TypeId, value: &mut Value) -> Result<(), DecodeError> {
        if value.is_null() {
            *value = self.schema.zero(ty);
            return Ok(());
        }
        self.fit(ty, value)
    }

    fn fit_struct(&mut self, s: &'s Struct, value: &mut Value) -> Result<(), DecodeError> {
        let Value::Object(members) = value else { return Ok(()) };
        let (path, names, holder) = (self.path.len(), self.names.len(), self.holder);
        self.holder = &s.go;
        let mut dropped = Vec::new();
        for (name, v) in members.iter_mut() {
            let field = s.field(name);
            if path > 0 {
                self.path.push('.');
            }
            self.path.push_str(name);
            match field {
                None => {
                    if self.unknown.len() < MOST_UNKNOWN {
                        self.unknown.push(self.path.clone());
                    }
                    dropped.push(name.clone());
                }
                Some(_) if v.is_null() => dropped.push(name.clone()),
                Some(field) => {
                    if names > 0 {
                        self.names.push('.');
                    }
                    self.names.push_str(name);
                    self.fit(field.ty, v)?;
                    self.names.truncate(names);
                }
            }
            self.path.truncate(path);
        }
        for name in dropped {
            members.remove(&name);
        }
        self.holder = holder;
        Ok(())
    }

    fn fit_scalar(&mut self, ty: TypeId, value: &mut Value) -> Result<(), DecodeError> {
        let fits = match (self.schema.node(ty), &mut *value) {
            (Node::Bool, Value::Bool(_))
            | (Node::String(_), Value::String(_))
            | (Node::Any | Node::Json | Node::Raw | Node::FieldsV1, _) => true,
            (Node::Double, Value::Number(_)) => true,
            (Node::Int64, Value::Number(n)) => n.is_i64(),
            (Node::Int32, Value::Number(n)) => n.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            (Node::Bytes, Value::String(text)) => {
                check_base64(text)?;
                true
            }
            (Node::Quantity, Value::String(text)) => {
                text.parse::<Quantity>().map_err(|e| DecodeError(e.to_string()))?;
                true
            }
            (Node::Quantity, Value::Number(n)) => {
                let text = n.to_string();
                text.parse::<Quantity>().map_err(|e| DecodeError(e.to_string()))?;
                *value = Value::String(text);
                true
            }
            (Node::Time | Node::MicroTime, Value::String(text)) => {
                check_time(text)?;
                true
            }
            (Node::Duration, Value::String(text)) => {
                go::parse_duration(text).ok_or_else(|| DecodeError(format!("time: invalid duration {text:?}")))?;
                true
            }
            (Node::IntOrString, Value::String(_)) => true,
            (Node::IntOrString, other) => {
                if other.as_i64().is_none_or(|n| i32::try_from(n).is_err()) {
                    let got = described(other, other.is_number());
                    return Err(DecodeError(format!("json: cannot unmarshal {got} into Go value of type int32")));
                }
                true
            }
            (Node::Time | Node::MicroTime | Node::Duration, other) => {
                return Err(DecodeError(format!("json: cannot unmarshal {} into Go value of type string", described(other, false))));
            }
            (Node::Quantity, _) => return Err(DecodeError(gantry_object::quantity::ParseQuantityError.to_string())),
            _ => false,
        };
        if fits { Ok(()) } else { Err(self.wrong(ty, value)) }
    }
}

fn check_time(text: &str) -> Result<(), DecodeError> {
    if Timestamp::parse(text).is_some() {
        return Ok(());
    }
    Err(DecodeError(format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")))
}

fn check_base64(text: &str) -> Result<(), DecodeError> {
    match STANDARD.decode(text) {
        Ok(_) => Ok(()),
        // Go's decoder skips line breaks.
        Err(_) if text.contains(['\n', '\r']) => check_base64(&text.replace(['\n', '\r'], "")),
        Err(base64::DecodeError::InvalidByte(at, _)) => Err(DecodeError(format!("illegal base64 data at input byte {at}"))),
        Err(_) => Err(DecodeError(format!("illegal base64 data at input byte {}", text.trim_end_matches('=').len() / 4 * 4))),
    }
}
