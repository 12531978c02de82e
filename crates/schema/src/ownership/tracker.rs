//! Following ownership through updates and applies.

use std::collections::BTreeMap;
use std::sync::Arc;

use gantry_object::Value;

use super::compare::Comparison;
use super::managed::{Entry, Managed, Operation, Writer};
use super::open::Open;
use super::set::{FieldSet, Node};
use super::shape::{Shape, open_shape, same};
use crate::model::{Schema, TypeId};

/// A version of a kind: its type.
#[derive(Clone, Debug)]
pub struct Version {
    /// The schema the type is in.
    pub schema: Arc<Schema>,
    /// The type; of a custom resource, that of metadata.
    pub ty: TypeId,
    /// Of a custom resource: what its definition says.
    pub open: Option<Arc<Open>>,
}

impl Version {
    fn shape(&self) -> Shape<'_> {
        match &self.open {
            Some(open) => open_shape(open, self.ty),
            None => self.schema.shape(self.ty),
        }
    }

    /// How `new` differs from `old`.
    pub fn compare(&self, old: &Value, new: &Value) -> Comparison {
        self.schema.difference(self.shape(), old, new)
    }

    /// The fields an object names: every leaf, every item of a list, every member of a map.
    pub fn fields_of(&self, object: &Value) -> FieldSet {
        self.schema.fields(self.shape(), object)
    }
}

/// The other versions a kind is served in.
pub trait Versions {
    /// The type of a version; `None` when it is not served (any more).
    fn version(&self, api_version: &str) -> Option<Version>;

    /// An object, in whatever version it says it is, as another version has it; `None` when that cannot be.
    fn convert(&self, object: &Value, api_version: &str) -> Option<Value>;
}

/// A path of member names; `*` stands for any step.
pub type Path = &'static [&'static str];

/// What writes through a (sub)resource may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything but what lies at and below these paths.
    Except(&'static [Path]),
    /// Nothing but what lies at and below these paths.
    Only(&'static [Path]),
}

impl Scope {
    fn limit(self, fields: &mut FieldSet) {
        match self {
            Self::Except(paths) => paths.iter().for_each(|path| fields.remove_under(path)),
            Self::Only(paths) => fields.retain_under(paths),
        }
    }

    fn limited(self, mut comparison: Comparison) -> Comparison {
        for set in [&mut comparison.changed, &mut comparison.removed] {
            self.limit(set);
            // Ownership itself is nobody's.
            set.remove_under(&["metadata", "managedFields"]);
        }
        comparison
    }
}

/// Follows who owns the fields of one kind's objects, written in one version through one (sub)resource.
pub struct Tracker<'a> {
    /// The version that is written.
    pub version: Version,
    /// Its name, as in `apps/v1`.
    pub api_version: &'a str,
    /// What writes through this (sub)resource may write: nobody comes to own anything else through them.
    pub scope: Scope,
    /// The other versions.
    pub versions: &'a dyn Versions,
}

/// Why an apply failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The configuration does not fit the type; the text says where.
    Misfit(String),
    /// Others own fields that it sets to other values.
    Conflicts(Vec<Conflict>),
}

/// What another manager owns and an apply would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub writer: Writer,
    /// What.
    pub fields: FieldSet,
}

/// What an apply came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object, yet to be conformed to its type; `None` when nothing about it changes.
    pub object: Option<Value>,
    /// Who owns what then.
    pub managed: Managed,
}

/// Metadata that nobody owns.
const NOBODYS: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// A set without the metadata that nobody owns.
fn stripped(mut fields: FieldSet) -> FieldSet {
    for path in NOBODYS {
        fields.subtract(&FieldSet::of(path));
    }
    fields
}

impl Tracker<'_> {
    /// How `new` differs from `live` in what may be written here.
    pub fn compare(&self, live: &Value, new: &Value) -> Comparison {
        self.scope.limited(self.version.compare(live, new))
    }

    /// Notes that `writer` made `new` of `live` by any write but an apply; `comparison` is that of the two.
    pub fn update(&self, live: &Value, new: &Value, comparison: Comparison, managed: Managed, writer: &Writer, now: &str) -> Managed {
        let mut managed = self.reconciled(managed);
        let mut differences = Differences::new(self, live, new, comparison);
        managed.entries_mut().retain_mut(|entry| {
            let Some(theirs) = differences.of(&entry.writer.api_version) else { return false };
            entry.fields.subtract(&theirs.changed);
            entry.fields.subtract(&theirs.removed);
            true
        });
        let changed = stripped(differences.own.changed);
        if !changed.is_empty() {
            let time = Some(now.to_owned());
            match managed.entry_mut(writer) {
                Some(entry) => {
                    entry.fields.union(changed);
                    entry.time = time;
                }
                None => managed.put(Entry { writer: writer.clone(), time, fields: changed }),
            }
        }
        managed.entries_mut().retain(|entry| !entry.fields.is_empty());
        managed.cap();
        managed
    }

    /// Applies a configuration, which has no managed fields, to a live object.
    ///
    /// # Errors
    /// When the configuration does not fit its type, or, unless `force` is set, others own what it changes.
    pub fn apply(
        &self,
        live: &Value,
        config: &Value,
        managed: Managed,
        writer: &Writer,
        force: bool,
        now: &str,
    ) -> Result<Applied, ApplyError> {
        let (schema, shape) = (&self.version.schema, self.version.shape());
        if let Some(problem) = schema.misfit(self.version.ty, self.version.open.as_deref(), config) {
            return Err(ApplyError::Misfit(problem));
        }
        let mut managed = self.reconciled(managed);
        let last = managed.take(writer);
        let mut fields = schema.fields(shape, config);
        self.scope.limit(&mut fields);
        let time = last.as_ref().and_then(|entry| entry.time.clone());
        managed.put(Entry { writer: writer.clone(), time, fields });
        let mut object = schema.overlay(shape, live, config);
        if let Some(last) = last.filter(|last| !managed.entry_mut(writer).is_some_and(|own| last.fields.is_within(&own.fields))) {
            object = self.pruned(object, &managed, &last);
        }
        let conflicts = self.take_over(live, &object, &mut managed, writer);
        if !force && !conflicts.is_empty() {
            return Err(ApplyError::Conflicts(conflicts));
        }
        let object = Some(object).filter(|object| !same(live, object));
        if let Some(entry) = managed.entry_mut(writer) {
            entry.fields = stripped(std::mem::take(&mut entry.fields));
            if object.is_some() {
                entry.time = Some(now.to_owned());
            }
        }
        managed.entries_mut().retain(|entry| !entry.fields.is_empty());
        Ok(Applied { object, managed })
    }

    /// Takes from everybody else what differs between `live` and `new`, and says what of it was theirs and is still there.
    fn take_over(&self, live: &Value, new: &Value, managed: &mut Managed, writer: &Writer) -> Vec<Conflict> {
        let mut differences = Differences::new(self, live, new, self.compare(live, new));
        let mut conflicts = Vec::new();
        let own = managed.take(writer);
        managed.entries_mut().retain_mut(|entry| {
            let Some(theirs) = differences.of(&entry.writer.api_version) else { return false };
            let fields = entry.fields.intersection(&theirs.changed);
            entry.fields.subtract(&fields);
            entry.fields.subtract(&theirs.removed);
            if !fields.is_empty() {
                conflicts.push(Conflict { writer: entry.writer.clone(), fields });
            }
            true
        });
        managed.entries_mut().extend(own);
        conflicts
    }

    /// Takes out of a merged object what its applier named last time and names no more, unless somebody else owns it.
    fn pruned(&self, merged: Value, managed: &Managed, last: &Entry) -> Value {
        let Some((version, there)) = self.at(&merged, &last.writer.api_version) else { return merged };
        let (schema, shape) = (&version.schema, version.shape());
        let mut left = schema.drop_fields(shape, &there, &last.fields, None);
        let mut owned: BTreeMap<&str, FieldSet> = BTreeMap::new();
        for entry in managed.entries() {
            owned.entry(&entry.writer.api_version).or_default().union(entry.fields.clone());
        }
        // What others own comes back, first by what is owned in the version that was pruned: the other versions may need it to convert at all.
        let first = owned.remove_entry(last.writer.api_version.as_str());
        for (api_version, owned) in first.into_iter().chain(owned) {
            let (Some((version, merged)), Some((_, kept))) = (self.at(&merged, api_version), self.at(&left, api_version)) else { continue };
            let back = version.schema.keep_fields(version.shape(), &merged, &owned, &kept);
            left = self.at(&back, &last.writer.api_version).map_or(left, |(_, left)| left);
        }
        // And what went though it never was the applier's own.
        let left = schema.drop_fields(shape, &there, &last.fields, Some(&left));
        self.at(&left, self.api_version).map_or(merged, |(_, left)| left)
    }

    /// An object in a version, with that version's type.
    fn at(&self, object: &Value, api_version: &str) -> Option<(Version, Value)> {
        let version = if api_version == self.api_version { self.version.clone() } else { self.versions.version(api_version)? };
        let is_there = object.get("apiVersion").and_then(Value::as_str) == Some(api_version);
        Some((version, if is_there { object.clone() } else { self.versions.convert(object, api_version)? }))
    }

    /// Entries that name fields below what is now owned as a whole come to own the whole.
    fn reconciled(&self, mut managed: Managed) -> Managed {
        for entry in managed.entries_mut() {
            let api_version = entry.writer.api_version.as_str();
            let version = if api_version == self.api_version { Some(self.version.clone()) } else { self.versions.version(api_version) };
            if let Some(version) = version {
                version.schema.collapse(version.shape(), &mut entry.fields);
            }
        }
        managed
    }
}

impl Schema {
    fn collapse(&self, shape: Shape<'_>, set: &mut FieldSet) {
        for (element, node) in set.iter_mut() {
            let inner = match element.field_name() {
                Some(name) => self.member_shape(shape, name),
                None => Some(self.item_shape(shape)).filter(|_| matches!(shape, Shape::Keyed(..))),
            };
            match inner {
                Some(Shape::Whole) if !node.below.is_empty() => *node = Node::leaf(),
                Some(Shape::Whole | Shape::Unknown) | None => {}
                Some(inner) => self.collapse(inner, &mut node.below),
            }
        }
    }
}

/// How two objects differ, in every version that is asked for.
struct Differences<'t> {
    tracker: &'t Tracker<'t>,
    live: &'t Value,
    new: &'t Value,
    own: Comparison,
    others: BTreeMap<String, Option<Comparison>>,
}

impl<'t> Differences<'t> {
    fn new(tracker: &'t Tracker<'t>, live: &'t Value, new: &'t Value, own: Comparison) -> Self {
        Self { tracker, live, new, own, others: BTreeMap::new() }
    }

    /// `None` when the version isn't served any more.
    fn of(&mut self, api_version: &str) -> Option<&Comparison> {
        if api_version == self.tracker.api_version {
            return Some(&self.own);
        }
        let (tracker, live, new) = (self.tracker, self.live, self.new);
        let compare = || {
            let ((version, live), (_, new)) = (tracker.at(live, api_version)?, tracker.at(new, api_version)?);
            Some(tracker.scope.limited(version.compare(&live, &new)))
        };
        self.others.entry(api_version.to_owned()).or_insert_with(compare).as_ref()
    }
}

impl Operation {
    /// A writer's identity with this operation.
    pub fn by(self, manager: &str, api_version: &str, subresource: &str) -> Writer {
        // Upstream's name for somebody who gives none.
        let manager = if manager.is_empty() { "unknown" } else { manager };
        Writer { manager: manager.into(), operation: self, api_version: api_version.into(), subresource: subresource.into() }
    }
}
