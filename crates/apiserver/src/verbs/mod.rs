//! What each verb does with a stored object, the same for every kind.

pub(crate) mod change;
mod create;
mod delete;
mod filter;
pub(crate) mod ownership;
mod patch;
mod read;
pub(crate) mod watch;

pub(crate) use change::is_done;
use gantry_client::Verb;
use gantry_object::{Encoded, Status, Value};
use gantry_schema::Decoded;

use crate::call::{Answer, Answered, Call, FieldValidation, Media};
use crate::server::Server;

impl Server {
    /// Hands an authorized call to its verb.
    pub(crate) async fn dispatch(&self, call: &Call) -> Result<Answered, Status> {
        let mut warnings = Vec::new();
        let answer = self.do_verb(call, &mut warnings).await;
        if !matches!(call.verb, Verb::Get | Verb::List) && self.tells_of_staged(&answer) {
            // Writers see what others have staged, but nobody may be told of it before it is durable.
            self.store().settled().await.map_err(|error| change::commit_failed(&error))?;
            if answer.is_ok() && self.tells_of_staged(&answer) {
                return Err(Status::internal("the version that was found could not be made durable"));
            }
        }
        let warnings = call.kind.deprecation().map(String::from).into_iter().chain(warnings).chain(call.take_warnings()).collect();
        Ok(Answered { answer: answer?, warnings })
    }

    /// Whether an answer to a write may rest on something that another writer has only staged.
    fn tells_of_staged(&self, answer: &Result<Answer, Status>) -> bool {
        match answer {
            Ok(Answer::Object { object, .. }) => object.revision > self.store().durable_revision(),
            Ok(_) => false,
            Err(status) => status.is_not_found() || status.is_conflict() || status.is_already_exists(),
        }
    }

    async fn do_verb(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        self.check_custom(call)?;
        if call.subresource.is_empty() && call.kind.stored() {
            match call.verb {
                Verb::Get => self.get(call).await,
                Verb::List => self.list(call).await.map(Answer::List),
                Verb::Create => self.create(call, warnings).await,
                Verb::Update | Verb::Patch(_) => self.write(call, warnings).await,
                Verb::Delete => self.delete(call).await,
                Verb::DeleteCollection => self.delete_collection(call).await,
            }
        } else {
            self.subresource(call, warnings).await
        }
    }

    /// Refuses what a custom resource's definition doesn't let a call do.
    fn check_custom(&self, call: &Call) -> Result<(), Status> {
        if call.verb == Verb::Create && self.is_terminating(&call.kind) {
            let mut status = Status::method_not_supported(&call.resource(), "create");
            status.message = "create not allowed while custom resource definition is terminating".into();
            return Err(status);
        }
        Ok(())
    }

    /// Decodes a body as the call's kind; what strictness finds becomes an error or warnings.
    pub(crate) fn decode(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Value, Status> {
        self.decode_as(call, call.kind.ty, &call.kind.api_version(), &call.kind.kind, warnings)
    }

    /// Decodes a body as any type of the schema.
    pub(crate) fn decode_as(
        &self,
        call: &Call,
        ty: gantry_schema::TypeId,
        api_version: &str,
        kind: &str,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let schema = self.registry().schema();
        let own = ty == call.kind.ty && call.kind.is_custom();
        let malformed = |e: gantry_schema::DecodeError| {
            Status::bad_request(format!("{kind} in version {:?} cannot be handled as a {kind}: {e}", call.kind.version))
        };
        let decoded = match call.media {
            Media::Json if own => call.kind.decode_json(&call.body).map_err(malformed)?,
            Media::Yaml if own => call.kind.decode_yaml(&call.body).map_err(malformed)?,
            Media::Json => schema.decode_json(ty, &call.body).map_err(malformed)?,
            Media::Yaml => schema.decode_yaml(ty, &call.body).map_err(malformed)?,
            Media::Protobuf => {
                let envelope = gantry_schema::Envelope::open(&call.body).map_err(|e| Status::bad_request(e.to_string()))?;
                let mut value = schema.decode_protobuf(ty, &envelope.raw).map_err(malformed)?;
                value["apiVersion"] = envelope.api_version.into();
                value["kind"] = envelope.kind.into();
                Decoded { value, ..Decoded::default() }
            }
        };
        complain(&decoded, call.field_validation, warnings)?;
        let mut value = decoded.value;
        let given = (value["apiVersion"].as_str().unwrap_or(""), value["kind"].as_str().unwrap_or(""));
        // Every group has these options under its own versions, and clients name the one that they talk to.
        let versioned = kind != "DeleteOptions" && !given.0.is_empty();
        if (versioned && given.0 != api_version) || (!given.1.is_empty() && given.1 != kind) {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let (other_group, other_version) = given.0.split_once('/').unwrap_or(("", given.0));
            return Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {kind}: no kind {:?} is registered for version {:?} in scheme, expected {:?}",
                given.1,
                other_version,
                given.1,
                gantry_object::GroupVersion::new(other_group, other_version).to_string(),
                gantry_object::GroupVersion::new(group, version).to_string(),
            )));
        }
        value["apiVersion"] = api_version.into();
        value["kind"] = kind.into();
        Ok(value)
    }

    /// An object as its kind shows it: a tree with its resourceVersion. What a webhook converts must be converted already.
    pub(crate) fn tree(&self, call: &Call, object: &Encoded) -> Value {
        call.kind.from_storage(tree(object))
    }
}

/// A stored object as a tree with its resourceVersion.
pub(crate) fn tree(object: &Encoded) -> Value {
    object.decode().expect("what is stored was encoded by this server")
}

/// Makes an error or warnings of what strictness finds.
pub(crate) fn complain(decoded: &Decoded, validation: FieldValidation, warnings: &mut Vec<String>) -> Result<(), Status> {
    let complaints = decoded.complaints();
    match validation {
        FieldValidation::Strict if !complaints.is_empty() => {
            Err(Status::bad_request(format!("strict decoding error: {}", complaints.join(", "))))
        }
        FieldValidation::Warn => {
            warnings.extend(complaints);
            Ok(())
        }
        _ => Ok(()),
    }
}
