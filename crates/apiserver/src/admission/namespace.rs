//! Nothing is created in a namespace that isn't there or is going; the first namespaces stay.

use gantry_object::status::{Cause, CauseReason};
use gantry_object::{GroupResource, Status, Value, meta};

use super::{Operation, Review};

/// The namespace a new object goes into must exist and not be ending.
pub(super) fn exists(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let namespace = &review.call.object.namespace;
    if namespace.is_empty() || !review.call.kind.namespaced || !review.call.kind.stored() {
        return Ok(());
    }
    let Some(stored) = review.stored("namespaces", "", namespace) else {
        return Err(Status::not_found(&GroupResource::new("", "namespaces"), namespace));
    };
    if meta::is_deleting(&stored) {
        let message = format!("unable to create new content in namespace {namespace} because it is being terminated");
        let mut status = review.forbidden(meta::name(object), &message);
        let cause = Cause {
            reason: CauseReason::Other("NamespaceTerminating".into()),
            message: format!("namespace {namespace} is being terminated"),
            field: "metadata.namespace".into(),
        };
        status.details.get_or_insert_default().causes.push(cause);
        return Err(status);
    }
    Ok(())
}

/// A namespace is not let go while custom resources are left in it.
pub(super) fn may_finalize(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let lets_go = || object["spec"]["finalizers"].as_array().is_none_or(Vec::is_empty);
    if review.is("", "namespaces", "finalize") && meta::is_deleting(object) && lets_go() {
        return review.server.may_finalize(meta::name(object));
    }
    Ok(())
}

/// The namespaces that come with a cluster stay.
pub(super) fn may_delete(review: &Review<'_>) -> Result<(), Status> {
    let name = review.call.object.name.as_str();
    let immortal = matches!(name, "default" | "kube-system" | "kube-public");
    if review.operation == Operation::Delete && review.is("", "namespaces", "") && immortal {
        return Err(review.forbidden(name, "this namespace may not be deleted"));
    }
    Ok(())
}
