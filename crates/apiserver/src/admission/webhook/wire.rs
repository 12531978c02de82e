//! AdmissionReview, both ways.

use std::collections::BTreeMap;

use base64::Engine;
use bytes::Bytes;
use gantry_kinds::Kind;
use gantry_object::{GroupVersionKind, Reason, Status, Value};
use serde::{Deserialize, Serialize};

use super::subject::Subject;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    kind: &'a str,
    api_version: String,
    request: Request<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    uid: &'a str,
    kind: KindName<'a>,
    resource: ResourceName<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    sub_resource: &'a str,
    request_kind: KindName<'a>,
    request_resource: ResourceName<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_sub_resource: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    namespace: &'a str,
    operation: &'a str,
    user_info: Value,
    object: &'a Value,
    old_object: &'a Value,
    dry_run: bool,
    options: Value,
}

#[derive(Serialize)]
struct KindName<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
}

impl<'a> From<&'a GroupVersionKind> for KindName<'a> {
    fn from(gvk: &'a GroupVersionKind) -> Self {
        Self { group: &gvk.group, version: &gvk.version, kind: &gvk.kind }
    }
}

#[derive(Serialize)]
struct ResourceName<'a> {
    group: &'a str,
    version: &'a str,
    resource: &'a str,
}

impl<'a> From<&'a Kind> for ResourceName<'a> {
    fn from(kind: &'a Kind) -> Self {
        Self { group: &kind.group, version: &kind.version, resource: &kind.plural }
    }
}

/// What a webhook is asked.
pub(super) struct Question<'a> {
    pub(super) subject: &'a Subject<'a>,
    pub(super) uid: &'a str,
    /// The version of AdmissionReview.
    pub(super) version: &'a str,
    /// The kind as which the webhook's rules concern the request.
    pub(super) kind: &'a Kind,
    pub(super) object: &'a Value,
    pub(super) old: &'a Value,
}

impl Question<'_> {
    pub(super) fn encode(&self) -> Bytes {
        let (subject, call) = (self.subject, self.subject.review.call);
        let (own, matched) = (subject.gvk(&call.kind), subject.gvk(self.kind));
        let review = Review {
            kind: "AdmissionReview",
            api_version: format!("admission.k8s.io/{}", self.version),
            request: Request {
                uid: self.uid,
                kind: (&matched).into(),
                resource: self.kind.into(),
                sub_resource: subject.subresource(),
                request_kind: (&own).into(),
                request_resource: (&*call.kind).into(),
                request_sub_resource: subject.subresource(),
                name: &subject.name,
                namespace: &subject.namespace,
                operation: subject.operation,
                user_info: call.user.to_value(),
                object: self.object,
                old_object: self.old,
                dry_run: subject.is_dry_run(),
                options: subject.options(),
            },
        };
        serde_json::to_vec(&review).expect("a review has only text keys").into()
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Answered {
    api_version: String,
    kind: String,
    response: Option<Response>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Response {
    uid: String,
    allowed: bool,
    status: Option<Value>,
    patch: Option<String>,
    patch_type: Option<String>,
    audit_annotations: Option<BTreeMap<String, String>>,
    warnings: Option<Vec<String>>,
}

/// What a webhook answers.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Verdict {
    /// The refusal, if it is one.
    pub(super) refusal: Option<Status>,
    /// A JSON patch of the object, empty for none.
    pub(super) patch: Vec<u8>,
    pub(super) audit_annotations: BTreeMap<String, String>,
    pub(super) warnings: Vec<String>,
}

/// Reads an answer. Errors are in upstream's words.
pub(super) fn read(body: &[u8], hook: &str, uid: &str, version: &str, mutating: bool) -> Result<Verdict, String> {
    let answered: Answered = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let response = answered.response.ok_or("webhook response was absent")?;
    let strict = version == "v1";
    if strict && response.uid != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", response.uid));
    }
    if strict && (answered.api_version != "admission.k8s.io/v1" || answered.kind != "AdmissionReview") {
        let (api_version, kind) = (&answered.api_version, &answered.kind);
        return Err(format!("expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got {api_version}, Kind={kind}"));
    }
    let patch = response.patch.unwrap_or_default();
    match (mutating, patch.is_empty(), response.patch_type.as_deref()) {
        (false, false, _) if strict => return Err("validating webhook may not return response.patch".into()),
        (false, _, Some(_)) if strict => return Err("validating webhook may not return response.patchType".into()),
        (true, false, None) if strict => return Err("webhook returned response.patch but not response.patchType".into()),
        (true, true, Some(_)) if strict => return Err("webhook returned response.patchType but not response.patch".into()),
        (true, false, Some("")) if strict => return Err("webhook returned invalid response.patchType of \"\"".into()),
        (true, false, Some(other)) if other != "JSONPatch" => return Err(format!("unsupported patch type {other:?}")),
        _ => {}
    }
    let patch = match mutating {
        true => base64::engine::general_purpose::STANDARD.decode(patch).map_err(|e| format!("response.patch is not base64: {e}"))?,
        false => Vec::new(),
    };
    Ok(Verdict {
        refusal: (!response.allowed).then(|| refusal(hook, response.status)),
        patch,
        audit_annotations: response.audit_annotations.unwrap_or_default(),
        warnings: response.warnings.unwrap_or_default(),
    })
}

/// The refusal of a webhook: what it says, made into a failure whatever it says.
fn refusal(hook: &str, given: Option<Value>) -> Status {
    let mut given = given.filter(Value::is_object).unwrap_or_else(|| serde_json::json!({}));
    given["kind"] = "Status".into();
    given["apiVersion"] = "v1".into();
    given["status"] = "Failure".into();
    let code = given["code"].as_u64().filter(|c| (400..1000).contains(c)).unwrap_or(400);
    given["code"] = code.into();
    let text = |member: &str| given[member].as_str().filter(|t| !t.is_empty());
    let denied = format!("admission webhook {hook:?} denied the request");
    let message = match text("message").or_else(|| text("reason")) {
        Some(why) => format!("{denied}: {why}"),
        None => format!("{denied} without explanation"),
    };
    given["message"] = message.as_str().into();
    serde_json::from_value(given).unwrap_or_else(|_| Status::failure(code as u16, Reason::Unknown, message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(response: Value) -> Vec<u8> {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}).to_string().into_bytes()
    }

    #[test]
    fn refusals_say_who_refused() {
        let refused = |status: Value| {
            let verdict = read(&answer(json!({"uid": "u", "allowed": false, "status": status})), "h.io", "u", "v1", false).unwrap();
            let status = verdict.refusal.unwrap();
            (status.code, status.message)
        };
        let denied = "admission webhook \"h.io\" denied the request";
        assert_eq!(refused(Value::Null), (400, format!("{denied} without explanation")));
        assert_eq!(refused(json!({"code": 200, "status": "Success"})), (400, format!("{denied} without explanation")));
        assert_eq!(refused(json!({"code": 418, "message": "tea"})), (418, format!("{denied}: tea")));
        assert_eq!(refused(json!({"reason": "Odd"})), (400, format!("{denied}: Odd")));
        assert_eq!(refused(json!({"code": "x", "details": 3})), (400, format!("{denied} without explanation")));
    }

    #[test]
    fn answers_that_lie_are_errors() {
        let wrong = |response: Value, mutating: bool| read(&answer(response), "h", "u", "v1", mutating).unwrap_err();
        assert_eq!(wrong(Value::Null, false), "webhook response was absent");
        assert_eq!(wrong(json!({"uid": "v"}), false), "expected response.uid=\"u\", got \"v\"");
        assert_eq!(wrong(json!({"uid": "u", "patch": "W10="}), false), "validating webhook may not return response.patch");
        assert_eq!(wrong(json!({"uid": "u", "patch": "W10="}), true), "webhook returned response.patch but not response.patchType");
        assert_eq!(wrong(json!({"uid": "u", "patch": "W10=", "patchType": "Merge"}), true), "unsupported patch type \"Merge\"");
        assert!(wrong(json!({"uid": "u", "patch": "!", "patchType": "JSONPatch"}), true).contains("base64"));
        let other = br#"{"apiVersion":"v2","kind":"X","response":{"uid":"u"}}"#;
        assert!(read(other, "h", "u", "v1", false).unwrap_err().contains("got v2, Kind=X"));
        assert!(read(b"<html>", "h", "u", "v1", false).is_err());
        assert!(read(other, "h", "u", "v1beta1", false).is_ok());
    }
}
