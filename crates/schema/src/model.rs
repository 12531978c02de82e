//! The arena of types.

use std::collections::BTreeMap;

use gantry_object::{GroupVersionKind, Value};

/// A type in a schema's arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub(crate) u32);

/// An arena of types, parsed from tables by [`Schema::parse`].
#[derive(Debug, Default)]
pub struct Schema {
    pub(crate) nodes: Vec<Node>,
    pub(crate) names: BTreeMap<String, TypeId>,
    pub(crate) kinds: BTreeMap<GroupVersionKind, TypeId>,
}

/// What a type is.
#[derive(Debug)]
pub enum Node {
    /// true or false.
    Bool,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A floating-point number.
    Double,
    /// A text; a named one may be limited to some values.
    String(Option<Named>),
    /// Bytes, base64 in JSON.
    Bytes,
    /// An amount of a resource.
    Quantity,
    /// A point in time, whole seconds.
    Time,
    /// A point in time, microseconds.
    MicroTime,
    /// A duration as Go writes it.
    Duration,
    /// An integer or a text.
    IntOrString,
    /// Any object, kept as it is.
    Raw,
    /// The fields a manager owns, kept as they are.
    FieldsV1,
    /// Any JSON value, with no protobuf form.
    Any,
    /// Any JSON value, as bytes of JSON in a message of its own.
    Json,
    /// A struct, or what stands for it in short.
    Either(Short, TypeId),
    /// A list.
    List(TypeId),
    /// A list that protobuf wraps in a message of its own.
    Wrapped(TypeId),
    /// A map with text keys.
    Map(TypeId),
    /// A struct.
    Struct(Struct),
}

/// What may stand in place of a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Short {
    /// A list of such structs.
    Array,
    /// true or false.
    Bool,
    /// A list of texts.
    Strings,
}

/// A text type with a name.
#[derive(Debug)]
pub struct Named {
    /// Go's name for it, as in `v1.Protocol`, which error messages show.
    pub go: String,
    /// The values allowed; empty when any is.
    pub values: Vec<String>,
}

/// A struct type.
#[derive(Debug)]
pub struct Struct {
    /// Go's name for it, as in `v1.Pod`, which error messages show.
    pub go: String,
    /// Its OpenAPI definition name.
    pub openapi: String,
    /// When it is a kind: which.
    pub gvk: Option<GroupVersionKind>,
    /// Apply replaces it as a whole wherever it stands.
    pub atomic: bool,
    /// Its JSON members, inlined structs' members in place.
    pub fields: Vec<Field>,
    /// Indexes into `fields`, by name.
    pub(crate) by_name: Vec<u16>,
    /// Its protobuf members, by number.
    pub(crate) wire: Vec<Wire>,
}

/// A protobuf member of a struct.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub(crate) number: u32,
    pub(crate) part: Part,
}

/// Where the tree holds a protobuf member.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part {
    /// In the JSON member with this index.
    Field(u16),
    /// Spread among the JSON members of the struct itself.
    Inline(TypeId),
}

/// How apply sees a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// One value, replaced as a whole.
    #[default]
    Atomic,
    /// A set of scalars.
    Set,
    /// Items told apart by these keys.
    Map(Vec<String>),
}

/// Bounds and formats a value must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// At most so many items.
    MaxItems(usize),
    /// At most so many bytes.
    MaxLength(usize),
    /// At least this.
    Minimum(i64),
    /// At most this.
    Maximum(i64),
}

/// The form a text or number must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A DNS label.
    Label,
    /// A DNS subdomain.
    Subdomain,
    /// A name with an optional domain before a slash.
    QualifiedName,
    /// A map of labels.
    Labels,
    /// A port's name.
    PortName,
    /// A port's number; zero means it is not given.
    Port,
    /// A port's number that must be given.
    NeededPort,
    /// A port's number or name.
    PortOrName,
    /// An environment variable's name.
    EnvName,
    /// A key of a ConfigMap or Secret.
    ConfigKey,
    /// An IP address.
    Ip,
    /// An IP address that no endpoint may have: loopback, link-local and the like are refused.
    EndpointIp,
    /// A path below a directory, without a step back.
    RelativePath,
    /// A path without a step back.
    NoBacksteps,
}

/// A member of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    /// The JSON name.
    pub name: String,
    /// The protobuf number, 0 for none.
    pub number: u32,
    /// Its type.
    pub ty: TypeId,
    /// Absent is told from zero.
    pub pointer: bool,
    /// Left out when empty.
    pub omit_empty: bool,
    /// Left out when zero, also when it is a struct.
    pub omit_zero: bool,
    /// Must be given, as the schema document says.
    pub required: bool,
    /// Filled in when absent or zero.
    pub default: Option<Value>,
    /// Whether the default is a published one: shown in the schema document.
    pub published_default: bool,
    /// Strategic merge: items are merged, by this key when they are objects, as a set when it is empty.
    pub merge_key: Option<String>,
    /// Strategic merge: the patch may say which members to retain.
    pub retain_keys: bool,
    /// Strategic merge: replaced as a whole though it is an object.
    pub replace: bool,
    /// How apply sees it when it is a list.
    pub list: Option<ListKind>,
    /// Apply replaces it as a whole though it is a map or struct.
    pub atomic: bool,
    /// May not change after creation.
    pub immutable: bool,
    /// Feature gates it belongs to.
    pub gates: Vec<String>,
    /// Whether those gates are closed: nothing is kept in it.
    pub disabled: bool,
    /// Refused when missing or empty.
    pub needed: bool,
    /// Refused when it is not among its type's values.
    pub closed: bool,
    /// The form a text or number must have.
    pub form: Option<Form>,
    /// Bounds.
    pub limits: Vec<Limit>,
}

impl Struct {
    /// The member of this name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let at = self.by_name.binary_search_by(|i| self.fields[usize::from(*i)].name.as_str().cmp(name)).ok()?;
        Some(&self.fields[usize::from(self.by_name[at])])
    }
}

impl Schema {
    /// Finds a type by table and name, as in `core_v1.Pod`.
    pub fn lookup(&self, name: &str) -> Option<TypeId> {
        self.names.get(name).copied()
    }

    /// The type of a kind, also of kinds that are no resources of their own (lists, options, Scale, Status).
    pub fn kind(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        self.kinds.get(gvk).copied()
    }

    /// What a type is.
    pub fn node(&self, ty: TypeId) -> &Node {
        &self.nodes[ty.0 as usize]
    }

    /// The struct behind a type, when it is one.
    pub fn as_struct(&self, ty: TypeId) -> Option<&Struct> {
        match self.node(ty) {
            Node::Struct(s) => Some(s),
            _ => None,
        }
    }
}
