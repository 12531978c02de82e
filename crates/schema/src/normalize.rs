//! The presence, quantities and times upstream's encoder would write.

use gantry_object::{Map, Quantity, Timestamp, Value};

use crate::go;
use crate::model::{Field, Node, Schema, Short, Struct, TypeId};

impl Schema {
    /// Gives a conforming tree the presence, quantities and times upstream's JSON encoder would write, so that equal objects have equal bytes.
    pub fn normalize(&self, ty: TypeId, value: &mut Value) {
        match (self.node(ty), &mut *value) {
            (Node::Struct(s), Value::Object(members)) => self.normalize_struct(s, members),
            (Node::Wrapped(_), Value::Array(items)) if items.is_empty() => *value = Value::Null,
            (Node::List(item) | Node::Wrapped(item), Value::Array(items)) => items.iter_mut().for_each(|v| self.normalize(*item, v)),
            (Node::Map(item), Value::Object(members)) => members.values_mut().for_each(|v| self.normalize(*item, v)),
            (Node::Either(_, item), Value::Object(_)) => self.normalize(*item, value),
            (Node::Either(Short::Array, item), Value::Array(items)) => items.iter_mut().for_each(|v| self.normalize(*item, v)),
            (Node::Quantity, Value::String(text)) => {
                if let Ok(quantity) = text.parse::<Quantity>() {
                    *text = quantity.to_string();
                }
            }
            (Node::Time, Value::String(text)) => {
                if let Some(time) = Timestamp::parse(text) {
                    *text = time.rfc3339();
                }
            }
            (Node::MicroTime, Value::String(text)) => {
                if let Some(time) = Timestamp::parse(text) {
                    *text = time.rfc3339_micros();
                }
            }
            (Node::Duration, Value::String(text)) => {
                if let Some(nanos) = go::parse_duration(text) {
                    *text = go::format_duration(nanos);
                }
            }
            (Node::Bytes, Value::String(text)) if text.contains(['\n', '\r']) => text.retain(|c| c != '\n' && c != '\r'),
            _ => {}
        }
    }

    /// Takes out what belongs to features that are switched off.
    pub fn drop_disabled(&self, ty: TypeId, value: &mut Value) {
        match (self.node(ty), value) {
            (Node::Struct(s), Value::Object(members)) => {
                for (name, value) in members.iter_mut() {
                    match s.field(name) {
                        Some(field) if field.disabled => *value = Value::Null,
                        Some(field) => self.drop_disabled(field.ty, value),
                        None => {}
                    }
                }
            }
            (Node::List(item), Value::Array(items)) => items.iter_mut().for_each(|v| self.drop_disabled(*item, v)),
            (Node::Map(item), Value::Object(members)) => members.values_mut().for_each(|v| self.drop_disabled(*item, v)),
            _ => {}
        }
    }

    fn normalize_struct(&self, s: &Struct, members: &mut Map) {
        for field in &s.fields {
            match members.get_mut(&field.name) {
                None | Some(Value::Null) => self.fill_absent(field, members),
                Some(value) => {
                    self.normalize(field.ty, value);
                    if field.pointer {
                        continue;
                    }
                    if field.omit_empty && self.is_empty(field.ty, value) {
                        members.remove(&field.name);
                    } else if matches!(self.node(field.ty), Node::List(_) | Node::Map(_) | Node::Wrapped(_))
                        && self.is_empty(field.ty, value)
                    {
                        // Upstream's storage does not tell an empty list or map from none.
                        *value = Value::Null;
                    }
                }
            }
        }
    }

    fn fill_absent(&self, field: &Field, members: &mut Map) {
        let absent_is_left_out =
            if field.pointer { field.omit_empty } else { field.omit_zero || field.omit_empty && self.can_be_empty(field.ty) };
        if absent_is_left_out {
            members.remove(&field.name);
            return;
        }
        let zero = if field.pointer { Value::Null } else { self.zero(field.ty) };
        members.insert(field.name.clone(), zero);
    }

    /// Whether Go's omitempty ever applies to values of this type: not to structs, nor to what Go keeps as structs.
    fn can_be_empty(&self, ty: TypeId) -> bool {
        !matches!(
            self.node(ty),
            Node::Struct(_)
                | Node::Quantity
                | Node::Time
                | Node::MicroTime
                | Node::Duration
                | Node::IntOrString
                | Node::Raw
                | Node::FieldsV1
                | Node::Json
                | Node::Either(..)
        )
    }

    fn is_empty(&self, ty: TypeId, value: &Value) -> bool {
        self.can_be_empty(ty)
            && match value {
                Value::Null => true,
                Value::Bool(b) => !b,
                Value::Number(n) => n.as_f64() == Some(0.0),
                Value::String(s) => s.is_empty(),
                Value::Array(a) => a.is_empty(),
                Value::Object(o) => o.is_empty(),
            }
    }

    /// The zero value of a type, normalized.
    pub(crate) fn zero(&self, ty: TypeId) -> Value {
        match self.node(ty) {
            Node::Bool => false.into(),
            Node::Int32 | Node::Int64 | Node::Double | Node::IntOrString => 0.into(),
            Node::String(_) => "".into(),
            Node::Quantity => "0".into(),
            Node::Duration => "0s".into(),
            Node::Bytes | Node::Time | Node::MicroTime | Node::Raw | Node::FieldsV1 | Node::Any | Node::Json => Value::Null,
            Node::List(_) | Node::Wrapped(_) | Node::Map(_) | Node::Either(..) => Value::Null,
            Node::Struct(s) => {
                let mut members = Map::new();
                self.normalize_struct(s, &mut members);
                Value::Object(members)
            }
        }
    }
}
