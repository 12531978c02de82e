//! Who may approve and sign certificate requests, and which subjects nobody gets this way.

use base64::Engine;
use gantry_object::{Status, Value};

use super::{Operation, Review};
use crate::authorize::Attributes;
use crate::user::MASTERS;

pub(super) fn validate(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    if review.call.kind.plural != "certificatesigningrequests" || review.call.kind.group != "certificates.k8s.io" {
        return Ok(());
    }
    match (review.operation, review.call.subresource.as_str()) {
        (Operation::Update, "approval") => may_act_for_signer(review, "approve"),
        (Operation::Update, "status") if object["status"]["certificate"] != review.old["status"]["certificate"] => {
            may_act_for_signer(review, "sign")
        }
        (Operation::Create, "") => subject(review, object),
        _ => Ok(()),
    }
}

fn may_act_for_signer(review: &Review<'_>, verb: &str) -> Result<(), Status> {
    let signer = review.old["spec"]["signerName"].as_str().unwrap_or("");
    let domain = signer.split_once('/').map_or(signer, |(domain, _)| domain);
    let allowed = [signer.to_owned(), format!("{domain}/*")].into_iter().any(|name| {
        let (verb, group, resource) = (verb.into(), "certificates.k8s.io".into(), "signers".into());
        let what = Attributes { verb, group, resource, name, ..Attributes::default() };
        review.server.authorizer().decide(review.server.store(), &review.call.user, &what).is_ok()
    });
    if allowed {
        return Ok(());
    }
    Err(review.forbidden(&review.call.object.name, &format!("user not permitted to {verb} requests with signerName {signer:?}")))
}

/// The signer for API clients never makes a master.
fn subject(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    if object["spec"]["signerName"] != "kubernetes.io/kube-apiserver-client" {
        return Ok(());
    }
    let encoded = object["spec"]["request"].as_str().unwrap_or("");
    let pem = base64::engine::general_purpose::STANDARD.decode(encoded).ok().and_then(|b| String::from_utf8(b).ok());
    // What isn't a request is for validation to refuse.
    let Some(Ok(request)) = pem.map(|pem| gantry_pki::CertificateRequest::parse(&pem)) else { return Ok(()) };
    if request.organizations.iter().any(|o| o == MASTERS) {
        let why = format!("use of kubernetes.io/kube-apiserver-client signer with {MASTERS} group is not allowed");
        return Err(review.forbidden(gantry_object::meta::name(object), &why));
    }
    Ok(())
}
