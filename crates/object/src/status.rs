//! The API's own error: a Status with a reason, a code and the fields to blame.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::field::ErrorList;
use crate::{GroupResource, GroupVersionKind};

/// Why a request was refused or failed, as clients branch on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation: they are upstream's StatusReason values")]
pub enum Reason {
    #[default]
    #[serde(rename = "")]
    Unknown,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    #[serde(other)]
    Other,
}

/// Why one field, or one part of a request, is to blame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation: they are upstream's CauseType values")]
pub enum CauseReason {
    FieldValueNotFound,
    FieldValueRequired,
    FieldValueDuplicate,
    FieldValueInvalid,
    FieldValueNotSupported,
    FieldValueForbidden,
    FieldValueTooLong,
    FieldValueTooMany,
    FieldValueTypeInvalid,
    InternalError,
    UnexpectedServerResponse,
    FieldManagerConflict,
    ResourceVersionTooLarge,
    #[serde(rename = "DisruptionBudget")]
    DisruptionBudget,
    #[serde(untagged)]
    Other(String),
}

/// One cause among several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What is wrong in general.
    pub reason: CauseReason,
    /// What is wrong, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// The field to blame, in JSON names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// What a Status is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind, or the plural resource name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Its uid.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// The single causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<Cause>,
    /// When to try again, in seconds; 0 says nothing.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_seconds: i32,
}

fn is_zero(n: &i32) -> bool {
    *n == 0
}

/// `Success` or `Failure`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Outcome {
    Success,
    #[default]
    Failure,
}

/// How a request ended, `meta/v1 Status` on the wire. Also every room's error towards the API's user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    kind: StatusKind,
    api_version: V1,
    #[serde(default)]
    metadata: ListMeta,
    /// Whether it succeeded.
    #[serde(default)]
    pub status: Outcome,
    /// For a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For a program.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub reason: Reason,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Box<Details>>,
    /// The HTTP status code.
    #[serde(default)]
    pub code: u16,
}

fn is_unknown(reason: &Reason) -> bool {
    *reason == Reason::Unknown
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum StatusKind {
    #[default]
    Status,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum V1 {
    #[default]
    #[serde(rename = "v1")]
    V1,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ListMeta {
    #[serde(default, rename = "continue", skip_serializing_if = "String::is_empty")]
    continue_token: String,
}

impl Status {
    /// A failure with a code, reason and message.
    pub fn failure(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            kind: StatusKind::Status,
            api_version: V1::V1,
            metadata: ListMeta::default(),
            status: Outcome::Failure,
            message: message.into(),
            reason,
            details: None,
            code,
        }
    }

    /// A success, as a delete answers with.
    pub fn success(details: Details) -> Self {
        let details = Some(Box::new(details));
        Self { status: Outcome::Success, details, ..Self::failure(200, Reason::Unknown, "") }
    }

    fn about(mut self, resource: &GroupResource, name: &str) -> Self {
        let causes = self.details.take().map(|d| d.causes).unwrap_or_default();
        let (group, kind) = (resource.group.clone(), resource.resource.clone());
        self.details = Some(Box::new(Details { name: name.into(), group, kind, causes, ..Details::default() }));
        self
    }

    /// The same Status with causes.
    pub fn with_causes(mut self, causes: Vec<Cause>) -> Self {
        self.details.get_or_insert_default().causes = causes;
        self
    }

    /// The same Status asking to be tried again after some seconds.
    pub fn retry_after(mut self, seconds: i32) -> Self {
        self.details.get_or_insert_default().retry_after_seconds = seconds;
        self
    }

    /// The same Status with a token by which an expired list may go on all the same.
    pub fn with_continue(mut self, token: String) -> Self {
        self.metadata.continue_token = token;
        self
    }

    /// The object does not exist.
    pub fn not_found(resource: &GroupResource, name: &str) -> Self {
        Self::failure(404, Reason::NotFound, format!("{resource} {name:?} not found")).about(resource, name)
    }

    /// The path means nothing here.
    pub fn no_such_path() -> Self {
        let mut status = Self::failure(404, Reason::NotFound, "the server could not find the requested resource");
        status.details = Some(Box::default());
        status
    }

    /// The object exists already.
    pub fn already_exists(resource: &GroupResource, name: &str) -> Self {
        Self::failure(409, Reason::AlreadyExists, format!("{resource} {name:?} already exists")).about(resource, name)
    }

    /// The object is not as the writer believed.
    pub fn conflict(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::failure(409, Reason::Conflict, message).about(resource, name)
    }

    /// The writer's resourceVersion is not the newest.
    pub fn stale(resource: &GroupResource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// The caller may not do this.
    pub fn forbidden(resource: &GroupResource, name: &str, why: &str) -> Self {
        let message = match (resource.resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{resource} is forbidden: {why}"),
            (false, false) => format!("{resource} {name:?} is forbidden: {why}"),
        };
        Self::failure(403, Reason::Forbidden, message).about(resource, name)
    }

    /// Nobody knows the caller.
    pub fn unauthorized() -> Self {
        Self::failure(401, Reason::Unauthorized, "Unauthorized")
    }

    /// The request makes no sense.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::failure(400, Reason::BadRequest, message)
    }

    /// The object breaks the rules of its kind.
    pub fn invalid(gvk: &GroupVersionKind, name: &str, errors: &ErrorList) -> Self {
        let mut texts: Vec<String> = Vec::new();
        for text in errors.iter().map(ToString::to_string) {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let what = match &texts[..] {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let kind = if gvk.group.is_empty() { gvk.kind.clone() } else { format!("{}.{}", gvk.kind, gvk.group) };
        let causes = errors.iter().map(crate::field::Error::cause).collect();
        Self::failure(422, Reason::Invalid, format!("{kind} {name:?} is invalid: {what}"))
            .about(&GroupResource::new(&gvk.group, &gvk.kind), name)
            .with_causes(causes)
    }

    /// The verb is not for this resource.
    pub fn method_not_supported(resource: &GroupResource, verb: &str) -> Self {
        let message = format!("{verb} is not supported on resources of kind {:?}", resource.to_string());
        Self::failure(405, Reason::MethodNotAllowed, message).about(resource, "")
    }

    /// The history asked for is no longer kept.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::failure(410, Reason::Expired, message)
    }

    /// Try again later.
    pub fn timeout(message: impl Into<String>, retry_seconds: i32) -> Self {
        Self::failure(504, Reason::Timeout, message).retry_after(retry_seconds)
    }

    /// Too many requests for now, or a disruption budget that says no.
    pub fn too_many_requests(message: impl Into<String>, retry_seconds: i32) -> Self {
        Self::failure(429, Reason::TooManyRequests, message).retry_after(retry_seconds)
    }

    /// Something failed on our side.
    pub fn internal(message: impl fmt::Display) -> Self {
        let message = message.to_string();
        let cause = Cause { reason: CauseReason::Other(String::new()), message: message.clone(), field: String::new() };
        Self::failure(500, Reason::InternalError, format!("Internal error occurred: {message}")).with_causes(vec![cause])
    }

    /// The server cannot answer now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::failure(503, Reason::ServiceUnavailable, message)
    }

    /// The body's media type is not understood.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::failure(415, Reason::UnsupportedMediaType, message)
    }

    /// None of the media types asked for can be given.
    pub fn not_acceptable(message: impl Into<String>) -> Self {
        Self::failure(406, Reason::NotAcceptable, message)
    }

    /// The body is larger than allowed.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::failure(413, Reason::RequestEntityTooLarge, message)
    }

    /// Whether it says that the object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.reason == Reason::NotFound
    }

    /// Whether it says that somebody else wrote first.
    pub fn is_conflict(&self) -> bool {
        self.reason == Reason::Conflict
    }

    /// Whether it says that the object exists already.
    pub fn is_already_exists(&self) -> bool {
        self.reason == Reason::AlreadyExists
    }

    /// Whether the history asked for is gone, so that a list must come first.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason, Reason::Expired | Reason::Gone)
    }

    /// Its JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a Status has only text keys")
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field;

    #[test]
    fn invalid_names_every_field_once_in_the_message() {
        let path = field::Path::new("spec").child("replicas");
        let error = field::Error::invalid(&path, -1, "must be greater than or equal to 0");
        let status = Status::invalid(&GroupVersionKind::new("apps", "v1", "Deployment"), "web", &vec![error.clone(), error]);
        let text = r#"Deployment.apps "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0"#;
        assert_eq!(status.message, text);
        let json: crate::Value = serde_json::from_slice(&status.to_json()).expect("JSON");
        assert_eq!(json["details"]["causes"][0]["reason"], "FieldValueInvalid");
        assert_eq!((&json["kind"], &json["apiVersion"], &json["code"]), (&"Status".into(), &"v1".into(), &422.into()));
        assert_eq!(serde_json::from_slice::<Status>(&status.to_json()).expect("a Status"), status);
    }
}
