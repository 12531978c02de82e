//! Every kind a server serves, with its discovery facts.

use std::fmt;
use std::sync::Arc;

use gantry_object::{GroupVersion, GroupVersionKind, Value};
use gantry_schema::{DecodeError, Decoded, Schema, TypeId};

use crate::custom::Custom;
use crate::rules::{self, Conversion, Rules};
use crate::tables;

/// A subresource of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// Its name, as in `status`.
    pub name: String,
    /// The kind it reads and writes.
    pub gvk: GroupVersionKind,
    /// Its verbs.
    pub verbs: Vec<String>,
}

/// A column of a kind's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// The JSON type of its cells.
    pub kind: String,
    /// The OpenAPI format of its cells; `name` marks the column with the object's name.
    pub format: String,
    /// 0: always shown; above: shown when there is room.
    pub priority: i32,
}

/// A kind: its discovery facts, its schema, its rules. Cloning shares the schema.
#[derive(Clone)]
pub struct Kind {
    /// The group, empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The kind in CamelCase.
    pub kind: String,
    /// The kind of its lists; empty when it cannot be listed.
    pub list_kind: String,
    /// The plural resource name.
    pub plural: String,
    /// The singular resource name.
    pub singular: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories, as in `all`.
    pub categories: Vec<String>,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Its verbs.
    pub verbs: Vec<String>,
    /// Its subresources.
    pub subresources: Vec<Subresource>,
    /// What its objects are stored as: itself, or another version of it that it is converted to. `None`: not stored, as reviews are not.
    pub storage: Option<GroupVersionKind>,
    /// The columns of its tables.
    pub columns: Vec<Column>,
    /// The labels its field selectors may name.
    pub field_labels: Vec<String>,
    /// Its type.
    pub ty: TypeId,
    pub(crate) schema: Arc<Schema>,
    pub(crate) rules: &'static Rules,
    pub(crate) conversion: Option<&'static Conversion>,
    pub(crate) custom: Option<Arc<Custom>>,
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({})", self.gvk())
    }
}

impl Kind {
    /// Its `apiVersion`.
    pub fn api_version(&self) -> String {
        GroupVersion::new(&self.group, &self.version).to_string()
    }

    /// Its group, version and kind.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(&self.group, &self.version, &self.kind)
    }

    /// Whether its objects are stored.
    pub fn stored(&self) -> bool {
        self.storage.is_some()
    }

    /// The subresource of this name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Decodes a JSON body.
    ///
    /// # Errors
    /// When the body is not JSON or a value has the wrong type.
    pub fn decode_json(&self, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        if let Some(custom) = &self.custom {
            return custom.structural().decode_json(&self.schema, bytes);
        }
        self.schema.decode_json(self.ty, bytes)
    }

    /// Decodes a YAML body.
    ///
    /// # Errors
    /// When the body is not YAML or a value has the wrong type.
    pub fn decode_yaml(&self, bytes: &[u8]) -> Result<Decoded, DecodeError> {
        if let Some(custom) = &self.custom {
            return custom.structural().decode_yaml(&self.schema, bytes);
        }
        self.schema.decode_yaml(self.ty, bytes)
    }

    /// Takes a tree that came from elsewhere, a patched object for example: unknown fields pruned and reported.
    ///
    /// # Errors
    /// When a value has the wrong type.
    pub fn conform(&self, object: Value) -> Result<Decoded, DecodeError> {
        match &self.custom {
            Some(custom) => custom.structural().conform(&self.schema, object),
            None => self.schema.conform(self.ty, object),
        }
    }

    /// Gives a tree the presence upstream's encoder would write.
    pub fn normalize(&self, object: &mut Value) {
        if self.custom.is_some() {
            return;
        }
        self.schema.normalize(self.ty, object);
    }
}

/// Every kind a server serves.
#[derive(Clone, Debug)]
pub struct Registry {
    kinds: Vec<Kind>,
    pub(crate) schema: Arc<Schema>,
}

impl Registry {
    /// The built-in kinds.
    ///
    /// # Panics
    /// When the tables compiled in are malformed, which the tests rule out.
    pub fn builtin() -> Self {
        let schema = Arc::new(Schema::parse(tables::SERVED).expect("the built-in tables are well-formed"));
        let kinds = parse_kinds(tables::KINDS, &schema).expect("the table of kinds is well-formed");
        Self { kinds, schema }
    }

    /// All kinds, those of a group and version together.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The schema behind them.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The schema behind them, shared.
    pub(crate) fn shared_schema(&self) -> Arc<Schema> {
        self.schema.clone()
    }

    /// The kind of a resource path.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Kind> {
        self.kinds.iter().find(|k| k.plural == plural && k.group == group && k.version == version)
    }

    /// The kind of this name.
    pub fn gvk(&self, group: &str, version: &str, kind: &str) -> Option<&Kind> {
        self.kinds.iter().find(|k| k.kind == kind && k.group == group && k.version == version)
    }

    /// The type of any kind the tables know, also of those that are no resources of their own: lists, options, Scale, Eviction, TokenRequest, Status.
    pub fn type_of(&self, gvk: &GroupVersionKind) -> Option<TypeId> {
        // Every group serves the meta kinds (DeleteOptions, Status, …) as its own.
        self.schema.kind(gvk).or_else(|| self.schema.lookup(&format!("meta_v1.{}", gvk.kind)))
    }
}

/// Reads the table of kinds; `None` when a line is malformed or a kind has no type.
fn parse_kinds(text: &str, schema: &Arc<Schema>) -> Option<Vec<Kind>> {
    let mut kinds: Vec<Kind> = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let (first, rest) = line.trim_start().split_once(' ')?;
        match (first, kinds.last_mut()) {
            ("kind", _) => kinds.push(parse_kind(rest, schema)?),
            ("sub", Some(kind)) => {
                let mut words = rest.split(' ');
                let (name, version, sub_kind, verbs) = (words.next()?, words.next()?, words.next()?, words.next()?);
                let gvk = gvk_of(version, sub_kind)?;
                kind.subresources.push(Subresource { name: name.into(), gvk, verbs: split(verbs) });
            }
            ("column", Some(kind)) => {
                let mut parts = rest.split('|').map(String::from);
                let (name, of, format) = (parts.next()?, parts.next()?, parts.next()?);
                let priority = parts.next()?.parse().ok()?;
                kind.columns.push(Column { name, kind: of, format, priority });
            }
            ("fields", Some(kind)) => kind.field_labels = rest.split(' ').map(Into::into).collect(),
            _ => return None,
        }
    }
    Some(kinds)
}

fn parse_kind(line: &str, schema: &Arc<Schema>) -> Option<Kind> {
    let mut words = line.split(' ');
    let gvk = gvk_of(words.next()?, words.next()?)?;
    let ty = schema.kind(&gvk)?;
    let rules = rules::of(&gvk.kind);
    let conversion = rules::conversion(&gvk.group_version().to_string(), &gvk.kind);
    let mut kind = Kind {
        group: gvk.group,
        version: gvk.version,
        kind: gvk.kind,
        list_kind: String::new(),
        plural: String::new(),
        singular: String::new(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced: false,
        verbs: Vec::new(),
        subresources: Vec::new(),
        storage: None,
        columns: Vec::new(),
        field_labels: Vec::new(),
        ty,
        schema: schema.clone(),
        rules,
        conversion,
        custom: None,
    };
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "plural" => kind.plural = value.into(),
            "singular" => kind.singular = value.into(),
            "list" => kind.list_kind = value.into(),
            "short" => kind.short_names = split(value),
            "categories" => kind.categories = split(value),
            "namespaced" => kind.namespaced = true,
            "verbs" if value == "all" => kind.verbs = split("create,delete,deletecollection,get,list,patch,update,watch"),
            "verbs" => kind.verbs = split(value),
            "stored" => kind.storage = Some(gvk_of(value, &kind.kind)?),
            _ => return None,
        }
    }
    Some(kind)
}

fn split(text: &str) -> Vec<String> {
    text.split(',').map(Into::into).collect()
}

fn gvk_of(version: &str, kind: &str) -> Option<GroupVersionKind> {
    let gv = GroupVersion::parse(version)?;
    Some(GroupVersionKind::new(&gv.group, &gv.version, kind))
}
