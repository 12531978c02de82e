//! Admission: what is changed in, and what is refused from, requests that authorization let through.
//!
//! Reads the store's state and nothing else.

mod certificates;
mod connect;
mod escalation;
mod namespace;
mod node_restriction;
mod pods;
mod webhook;

pub(crate) use connect::connect;
pub(crate) use webhook::Hooks;

use gantry_client::DeleteOptions;
use gantry_object::{Status, Value};

use crate::call::Call;
use crate::server::Server;

/// What admission is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// A request in the middle of the pipeline.
pub(crate) struct Review<'a> {
    pub(crate) server: &'a Server,
    pub(crate) call: &'a Call,
    pub(crate) operation: Operation,
    /// The object before; null for a create.
    pub(crate) old: &'a Value,
    /// How a delete is to be done.
    pub(crate) options: Option<&'a DeleteOptions>,
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

/// Changes the object as policy has it. Runs before defaulting and validation. On a delete `object` is null.
pub(crate) async fn mutate(review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
    built_in(review, object)?;
    let Some(mut hooks) = webhook::Mutation::of(review) else { return Ok(()) };
    if hooks.run(review, object).await? {
        // Whoever came first sees what others made of the object since.
        built_in(review, object)?;
        hooks.run_again(review, object).await?;
    }
    Ok(())
}

/// What this server itself changes in objects. It may be done again.
fn built_in(review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
    if review.operation == Operation::Create {
        namespace::exists(review, object)?;
        if review.is("", "pods", "") {
            pods::mutate(review, object)?;
        }
        if review.is("", "nodes", "") {
            review.server.node_ranges().assign(review.server, object);
        }
    }
    if matches!(review.operation, Operation::Create | Operation::Update) {
        escalation::check(review, object)?;
    }
    Ok(())
}

/// Refuses what policy forbids. Runs on the finished object; on a delete `object` is null.
pub(crate) async fn validate(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    namespace::may_delete(review)?;
    namespace::may_finalize(review, object)?;
    node_restriction::validate(review, object)?;
    certificates::validate(review, object)?;
    webhook::validate(review, object).await
}
