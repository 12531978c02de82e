//! The encoder. It writes back to front, so that each message's length is known when its head is written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gantry_object::{Map, Timestamp, Value};

use crate::go;
use crate::model::{Field, Node, Part, Schema, Short, Struct, TypeId};
use crate::protobuf::Layout;

/// Bytes written back to front.
#[derive(Default)]
pub(crate) struct Reversed(Vec<u8>);

impl Reversed {
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        self.0.reverse();
        self.0
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.iter().rev());
    }

    fn varint(&mut self, mut n: u64) {
        let mut bytes = [0; 10];
        let mut used = 0;
        while n >= 0x80 {
            bytes[used] = n as u8 | 0x80;
            n >>= 7;
            used += 1;
        }
        bytes[used] = n as u8;
        self.raw(&bytes[..=used]);
    }

    fn tag(&mut self, number: u32, layout: Layout) {
        self.varint(u64::from(number) << 3 | layout.code());
    }

    pub(crate) fn number(&mut self, number: u32, n: i64) {
        self.varint(n as u64);
        self.tag(number, Layout::Varint);
    }

    pub(crate) fn bytes(&mut self, number: u32, bytes: &[u8]) {
        self.raw(bytes);
        self.varint(bytes.len() as u64);
        self.tag(number, Layout::Delimited);
    }

    /// A message: what `body` writes, with its length and tag before it.
    pub(crate) fn message(&mut self, number: u32, body: impl FnOnce(&mut Self)) {
        let before = self.len();
        body(self);
        self.varint((self.len() - before) as u64);
        self.tag(number, Layout::Delimited);
    }
}

impl Schema {
    /// Encodes a conforming tree as a protobuf message, without envelope. Members that are missing are written as zero where upstream does.
    pub fn encode_protobuf(&self, ty: TypeId, value: &Value) -> Vec<u8> {
        let mut out = Reversed::default();
        if let (Node::Struct(s), Value::Object(members)) = (self.node(ty), value) {
            self.write_struct(s, members, &mut out);
        }
        out.into_bytes()
    }

    fn write_struct(&self, s: &Struct, members: &Map, out: &mut Reversed) {
        for wire in s.wire.iter().rev() {
            match wire.part {
                Part::Inline(ty) => {
                    if let Node::Struct(inner) = self.node(ty) {
                        out.message(wire.number, |out| self.write_struct(inner, members, out));
                    }
                }
                Part::Field(at) => {
                    let field = &s.fields[usize::from(at)];
                    self.write_field(field, members.get(&field.name).unwrap_or(&Value::Null), out);
                }
            }
        }
    }

    fn write_field(&self, field: &Field, value: &Value, out: &mut Reversed) {
        match self.node(field.ty) {
            _ if field.pointer && value.is_null() => {}
            Node::List(item) => {
                for v in value.as_array().into_iter().flatten().rev() {
                    self.write_value(field.number, *item, v, out);
                }
            }
            Node::Map(item) => {
                for (name, v) in value.as_object().into_iter().flatten().rev() {
                    out.message(field.number, |out| {
                        self.write_value(2, *item, v, out);
                        out.bytes(1, name.as_bytes());
                    });
                }
            }
            _ => self.write_value(field.number, field.ty, value, out),
        }
    }

    fn write_value(&self, number: u32, ty: TypeId, value: &Value, out: &mut Reversed) {
        let text = value.as_str().unwrap_or_default();
        match self.node(ty) {
            Node::Bool => out.number(number, i64::from(value.as_bool().unwrap_or_default())),
            Node::Int32 | Node::Int64 => out.number(number, value.as_i64().unwrap_or_default()),
            Node::Double => {
                out.raw(&value.as_f64().unwrap_or_default().to_le_bytes());
                out.tag(number, Layout::Fixed64);
            }
            Node::String(_) => out.bytes(number, text.as_bytes()),
            Node::Bytes if value.is_null() => {}
            Node::Bytes => out.bytes(number, &STANDARD.decode(text).unwrap_or_default()),
            Node::Quantity => out.message(number, |out| out.bytes(1, if text.is_empty() { b"0" } else { text.as_bytes() })),
            Node::Time => out.message(number, |out| write_time(text, false, out)),
            Node::MicroTime => out.message(number, |out| write_time(text, true, out)),
            Node::Duration => out.message(number, |out| out.number(1, go::parse_duration(text).unwrap_or_default())),
            Node::IntOrString => out.message(number, |out| {
                out.bytes(3, text.as_bytes());
                out.number(2, value.as_i64().unwrap_or_default());
                out.number(1, i64::from(value.is_string()));
            }),
            Node::Raw | Node::FieldsV1 | Node::Json => out.message(number, |out| {
                if !value.is_null() {
                    out.bytes(1, value.to_string().as_bytes());
                }
            }),
            Node::Wrapped(item) => out.message(number, |out| {
                for v in value.as_array().into_iter().flatten().rev() {
                    self.write_value(1, *item, v, out);
                }
            }),
            Node::Struct(s) => out.message(number, |out| self.write_struct(s, value.as_object().unwrap_or(&Map::new()), out)),
            Node::Either(short, item) => out.message(number, |out| self.write_either(*short, *item, value, out)),
            // Lists of lists, maps of maps and untyped values have no protobuf form, and no table gives them a number.
            Node::Any | Node::List(_) | Node::Map(_) => {}
        }
    }
}

impl Schema {
    fn write_either(&self, short: Short, item: TypeId, value: &Value, out: &mut Reversed) {
        match (short, value) {
            (Short::Bool, Value::Object(_)) => {
                self.write_value(2, item, value, out);
                // A schema says that there may be such members.
                out.number(1, 1);
            }
            (Short::Bool, _) => out.number(1, i64::from(value.as_bool().unwrap_or_default())),
            (_, Value::Object(_)) => self.write_value(1, item, value, out),
            (Short::Array, _) => value.as_array().into_iter().flatten().rev().for_each(|v| self.write_value(2, item, v, out)),
            (Short::Strings, _) => {
                value.as_array().into_iter().flatten().rev().for_each(|v| out.bytes(2, v.as_str().unwrap_or_default().as_bytes()));
            }
        }
    }
}

fn write_time(text: &str, micros: bool, out: &mut Reversed) {
    let Some(time) = Timestamp::parse(text) else { return };
    let nanos = if micros { time.0.rem_euclid(1_000_000_000) / 1000 * 1000 } else { 0 };
    out.number(2, nanos);
    out.number(1, time.seconds());
}
