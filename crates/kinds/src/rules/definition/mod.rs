//! Definitions of custom resources: their defaults, and what is wrong with them.

mod schema;
mod structural;

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Timestamp, Value, meta, names};
use serde_json::json;

use schema::warnings;

use crate::custom::JsonPath;
use crate::rules::{Generation, PLAIN, Rules};
use crate::tree::{at, copy_member, items, object_mut, text};

/// The finalizer that holds a definition until its objects are gone.
pub const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// The annotation that approves an API of a group that belongs to the community.
pub const APPROVED: &str = "api-approved.kubernetes.io";

const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MOST_SELECTABLE: usize = 8;

pub(crate) const DEFINITION: Rules = Rules {
    defaults,
    create: remember_storage_version,
    update,
    validate,
    validate_update,
    name: names::dns1123_subdomain,
    resets_status: true,
    generation: Generation::Spec,
    warnings,
    needs_version: true,
    ..PLAIN
};

fn defaults(crd: &mut Value) {
    let kind = text(crd, "/spec/names/kind").to_owned();
    let names = object_mut(&mut crd["spec"], "names");
    let mut fill = |member: &str, to: String| {
        if names.get(member).is_none_or(|v| v.is_null() || v == "") {
            names.insert(member.into(), to.into());
        }
    };
    if !kind.is_empty() {
        fill("singular", kind.to_lowercase());
        fill("listKind", format!("{kind}List"));
    }
    let conversion = object_mut(&mut crd["spec"], "conversion");
    if conversion.get("strategy").is_none_or(|s| s.is_null() || s == "") {
        conversion.insert("strategy".into(), "None".into());
    }
    if let Some(service) = crd.pointer_mut("/spec/conversion/webhook/clientConfig/service")
        && service.is_object()
        && service.get("port").is_none_or(Value::is_null)
    {
        service["port"] = 443.into();
    }
}

fn storage_version(crd: &Value) -> Option<String> {
    let version = items(crd, "/spec/versions").iter().find(|v| v["storage"] == true)?;
    Some(text(version, "/name").to_owned()).filter(|n| !n.is_empty())
}

/// The version that objects are stored in stays known until somebody takes it out of the status.
fn remember_storage_version(crd: &mut Value) {
    let Some(version) = storage_version(crd) else { return };
    let status = object_mut(crd, "status");
    let stored = status.entry("storedVersions").or_insert(Value::Null);
    if !stored.is_array() {
        *stored = Value::Array(Vec::new());
    }
    if let Some(stored) = stored.as_array_mut().filter(|s| !s.iter().any(|v| v == version.as_str())) {
        stored.push(version.into());
    }
}

/// A definition that is deleted stays until its objects are gone.
pub(crate) fn begin_deletion(crd: &mut Value, now: Timestamp) {
    let metadata = meta::metadata_mut(crd);
    let finalizers = metadata.entry("finalizers").or_insert(Value::Null);
    if !finalizers.is_array() {
        *finalizers = Value::Array(Vec::new());
    }
    if let Some(finalizers) = finalizers.as_array_mut().filter(|f| !f.iter().any(|v| v == CLEANUP)) {
        finalizers.push(CLEANUP.into());
    }
    let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
    set_condition(crd, "Terminating", "True", "InstanceDeletionPending", message, now);
}

/// Sets a condition; its time changes with its status alone. Says whether anything changed.
pub fn set_condition(crd: &mut Value, kind: &str, status: &str, reason: &str, message: &str, now: Timestamp) -> bool {
    let conditions = object_mut(crd, "status").entry("conditions").or_insert(Value::Null);
    if !conditions.is_array() {
        *conditions = Value::Array(Vec::new());
    }
    let Some(conditions) = conditions.as_array_mut() else { return false };
    let mut new = json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now.rfc3339()});
    match conditions.iter_mut().find(|c| c["type"] == kind) {
        Some(old) => {
            if old["status"] == status {
                new["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            let changed = *old != new;
            *old = new;
            changed
        }
        None => {
            conditions.push(new);
            true
        }
    }
}

fn update(new: &mut Value, old: &Value, subresource: Option<&str>) {
    match subresource {
        None => remember_storage_version(new),
        Some(_) => copy_member(new, old, "spec"),
    }
}

/// Whether a group belongs to the community, so that its APIs need approval.
pub fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|g| group == *g || group.strip_suffix(g).is_some_and(|rest| rest.ends_with('.')))
}

/// What a definition's approval annotation comes to: `None` when nothing or nothing valid is said, else whether it is approved.
pub fn approval(crd: &Value) -> Option<bool> {
    let said = meta::annotation(crd, APPROVED).unwrap_or_default();
    if said.starts_with("unapproved") {
        return Some(false);
    }
    let is_url =
        said.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && rest.split('/').next().is_some_and(|h| !h.is_empty()));
    is_url.then_some(true)
}

fn validate_approval(crd: &Value, errors: &mut ErrorList) {
    if !is_protected(text(crd, "/spec/group")) || approval(crd).is_some() {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let needed = format!("protected groups must have approval annotation {APPROVED:?}");
    match meta::annotation(crd, APPROVED) {
        None | Some("") => errors.push(Error::required(&path, &format!("{needed}, {see}"))),
        Some(said) => {
            let detail = format!("{needed} with either a URL or a reason starting with \"unapproved\", {see}");
            errors.push(Error::invalid(&path, said, &detail));
        }
    }
}

fn join(problems: Vec<String>) -> Option<String> {
    (!problems.is_empty()).then(|| problems.join(","))
}

fn validate(crd: &Value, errors: &mut ErrorList) {
    let spec = &crd["spec"];
    let path = Path::new("spec");
    let wanted = format!("{}.{}", text(spec, "/names/plural"), text(spec, "/group"));
    if meta::name(crd) != wanted {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        errors.push(Error::invalid(&Path::new("metadata").child("name"), meta::name(crd), detail));
    }
    validate_group(spec, &path, errors);
    validate_versions(spec, &path, errors);
    validate_names(&spec["names"], &path.child("names"), true, errors);
    if spec["preserveUnknownFields"] == true {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(Error::invalid(&path.child("preserveUnknownFields"), true, detail));
    }
    validate_conversion(&spec["conversion"], &path.child("conversion"), errors);
    validate_names(&crd["status"]["acceptedNames"], &Path::new("status").child("acceptedNames"), false, errors);
    validate_stored_versions(crd, errors);
}

fn validate_group(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let group = text(spec, "/group");
    let at_group = path.child("group");
    if group.is_empty() {
        errors.push(Error::required(&at_group, ""));
    } else if let Some(problems) = join(names::dns1123_subdomain(group)) {
        errors.push(Error::invalid(&at_group, group, &problems));
    } else if !group.contains('.') {
        errors.push(Error::invalid(&at_group, group, "should be a domain with at least one dot"));
    }
    one_of(text(spec, "/scope"), &["Cluster", "Namespaced"], &path.child("scope"), errors);
}

fn one_of(value: &str, allowed: &[&str], path: &Path, errors: &mut ErrorList) {
    match value {
        "" => errors.push(Error::required(path, "")),
        given if !allowed.contains(&given) => errors.push(Error::not_supported(path, given, allowed)),
        _ => {}
    }
}

/// Where upstream reports what all versions have in common, as it does for its older form of definitions.
fn places<'a>(versions: &'a [Value], member: &str, common: &str, path: &Path) -> Vec<(&'a Value, Path, &'a Value)> {
    let of = |v: &'a Value| at(v, &format!("/{member}"));
    let Some(first) = versions.first() else { return Vec::new() };
    if versions.iter().all(|v| of(v) == of(first)) {
        return vec![(of(first), path.child(common), first)];
    }
    versions.iter().enumerate().map(|(i, v)| (of(v), path.child("versions").index(i).child(member), v)).collect()
}

fn validate_versions(spec: &Value, path: &Path, errors: &mut ErrorList) {
    let versions = items(spec, "/versions");
    for (i, version) in versions.iter().enumerate() {
        let path = path.child("versions").index(i);
        if at(version, "/schema/openAPIV3Schema").is_null() {
            errors.push(Error::required(&path.child("schema").child("openAPIV3Schema"), "schemas are required"));
        }
        let name = text(version, "/name");
        if let Some(problems) = join(names::dns1035_label(name)) {
            errors.push(Error::invalid(&path.child("name"), name, &problems));
        }
        validate_deprecation(version, &path.child("deprecationWarning"), errors);
        validate_selectable(version, &path.child("selectableFields"), errors);
    }
    for (schema, path, version) in places(versions, "schema", "validation", path) {
        let has_status = at(version, "/subresources/status").is_object();
        schema::validate(&schema["openAPIV3Schema"], has_status, &path.child("openAPIV3Schema"), errors);
    }
    for (subresources, path, _) in places(versions, "subresources", "subresources", path) {
        validate_scale(&subresources["scale"], &path, errors);
    }
    for (columns, path, _) in places(versions, "additionalPrinterColumns", "additionalPrinterColumns", path) {
        for (i, column) in columns.as_array().into_iter().flatten().enumerate() {
            validate_column(column, &path.index(i), errors);
        }
    }
    let path = path.child("versions");
    let names: Vec<&str> = versions.iter().map(|v| text(v, "/name")).collect();
    if names.iter().enumerate().any(|(i, n)| names[..i].contains(n)) {
        errors.push(Error::invalid(&path, names.clone(), "must contain unique version names"));
    }
    if versions.iter().filter(|v| v["storage"] == true).count() != 1 {
        errors.push(Error::invalid(&path, names, "must have exactly one version marked as storage version"));
    }
}

fn validate_deprecation(version: &Value, path: &Path, errors: &mut ErrorList) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    let mut refuse = |detail: &str| errors.push(Error::invalid(path, warning, detail));
    if version["deprecated"] != true {
        refuse("can only be set for deprecated versions");
    }
    match warning.len() {
        0 => refuse("must not be an empty string"),
        257.. => refuse("must be <= 256 characters long"),
        _ => {}
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        refuse(&format!("must only contain printable UTF-8 characters; non-printable character found at index {i}"));
    }
}

fn validate_names(names_given: &Value, path: &Path, needed: bool, errors: &mut ErrorList) {
    for member in ["plural", "singular", "kind", "listKind"] {
        let name = text(names_given, &format!("/{member}"));
        let at_member = path.child(member);
        if name.is_empty() {
            if needed {
                errors.push(Error::required(&at_member, ""));
            }
            continue;
        }
        let is_kind = member.ends_with("ind");
        let Some(problems) = join(names::dns1035_label(&if is_kind { name.to_lowercase() } else { name.into() })) else { continue };
        let prefix = if is_kind { "may have mixed case, but should otherwise match: " } else { "" };
        errors.push(Error::invalid(&at_member, name, &format!("{prefix}{problems}")));
    }
    for member in ["shortNames", "categories"] {
        for (i, name) in items(names_given, &format!("/{member}")).iter().enumerate() {
            let name = name.as_str().unwrap_or_default();
            if let Some(problems) = join(names::dns1035_label(name)) {
                errors.push(Error::invalid(&path.child(member).index(i), name, &problems));
            }
        }
    }
    let (kind, list) = (text(names_given, "/kind"), text(names_given, "/listKind"));
    if !kind.is_empty() && kind == list {
        errors.push(Error::invalid(&path.child("listKind"), list, "kind and listKind may not be the same"));
    }
}

/// A path like `.spec.replicas`.
fn simple_path(given: &str, path: &Path, errors: &mut ErrorList) -> bool {
    let detail = if given.is_empty() {
        "must not be empty"
    } else if !given.starts_with('.') {
        "must be a simple json path starting with ."
    } else if given.split('.').skip(1).any(|p| p.is_empty() || p.contains(['[', ']'])) {
        "must be a json path in the dot notation"
    } else {
        return true;
    };
    errors.push(Error::invalid(path, given, detail));
    false
}

fn validate_scale(scale: &Value, path: &Path, errors: &mut ErrorList) {
    if !scale.is_object() {
        return;
    }
    for (member, root) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let (given, path) = (text(scale, &format!("/{member}")), path.child("scale").child(member));
        if given.is_empty() {
            errors.push(Error::required(&path, ""));
        } else if simple_path(given, &path, errors) && !given.starts_with(root) {
            let detail = format!("should be a json path under {}", root.trim_end_matches('.'));
            errors.push(Error::invalid(&path, given, &detail));
        }
    }
    if let Some(given) = scale["labelSelectorPath"].as_str().filter(|p| !p.is_empty()) {
        let path = path.child("scale").child("labelSelectorPath");
        if simple_path(given, &path, errors) && !given.starts_with(".spec.") && !given.starts_with(".status.") {
            errors.push(Error::invalid(&path, given, "should be a json path under either .spec or .status"));
        }
    }
}

fn validate_column(column: &Value, path: &Path, errors: &mut ErrorList) {
    if text(column, "/name").is_empty() {
        errors.push(Error::required(&path.child("name"), ""));
    }
    let kind = text(column, "/type");
    let detail = format!("must be one of {}", TYPES.join(","));
    if kind.is_empty() {
        errors.push(Error::required(&path.child("type"), &detail));
    } else if !TYPES.contains(&kind) {
        errors.push(Error::invalid(&path.child("type"), kind, &detail));
    }
    let format = text(column, "/format");
    if !format.is_empty() && !FORMATS.contains(&format) {
        errors.push(Error::invalid(&path.child("format"), format, &format!("must be one of {}", FORMATS.join(","))));
    }
    let json_path = text(column, "/jsonPath");
    let path = path.child("JSONPath");
    if json_path.is_empty() {
        errors.push(Error::required(&path, ""));
    } else if !json_path.starts_with('.') {
        errors.push(Error::invalid(&path, json_path, "must be a simple json path starting with ."));
    } else if JsonPath::parse(json_path).is_none() {
        errors.push(Error::invalid(&path, json_path, "is an invalid JSON path"));
    }
}

fn validate_selectable(version: &Value, path: &Path, errors: &mut ErrorList) {
    let schema = at(version, "/schema/openAPIV3Schema");
    let fields = items(version, "/selectableFields");
    let paths: Vec<&str> = fields.iter().map(|f| text(f, "/jsonPath")).collect();
    for (i, given) in paths.iter().enumerate() {
        let path = path.index(i).child("jsonPath");
        let names: Vec<&str> = given.split('.').skip(1).collect();
        if given.is_empty() {
            errors.push(Error::required(&path, ""));
            continue;
        }
        let found = names.iter().try_fold(schema, |s, name| s["properties"].get(name));
        let Some(found) = found.filter(|_| given.starts_with('.')) else {
            let detail = format!("is an invalid path: does not refer to a valid field: {:?}", names.join("."));
            errors.push(Error::invalid(&path, *given, &detail));
            continue;
        };
        if names.first() == Some(&"metadata") {
            errors.push(Error::invalid(&path, *given, "must not point to fields in metadata"));
        }
        if !matches!(text(found, "/type"), "string" | "boolean" | "integer") {
            let detail =
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
            errors.push(Error::invalid(&path, *given, detail));
        }
        if paths[..i].contains(given) {
            errors.push(Error::duplicate(&path, *given));
        }
    }
    if paths.len() > MOST_SELECTABLE {
        errors.push(Error::too_many(path, paths.len(), MOST_SELECTABLE));
    }
}

fn validate_conversion(conversion: &Value, path: &Path, errors: &mut ErrorList) {
    let strategy = text(conversion, "/strategy");
    one_of(strategy, &["None", "Webhook"], &path.child("strategy"), errors);
    let webhook = at(conversion, "/webhook");
    let client = at(webhook, "/clientConfig");
    // Upstream reports these under the names of its older form.
    let (at_client, at_versions) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        if webhook.is_object() {
            errors.push(Error::forbidden(&at_client, "should not be set when strategy is not set to Webhook"));
        }
        return;
    }
    let (url, service) = (client["url"].as_str(), client["service"].is_object());
    if !client.is_object() {
        errors.push(Error::required(&at_client, "required when strategy is set to Webhook"));
    } else if url.is_some() == service {
        errors.push(Error::required(&at_client, "exactly one of url or service is required"));
    } else if let Some(url) = url.filter(|u| !u.starts_with("https://")) {
        errors.push(Error::invalid(
            &at_client.child("url"),
            url,
            "'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ));
    } else if service {
        for member in ["name", "namespace"] {
            if text(client, &format!("/service/{member}")).is_empty() {
                errors.push(Error::required(&at_client.child("service").child(member), &format!("service {member} is required")));
            }
        }
    }
    let versions: Vec<&str> = items(webhook, "/conversionReviewVersions").iter().filter_map(Value::as_str).collect();
    if versions.is_empty() {
        errors.push(Error::required(&at_versions, ""));
    } else if !versions.iter().any(|v| matches!(*v, "v1" | "v1beta1")) {
        errors.push(Error::invalid(&at_versions, versions, "must include at least one of v1, v1beta1"));
    }
}

fn validate_stored_versions(crd: &Value, errors: &mut ErrorList) {
    let path = Path::new("status").child("storedVersions");
    let stored = items(crd, "/status/storedVersions");
    if stored.is_empty() {
        errors.push(Error::invalid(&path, Value::Array(Vec::new()), "must have at least one stored version"));
        return;
    }
    if let Some(version) = storage_version(crd).filter(|v| !stored.iter().any(|s| s == v.as_str())) {
        errors.push(Error::invalid(&path, stored.to_vec(), &format!("must have the storage version {version}")));
    }
    for (i, version) in stored.iter().enumerate() {
        if items(crd, "/spec/versions").iter().any(|v| v["name"] == *version) {
            continue;
        }
        let v = version.as_str().unwrap_or_default();
        let detail = format!(
            "missing from spec.versions; {v} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {v} and removes {v} from status.storedVersions"
        );
        errors.push(Error::invalid(&path.index(i), v, &detail));
    }
}

/// Whether a definition's kinds are served.
pub fn is_established(crd: &Value) -> bool {
    items(crd, "/status/conditions").iter().any(|c| c["type"] == "Established" && c["status"] == "True")
}

fn validate_update(new: &Value, old: &Value, subresource: Option<&str>, errors: &mut ErrorList) {
    if subresource.is_some() {
        validate_names(&new["status"]["acceptedNames"], &Path::new("status").child("acceptedNames"), false, errors);
        return;
    }
    let immutable: &[&str] =
        if is_established(old) { &["scope", "names/kind", "group", "names/plural"] } else { &["group", "names/plural"] };
    for member in immutable {
        let (is, was) = (at(new, &format!("/spec/{member}")), at(old, &format!("/spec/{member}")));
        if is != was {
            let path = member.split('/').fold(Path::new("spec"), |p, m| p.child(m));
            errors.push(Error::invalid(&path, is.clone(), "field is immutable"));
        }
    }
    let annotation = |crd: &Value| meta::annotation(crd, APPROVED).map(str::to_owned);
    if annotation(new) != annotation(old) {
        validate_approval(new, errors);
    }
}

/// What only a new definition must keep: approval, which older ones of the same group may lack.
pub(crate) fn validate_new(crd: &Value, errors: &mut ErrorList) {
    validate_approval(crd, errors);
}
