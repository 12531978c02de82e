//! Reading tables.
//!
//! A table is lines of words. `table`, `package` (OpenAPI name prefix) and `version` (group and version) head it. `string NAME` and
//! `enum NAME VALUE…` name text types. `struct NAME`, with `kind` when it carries apiVersion and kind, is followed by its members: JSON name, protobuf
//! number (0: none), type, flags; the name `+` inlines the members of another struct. Types are words: `*T`, `[]T`, `map[]T`, `<T>` (a list that
//! protobuf wraps), `or-array:T`, `or-bool:T`, `or-strings:T` (a struct or a short form of it), a scalar, a type of the table, or `table.Type`.
//!
//! Flags: `o` and `z` leave empty and zero values out; `d` is a published default, `dc` one filled in silently; `merge`, `replace`, `retainKeys` steer
//! strategic merge, `list`, `map`, `struct` server-side apply; `gate` names feature gates that are open, `off` such that are closed; `req` stands in
//! the schema document, `need`, `only`, `is`, `min`, `max` and the like are checked.

use std::collections::BTreeMap;

use gantry_object::{GroupVersion, GroupVersionKind, Value};

use crate::model::{Field, Form, Limit, ListKind, Named, Node, Part, Schema, Short, Struct, TypeId, Wire};

/// A table that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("table {table}, line {line}: {problem}")]
pub struct TableError {
    /// The table's name.
    pub table: String,
    /// The line, from one.
    pub line: usize,
    /// What is wrong with it.
    pub problem: String,
}

type Scalar = (&'static str, fn() -> Node);

const SCALARS: [Scalar; 16] = [
    ("bool", || Node::Bool),
    ("int32", || Node::Int32),
    ("int64", || Node::Int64),
    ("double", || Node::Double),
    ("string", || Node::String(None)),
    ("bytes", || Node::Bytes),
    ("Quantity", || Node::Quantity),
    ("Time", || Node::Time),
    ("MicroTime", || Node::MicroTime),
    ("Duration", || Node::Duration),
    ("IntOrString", || Node::IntOrString),
    ("RawExtension", || Node::Raw),
    ("FieldsV1", || Node::FieldsV1),
    ("any", || Node::Any),
    ("JSON", || Node::Json),
    ("byte", || Node::Int32),
];

const FORMS: [(&str, Form); 14] = [
    ("label", Form::Label),
    ("subdomain", Form::Subdomain),
    ("qualified-name", Form::QualifiedName),
    ("labels", Form::Labels),
    ("port-name", Form::PortName),
    ("port", Form::Port),
    ("port!", Form::NeededPort),
    ("port-or-name", Form::PortOrName),
    ("env-name", Form::EnvName),
    ("config-key", Form::ConfigKey),
    ("ip", Form::Ip),
    ("ip!", Form::EndpointIp),
    ("relative-path", Form::RelativePath),
    ("no-backsteps", Form::NoBacksteps),
];

/// A struct while its inlined members are not yet in place.
struct Draft {
    ty: TypeId,
    members: Vec<Member>,
}

enum Member {
    Field(Field),
    Inline(u32, TypeId),
}

struct Parser<'a> {
    schema: Schema,
    composites: BTreeMap<(char, TypeId), TypeId>,
    drafts: Vec<Draft>,
    /// The current table's own types.
    own: BTreeMap<&'a str, TypeId>,
    table: &'a str,
    prefix: String,
    line: usize,
}

impl Schema {
    /// Parses tables, each a name (for errors) and a text.
    ///
    /// # Errors
    /// When a line is malformed or names an unknown type.
    pub fn parse(tables: &[(&str, &str)]) -> Result<Self, TableError> {
        let mut parser = Parser {
            schema: Schema::default(),
            composites: BTreeMap::new(),
            drafts: Vec::new(),
            own: BTreeMap::new(),
            table: "",
            prefix: String::new(),
            line: 0,
        };
        for (name, make) in SCALARS {
            parser.add(name.to_owned(), make());
        }
        let mut own = Vec::with_capacity(tables.len());
        for (name, text) in tables {
            parser.table = name;
            parser.declare(text)?;
            own.push(std::mem::take(&mut parser.own));
        }
        for ((name, text), own) in tables.iter().zip(own) {
            (parser.table, parser.own) = (name, own);
            parser.members(text)?;
        }
        parser.flatten();
        Ok(parser.schema)
    }
}

impl<'a> Parser<'a> {
    fn problem(&self, problem: impl Into<String>) -> TableError {
        TableError { table: self.table.into(), line: self.line, problem: problem.into() }
    }

    fn push(&mut self, node: Node) -> TypeId {
        let ty = TypeId(u32::try_from(self.schema.nodes.len()).expect("fewer types than 2^32"));
        self.schema.nodes.push(node);
        ty
    }

    fn add(&mut self, name: String, node: Node) -> TypeId {
        let ty = self.push(node);
        self.schema.names.insert(name, ty);
        ty
    }

    /// Adds a type of the current table.
    fn add_own(&mut self, name: &'a str, node: Node) -> TypeId {
        let ty = self.add(format!("{}{name}", self.prefix), node);
        self.own.insert(name, ty);
        ty
    }

    fn composite(&mut self, shape: char, item: TypeId) -> TypeId {
        if let Some(ty) = self.composites.get(&(shape, item)) {
            return *ty;
        }
        let node = match shape {
            'l' => Node::List(item),
            'w' => Node::Wrapped(item),
            'a' => Node::Either(Short::Array, item),
            'b' => Node::Either(Short::Bool, item),
            's' => Node::Either(Short::Strings, item),
            _ => Node::Map(item),
        };
        let ty = self.push(node);
        self.composites.insert((shape, item), ty);
        ty
    }

    /// First pass: every name gets its place, so that members can refer to types further down.
    fn declare(&mut self, text: &'a str) -> Result<(), TableError> {
        let (mut package, mut version) = ("", GroupVersion::new("", ""));
        for (i, line) in text.lines().enumerate() {
            self.line = i + 1;
            let mut words = line.split_ascii_whitespace();
            let Some(first) = words.next().filter(|_| !line.starts_with([' ', '#'])) else { continue };
            let Some(name) = words.next() else { return Err(self.problem("a name is missing")) };
            match first {
                "table" => self.prefix = format!("{name}."),
                "package" => package = name,
                "version" => version = GroupVersion::parse(name).ok_or_else(|| self.problem("not a group and version"))?,
                "string" | "enum" => {
                    let values = enum_values(line.splitn(3, ' ').nth(2).unwrap_or_default());
                    let node = Node::String(Some(Named { go: format!("{}.{name}", version.version), values }));
                    self.add_own(name, node);
                }
                "struct" => {
                    let flags: Vec<&str> = words.collect();
                    let gvk = flags.contains(&"kind").then(|| GroupVersionKind::new(&version.group, &version.version, name));
                    let atomic = flags.contains(&"atomic");
                    let go = format!("{}.{name}", version.version);
                    let openapi = format!("{package}.{name}");
                    let (fields, by_name, wire) = (Vec::new(), Vec::new(), Vec::new());
                    let node = Node::Struct(Struct { go, openapi, gvk: gvk.clone(), atomic, fields, by_name, wire });
                    let ty = self.add_own(name, node);
                    if let Some(gvk) = gvk {
                        self.schema.kinds.insert(gvk, ty);
                    }
                }
                other => return Err(self.problem(format!("unknown word {other:?}"))),
            }
        }
        Ok(())
    }

    /// Second pass: members, with their types found.
    fn members(&mut self, text: &'a str) -> Result<(), TableError> {
        for (i, line) in text.lines().enumerate() {
            self.line = i + 1;
            let mut words = line.split_ascii_whitespace();
            let Some(first) = words.next() else { continue };
            if line.starts_with("  ") {
                let member = self.member(first, words)?;
                let Some(draft) = self.drafts.last_mut() else { return Err(self.problem("a member outside a struct")) };
                draft.members.push(member);
            } else if first == "struct" {
                let name = words.next().unwrap_or_default();
                let ty = self.own[name];
                let mut members = Vec::new();
                if words.any(|flag| flag == "kind") {
                    let string = self.schema.names["string"];
                    members = ["kind", "apiVersion"].map(|n| Member::Field(Field { omit_empty: true, ..plain(n, 0, string) })).into();
                }
                self.drafts.push(Draft { ty, members });
            }
        }
        Ok(())
    }

    fn member(&mut self, name: &str, mut words: std::str::SplitAsciiWhitespace<'a>) -> Result<Member, TableError> {
        let number = words.next().and_then(|w| w.parse().ok()).ok_or_else(|| self.problem("a member's number is missing"))?;
        let word = words.next().ok_or_else(|| self.problem("a member's type is missing"))?;
        let ty = self.type_of(word.strip_prefix('*').unwrap_or(word))?;
        if name == "+" {
            return Ok(Member::Inline(number, ty));
        }
        let mut field = Field { pointer: word.starts_with('*'), ..plain(name, number, ty) };
        for flag in words {
            set_flag(&mut field, flag).ok_or_else(|| self.problem(format!("unknown flag {flag:?}")))?;
        }
        Ok(Member::Field(field))
    }

    fn type_of(&mut self, word: &str) -> Result<TypeId, TableError> {
        if let Some(item) = word.strip_prefix("[]") {
            let item = self.type_of(item)?;
            return Ok(self.composite('l', item));
        }
        if let Some(item) = word.strip_prefix("map[]") {
            let item = self.type_of(item)?;
            return Ok(self.composite('m', item));
        }
        if let Some(item) = word.strip_prefix('<').and_then(|w| w.strip_suffix('>')) {
            let item = self.type_of(item)?;
            return Ok(self.composite('w', item));
        }
        if let Some((short, item)) = word.split_once(':') {
            let shape = ['a', 'b', 's'].into_iter().zip(["or-array", "or-bool", "or-strings"]).find(|(_, name)| *name == short);
            let (shape, _) = shape.ok_or_else(|| self.problem(format!("unknown type {word:?}")))?;
            let item = self.type_of(item)?;
            return Ok(self.composite(shape, item));
        }
        let found = self.own.get(word).or_else(|| self.schema.names.get(word));
        found.copied().ok_or_else(|| self.problem(format!("unknown type {word:?}")))
    }

    /// Last pass: JSON members with inlined structs' members in place, protobuf members by number.
    fn flatten(&mut self) {
        let drafts = std::mem::take(&mut self.drafts);
        let inlined = inlined_fields(&drafts);
        for draft in drafts {
            let mut fields = Vec::with_capacity(draft.members.len());
            let mut wire = Vec::with_capacity(draft.members.len());
            for member in draft.members {
                let (number, part) = match &member {
                    Member::Field(f) => (f.number, Part::Field(u16::try_from(fields.len()).expect("fewer members than 2^16"))),
                    Member::Inline(number, ty) => (*number, Part::Inline(*ty)),
                };
                if number > 0 {
                    wire.push(Wire { number, part });
                }
                match member {
                    Member::Field(field) => fields.push(field),
                    Member::Inline(_, ty) => fields.extend(inlined.get(&ty).into_iter().flatten().cloned()),
                }
            }
            wire.sort_by_key(|w| w.number);
            let mut by_name: Vec<u16> = (0..u16::try_from(fields.len()).expect("fewer members than 2^16")).collect();
            by_name.sort_by(|a, b| fields[usize::from(*a)].name.cmp(&fields[usize::from(*b)].name));
            if let Node::Struct(s) = self.node_mut(draft.ty) {
                (s.fields, s.by_name, s.wire) = (fields, by_name, wire);
            }
        }
    }

    fn node_mut(&mut self, ty: TypeId) -> &mut Node {
        &mut self.schema.nodes[ty.0 as usize]
    }
}

/// The values of an enum line; those with spaces, and the empty one, stand in quotes.
fn enum_values(text: &str) -> Vec<String> {
    let mut values: Vec<String> = Vec::new();
    for (i, part) in text.split('"').enumerate() {
        if i % 2 == 1 {
            values.push(part.into());
        } else {
            values.extend(part.split_ascii_whitespace().map(String::from));
        }
    }
    values.sort();
    values
}

/// The members of every struct that another one inlines, those it inlines itself included.
fn inlined_fields(drafts: &[Draft]) -> BTreeMap<TypeId, Vec<Field>> {
    let by_type: BTreeMap<TypeId, &Draft> = drafts.iter().map(|d| (d.ty, d)).collect();
    let inlines = drafts.iter().flat_map(|d| &d.members).filter_map(|m| match m {
        Member::Inline(_, ty) => Some(*ty),
        Member::Field(_) => None,
    });
    let spread_out = |ty: TypeId| {
        let mut fields = Vec::new();
        by_type.get(&ty).into_iter().flat_map(|d| &d.members).for_each(|m| spread(m, &by_type, &mut fields));
        (ty, fields)
    };
    inlines.map(spread_out).collect()
}

fn spread(member: &Member, drafts: &BTreeMap<TypeId, &Draft>, into: &mut Vec<Field>) {
    match member {
        Member::Field(field) => into.push(field.clone()),
        Member::Inline(_, ty) => drafts.get(ty).into_iter().flat_map(|d| &d.members).for_each(|m| spread(m, drafts, into)),
    }
}

fn plain(name: &str, number: u32, ty: TypeId) -> Field {
    Field {
        name: name.into(),
        number,
        ty,
        pointer: false,
        omit_empty: false,
        omit_zero: false,
        required: false,
        default: None,
        published_default: false,
        merge_key: None,
        retain_keys: false,
        replace: false,
        list: None,
        atomic: false,
        immutable: false,
        gates: Vec::new(),
        disabled: false,
        needed: false,
        closed: false,
        form: None,
        limits: Vec::new(),
    }
}

fn set_flag(field: &mut Field, flag: &str) -> Option<()> {
    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
    match name {
        "o" => field.omit_empty = true,
        "z" => field.omit_zero = true,
        "req" => field.required = true,
        "nullable" => {}
        "merge" => field.merge_key = Some(value.into()),
        "replace" => field.replace = true,
        "retainKeys" => field.retain_keys = true,
        "immutable" => field.immutable = true,
        "d" | "dc" => {
            field.default = Some(serde_json::from_str::<Value>(value).ok()?);
            field.published_default = name == "d";
        }
        "list" => {
            field.list = Some(match value.split_once(':') {
                Some(("map", keys)) => ListKind::Map(keys.split(',').map(Into::into).collect()),
                None if value == "set" => ListKind::Set,
                None if value == "atomic" => ListKind::Atomic,
                _ => return None,
            });
        }
        "map" | "struct" => field.atomic = value == "atomic",
        "gate" | "off" => {
            field.gates = value.split(',').map(Into::into).collect();
            field.disabled = name == "off";
        }
        "need" => field.needed = true,
        "only" => field.closed = true,
        "is" => field.form = Some(FORMS.iter().find(|(name, _)| *name == value)?.1),
        // Names upstream's generated validation uses; kept for the day they are checked here.
        "format" => {}
        "maxItems" => field.limits.push(Limit::MaxItems(value.parse().ok()?)),
        "maxLength" | "maxBytes" => field.limits.push(Limit::MaxLength(value.parse().ok()?)),
        "min" => field.limits.push(Limit::Minimum(value.parse().ok()?)),
        "max" => field.limits.push(Limit::Maximum(value.parse().ok()?)),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_tables_are_refused_with_the_place() {
        for (text, want) in [
            ("struct", "table t, line 1: a name is missing"),
            ("table t\nstrict A", "table t, line 2: unknown word \"strict\""),
            ("table t\nstruct A\n  a", "table t, line 3: a member's number is missing"),
            ("table t\nstruct A\n  a 1 B", "table t, line 3: unknown type \"B\""),
            ("table t\nstruct A\n  a 1 string shiny", "table t, line 3: unknown flag \"shiny\""),
            ("table t\n  a 1 string", "table t, line 2: a member outside a struct"),
        ] {
            assert_eq!(Schema::parse(&[("t", text)]).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn enum_values_may_have_spaces() {
        let schema = Schema::parse(&[("t", "table t\nversion v1\nenum A \"b c\" \"\" a")]).unwrap();
        let Node::String(Some(named)) = schema.node(schema.lookup("t.A").unwrap()) else { panic!("a text type") };
        assert_eq!((named.go.as_str(), named.values.as_slice()), ("v1.A", &["".to_owned(), "a".into(), "b c".into()][..]));
    }

    #[test]
    fn recursive_and_inlined_types_are_read() {
        let table = "table t\nversion v1\nstruct A kind\n  + 2 B\n  next 3 *A o\nstruct B\n  x 1 int32 o min=0";
        let schema = Schema::parse(&[("t", table)]).unwrap();
        let ty = schema.lookup("t.A").unwrap();
        let value = schema.decode_json(ty, br#"{"x":1,"next":{"x":2}}"#).unwrap().value;
        let bytes = schema.encode_protobuf(ty, &value);
        assert_eq!(bytes, [0x12, 2, 8, 1, 0x1a, 4, 0x12, 2, 8, 2]);
        assert_eq!(schema.decode_protobuf(ty, &bytes).unwrap(), value);
    }
}
