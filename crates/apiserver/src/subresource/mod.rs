//! What isn't an object of its own: parts of objects, actions on them, and reviews that are answered and forgotten.

mod binding;
mod components;
mod node_streams;
mod review;
pub(crate) mod scale;
mod token;

use gantry_client::Verb;
use gantry_object::Status;

pub(crate) use node_streams::is_stream;

use crate::call::{Answer, Call};
use crate::server::Server;

impl Server {
    /// Hands a call to its subresource, or to the kind that isn't stored.
    pub(crate) async fn subresource(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let known = call.subresource.is_empty() || call.kind.subresource(&call.subresource).is_some();
        if !known {
            return Err(Status::no_such_path());
        }
        match (call.verb, call.subresource.as_str()) {
            (Verb::Create, "") => match call.kind.kind.as_str() {
                "Binding" => self.bind(call, warnings).await,
                _ => self.review(call, warnings).await,
            },
            (Verb::Get | Verb::List, "") if call.kind.kind == "ComponentStatus" => self.component_statuses(call),
            (Verb::Create, "binding") => self.bind(call, warnings).await,
            (Verb::Create, "eviction") => self.evict(call, warnings).await,
            (Verb::Create, "token") => self.create_token(call, warnings).await,
            (_, "scale") => self.scale(call, warnings).await,
            // A part of the object in the object's own shape: status, approval, finalize, resize, ephemeralcontainers.
            (Verb::Get, _) if self.is_own_shape(call) => {
                let object = self.store().get(&call.key()).ok_or_else(|| call.not_found())?;
                Ok(Answer::Object { object: self.shown(&call.kind, object).await?, created: false })
            }
            (Verb::Update | Verb::Patch(_), _) if self.is_own_shape(call) => self.write(call, warnings).await,
            _ => Err(Status::method_not_supported(&call.resource(), call.verb_name())),
        }
    }

    fn is_own_shape(&self, call: &Call) -> bool {
        let is_stored_kind = |s: &gantry_kinds::Subresource| s.gvk.kind == call.kind.kind;
        call.subresource != "log" && call.kind.subresource(&call.subresource).is_some_and(is_stored_kind)
    }

    /// Decodes the body of a subresource as the kind it takes.
    pub(crate) fn decode_subresource(&self, call: &Call, warnings: &mut Vec<String>) -> Result<gantry_object::Value, Status> {
        let subresource = call.kind.subresource(&call.subresource).ok_or_else(Status::no_such_path)?;
        let gvk = &subresource.gvk;
        let ty = self.registry().type_of(gvk).ok_or_else(|| Status::internal(format_args!("no type for {gvk}")))?;
        self.decode_as(call, ty, &gvk.group_version().to_string(), &gvk.kind, warnings)
    }
}
