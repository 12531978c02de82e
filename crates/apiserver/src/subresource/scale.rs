//! The Scale of a workload: how many replicas it has and shall have.

use gantry_client::{PatchType, Verb};
use gantry_kinds::{Kind, Lookout};
use gantry_object::labels::Selector;
use gantry_object::{GroupVersionKind, Status, Value, meta};
use gantry_schema::ownership::{Entry, FieldSet, Managed, Scope, Tracker, Writer};
use serde_json::json;

use crate::call::{Answer, Call};
use crate::server::Server;
use crate::verbs::ownership::{Tracking, put_managed};

/// The version of the kind Scale.
const VERSION: &str = "autoscaling/v1";
/// Where it keeps the replicas that it sets.
const REPLICAS: &[&str] = &["spec", "replicas"];

/// The Scale of an object whose definition says where its numbers are.
fn custom_scale(object: &Value, lookout: &Lookout) -> Value {
    let at = |pointer: &str| if pointer.is_empty() { &Value::Null } else { object.pointer(pointer).unwrap_or(&Value::Null) };
    let mut spec = json!({});
    if let Some(replicas) = at(&lookout.spec).as_i64().filter(|r| *r != 0) {
        spec["replicas"] = json!(replicas);
    }
    let mut status = json!({"replicas": at(&lookout.status).as_i64().unwrap_or(0)});
    if let Some(selector) = at(&lookout.selector).as_str().filter(|s| !s.is_empty()) {
        status["selector"] = json!(selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": scale_metadata(object), "spec": spec, "status": status})
}

/// Puts a member where a pointer says, with the objects that lead to it.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for name in pointer.trim_start_matches('/').split('/') {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[name];
    }
    *at = value;
}

fn scale_metadata(object: &Value) -> Value {
    let mut metadata = json!({});
    for member in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta::metadata(object).and_then(|m| m.get(member)) {
            metadata[member] = value.clone();
        }
    }
    metadata
}

/// The Scale of an object.
pub(crate) fn scale_of(kind: &Kind, object: &Value) -> Value {
    if let Some(lookout) = kind.lookout() {
        return custom_scale(object, lookout);
    }
    let metadata = scale_metadata(object);
    // The oldest of the workloads selects by labels alone.
    let own = &object["spec"]["selector"];
    let selector = if kind.kind == "ReplicationController" && own.is_object() { &json!({"matchLabels": own}) } else { own };
    let selector = Selector::from_label_selector(selector).ok().flatten().map(|s| s.to_string()).unwrap_or_default();
    let mut spec = json!({});
    if let Some(replicas) = object["spec"]["replicas"].as_i64().filter(|r| *r != 0) {
        spec["replicas"] = json!(replicas);
    }
    let replicas = object["status"]["replicas"].as_i64().unwrap_or(0);
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": {"replicas": replicas, "selector": selector}})
}

/// Sets the replicas of an object, wherever its kind has them.
pub(crate) fn set_replicas(kind: &Kind, object: &mut Value, replicas: i64) {
    match kind.lookout() {
        Some(lookout) => put(object, &lookout.spec, json!(replicas)),
        None => object["spec"]["replicas"] = json!(replicas),
    }
}

/// Who owns the replicas of an object, as owners of its Scale.
fn of_scale(managed: &Managed, path: &[&str]) -> Managed {
    let mut owners = Managed::default();
    for entry in managed.entries().iter().filter(|e| e.fields.contains(path)) {
        let writer = Writer { api_version: VERSION.into(), ..entry.writer.clone() };
        owners.put(Entry { writer, time: entry.time.clone(), fields: FieldSet::of(REPLICAS) });
    }
    owners
}

/// Who owns what of an object whose Scale has these owners now.
fn of_scaled(mut managed: Managed, mut scaled: Managed, path: &[&str], api_version: &str) -> Managed {
    let before: Vec<Entry> = managed.entries().iter().filter(|e| e.fields.contains(path)).cloned().collect();
    for mut entry in before {
        let writer = Writer { api_version: VERSION.into(), ..entry.writer.clone() };
        if scaled.take(&writer).is_some_and(|e| e.fields.contains(REPLICAS)) {
            continue;
        }
        entry.fields.subtract(&FieldSet::of(path));
        managed.take(&entry.writer);
        if !entry.fields.is_empty() {
            managed.put(entry);
        }
    }
    for entry in scaled.entries().iter().filter(|e| e.fields.contains(REPLICAS)) {
        let writer = Writer { api_version: api_version.into(), ..entry.writer.clone() };
        match managed.entry_mut(&writer) {
            Some(known) => known.fields.union(FieldSet::of(path)),
            // As upstream, which knows no time for owners that come by way of a Scale.
            None => managed.put(Entry { writer, time: None, fields: FieldSet::of(path) }),
        }
    }
    managed
}

impl Server {
    pub(super) async fn scale(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
        let ty = self.registry().type_of(&gvk).ok_or_else(|| Status::internal("no type for Scale"))?;
        let mut applied = None;
        let given = match call.verb {
            Verb::Get => {
                let object = self.store().get(&call.key()).ok_or_else(|| call.not_found())?;
                let object = self.shown(&call.kind, object).await?;
                return Ok(Answer::Transient { value: scale_of(&call.kind, &self.tree(call, &object)), created: false });
            }
            Verb::Update => Some(self.decode_subresource(call, warnings)?),
            Verb::Patch(PatchType::Apply) => {
                applied = Some(self.configuration(call)?);
                None
            }
            Verb::Patch(_) => None,
            _ => return Err(Status::method_not_supported(&call.resource(), call.verb_name())),
        };
        let blank = self.registry().schema().conform(ty, Value::Null).map(|decoded| decoded.value).unwrap_or_default();
        let answer = self
            .change(call, Tracking::Done, |old| {
                let managed = Managed::decode(&old["metadata"]["managedFields"]).unwrap_or_default();
                let path = &call.kind.replicas_path();
                let mut before = scale_of(&call.kind, old);
                put_managed(&mut before, of_scale(&managed, path));
                let versions = self.served_versions(call);
                let version = self.registry().ownership_version(ty);
                let tracker = Tracker { version, api_version: VERSION, scope: Scope::Except(&[]), versions: &versions };
                let scale = match (&given, &applied) {
                    (_, Some(config)) => self.applied_by(call, &tracker, config, Some(&before), "Scale", &blank, warnings)?,
                    (given, None) => {
                        let mut scale = match given {
                            Some(scale) => scale.clone(),
                            None => self.patched_as(call, ty, &before, warnings)?,
                        };
                        self.track(call, &tracker, &before, &mut scale);
                        scale
                    }
                };
                let scaled = Managed::decode(&scale["metadata"]["managedFields"]).unwrap_or_default();
                let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
                if replicas < 0 {
                    let path = gantry_object::field::Path::new("spec").child("replicas");
                    let error = gantry_object::field::Error::invalid(&path, replicas, "must be greater than or equal to 0");
                    return Err(Status::invalid(&gvk, &call.object.name, &vec![error]));
                }
                let mut new = old.clone();
                set_replicas(&call.kind, &mut new, replicas);
                put_managed(&mut new, of_scaled(managed, scaled, path, &call.kind.api_version()));
                let metadata = meta::metadata_mut(&mut new);
                metadata.remove("resourceVersion");
                // The Scale's own version and uid are preconditions, as those of an update are.
                for member in ["name", "uid", "resourceVersion"] {
                    if let Some(value) = meta::metadata(&scale).and_then(|m| m.get(member)) {
                        metadata.insert(member.into(), value.clone());
                    }
                }
                Ok(new)
            })
            .await?;
        let object = match answer {
            Answer::Object { object, .. } => self.tree(call, &object),
            Answer::Transient { value, .. } => value,
            other => return Ok(other),
        };
        Ok(Answer::Transient { value: scale_of(&call.kind, &object), created: false })
    }
}
