//! Kinds that definitions describe: each served version of a definition is a [`Kind`] like the built-in ones.
//!
//! A kind keeps the definition's bytes, which it shares with the store, and reads its schema from them when it is first used: a thousand
//! definitions cost little more than their text.

mod json_path;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use gantry_cel::rules::Rules as Validations;
use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{GroupVersionKind, Timestamp, Value, meta};
use gantry_schema::openapi::Version;
use gantry_schema::ownership::Open;
use gantry_schema::structural::{Structural, document};

pub use json_path::JsonPath;

use crate::registry::{Column, Kind, Registry, Subresource};
use crate::rules;
use crate::table::cells::age;
use crate::tree::{at, items, set, text};

/// What a kind knows of its definition.
pub(crate) struct Custom {
    /// The definition's JSON.
    definition: Bytes,
    /// The version's place in it.
    version: usize,
    /// Where a Scale finds its numbers.
    scale: Option<Lookout>,
    served: bool,
    deprecation: Option<String>,
    converts_by_webhook: bool,
    structural: OnceLock<Structural>,
    validations: OnceLock<Option<Validations>>,
    open: OnceLock<Arc<Open>>,
    columns: OnceLock<Vec<(String, Option<JsonPath>)>>,
}

/// Where the Scale of a custom resource finds its numbers, as JSON pointers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookout {
    /// The replicas wished for.
    pub spec: String,
    /// The replicas there are.
    pub status: String,
    /// The selector of the pods, empty for none.
    pub selector: String,
}

fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

/// The kinds that a definition has, one for each version, preferred ones first.
pub fn custom_kinds(registry: &Registry, crd: &Value, definition: &Bytes) -> Vec<Kind> {
    let versions = items(crd, "/spec/versions");
    let Some(storage) = versions.iter().find(|v| v["storage"] == true).map(|v| text(v, "/name")) else { return Vec::new() };
    let mut kinds: Vec<Kind> = Vec::new();
    for (i, version) in versions.iter().enumerate() {
        kinds.push(kind(registry, crd, definition, (i, version), storage));
    }
    kinds.sort_by(|a, b| precedence(&b.version).cmp(&precedence(&a.version)).then_with(|| a.version.cmp(&b.version)));
    kinds
}

/// How a version ranks: stable over beta over alpha over any other name, then by number.
pub fn precedence(version: &str) -> (u8, u64, u64) {
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    if let Some(major) = number(rest) {
        return (3, major, 0);
    }
    for (rank, word) in [(2, "beta"), (1, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word)
            && let (Some(major), Some(minor)) = (number(major), number(minor))
        {
            return (rank, major, minor);
        }
    }
    (0, 0, 0)
}

fn kind(registry: &Registry, crd: &Value, definition: &Bytes, (place, version): (usize, &Value), storage: &str) -> Kind {
    let group = text(crd, "/spec/group");
    let name = |member: &str| text(crd, &format!("/status/acceptedNames/{member}")).to_owned();
    let names = |member: &str| -> Vec<String> {
        items(crd, &format!("/status/acceptedNames/{member}")).iter().filter_map(|v| v.as_str().map(String::from)).collect()
    };
    let namespaced = text(crd, "/spec/scope") == "Namespaced";
    let gvk = GroupVersionKind::new(group, text(version, "/name"), &name("kind"));
    let mut field_labels = vec!["metadata.name".to_owned()];
    if namespaced {
        field_labels.push("metadata.namespace".into());
    }
    field_labels.extend(items(version, "/selectableFields").iter().map(|f| text(f, "/jsonPath").trim_start_matches('.').to_owned()));
    let schema = registry.shared_schema();
    Kind {
        group: group.into(),
        version: gvk.version.clone(),
        kind: gvk.kind.clone(),
        list_kind: name("listKind"),
        plural: name("plural"),
        singular: name("singular"),
        short_names: names("shortNames"),
        categories: names("categories"),
        namespaced,
        verbs: ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"].map(String::from).into(),
        subresources: subresources(version, &gvk),
        storage: Some(GroupVersionKind::new(group, storage, &gvk.kind)),
        columns: columns(version),
        field_labels,
        ty: schema.lookup("meta_v1.PartialObjectMetadata").expect("the built-in tables have metadata"),
        schema,
        rules: &rules::CUSTOM,
        conversion: None,
        custom: Some(Arc::new(Custom {
            definition: definition.clone(),
            version: place,
            scale: lookout(version),
            served: version["served"] == true,
            deprecation: deprecation(version, &gvk),
            converts_by_webhook: text(crd, "/spec/conversion/strategy") == "Webhook",
            structural: OnceLock::new(),
            validations: OnceLock::new(),
            open: OnceLock::new(),
            columns: OnceLock::new(),
        })),
    }
}

fn subresources(version: &Value, gvk: &GroupVersionKind) -> Vec<Subresource> {
    let verbs = || ["get", "patch", "update"].map(String::from).into();
    let mut found = Vec::new();
    if at(version, "/subresources/status").is_object() {
        found.push(Subresource { name: "status".into(), gvk: gvk.clone(), verbs: verbs() });
    }
    if at(version, "/subresources/scale").is_object() {
        found.push(Subresource { name: "scale".into(), gvk: GroupVersionKind::new("autoscaling", "v1", "Scale"), verbs: verbs() });
    }
    found
}

fn lookout(version: &Value) -> Option<Lookout> {
    let scale = at(version, "/subresources/scale");
    let path = |member: &str| pointer(text(scale, &format!("/{member}")));
    scale.is_object().then(|| Lookout {
        spec: path("specReplicasPath"),
        status: path("statusReplicasPath"),
        selector: path("labelSelectorPath"),
    })
}

fn deprecation(version: &Value, gvk: &GroupVersionKind) -> Option<String> {
    let plain = || format!("{}/{} {} is deprecated", gvk.group, gvk.version, gvk.kind);
    (version["deprecated"] == true).then(|| version["deprecationWarning"].as_str().map_or_else(plain, String::from))
}

fn columns(version: &Value) -> Vec<Column> {
    let column = |name: &str, kind: &str, format: &str, priority: i32| Column {
        name: name.into(),
        kind: kind.into(),
        format: format.into(),
        priority,
    };
    let own = items(version, "/additionalPrinterColumns").iter().map(|c| {
        let priority = at(c, "/priority").as_i64().and_then(|p| i32::try_from(p).ok()).unwrap_or_default();
        column(text(c, "/name"), text(c, "/type"), text(c, "/format"), priority)
    });
    let mut all = vec![column("Name", "string", "name", 0)];
    all.extend(own);
    if all.len() == 1 {
        all.push(column("Age", "date", "", 0));
    }
    all
}

impl Custom {
    /// The version's part of the definition, read anew.
    fn said(&self) -> Value {
        let crd: Value = serde_json::from_slice(&self.definition).expect("the server made a kind of this definition");
        at(&crd, &format!("/spec/versions/{}", self.version)).clone()
    }

    /// The validation rules, made ready when they are first needed.
    fn validations(&self) -> Option<&Validations> {
        self.validations.get_or_init(|| Validations::read(at(&self.said(), "/schema/openAPIV3Schema"))).as_ref()
    }

    pub(crate) fn structural(&self) -> &Structural {
        self.structural.get_or_init(|| Structural::read(at(&self.said(), "/schema/openAPIV3Schema")))
    }

    /// Its schema as apply sees it.
    pub(crate) fn open(&self) -> Arc<Open> {
        self.open.get_or_init(|| Arc::new(Open::read(at(&self.said(), "/schema/openAPIV3Schema")))).clone()
    }

    /// What is shown of a stored object: in the kind's own version, pruned and completed as the schema is now.
    pub(crate) fn read(&self, kind: &Kind, mut object: Value) -> Value {
        set(&mut object, "apiVersion", kind.api_version());
        let fallback = object.clone();
        // What an older definition let through may have metadata that no longer fit; it is shown as it is.
        let mut object = self.structural().conform(&kind.schema, object).map_or(fallback, |decoded| decoded.value);
        self.structural().apply_defaults(&mut object);
        object
    }

    pub(crate) fn validate(&self, new: &Value, old: Option<&Value>) -> ErrorList {
        let mut errors = self.structural().validate(new, old);
        for pointer in self.scale.iter().flat_map(|s| [&s.spec, &s.status]) {
            let path = Path::new(&pointer.replace('/', "."));
            match at(new, pointer).as_i64() {
                Some(n) if n < 0 => errors.push(Error::invalid(&path, n, "should be a non-negative integer")),
                Some(n) if n > i64::from(i32::MAX) => {
                    errors.push(Error::invalid(&path, n, &format!("should be less than or equal to {}", i32::MAX)));
                }
                _ => {}
            }
        }
        self.check_rules(new, old, &mut errors);
        errors
    }

    /// Holds the validation rules against an object whose shape is right.
    fn check_rules(&self, new: &Value, old: Option<&Value>, errors: &mut ErrorList) {
        use gantry_object::status::CauseReason as Reason;
        let Some(rules) = self.validations() else { return };
        let blocks = |e: &Error| {
            let blocking =
                [Reason::FieldValueRequired, Reason::FieldValueTooLong, Reason::FieldValueTooMany, Reason::FieldValueTypeInvalid];
            blocking.contains(&e.reason)
        };
        if errors.iter().any(blocks) {
            let detail =
                "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(Error::invalid(&Path::default(), Value::Null, detail));
            return;
        }
        errors.extend(rules.validate(new, old));
    }

    /// Paths and descriptions of the columns but the name.
    fn column_paths(&self) -> &[(String, Option<JsonPath>)] {
        self.columns.get_or_init(|| {
            let said = self.said();
            let own: Vec<_> = items(&said, "/additionalPrinterColumns")
                .iter()
                .map(|c| (text(c, "/description").to_owned(), JsonPath::parse(text(c, "/jsonPath"))))
                .collect();
            if own.is_empty() { vec![(String::new(), JsonPath::parse(".metadata.creationTimestamp"))] } else { own }
        })
    }

    pub(crate) fn column_description(&self, column: usize) -> String {
        let own = column.checked_sub(1).and_then(|i| self.column_paths().get(i));
        own.map_or(String::new(), |(description, _)| description.clone())
    }

    pub(crate) fn cells(&self, kind: &Kind, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![Value::from(meta::name(object))];
        for (column, (_, path)) in kind.columns.iter().skip(1).zip(self.column_paths()) {
            let found = path.as_ref().map(|p| p.find(object)).unwrap_or_default();
            cells.push(cell(&column.kind, &found, now));
        }
        cells
    }
}

/// A cell of a column of this type: what doesn't fit the type is shown as nothing.
fn cell(kind: &str, found: &[&Value], now: Timestamp) -> Value {
    let first = found.first().copied().unwrap_or(&Value::Null);
    let whole = |v: &Value| v.as_i64().or_else(|| v.as_f64().map(|f| f as i64));
    match kind {
        "integer" => whole(first).map_or(Value::Null, Value::from),
        "number" => first.as_f64().map_or(Value::Null, |_| first.clone()),
        "boolean" => first.as_bool().map_or(Value::Null, Value::from),
        "date" => first.as_str().map_or(Value::Null, |t| age(t, now).into()),
        _ if found.is_empty() || found == [&Value::Null] => Value::Null,
        _ => {
            let shown = |v: &&Value| v.as_str().map_or_else(|| v.to_string(), String::from);
            found.iter().map(shown).collect::<Vec<_>>().join(" ").into()
        }
    }
}

impl Kind {
    /// Whether a definition describes it.
    pub fn is_custom(&self) -> bool {
        self.custom.is_some()
    }

    /// Where its Scale finds its numbers; `None` for built-in kinds and those without one.
    pub fn lookout(&self) -> Option<&Lookout> {
        self.custom.as_ref().and_then(|c| c.scale.as_ref())
    }

    /// What users of a deprecated version are told.
    pub fn deprecation(&self) -> Option<&str> {
        self.custom.as_ref().and_then(|c| c.deprecation.as_deref())
    }

    /// Whether clients may use it: definitions may have versions that are not served.
    pub fn is_served(&self) -> bool {
        self.custom.as_ref().is_none_or(|c| c.served)
    }

    /// Whether a webhook converts its objects between versions.
    pub fn converts_by_webhook(&self) -> bool {
        self.custom.as_ref().is_some_and(|c| c.converts_by_webhook)
    }

    /// The definition of a custom resource in schema documents.
    pub(crate) fn custom_document(&self, version: Version) -> Option<Value> {
        let custom = self.custom.as_ref()?;
        let said = custom.said();
        let schema = said.pointer("/schema/openAPIV3Schema");
        let selectable: Vec<String> =
            items(&said, "/selectableFields").iter().map(|f| text(f, "/jsonPath").trim_start_matches('.').to_owned()).collect();
        Some(document(schema, &self.gvk(), &selectable, version))
    }
}
