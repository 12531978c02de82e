//! Values of expressions. Those of objects are read where they lie: nothing is copied.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use gantry_object::{Map as Members, Value};
use gantry_schema::ListKind;

use crate::ast::Literal;
use crate::decl::{Decl, DeclKind, ObjectDecl};
use crate::functions::special::Special;
use crate::functions::time;

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Evaluation failed.
    #[error("{0}")]
    Failed(Box<str>),
    /// A function was called with values it isn't for.
    #[error("no such overload")]
    NoOverload,
    /// It costs more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    TooDear,
}

impl Fault {
    /// A failure with a message.
    pub fn new(message: impl Into<String>) -> Self {
        Self::Failed(message.into().into())
    }
}

/// The outcome of an evaluation.
pub type Outcome<'a> = Result<Val<'a>, Fault>;

/// A text, lying in an object or made by an expression.
#[derive(Clone, Debug)]
pub enum Text<'a> {
    /// Lying somewhere.
    Lent(&'a str),
    /// Made.
    Made(Rc<str>),
}

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Lent(text) => text,
            Self::Made(text) => text,
        }
    }
}

/// Fields that are computed when they are asked for.
pub trait Fields<'a> {
    /// The value of a field; `None` when there is no such field.
    fn field(&self, name: &str) -> Option<Outcome<'a>>;
}

/// A value.
#[derive(Clone)]
pub enum Val<'a> {
    /// null.
    Null,
    /// true or false.
    Bool(bool),
    /// A signed whole number.
    Int(i64),
    /// An unsigned whole number.
    Uint(u64),
    /// A floating-point number.
    Double(f64),
    /// A text.
    String(Text<'a>),
    /// Bytes.
    Bytes(Rc<[u8]>),
    /// A point in time, in nanoseconds since 1970.
    Timestamp(i128),
    /// A length of time, in nanoseconds.
    Duration(i64),
    /// A type, by its name.
    Type(Rc<str>),
    /// A list.
    List(List<'a>),
    /// A map, or an object.
    Map(Map<'a>),
    /// A value or none.
    Optional(Option<Rc<Val<'a>>>),
    /// An object made by an expression, and its type's name.
    Struct(Rc<str>, Rc<BTreeMap<Box<str>, Val<'a>>>),
    /// Fields that are computed when they are asked for.
    Lazy(Rc<dyn Fields<'a> + 'a>),
    /// A value of a library.
    Special(Rc<Special<'a>>),
}

impl fmt::Debug for Val<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_json() {
            Some(json) => write!(f, "{json}"),
            None => f.write_str(&self.type_name()),
        }
    }
}

/// A list.
#[derive(Clone)]
pub enum List<'a> {
    /// Lying in an object: the items, what is said of each, and what of the list.
    Lent(&'a [Value], &'a Decl, &'a ListKind),
    /// Written in the expression.
    Written(Literals<'a>),
    /// Made by the expression.
    Made(Rc<Vec<Val<'a>>>),
}

/// Items written in an expression.
#[derive(Clone, Copy)]
pub struct Literals<'a>(pub(crate) &'a [Literal]);

/// A map.
#[derive(Clone)]
pub enum Map<'a> {
    /// Lying in an object: its members, and what is said of it.
    Lent(&'a Members, &'a Decl),
    /// Made by the expression.
    Made(Rc<BTreeMap<Key, (Val<'a>, Val<'a>)>>),
}

/// What tells a map's entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// true or false.
    Bool(bool),
    /// A whole number, of whatever type.
    Int(i128),
    /// A text.
    String(Rc<str>),
}

/// A value of which nothing is said.
pub static ANY: Decl = Decl { kind: DeclKind::Dyn, max: -1, min_size: 0 };
static ATOMIC: ListKind = ListKind::Atomic;

impl From<String> for Val<'_> {
    fn from(text: String) -> Self {
        Self::String(Text::Made(text.into()))
    }
}

impl<'a> From<&'a str> for Val<'a> {
    fn from(text: &'a str) -> Self {
        Self::String(Text::Lent(text))
    }
}

impl<'a> From<Vec<Val<'a>>> for Val<'a> {
    fn from(items: Vec<Val<'a>>) -> Self {
        Self::List(List::Made(Rc::new(items)))
    }
}

impl<'a> From<Special<'a>> for Val<'a> {
    fn from(special: Special<'a>) -> Self {
        Self::Special(Rc::new(special))
    }
}

impl<'a> From<Option<Val<'a>>> for Val<'a> {
    fn from(value: Option<Val<'a>>) -> Self {
        Self::Optional(value.map(Rc::new))
    }
}

impl<'a> Val<'a> {
    /// A value of an object that no schema describes.
    pub fn untyped(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => n.as_i64().map(Self::Int).or_else(|| n.as_f64().map(Self::Double)).unwrap_or(Self::Null),
            Value::String(text) => Self::String(Text::Lent(text)),
            Value::Array(items) => Self::List(List::Lent(items, &ANY, &ATOMIC)),
            Value::Object(members) => Self::Map(Map::Lent(members, &ANY)),
        }
    }

    /// A value of an object as its schema describes it.
    ///
    /// # Errors
    /// When a text has not the form its schema asks for.
    pub fn read(value: &'a Value, decl: &'a Decl) -> Outcome<'a> {
        Ok(match (&decl.kind, value) {
            (DeclKind::Double, Value::Number(n)) => Self::Double(n.as_f64().unwrap_or_default()),
            (DeclKind::Int, Value::Number(n)) => match n.as_i64() {
                Some(i) => Self::Int(i),
                None => n.as_f64().filter(|f| f.fract() == 0.0).map_or(Self::Null, |f| Self::Int(f as i64)),
            },
            (DeclKind::List(of, kind), Value::Array(items)) => Self::List(List::Lent(items, of, kind)),
            (DeclKind::Map(_) | DeclKind::Object(_), Value::Object(members)) => Self::Map(Map::Lent(members, decl)),
            (DeclKind::Bytes, Value::String(text)) => {
                let decoded = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text);
                let bytes = decoded.map_err(|e| Fault::new(format!("Invalid byte formatted string {text}: {e}")))?;
                Self::Bytes(bytes.into())
            }
            (DeclKind::Duration, Value::String(text)) => {
                let parsed = time::parse_schema_duration(text);
                Self::Duration(parsed.ok_or_else(|| Fault::new(format!("Invalid duration {text}: unable to parse {text}")))?)
            }
            (DeclKind::Timestamp { day }, Value::String(text)) => {
                let parsed = if *day { time::parse_day(text) } else { time::parse_timestamp(text) };
                let what = if *day { "date" } else { "date-time" };
                Self::Timestamp(parsed.ok_or_else(|| Fault::new(format!("Invalid {what} formatted string {text}")))?)
            }
            _ => Self::untyped(value),
        })
    }

    /// What a literal stands for.
    pub(crate) fn literal(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Self::Null,
            Literal::Bool(b) => Self::Bool(*b),
            Literal::Int(i) => Self::Int(*i),
            Literal::Uint(u) => Self::Uint(*u),
            Literal::Double(d) => Self::Double(*d),
            Literal::String(text) => Self::String(Text::Lent(text)),
            Literal::Bytes(bytes) => Self::Bytes(Rc::from(&**bytes)),
        }
    }

    /// A type by its name.
    pub(crate) fn type_of(name: &str) -> Self {
        Self::Type(name.into())
    }

    /// The name of its type.
    pub fn type_name(&self) -> Rc<str> {
        let name = match self {
            Self::Null => "null_type",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Bytes(_) => "bytes",
            Self::Timestamp(_) => "google.protobuf.Timestamp",
            Self::Duration(_) => "google.protobuf.Duration",
            Self::Type(_) => "type",
            Self::List(_) => "list",
            Self::Map(_) | Self::Lazy(_) => "map",
            Self::Optional(_) => "optional_type",
            Self::Struct(name, _) => return name.clone(),
            Self::Special(special) => special.type_name(),
        };
        name.into()
    }

    /// A text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// How large it is, for costs: characters, bytes, items, entries; 1 for all else.
    pub(crate) fn size(&self) -> u64 {
        let size = match self {
            Self::String(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Optional(Some(value)) => return value.size(),
            Self::Special(special) => return special.size(),
            _ => 1,
        };
        size as u64
    }

    /// What tells it apart as a key of a map.
    pub(crate) fn key(&self) -> Option<Key> {
        Some(match self {
            Self::Bool(b) => Key::Bool(*b),
            Self::Int(i) => Key::Int((*i).into()),
            Self::Uint(u) => Key::Int((*u).into()),
            Self::Double(d) if d.fract() == 0.0 && d.abs() < 1e30 => Key::Int(*d as i128),
            Self::String(text) => Key::String(match text {
                Text::Made(text) => text.clone(),
                Text::Lent(text) => (*text).into(),
            }),
            _ => return None,
        })
    }

    /// The value as JSON; `None` for what JSON has no form for.
    pub fn to_json(&self) -> Option<Value> {
        self.json_below(0)
    }

    fn json_below(&self, depth: usize) -> Option<Value> {
        if depth > 200 {
            return None;
        }
        Some(match self {
            Self::Null | Self::Optional(None) => Value::Null,
            Self::Bool(b) => (*b).into(),
            Self::Int(i) => (*i).into(),
            Self::Uint(u) => (*u).into(),
            Self::Double(d) => (*d).into(),
            Self::String(text) => (**text).into(),
            Self::Bytes(bytes) => base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes).into(),
            Self::Timestamp(t) => time::show_timestamp(*t).into(),
            Self::Duration(d) => time::show_duration(*d).into(),
            Self::List(List::Lent(items, ..)) => Value::Array(items.to_vec()),
            Self::List(list) => {
                let items = (0..list.len()).map(|i| list.get(i)?.ok()?.json_below(depth + 1));
                Value::Array(items.collect::<Option<_>>()?)
            }
            Self::Map(Map::Lent(members, _)) => Value::Object((*members).clone()),
            Self::Map(Map::Made(entries)) => {
                let member = |(key, value): &(Val<'a>, Val<'a>)| Some((key.as_str()?.to_owned(), value.json_below(depth + 1)?));
                Value::Object(entries.values().map(member).collect::<Option<_>>()?)
            }
            Self::Optional(Some(value)) => value.json_below(depth + 1)?,
            Self::Struct(_, fields) => {
                let members = fields.iter().map(|(name, value)| Some((name.to_string(), value.json_below(depth + 1)?)));
                Value::Object(members.collect::<Option<_>>()?)
            }
            Self::Special(special) => special.to_json()?,
            Self::Type(_) | Self::Lazy(_) => return None,
        })
    }
}

impl<'a> List<'a> {
    /// How many items it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Lent(items, ..) => items.len(),
            Self::Written(items) => items.0.len(),
            Self::Made(items) => items.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// An item.
    pub fn get(&self, index: usize) -> Option<Outcome<'a>> {
        match self {
            Self::Lent(items, of, _) => items.get(index).map(|v| Val::read(v, of)),
            Self::Written(items) => items.0.get(index).map(|l| Ok(Val::literal(l))),
            Self::Made(items) => items.get(index).cloned().map(Ok),
        }
    }

    /// All items.
    pub(crate) fn items(&self) -> impl Iterator<Item = Outcome<'a>> + '_ {
        (0..self.len()).filter_map(|i| self.get(i))
    }
}

impl<'a> Map<'a> {
    /// How many entries it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Lent(members, _) => members.len(),
            Self::Made(entries) => entries.len(),
        }
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn declared(&self) -> Option<&'a ObjectDecl> {
        match self {
            Self::Lent(_, Decl { kind: DeclKind::Object(object), .. }) => Some(object),
            _ => None,
        }
    }

    /// The value of a text key.
    pub fn named(&self, name: &str) -> Option<Outcome<'a>> {
        match self {
            Self::Lent(members, decl) => match &decl.kind {
                DeclKind::Object(object) => {
                    let field = object.fields.get(name)?;
                    // A null is a field that is not there.
                    members.get(&*field.json).filter(|v| !v.is_null()).map(|v| Val::read(v, &field.decl))
                }
                DeclKind::Map(of) => members.get(name).map(|v| Val::read(v, of)),
                _ => members.get(name).map(|v| Ok(Val::untyped(v))),
            },
            Self::Made(entries) => entries.get(&Key::String(name.into())).map(|(_, v)| Ok(v.clone())),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &Val<'a>) -> Option<Outcome<'a>> {
        match (self, key) {
            (_, Val::String(name)) => self.named(name),
            (Self::Lent(..), _) => None,
            (Self::Made(entries), key) => entries.get(&key.key()?).map(|(_, v)| Ok(v.clone())),
        }
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Vec<Val<'a>> {
        match (self, self.declared()) {
            (Self::Lent(members, _), Some(object)) => {
                let there = |json: &str| members.get(json).is_some_and(|v| !v.is_null());
                object.fields.iter().filter(|(_, f)| there(&f.json)).map(|(name, _)| Val::from(&**name)).collect()
            }
            (Self::Lent(members, _), None) => members.keys().map(|k| Val::from(k.as_str())).collect(),
            (Self::Made(entries), _) => entries.values().map(|(k, _)| k.clone()).collect(),
        }
    }

    /// Members of an object that its schema doesn't declare.
    pub(crate) fn undeclared(&self) -> Option<impl Iterator<Item = (&'a String, &'a Value)> + use<'a>> {
        let object = self.declared()?;
        let Self::Lent(members, _) = self else { return None };
        let declared = |name: &str| object.fields.values().any(|f| &*f.json == name);
        Some(members.iter().filter(move |(name, _)| !declared(name)))
    }
}

/// The name under which a type is known to expressions.
pub(crate) fn runtime_name(ty: &crate::types::Type) -> Arc<str> {
    use crate::types::Type;
    match ty {
        Type::Null => "null_type".into(),
        Type::List(_) => "list".into(),
        Type::Map(_) => "map".into(),
        Type::Optional(_) => "optional_type".into(),
        Type::Timestamp => "google.protobuf.Timestamp".into(),
        Type::Duration => "google.protobuf.Duration".into(),
        Type::Type(_) => "type".into(),
        Type::Named(name) => name.clone(),
        other => other.to_string().into(),
    }
}
