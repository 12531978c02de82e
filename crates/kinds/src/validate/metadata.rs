//! Object metadata, the same for every kind.

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Value, meta, names};

use crate::registry::Kind;
use crate::tree;

/// How many bytes the keys and values of annotations may have together.
const MOST_ANNOTATIONS: usize = 256 << 10;

const IMMUTABLE: &str = "field is immutable";

impl Kind {
    /// What is wrong with an object about to be created, metadata included.
    pub fn validate_create(&self, object: &Value) -> ErrorList {
        let mut errors = ErrorList::new();
        if self.stored() {
            metadata(self, object, &mut errors);
        }
        if let Some(custom) = &self.custom {
            errors.extend(custom.validate(object, None));
            return errors;
        }
        errors.extend(self.schema.validate(self.ty, object, &Path::default()));
        (self.rules.validate)(object, &mut errors);
        if self.kind == "CustomResourceDefinition" {
            crate::rules::definition::validate_new(object, &mut errors);
        }
        errors
    }

    /// What is wrong with an object about to replace `old`, metadata included. Status updates check the change alone, as upstream does.
    pub fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> ErrorList {
        let mut errors = ErrorList::new();
        metadata_update(new, old, &mut errors);
        if !errors.is_empty() {
            return errors;
        }
        metadata(self, new, &mut errors);
        if let Some(custom) = &self.custom {
            errors.extend(custom.validate(new, Some(old)));
            return errors;
        }
        if subresource != Some("status") {
            errors.extend(self.schema.validate(self.ty, new, &Path::default()));
            (self.rules.validate)(new, &mut errors);
            errors.extend(self.schema.validate_immutable(self.ty, new, old, &Path::default()));
        }
        (self.rules.validate_update)(new, old, subresource, &mut errors);
        errors
    }
}

fn metadata(kind: &Kind, object: &Value, errors: &mut ErrorList) {
    let path = Path::new("metadata");
    let generate = meta::text(object, "generateName");
    if !generate.is_empty() {
        // The suffix that will be added makes a trailing dash harmless.
        let stem = generate.trim_end_matches('-');
        let stem = if stem.is_empty() { generate } else { stem };
        errors.extend((kind.rules.name)(stem).iter().map(|m| Error::invalid(&path.child("generateName"), generate, m)));
    }
    let name = meta::name(object);
    if name.is_empty() {
        if generate.is_empty() {
            errors.push(Error::required(&path.child("name"), "name or generateName is required"));
        }
    } else {
        errors.extend((kind.rules.name)(name).iter().map(|m| Error::invalid(&path.child("name"), name, m)));
    }
    namespace(kind, meta::namespace(object), &path.child("namespace"), errors);
    labels(tree::at(object, "/metadata/labels"), &path.child("labels"), errors);
    annotations(tree::at(object, "/metadata/annotations"), &path.child("annotations"), errors);
    owners(meta::owner_references(object), &path.child("ownerReferences"), errors);
    super::field_manager::entries(tree::at(object, "/metadata/managedFields"), &path.child("managedFields"), errors);
    for (i, finalizer) in meta::finalizers(object).iter().enumerate() {
        let path = path.child("finalizers").index(i);
        errors.extend(names::qualified_name(finalizer).iter().map(|m| Error::invalid(&path, *finalizer, m)));
    }
}

fn namespace(kind: &Kind, namespace: &str, path: &Path, errors: &mut ErrorList) {
    match (kind.namespaced, namespace) {
        (true, "") => errors.push(Error::required(path, "")),
        (true, given) => errors.extend(names::dns1123_label(given).iter().map(|m| Error::invalid(path, given, m))),
        (false, "") => {}
        (false, _) => errors.push(Error::forbidden(path, "not allowed on this type")),
    }
}

/// A map of labels.
pub(crate) fn labels(labels: &Value, path: &Path, errors: &mut ErrorList) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        errors.extend(names::qualified_name(key).iter().map(|m| Error::invalid(path, key.as_str(), m)));
        let text = value.as_str().unwrap_or_default();
        errors.extend(names::label_value(text).iter().map(|m| Error::invalid(&path.key(key), text, m)));
    }
}

/// A map of annotations.
pub(crate) fn annotations(annotations: &Value, path: &Path, errors: &mut ErrorList) {
    let mut total = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        let lower = key.to_ascii_lowercase();
        errors.extend(names::qualified_name(&lower).iter().map(|m| Error::invalid(path, key.as_str(), m)));
        total += key.len() + value.as_str().map_or(0, str::len);
    }
    if total > MOST_ANNOTATIONS {
        errors.push(Error::too_long(path, MOST_ANNOTATIONS));
    }
}

fn owners(owners: &[Value], path: &Path, errors: &mut ErrorList) {
    let mut controllers = 0;
    for (i, owner) in owners.iter().enumerate() {
        let path = path.index(i);
        for (member, detail) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if tree::text(owner, &format!("/{member}")).is_empty() {
                errors.push(Error::invalid(&path.child(member), "", detail));
            }
        }
        if owner["kind"] == "Event" && matches!(tree::text(owner, "/apiVersion"), "v1" | "events.k8s.io/v1") {
            errors.push(Error::invalid(&path, "", "is disallowed from being an owner"));
        }
        controllers += usize::from(owner["controller"] == true);
    }
    if controllers > 1 {
        errors.push(Error::invalid(
            path,
            owners.to_vec(),
            "Only one reference can have Controller set to true. Found \"true\" in references for more than one owner",
        ));
    }
}

/// What of the metadata a change may not touch.
fn metadata_update(new: &Value, old: &Value, errors: &mut ErrorList) {
    let path = Path::new("metadata");
    for member in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (is, was) = (&new["metadata"][member], &old["metadata"][member]);
        if is != was {
            errors.push(Error::invalid(&path.child(member), is.clone(), IMMUTABLE));
        }
    }
    if meta::is_deleting(old) {
        let before = meta::finalizers(old);
        let added: Vec<&str> = meta::finalizers(new).into_iter().filter(|f| !before.contains(f)).collect();
        if !added.is_empty() {
            let detail = format!(
                "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                added.iter().map(|f| format!("{f:?}")).collect::<Vec<_>>().join(", ")
            );
            errors.push(Error::forbidden(&path.child("finalizers"), &detail));
        }
    }
}
