//! The options that requests carry in their query.

use gantry_client::{DeleteOptions, Params, PatchType, Propagation, Verb};
use gantry_kinds::field_manager;
use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{GroupVersionKind, Status};

use crate::call::{FieldValidation, Media};
use crate::path::Query;

/// The refusal of options that a verb doesn't have.
pub(crate) fn invalid_options(verb: Verb, errors: &ErrorList) -> Status {
    let kind = match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch(_) => "PatchOptions",
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
        Verb::Get | Verb::List => "ListOptions",
    };
    Status::invalid(&GroupVersionKind::new("meta.k8s.io", "v1", kind), "", errors)
}

/// Reads what every verb may carry.
pub(crate) fn params(verb: Verb, query: &Query) -> Result<Params, Status> {
    let text = |key: &str| query.get(key).to_owned();
    let limit: i64 = match query.get("limit") {
        "" => 0,
        given => given.parse().map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {given:?}: invalid syntax")))?,
    };
    let mut errors = ErrorList::new();
    let given: Vec<&str> = query.all("dryRun").filter(|v| !v.is_empty()).collect();
    if given.iter().any(|v| *v != "All") {
        errors.push(Error::not_supported(&Path::new("dryRun"), serde_json::json!(given), &["All"]));
    }
    let forced = query.all("force").next();
    match verb {
        Verb::Patch(PatchType::Apply) if query.get("fieldManager").is_empty() => {
            errors.push(Error::required(&Path::new("fieldManager"), "is required for apply patch"));
        }
        Verb::Patch(kind) if kind != PatchType::Apply && forced.is_some() => {
            errors.push(Error::forbidden(&Path::new("force"), "may not be specified for non-apply patch"));
        }
        _ => {}
    }
    errors.extend(field_manager::validate(query.get("fieldManager"), &Path::new("fieldManager")));
    if !errors.is_empty() {
        return Err(invalid_options(verb, &errors));
    }
    Ok(Params {
        label_selector: text("labelSelector"),
        field_selector: text("fieldSelector"),
        // Upstream takes a negative limit for none.
        limit: usize::try_from(limit).unwrap_or(0),
        continue_token: text("continue"),
        resource_version: text("resourceVersion"),
        resource_version_match: text("resourceVersionMatch"),
        dry_run: text("dryRun"),
        field_manager: text("fieldManager"),
        force: forced.is_some_and(|f| f != "0" && !f.eq_ignore_ascii_case("false")),
    })
}

/// The field manager that a `User-Agent` stands for: its first word, as far as it may be a name.
pub(crate) fn manager_of(agent: &str) -> String {
    let mut name = String::new();
    for c in agent.split('/').next().unwrap_or("").chars().filter(|c| field_manager::is_printable(*c)) {
        if name.len() + c.len_utf8() > field_manager::LONGEST {
            break;
        }
        name.push(c);
    }
    name
}

/// Reads what becomes of unknown fields.
pub(crate) fn field_validation(verb: Verb, query: &Query) -> Result<FieldValidation, Status> {
    match query.get("fieldValidation") {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => {
            let error = Error::not_supported(&Path::new("fieldValidation"), other, &["", "Ignore", "Strict", "Warn"]);
            Err(invalid_options(verb, &vec![error]))
        }
    }
}

/// The encoding of a body, for verbs that have one.
pub(crate) fn media(verb: Verb, content_type: &str) -> Result<Media, Status> {
    match content_type {
        _ if matches!(verb, Verb::Get | Verb::List | Verb::Patch(_)) => Ok(Media::Json),
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Media::Protobuf),
        _ => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// Delete options given in the query, if there are any.
pub(crate) fn query_options(query: &Query) -> Result<Option<DeleteOptions>, Status> {
    let mut options = DeleteOptions::default();
    if let Some(seconds) = Some(query.get("gracePeriodSeconds")).filter(|s| !s.is_empty()) {
        let wrong = |_| Status::bad_request(format!("strconv.ParseInt: parsing {seconds:?}: invalid syntax"));
        options.grace_period_seconds = Some(seconds.parse().map_err(wrong)?);
    }
    options.propagation_policy = match query.get("propagationPolicy") {
        "" => None,
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        other => return Err(unknown_propagation(other)),
    };
    if !query.get("orphanDependents").is_empty() {
        options.orphan_dependents = Some(query.is_true("orphanDependents"));
    }
    Ok((options != DeleteOptions::default()).then_some(options))
}

/// The refusal of a propagation policy that there isn't.
pub(crate) fn unknown_propagation(given: &str) -> Status {
    let error = Error::not_supported(&Path::new("propagationPolicy"), given, &["Foreground", "Background", "Orphan", "nil"]);
    invalid_options(Verb::Delete, &vec![error])
}
