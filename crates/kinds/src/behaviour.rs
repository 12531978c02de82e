//! What a kind does to objects on their way in, and what selectors see of them.

use gantry_object::{Timestamp, Value, meta};

use crate::registry::Kind;
use crate::rules::{self, Generation};
use crate::tree;

impl Kind {
    /// Fills in the table's defaults and the kind's own, and normalizes.
    pub fn apply_defaults(&self, object: &mut Value) {
        if let Some(custom) = &self.custom {
            return custom.structural().apply_defaults(object);
        }
        self.schema.apply_defaults(self.ty, object);
        // A version that is stored as another gets the kind's own defaults with its conversion.
        if self.conversion.is_none() {
            (self.rules.defaults)(object);
        }
        // Structs made by the kind's own defaults have members with defaults of their own.
        self.schema.apply_defaults(self.ty, object);
        self.schema.normalize(self.ty, object);
    }

    /// Makes a decoded, defaulted object ready to be created: status reset, generation 1, phases, secrets' stringData.
    pub fn prepare_create(&self, object: &mut Value) {
        if self.rules.resets_status || self.custom.is_some() && self.subresource("status").is_some() {
            tree::remove(object, "status");
        }
        let first = !matches!(self.rules.generation, Generation::Never | Generation::SpecAfterCreation);
        let metadata = meta::metadata_mut(object);
        metadata.remove("generation");
        metadata.remove("selfLink");
        if first {
            metadata.insert("generation".into(), 1.into());
        }
        (self.rules.create)(object);
        if self.custom.is_some() {
            return;
        }
        self.schema.drop_disabled(self.ty, object);
        self.schema.apply_defaults(self.ty, object);
        self.schema.normalize(self.ty, object);
    }

    /// Makes `new` ready to replace `old`: what this (sub)resource may not write is taken from `old`; the generation follows the change.
    ///
    /// Both are normalized. `scale` counts as the object itself: the caller has put the replicas in.
    pub fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        let subresource = subresource.filter(|s| *s != "scale");
        carry_over_metadata(new, old);
        match subresource {
            None if self.subresource("status").is_some() => tree::copy_member(new, old, "status"),
            None => {}
            Some("status") => {
                keep_all_but(new, old, "status");
                if self.keeps_metadata_from_status() {
                    keep_metadata(new, old);
                }
            }
            // Other subresources' rules say themselves what they take over.
            Some(_) => {}
        }
        (self.rules.update)(new, old, subresource);
        if self.custom.is_none() {
            self.schema.drop_disabled(self.ty, new);
            self.schema.normalize(self.ty, new);
        }
        self.follow_generation(new, old);
    }

    fn follow_generation(&self, new: &mut Value, old: &Value) {
        let changed = |member: &str| new.get(member) != old.get(member);
        let meta_changed = |member: &str| new["metadata"].get(member) != old["metadata"].get(member);
        let bump = match self.rules.generation {
            Generation::Never | Generation::Once => false,
            Generation::Spec | Generation::SpecAfterCreation => changed("spec"),
            Generation::SpecOrAnnotations => changed("spec") || meta_changed("annotations"),
            Generation::Content => {
                let apart = self.subresource("status").is_some();
                let members = new.as_object().into_iter().chain(old.as_object()).flat_map(|o| o.keys());
                members.filter(|m| *m != "metadata" && !(apart && *m == "status")).any(|m| changed(m))
            }
            Generation::AllButMeta => {
                let members = new.as_object().into_iter().chain(old.as_object()).flat_map(|o| o.keys());
                members.filter(|m| *m != "metadata").any(|m| changed(m)) || meta_changed("labels")
            }
        };
        let generation = old.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or_default() + i64::from(bump);
        let metadata = meta::metadata_mut(new);
        if generation == 0 {
            metadata.remove("generation");
        } else {
            metadata.insert("generation".into(), generation.into());
        }
    }

    /// Fills in times that only the server knows. Call it after [`Kind::prepare_create`] (`old` is null) and [`Kind::prepare_update`].
    pub fn stamp(&self, new: &mut Value, old: &Value, now: Timestamp) {
        (self.rules.stamp)(new, old, now);
    }

    /// Whether an update of an object that isn't there creates it.
    pub fn creates_on_update(&self) -> bool {
        self.rules.creates_on_update
    }

    /// Whether an update must name the version it replaces.
    pub fn needs_version_on_update(&self) -> bool {
        self.rules.needs_version
    }

    /// What else becomes of an object that begins to be deleted.
    pub fn begin_deletion(&self, object: &mut Value, now: Timestamp) {
        if self.kind == "CustomResourceDefinition" && self.custom.is_none() {
            rules::definition::begin_deletion(object, now);
        }
    }

    /// What a writer is warned of. `old` is null when an object is created.
    pub fn warnings(&self, new: &Value, old: &Value) -> Vec<String> {
        (self.rules.warnings)(new, old)
    }

    /// Whether a delete answers with the object that is gone, not with a Status.
    pub fn shows_deleted(&self) -> bool {
        self.group.is_empty() && matches!(self.plural.as_str(), "namespaces" | "pods" | "serviceaccounts" | "services")
    }

    /// What a field selector sees: empty when the field is not set, `None` when the kind has no such label.
    pub fn field(&self, object: &Value, label: &str) -> Option<String> {
        if !self.field_labels.iter().any(|l| l == label) {
            return None;
        }
        let text = |pointer: &str| tree::text(object, pointer).to_owned();
        if self.custom.is_some() {
            return Some(match tree::at(object, &format!("/{}", label.replace('.', "/"))) {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
        }
        Some(match (self.kind.as_str(), label) {
            ("Pod", "spec.host") => text("/spec/nodeName"),
            ("Pod", "status.podIPs") => {
                let ips: Vec<&str> = tree::items(object, "/status/podIPs").iter().map(|ip| tree::text(ip, "/ip")).collect();
                ips.join(",")
            }
            ("Pod", "spec.hostNetwork") | ("Node", "spec.unschedulable") => {
                let pointer = format!("/{}", label.replace('.', "/"));
                tree::at(object, &pointer).as_bool().unwrap_or_default().to_string()
            }
            ("Event", "source") => match tree::text(object, "/source/component") {
                "" => text("/reportingComponent"),
                component => component.into(),
            },
            _ => text(&format!("/{}", label.replace('.', "/"))),
        })
    }

    /// The labels a field selector of this kind may name.
    pub fn field_labels(&self) -> &[String] {
        &self.field_labels
    }

    /// From the form it is stored in to this kind's form.
    pub fn from_storage(&self, mut object: Value) -> Value {
        if let Some(custom) = &self.custom {
            return custom.read(self, object);
        }
        if let Some(conversion) = self.conversion {
            (conversion.from_storage)(&mut object);
            self.schema.normalize(self.ty, &mut object);
        }
        object
    }

    /// From this kind's form to the form it is stored in.
    pub fn to_storage(&self, mut object: Value) -> Value {
        if let (Some(_), Some(storage)) = (&self.custom, &self.storage) {
            tree::set(&mut object, "apiVersion", storage.group_version().to_string());
            return object;
        }
        if let Some(conversion) = self.conversion {
            (conversion.to_storage)(&mut object);
            if let Some(ty) = self.storage.as_ref().and_then(|gvk| self.schema.kind(gvk)) {
                self.schema.normalize(ty, &mut object);
            }
        }
        object
    }

    /// Whether its objects are stored in another kind's form.
    pub fn is_converted(&self) -> bool {
        // Definitions change, and with them what is shown of objects stored before.
        self.custom.is_some() || self.conversion.is_some()
    }

    /// Whether its objects are stored under this very group, version and kind.
    pub fn shows_stored_form(&self) -> bool {
        self.storage.as_ref().is_some_and(|s| s.version == self.version && s.group == self.group && s.kind == self.kind)
    }
}

/// What of the metadata is not the client's to change stays; what it left out and must be there is filled in.
fn carry_over_metadata(new: &mut Value, old: &Value) {
    let before = &old["metadata"];
    let Some(metadata) = new.get_mut("metadata") else { return };
    tree::copy_member(metadata, before, "creationTimestamp");
    tree::remove(metadata, "selfLink");
    if !tree::at(before, "/uid").is_null() {
        tree::set_if_empty(metadata, "uid", before["uid"].clone());
    }
    for member in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        if !before[member].is_null() && (member == "deletionTimestamp" || metadata.get(member).is_none_or(Value::is_null)) {
            tree::copy_member(metadata, before, member);
        }
    }
}

/// Takes the metadata from the old object, but for the version that was named and who owns what.
fn keep_metadata(new: &mut Value, old: &Value) {
    let own = ["resourceVersion", "managedFields"].map(|member| (member, new["metadata"].get(member).cloned()));
    tree::copy_member(new, old, "metadata");
    for (member, value) in own {
        match value {
            Some(value) => drop(meta::metadata_mut(new).insert(member.into(), value)),
            None => drop(meta::metadata_mut(new).remove(member)),
        }
    }
}

/// Takes every member but one and the metadata from the old object.
fn keep_all_but(new: &mut Value, old: &Value, written: &str) {
    let names: Vec<String> = new.as_object().into_iter().chain(old.as_object()).flat_map(|o| o.keys().cloned()).collect();
    for name in names.iter().filter(|n| *n != written && *n != "metadata") {
        tree::copy_member(new, old, name);
    }
}
