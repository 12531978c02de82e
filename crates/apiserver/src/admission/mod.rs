//! Admission: what is changed in, and what is refused from, requests that authorization let through.
//!
//! Reads the store's state and nothing else.

mod certificates;
mod escalation;
mod namespace;
mod node_restriction;
mod pods;

use gantry_object::{Status, Value};

use crate::call::Call;
use crate::server::Server;

/// What admission is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
}

/// A request in the middle of the pipeline.
pub(crate) struct Review<'a> {
    pub(crate) server: &'a Server,
    pub(crate) call: &'a Call,
    pub(crate) operation: Operation,
    /// The object before; null for a create.
    pub(crate) old: &'a Value,
}

impl Review<'_> {
    /// Whether it is about a kind and a subresource (the object itself when empty).
    pub(crate) fn is(&self, group: &str, plural: &str, subresource: &str) -> bool {
        self.call.kind.group == group && self.call.kind.plural == plural && self.call.subresource == subresource
    }

    /// The refusal, in upstream's words.
    pub(crate) fn forbidden(&self, name: &str, why: &str) -> Status {
        Status::forbidden(&self.call.resource(), name, why)
    }

    /// An object of the store, as the next writer sees it.
    pub(crate) fn stored(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.server.store().staged(&gantry_store::Key::new(resource, namespace, name))?.decode().ok()
    }
}

/// Changes the object as policy has it. Runs before defaulting and validation.
pub(crate) fn mutate(review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
    if review.operation == Operation::Create {
        namespace::exists(review, object)?;
        if review.is("", "pods", "") {
            pods::mutate(review, object)?;
        }
        if review.is("", "nodes", "") {
            review.server.node_ranges().assign(review.server, object);
        }
    }
    if review.operation != Operation::Delete {
        escalation::check(review, object)?;
    }
    Ok(())
}

/// Refuses what policy forbids. Runs on the finished object; on a delete `object` is null.
pub(crate) fn validate(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    namespace::may_delete(review)?;
    namespace::may_finalize(review, object)?;
    node_restriction::validate(review, object)?;
    certificates::validate(review, object)
}
