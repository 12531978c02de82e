//! Create.

use gantry_object::{Encoded, Status, Value, meta};
use gantry_store::{CommitError, Txn};
use serde_json::json;

use super::change::{commit_failed, invalid, told};
use super::ownership::Tracking;
use crate::admission::{self, Operation, Review};
use crate::call::{Answer, Call};
use crate::server::Server;

/// How often a generated name is drawn before giving up.
const DRAWS: usize = 8;
/// The longest stem of a generated name, in bytes.
const LONGEST_STEM: usize = 58;

impl Server {
    pub(super) async fn create(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let object = self.decode(call, warnings)?;
        warnings.extend(call.kind.warnings(&object, &Value::Null));
        self.create_object(call, object, Tracking::Due).await
    }

    /// Creates a decoded object: everything from defaulting on.
    pub(crate) async fn create_object(&self, call: &Call, mut object: Value, tracking: Tracking) -> Result<Answer, Status> {
        place(call, &mut object)?;
        if !matches!(meta::text(&object, "resourceVersion"), "" | "0") {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(Status::failure(500, gantry_object::Reason::Unknown, message));
        }
        call.kind.apply_defaults(&mut object);
        if tracking == Tracking::Due {
            self.track_created(call, &mut object);
        }
        let review = Review { server: self, call, operation: Operation::Create, old: &Value::Null, options: None };
        admission::mutate(&review, &mut object).await?;
        place(call, &mut object)?;
        self.reset_metadata(&mut object);
        call.kind.apply_defaults(&mut object);
        if !meta::name(&object).is_empty() || meta::text(&object, "generateName").is_empty() {
            return self.create_named(call, object, &review).await;
        }
        for _ in 0..DRAWS {
            let mut named = object.clone();
            let stem: String = meta::text(&object, "generateName").chars().take(LONGEST_STEM).collect();
            meta::metadata_mut(&mut named).insert("name".into(), json!(format!("{stem}{}", self.random().name_suffix(5))));
            match self.create_named(call, named, &review).await {
                Err(status) if status.is_already_exists() => {}
                answer => return answer,
            }
        }
        let message = "the server was not able to generate a unique name for the object";
        Err(Status::failure(409, gantry_object::Reason::AlreadyExists, message).retry_after(1))
    }

    /// Creates an object that has its name: some kinds write it into other places.
    async fn create_named(&self, call: &Call, mut object: Value, review: &Review<'_>) -> Result<Answer, Status> {
        call.kind.prepare_create(&mut object);
        call.kind.stamp(&mut object, &Value::Null, self.clock().now());
        self.fill_in(call, &mut object);
        let errors = call.kind.validate_create(&object);
        if !errors.is_empty() {
            return Err(invalid(call, &object, &errors));
        }
        self.store_new(call, object, review).await
    }

    async fn store_new(&self, call: &Call, mut object: Value, review: &Review<'_>) -> Result<Answer, Status> {
        let _claim = self.services().claim(self, call, &mut object, &Value::Null)?;
        admission::validate(review, &object).await?;
        let key = call.key_of(meta::namespace(&object), meta::name(&object));
        if call.is_dry_run() {
            if self.store().staged(&key).is_some() {
                return Err(Status::already_exists(&call.resource(), meta::name(&object)));
            }
            return Ok(Answer::Transient { value: object, created: true });
        }
        let name = meta::name(&object).to_owned();
        let expires = self.expiry(call);
        let shown = call.kind.converts_by_webhook().then(|| object.clone());
        let encoded = self.stored_form(&call.kind, object).await?;
        let mut txn = Txn::create(key, encoded.clone());
        if let Some(at) = expires {
            txn = txn.expiring(at);
        }
        match self.store().commit(txn).await {
            Ok(revision) => Ok(Answer::Object { object: Encoded { revision, ..told(shown, encoded) }, created: true }),
            Err(CommitError::Conflict { .. }) => Err(Status::already_exists(&call.resource(), &name)),
            Err(error) => Err(commit_failed(&error)),
        }
    }

    /// When the object goes by itself: events after an hour.
    pub(crate) fn expiry(&self, call: &Call) -> Option<gantry_object::Timestamp> {
        let is_event = call.kind.plural == "events";
        is_event.then(|| self.clock().now().plus(std::time::Duration::from_secs(3600)))
    }

    /// What only the server says about a new object.
    fn reset_metadata(&self, object: &mut Value) {
        let metadata = meta::metadata_mut(object);
        for member in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            metadata.remove(member);
        }
        metadata.insert("uid".into(), json!(self.random().uuid()));
        metadata.insert("creationTimestamp".into(), json!(self.clock().now().rfc3339()));
    }

    /// What some kinds record about who created them.
    fn fill_in(&self, call: &Call, object: &mut Value) {
        if call.kind.kind == "CertificateSigningRequest" {
            let user = call.user.to_value();
            for member in ["username", "uid", "groups", "extra"] {
                match user.get(member) {
                    Some(value) => object["spec"][member] = value.clone(),
                    None => drop(object["spec"].as_object_mut().and_then(|s| s.remove(member))),
                }
            }
        }
    }
}

/// Puts a new object where the request said: namespace and name must agree with it.
fn place(call: &Call, object: &mut Value) -> Result<(), Status> {
    let namespace = &call.object.namespace;
    let metadata = meta::metadata_mut(object);
    let given = metadata.get("namespace").and_then(Value::as_str).unwrap_or("");
    if call.kind.namespaced {
        if namespace.is_empty() {
            return Err(Status::bad_request("an empty namespace may not be set during creation"));
        }
        if !given.is_empty() && given != namespace {
            return Err(Status::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request ({given} != {namespace})"
            )));
        }
        metadata.insert("namespace".into(), json!(namespace));
    } else {
        metadata.remove("namespace");
    }
    let given = metadata.get("name").and_then(Value::as_str).unwrap_or("").to_owned();
    if !call.object.name.is_empty() && call.subresource.is_empty() && given != call.object.name {
        let why = format!("the name of the object ({given}) does not match the name on the URL ({})", call.object.name);
        return Err(Status::bad_request(why));
    }
    Ok(())
}
