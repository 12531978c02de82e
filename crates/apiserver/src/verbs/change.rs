//! Update and patch: a new version of an object in place of the one that is there.

use gantry_client::{PatchType, Verb};
use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Encoded, Reason, Revision, Status, Value, meta};
use gantry_store::{CommitError, Txn};

use super::ownership::{Tracking, settle_times};
use super::tree;
use crate::admission::{self, Operation, Review};
use crate::call::{Answer, Call};
use crate::server::Server;

/// How often a change that named no resourceVersion is tried against newer versions.
const ATTEMPTS: usize = 32;

/// The error for an object that breaks its kind's rules.
pub(crate) fn invalid(call: &Call, object: &Value, errors: &ErrorList) -> Status {
    let name = if meta::name(object).is_empty() { meta::text(object, "generateName") } else { meta::name(object) };
    Status::invalid(&call.kind.gvk(), name, errors)
}

/// The error for a commit that failed for reasons of the store's.
pub(crate) fn commit_failed(error: &CommitError) -> Status {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message = format!("{message}: {cause}");
        source = cause.source();
    }
    match error {
        // The API has no reason of its own for a full disk. Not 503, which clients try again and again instead of saying what is wrong.
        e if e.is_full() => {
            Status::failure(507, Reason::ServiceUnavailable, format!("nothing was written, the server's disk is full: {message}"))
        }
        CommitError::ReadOnly(_) | CommitError::Closed => Status::failure(503, Reason::ServiceUnavailable, message),
        _ => Status::internal(message),
    }
}

impl Server {
    pub(crate) async fn write(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        if call.verb == Verb::Patch(PatchType::Apply) {
            return self.apply(call, warnings).await;
        }
        let updated = match call.verb {
            Verb::Update => Some(self.decode(call, warnings)?),
            _ => None,
        };
        if let Some(object) = &updated
            && call.subresource.is_empty()
            && call.kind.creates_on_update()
            && self.store().staged(&call.key()).is_none()
        {
            self.authorize_call(call, "create")?;
            let mut object = object.clone();
            meta::metadata_mut(&mut object).remove("resourceVersion");
            return self.create_object(call, object, Tracking::Due).await;
        }
        self.change(call, Tracking::Due, |old| {
            let new = match &updated {
                Some(object) => object.clone(),
                None => self.patched(call, old, warnings)?,
            };
            let more = call.kind.warnings(&new, old);
            warnings.extend(more.into_iter().filter(|w| !warnings.contains(w)).collect::<Vec<_>>());
            Ok(new)
        })
        .await
    }

    /// Applies a configuration: changes the object, or creates it.
    async fn apply(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let config = self.configuration(call)?;
        if call.subresource.is_empty() && self.store().staged(&call.key()).is_none() {
            let object = self.applied(call, &config, None, warnings)?;
            let name = &call.object.name;
            if meta::name(&object).is_empty() {
                let why = format!("the name of the object ({name} based on URL) was undeterminable: name must be provided");
                return Err(Status::bad_request(why));
            }
            if !config.uid().is_empty() {
                let uid = config.uid();
                let why = format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
                return Err(Status::conflict(&call.resource(), name, &why));
            }
            self.authorize_call(call, "create")?;
            match self.create_object(call, object, Tracking::Done).await {
                // Somebody else was faster: then it is a change.
                Err(status) if status.is_already_exists() && !call.is_dry_run() => {}
                answer => return answer,
            }
        }
        self.change(call, Tracking::Done, |old| self.applied(call, &config, Some(old), warnings)).await
    }

    /// Replaces an object by what `make` makes of it, again if somebody else was faster and the caller named no version.
    pub(crate) async fn change(
        &self,
        call: &Call,
        tracking: Tracking,
        mut make: impl FnMut(&Value) -> Result<Value, Status>,
    ) -> Result<Answer, Status> {
        let key = call.key();
        for _ in 0..ATTEMPTS {
            let current = self.store().staged(&key).ok_or_else(|| call.not_found())?;
            let shown = self.shown(&call.kind, current.clone()).await?;
            let old = self.tree(call, &shown);
            let mut new = make(&old)?;
            let names_version = self.check_identity(call, &old, &mut new)?;
            if let Some(answer) = self.replace(call, tracking, &current, &old, new).await? {
                return Ok(answer);
            }
            if names_version {
                break;
            }
        }
        Err(Status::stale(&call.resource(), &call.object.name))
    }

    /// Name, namespace, uid and resourceVersion must be those of the object that is there. Says whether a version was named.
    fn check_identity(&self, call: &Call, old: &Value, new: &mut Value) -> Result<bool, Status> {
        let metadata = meta::metadata_mut(new);
        let text = |member: &str| metadata.get(member).and_then(Value::as_str).unwrap_or("");
        if text("name") != call.object.name {
            let why = format!("the name of the object ({}) does not match the name on the URL ({})", text("name"), call.object.name);
            return Err(Status::bad_request(why));
        }
        if call.kind.namespaced && !text("namespace").is_empty() && text("namespace") != call.object.namespace {
            return Err(Status::bad_request(format!(
                "the namespace of the object ({}) does not match the namespace on the request ({})",
                text("namespace"),
                call.object.namespace
            )));
        }
        let (old_uid, old_version) = (meta::uid(old), meta::text(old, "resourceVersion"));
        if !text("uid").is_empty() && text("uid") != old_uid {
            let why = format!("Precondition failed: UID in precondition: {}, UID in object meta: {old_uid}", text("uid"));
            return Err(Status::conflict(&call.resource(), &call.object.name, &why));
        }
        let version = text("resourceVersion").to_owned();
        if version.is_empty() && call.verb == Verb::Update && call.subresource.is_empty() && call.kind.needs_version_on_update() {
            let path = Path::new("metadata").child("resourceVersion");
            let error = Error::invalid(&path, version, "must be specified for an update");
            return Err(Status::invalid(&call.kind.gvk(), &call.object.name, &vec![error]));
        }
        super::read::parse_resource_version(&version)?;
        if !matches!(version.as_str(), "" | "0") && version != old_version {
            return Err(Status::stale(&call.resource(), &call.object.name));
        }
        metadata.remove("selfLink");
        metadata.insert("resourceVersion".into(), old_version.into());
        if call.kind.namespaced {
            metadata.insert("namespace".into(), call.object.namespace.as_str().into());
        }
        Ok(!matches!(version.as_str(), "" | "0"))
    }

    /// Commits a new version. `None`: somebody else was faster.
    async fn replace(
        &self,
        call: &Call,
        tracking: Tracking,
        current: &Encoded,
        old: &Value,
        mut new: Value,
    ) -> Result<Option<Answer>, Status> {
        let subresource = Some(call.subresource.as_str()).filter(|s| !s.is_empty());
        let review = Review { server: self, call, operation: Operation::Update, old, options: None };
        call.kind.apply_defaults(&mut new);
        if tracking == Tracking::Due {
            self.track_changed(call, old, &mut new);
        }
        admission::mutate(&review, &mut new).await?;
        call.kind.prepare_update(&mut new, old, subresource);
        call.kind.stamp(&mut new, old, self.clock().now());
        settle_times(&mut new, old);
        let _claim = self.services().claim(self, call, &mut new, old)?;
        let errors = call.kind.validate_update(&new, old, subresource);
        if !errors.is_empty() {
            return Err(invalid(call, &new, &errors));
        }
        admission::validate(&review, &new).await?;
        if call.is_dry_run() {
            return Ok(Some(Answer::Transient { value: new, created: false }));
        }
        let removes = meta::is_deleting(&new) && is_done(&new);
        let shown = call.kind.converts_by_webhook().then(|| new.clone());
        let mut encoded = self.stored_form(&call.kind, new).await?;
        if removes {
            let outcome = self.store().commit(Txn::delete(call.key(), current.revision)).await;
            return self.outcome(call, outcome, told(shown, encoded));
        }
        if encoded.body == current.body {
            return Ok(Some(Answer::Object { object: Encoded { revision: current.revision, ..told(shown, encoded) }, created: false }));
        }
        encoded.revision = current.revision;
        let mut txn = Txn::update(call.key(), current.revision, encoded.clone());
        if let Some(at) = self.expiry(call) {
            txn = txn.expiring(at);
        }
        let outcome = self.store().commit(txn).await;
        self.outcome(call, outcome, told(shown, encoded))
    }

    fn outcome(
        &self,
        call: &Call,
        outcome: Result<gantry_object::Revision, CommitError>,
        mut object: Encoded,
    ) -> Result<Option<Answer>, Status> {
        match outcome {
            Ok(revision) => {
                object.revision = revision;
                Ok(Some(Answer::Object { object, created: false }))
            }
            Err(CommitError::Conflict { current: Some(_), .. }) => Ok(None),
            Err(CommitError::Conflict { current: None, .. }) => Err(call.not_found()),
            Err(error) => Err(commit_failed(&error)),
        }
    }

    /// Reads, changes and writes an object on the server's own account, within a call that was admitted.
    pub(crate) async fn change_stored(
        &self,
        call: &Call,
        mut make: impl FnMut(&mut Value) -> Result<(), Status>,
    ) -> Result<Encoded, Status> {
        for _ in 0..ATTEMPTS {
            let current = self.store().staged(&call.key()).ok_or_else(|| call.not_found())?;
            let mut object = tree(&current);
            make(&mut object)?;
            let mut encoded = Encoded::from_value(object, current.revision);
            if call.is_dry_run() || encoded.body == current.body {
                return Ok(encoded);
            }
            match self.store().commit(Txn::update(call.key(), current.revision, encoded.clone())).await {
                Ok(revision) => {
                    encoded.revision = revision;
                    return Ok(encoded);
                }
                Err(CommitError::Conflict { current: Some(_), .. }) => {}
                Err(CommitError::Conflict { current: None, .. }) => return Err(call.not_found()),
                Err(error) => return Err(commit_failed(&error)),
            }
        }
        Err(Status::stale(&call.resource(), &call.object.name))
    }
}

/// What the writer is told of an object: its own version of it where that is not what is stored.
pub(super) fn told(shown: Option<Value>, stored: Encoded) -> Encoded {
    shown.map_or(stored, |shown| Encoded::from_value(shown, Revision(0)))
}

/// Whether nothing holds a deleted object any more: no finalizer, no grace, no namespace content.
pub(crate) fn is_done(object: &Value) -> bool {
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let is_namespace = object["kind"] == "Namespace";
    let holds = is_namespace && object["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    meta::finalizers(object).is_empty() && grace == 0 && !holds
}
