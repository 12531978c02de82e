//! Delete and deletecollection: grace, finalizers, what becomes of dependents.

use std::time::Duration;

use gantry_client::{DeleteOptions, Propagation, Verb};
use gantry_object::field::{Error, Path};
use gantry_object::status::Details;
use gantry_object::{Encoded, Status, Value, meta};
use gantry_store::{CommitError, Txn};
use serde_json::json;

use super::change::{commit_failed, is_done};
use super::tree;
use crate::admission::{self, Operation, Review};
use crate::call::{Answer, Call, Media};
use crate::options::{invalid_options, unknown_propagation};
use crate::server::Server;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// How often a deletion without preconditions is tried against newer versions.
const ATTEMPTS: usize = 32;

impl Server {
    pub(super) async fn delete(&self, call: &Call) -> Result<Answer, Status> {
        let options = self.delete_options(call)?;
        self.delete_object(call, &options).await
    }

    /// Reads the options from the body or the query.
    pub(crate) fn delete_options(&self, call: &Call) -> Result<DeleteOptions, Status> {
        let malformed = |e: String| Status::bad_request(format!("the delete options are malformed: {e}"));
        let mut options: DeleteOptions = match (&call.query_options, call.body.is_empty(), call.media) {
            (Some(options), true, _) => options.clone(),
            (None, true, _) => DeleteOptions::default(),
            (_, false, Media::Json) => {
                let value: Value = serde_json::from_slice(&call.body).map_err(|e| malformed(e.to_string()))?;
                if let Some(policy) = value["propagationPolicy"].as_str().filter(|p| !matches!(*p, "Orphan" | "Background" | "Foreground"))
                {
                    return Err(unknown_propagation(policy));
                }
                serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?
            }
            (_, false, _) => {
                let gvk = gantry_object::GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
                let ty = self.registry().type_of(&gvk).ok_or_else(|| malformed("unknown type".into()))?;
                let value = self.decode_as(call, ty, "v1", "DeleteOptions", &mut Vec::new())?;
                serde_json::from_value(value).map_err(|e| malformed(e.to_string()))?
            }
        };
        if options.propagation_policy.is_some() && options.orphan_dependents.is_some() {
            let path = Path::new("propagationPolicy");
            let error =
                Error::invalid(&path, json!(options.propagation_policy), "orphanDependents and deletionPropagation cannot be both set");
            return Err(invalid_options(Verb::Delete, &vec![error]));
        }
        if options.dry_run.iter().any(|v| v != "All") {
            let error = Error::not_supported(&Path::new("dryRun"), json!(options.dry_run), &["All"]);
            return Err(invalid_options(Verb::Delete, &vec![error]));
        }
        if options.orphan_dependents == Some(true) {
            options.propagation_policy = Some(Propagation::Orphan);
        }
        Ok(options)
    }

    /// Deletes one object as the options say.
    pub(crate) async fn delete_object(&self, call: &Call, options: &DeleteOptions) -> Result<Answer, Status> {
        let dry_run = call.is_dry_run() || !options.dry_run.is_empty();
        for _ in 0..ATTEMPTS {
            let current = self.store().staged(&call.key()).ok_or_else(|| call.not_found())?;
            let old = tree(&current);
            check_preconditions(call, options, &old)?;
            let shown = match call.own || !call.kind.is_converted() {
                true => None,
                false => Some(self.tree(call, &self.shown(&call.kind, current.clone()).await?)),
            };
            let old_shown = shown.as_ref().unwrap_or(&old);
            let review = Review { server: self, call, operation: Operation::Delete, old: old_shown, options: Some(options) };
            admission::mutate(&review, &mut Value::Null).await?;
            admission::validate(&review, &Value::Null).await?;
            let mut new = old.clone();
            self.mark(call, options, &mut new);
            let done = is_done(&new);
            if dry_run {
                return Ok(Answer::Transient { value: new, created: false });
            }
            let mut encoded = Encoded::from_value(new, current.revision);
            if !done && encoded.body == current.body {
                return Ok(Answer::Object { object: self.shown(&call.kind, current).await?, created: false });
            }
            let txn =
                if done { Txn::delete(call.key(), current.revision) } else { Txn::update(call.key(), current.revision, encoded.clone()) };
            match self.store().commit(txn).await {
                Ok(revision) if done && call.kind.shows_deleted() => {
                    encoded.revision = revision;
                    return Ok(Answer::Object { object: encoded, created: false });
                }
                Ok(_) if done => return Ok(Answer::Status(Box::new(deleted(call, &old)))),
                Ok(revision) => {
                    encoded.revision = revision;
                    return Ok(Answer::Object { object: self.shown(&call.kind, encoded).await?, created: false });
                }
                Err(CommitError::Conflict { current: Some(_), .. }) => {}
                Err(CommitError::Conflict { current: None, .. }) => return Err(call.not_found()),
                Err(error) => return Err(commit_failed(&error)),
            }
        }
        Err(Status::stale(&call.resource(), &call.object.name))
    }

    /// Marks an object as being deleted: time, grace, and the finalizers that hold it for its dependents.
    fn mark(&self, call: &Call, options: &DeleteOptions, object: &mut Value) {
        let now = self.clock().now();
        let grace = grace(call, options, object);
        let was_deleting = meta::is_deleting(object);
        let earlier = object["metadata"]["deletionGracePeriodSeconds"].as_i64();
        // A deletion under way may be made faster, not slower.
        if !was_deleting || earlier.is_none_or(|e| grace < e) {
            let metadata = meta::metadata_mut(object);
            metadata.insert("deletionTimestamp".into(), json!(now.plus(Duration::from_secs(grace.unsigned_abs())).rfc3339()));
            metadata.insert("deletionGracePeriodSeconds".into(), json!(grace));
            if !was_deleting {
                call.kind.begin_deletion(object, now);
            }
            let metadata = meta::metadata_mut(object);
            if !was_deleting && let Some(generation) = metadata.get("generation").and_then(Value::as_i64) {
                metadata.insert("generation".into(), json!(generation + 1));
            }
        }
        set_propagation(options, object);
        if object["kind"] == "Namespace" {
            object["status"]["phase"] = json!("Terminating");
        }
    }

    pub(super) async fn delete_collection(&self, call: &Call) -> Result<Answer, Status> {
        let options = self.delete_options(call)?;
        let mut listing = call.clone();
        listing.verb = Verb::List;
        let collection = self.list(&listing).await?;
        for object in &collection.items {
            let object = tree(object);
            let mut one = call.clone();
            one.object = meta::object_name(&object);
            match self.delete_object(&one, &options).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        Ok(Answer::List(collection))
    }
}

fn check_preconditions(call: &Call, options: &DeleteOptions, object: &Value) -> Result<(), Status> {
    let Some(wanted) = &options.preconditions else { return Ok(()) };
    let refuse = |what: &str, wanted: &str, found: &str| {
        let why = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {found}");
        Err(Status::conflict(&call.resource(), &call.object.name, &why))
    };
    match (&wanted.uid, &wanted.resource_version) {
        (Some(uid), _) if uid != meta::uid(object) => refuse("UID", uid, meta::uid(object)),
        (_, Some(version)) if version != meta::text(object, "resourceVersion") => {
            refuse("ResourceVersion", version, meta::text(object, "resourceVersion"))
        }
        _ => Ok(()),
    }
}

/// Seconds an object stays after its deletion was asked for. Only pods that a node runs have any.
fn grace(call: &Call, options: &DeleteOptions, object: &Value) -> i64 {
    if call.kind.kind != "Pod" {
        return 0;
    }
    let assigned = object["spec"]["nodeName"].as_str().is_some_and(|n| !n.is_empty());
    let ended = matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !assigned || ended {
        return 0;
    }
    let asked = options.grace_period_seconds.or(object["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(30);
    // Negative means at once, but with a chance to notice.
    if asked < 0 { 1 } else { asked }
}

fn set_propagation(options: &DeleteOptions, object: &mut Value) {
    let Some(policy) = options.propagation_policy.or(options.orphan_dependents.map(|_| Propagation::Background)) else { return };
    let mut finalizers: Vec<String> = meta::finalizers(object).into_iter().map(str::to_owned).collect();
    finalizers.retain(|f| f != ORPHAN && f != FOREGROUND);
    match policy {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    let metadata = meta::metadata_mut(object);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), json!(finalizers));
    }
}

/// The answer to a delete after which nothing is left.
fn deleted(call: &Call, object: &Value) -> Status {
    Status::success(Details {
        name: call.object.name.clone(),
        group: call.kind.group.clone(),
        kind: call.kind.plural.clone(),
        uid: meta::uid(object).into(),
        ..Details::default()
    })
}
