//! What a patch makes of an object.

use gantry_client::{PatchType, Verb};
use gantry_object::{Status, Value, meta};
use gantry_schema::{DecodeError, PatchError, json_patch, merge_patch};

use super::complain;
use crate::call::{Call, Media};
use crate::server::Server;

impl Server {
    /// The object that a patch makes of `old`, conforming to the kind.
    pub(super) fn patched(&self, call: &Call, old: &Value, warnings: &mut Vec<String>) -> Result<Value, Status> {
        self.patched_as(call, call.kind.ty, old, warnings)
    }

    /// The same for an object of any type of the schema: a Scale, for example.
    pub(crate) fn patched_as(
        &self,
        call: &Call,
        ty: gantry_schema::TypeId,
        old: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let Verb::Patch(kind) = call.verb else { return Err(Status::internal("not a patch")) };
        let schema = self.registry().schema();
        let failed = |e: PatchError| match e {
            PatchError::Malformed(why) => Status::bad_request(why),
            PatchError::Inapplicable(why) => Status::failure(
                422,
                gantry_object::Reason::Invalid,
                format!("the server rejected our request due to an error in our request: {why}"),
            ),
        };
        let patched = match kind {
            PatchType::Json => json_patch(old.clone(), &call.body).map_err(failed)?,
            PatchType::Merge => merge_patch(old.clone(), &body(call)?),
            PatchType::Apply => return Err(Status::internal("an apply is not a patch")),
            PatchType::Strategic => schema.strategic_merge(ty, old.clone(), &body(call)?).map_err(failed)?,
        };
        if !patched.is_object() {
            return Err(Status::bad_request("the patch does not leave a JSON object"));
        }
        let own = ty == call.kind.ty && call.kind.is_custom();
        let conformed = if own { call.kind.conform(patched) } else { schema.conform(ty, patched) };
        let decoded = conformed.map_err(|e: DecodeError| {
            let what = format!("{} in version {:?} cannot be handled as a {}: {e}", call.kind.kind, call.kind.version, call.kind.kind);
            Status::bad_request(what)
        })?;
        warnings.clear();
        complain(&decoded, call.field_validation, warnings)?;
        let mut value = decoded.value;
        for member in ["apiVersion", "kind"] {
            if value[member] != old[member] {
                return Err(Status::bad_request(format!("{member} may not be changed by a patch")));
            }
        }
        // The version that was read is no precondition unless the patch itself names one.
        if meta::text(&value, "resourceVersion") == meta::text(old, "resourceVersion") && !names_version(call) {
            meta::metadata_mut(&mut value).remove("resourceVersion");
        }
        Ok(value)
    }
}

fn body(call: &Call) -> Result<Value, Status> {
    let malformed = |why: String| Status::bad_request(format!("error decoding patch: {why}"));
    let patch: Value = match call.media {
        Media::Yaml => return Err(malformed("YAML is not a patch".into())),
        _ => serde_json::from_slice(&call.body).map_err(|e| malformed(e.to_string()))?,
    };
    if patch.is_object() { Ok(patch) } else { Err(malformed("the patch must be a JSON object".into())) }
}

/// Whether a patch sets the resourceVersion, which makes it a precondition.
fn names_version(call: &Call) -> bool {
    let Ok(patch) = serde_json::from_slice::<Value>(&call.body) else { return false };
    match &patch {
        Value::Array(operations) => operations.iter().any(|o| o["path"] == "/metadata/resourceVersion" && o["op"] != "test"),
        patch => patch["metadata"]["resourceVersion"].is_string(),
    }
}
