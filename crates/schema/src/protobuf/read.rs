//! The decoder.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gantry_object::{Map, Quantity, Timestamp, Value};

use crate::conform::DecodeError;
use crate::go;
use crate::model::{Field, Node, Part, Schema, Short, Struct, TypeId};
use crate::protobuf::Layout;

/// How deep messages may be nested.
const MOST_DEPTH: u32 = 100;

/// A protobuf value as it lies on the wire.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Reads a message member by member.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

fn broken(what: &str) -> DecodeError {
    DecodeError(format!("error parsing protobuf: {what}"))
}

impl<'a> Reader<'a> {
    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let Some((byte, rest)) = self.0.split_first() else { return Err(broken("unexpected end of message")) };
            self.0 = rest;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(n);
            }
        }
        Err(broken("integer overflow"))
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let at = usize::try_from(len).ok().filter(|n| *n <= self.0.len()).ok_or_else(|| broken("unexpected end of message"))?;
        let (taken, rest) = self.0.split_at(at);
        self.0 = rest;
        Ok(taken)
    }

    fn fixed(&mut self, len: u64) -> Result<u64, DecodeError> {
        let mut bytes = [0; 8];
        let taken = self.take(len)?;
        bytes[..taken.len()].copy_from_slice(taken);
        Ok(u64::from_le_bytes(bytes))
    }

    /// The next member: its number and value; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Raw<'a>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|n| *n > 0).ok_or_else(|| broken("illegal tag"))?;
        let value = match tag & 7 {
            0 => Raw::Number(self.varint()?),
            1 => Raw::Number(self.fixed(8)?),
            2 => {
                let len = self.varint()?;
                Raw::Bytes(self.take(len)?)
            }
            5 => Raw::Number(self.fixed(4)?),
            other => return Err(broken(&format!("illegal wire type {other}"))),
        };
        Ok(Some((number, value)))
    }
}

impl<'a> Raw<'a> {
    pub(crate) fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Raw::Bytes(bytes) => Ok(bytes),
            Raw::Number(_) => Err(broken("wrong wire type")),
        }
    }

    fn number(self) -> Result<u64, DecodeError> {
        match self {
            Raw::Number(n) => Ok(n),
            Raw::Bytes(_) => Err(broken("wrong wire type")),
        }
    }

    pub(crate) fn text(self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| broken("text is not UTF-8"))
    }
}

impl Schema {
    /// Decodes a protobuf message (no envelope) to a normalized tree, without apiVersion and kind. Unknown members are skipped.
    ///
    /// # Errors
    /// When the bytes are not such a message.
    pub fn decode_protobuf(&self, ty: TypeId, bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut value = Value::Null;
        self.read_value(ty, Raw::Bytes(bytes), &mut value, 0)?;
        self.normalize(ty, &mut value);
        Ok(value)
    }

    fn read_struct(&self, s: &Struct, bytes: &[u8], members: &mut Map, depth: u32) -> Result<(), DecodeError> {
        if depth > MOST_DEPTH {
            return Err(broken("message nested too deep"));
        }
        let mut reader = Reader(bytes);
        while let Some((number, raw)) = reader.next()? {
            let Ok(at) = s.wire.binary_search_by_key(&number, |w| w.number) else { continue };
            match s.wire[at].part {
                Part::Inline(ty) => {
                    if let Node::Struct(inner) = self.node(ty) {
                        self.read_struct(inner, raw.bytes()?, members, depth + 1)?;
                    }
                }
                Part::Field(at) => self.read_field(&s.fields[usize::from(at)], raw, members, depth)?,
            }
        }
        Ok(())
    }

    fn read_field(&self, field: &Field, raw: Raw<'_>, members: &mut Map, depth: u32) -> Result<(), DecodeError> {
        let slot = members.entry(field.name.as_str()).or_insert(Value::Null);
        match self.node(field.ty) {
            Node::List(item) => {
                if slot.is_null() {
                    *slot = Value::Array(Vec::new());
                }
                let Value::Array(items) = slot else { return Ok(()) };
                self.read_items(*item, raw, items, depth)
            }
            Node::Map(item) => {
                if slot.is_null() {
                    *slot = Value::Object(Map::new());
                }
                let Value::Object(entries) = slot else { return Ok(()) };
                let (mut name, mut value) = ("", Value::Null);
                let mut reader = Reader(raw.bytes()?);
                while let Some((number, raw)) = reader.next()? {
                    match number {
                        1 => name = raw.text()?,
                        2 => self.read_value(*item, raw, &mut value, depth + 1)?,
                        _ => {}
                    }
                }
                if value.is_null() {
                    value = self.zero(*item);
                }
                entries.insert(name.into(), value);
                Ok(())
            }
            _ => self.read_value(field.ty, raw, slot, depth),
        }
    }

    /// One item, or a packed run of numbers.
    fn read_items(&self, item: TypeId, raw: Raw<'_>, items: &mut Vec<Value>, depth: u32) -> Result<(), DecodeError> {
        let layout = self.layout(item);
        if let (Raw::Bytes(bytes), true) = (raw, layout != Layout::Delimited) {
            let mut reader = Reader(bytes);
            while !reader.0.is_empty() {
                let n = if layout == Layout::Varint { reader.varint()? } else { reader.fixed(8)? };
                let mut value = Value::Null;
                self.read_value(item, Raw::Number(n), &mut value, depth)?;
                items.push(value);
            }
            return Ok(());
        }
        let mut value = Value::Null;
        self.read_value(item, raw, &mut value, depth + 1)?;
        items.push(value);
        Ok(())
    }

    /// Reads a value into its slot; a struct that comes in several parts is merged.
    fn read_value(&self, ty: TypeId, raw: Raw<'_>, slot: &mut Value, depth: u32) -> Result<(), DecodeError> {
        *slot = match self.node(ty) {
            Node::Struct(s) => {
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                let Value::Object(members) = slot else { return Ok(()) };
                return self.read_struct(s, raw.bytes()?, members, depth + 1);
            }
            Node::Bool => (raw.number()? != 0).into(),
            Node::Int32 => (raw.number()? as i32).into(),
            Node::Int64 => (raw.number()? as i64).into(),
            Node::Double => f64::from_bits(raw.number()?).into(),
            Node::String(_) => raw.text()?.into(),
            Node::Bytes => STANDARD.encode(raw.bytes()?).into(),
            Node::Quantity => read_quantity(raw.bytes()?)?,
            Node::Time => read_time(raw.bytes()?, false)?,
            Node::MicroTime => read_time(raw.bytes()?, true)?,
            Node::Duration => go::format_duration(read_numbers(raw.bytes()?)?.0 as i64).into(),
            Node::IntOrString => read_int_or_string(raw.bytes()?)?,
            Node::Raw | Node::FieldsV1 | Node::Json => read_raw(raw.bytes()?)?,
            Node::Wrapped(item) => {
                let mut items = Vec::new();
                let mut reader = Reader(raw.bytes()?);
                while let Some((number, raw)) = reader.next()? {
                    if number == 1 {
                        self.read_items(*item, raw, &mut items, depth)?;
                    }
                }
                Value::Array(items)
            }
            Node::Either(short, item) => self.read_either(*short, *item, raw.bytes()?, depth + 1)?,
            Node::Any | Node::List(_) | Node::Map(_) => return Err(broken("a value with no protobuf form")),
        };
        Ok(())
    }
}

impl Schema {
    /// A struct or its short form: the first member holds the one, the second the other; of a bool it is the other way round.
    fn read_either(&self, short: Short, item: TypeId, bytes: &[u8], depth: u32) -> Result<Value, DecodeError> {
        if depth > MOST_DEPTH {
            return Err(broken("message nested too deep"));
        }
        let (mut whole, mut list, mut allows) = (Value::Null, Vec::new(), false);
        let mut reader = Reader(bytes);
        while let Some((number, raw)) = reader.next()? {
            match (short, number) {
                (Short::Bool, 1) => allows = raw.number()? != 0,
                (Short::Bool, 2) | (_, 1) => self.read_value(item, raw, &mut whole, depth)?,
                (Short::Strings, 2) => list.push(raw.text()?.into()),
                (Short::Array, 2) => {
                    let mut one = Value::Null;
                    self.read_value(item, raw, &mut one, depth)?;
                    list.push(one);
                }
                _ => {}
            }
        }
        Ok(match short {
            _ if !whole.is_null() => whole,
            Short::Bool => allows.into(),
            Short::Array | Short::Strings => list.into(),
        })
    }
}

/// The first two numbers of a message.
fn read_numbers(bytes: &[u8]) -> Result<(u64, u64), DecodeError> {
    let (mut first, mut second) = (0, 0);
    let mut reader = Reader(bytes);
    while let Some((number, raw)) = reader.next()? {
        match number {
            1 => first = raw.number()?,
            2 => second = raw.number()?,
            _ => {}
        }
    }
    Ok((first, second))
}

fn read_time(bytes: &[u8], micros: bool) -> Result<Value, DecodeError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let (seconds, nanos) = read_numbers(bytes)?;
    let time = Timestamp::from_seconds(seconds as i64);
    Ok(if micros { Timestamp(time.0.saturating_add(i64::from(nanos as i32))).rfc3339_micros() } else { time.rfc3339() }.into())
}

fn read_quantity(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader(bytes);
    let mut text = "0";
    while let Some((number, raw)) = reader.next()? {
        if number == 1 {
            text = raw.text()?;
        }
    }
    let quantity: Quantity = if text.is_empty() { "0" } else { text }.parse().map_err(|e| broken(&format!("{e}")))?;
    Ok(quantity.to_string().into())
}

fn read_int_or_string(bytes: &[u8]) -> Result<Value, DecodeError> {
    let (mut kind, mut int, mut text) = (0, 0, "");
    let mut reader = Reader(bytes);
    while let Some((number, raw)) = reader.next()? {
        match number {
            1 => kind = raw.number()?,
            2 => int = raw.number()? as i32,
            3 => text = raw.text()?,
            _ => {}
        }
    }
    Ok(if kind == 1 { text.into() } else { int.into() })
}

fn read_raw(bytes: &[u8]) -> Result<Value, DecodeError> {
    let mut reader = Reader(bytes);
    let mut value = Value::Null;
    while let Some((number, raw)) = reader.next()? {
        if number == 1 {
            let json = raw.bytes()?;
            value = serde_json::from_slice(json).map_err(|e| broken(&format!("an embedded object is not JSON: {e}")))?;
        }
    }
    Ok(value)
}
