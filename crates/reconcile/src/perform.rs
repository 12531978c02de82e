//! Carrying out a decision through the API.

use std::sync::Arc;

use gantry_client::{Api, DeleteOptions, Params, Request, Response, Verb};
use gantry_object::{ObjectName, Resource, Revision, Status, Value};
use gantry_ports::{BoxFuture, join_all};

use crate::action::merge;
use crate::{Action, EventKind, Recorder, View};

/// How many requests of one decision go side by side at most.
const WIDEST: usize = 128;

const REVIEWS: Resource = Resource::cluster("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview");

/// A write that the caches will show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// An object as a revision wrote it, or later.
    Revision {
        /// The resource.
        resource: Resource,
        /// The object.
        name: ObjectName,
        /// The revision.
        revision: Revision,
    },
    /// An object gone, or going.
    Gone {
        /// The resource.
        resource: Resource,
        /// The object.
        name: ObjectName,
        /// Its uid.
        uid: String,
    },
}

impl Expect {
    pub(crate) fn resource(&self) -> &Resource {
        match self {
            Self::Revision { resource, .. } | Self::Gone { resource, .. } => resource,
        }
    }

    pub(crate) fn name(&self) -> &ObjectName {
        match self {
            Self::Revision { name, .. } | Self::Gone { name, .. } => name,
        }
    }

    pub(crate) fn is_met(&self, view: &View) -> bool {
        let item = view.item(self.resource(), self.name());
        match self {
            Self::Revision { resource, revision, .. } => {
                item.is_some_and(|i| i.object.revision >= *revision) || view.has_seen(resource, *revision)
            }
            Self::Gone { uid, .. } => item.is_none_or(|i| i.projection.meta.uid != *uid || i.projection.meta.is_deleting()),
        }
    }
}

/// How carrying out a decision went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was written, in order.
    pub wrote: Vec<Expect>,
    /// The failure that ended it.
    pub failed: Option<Status>,
}

/// Performs actions in order until one fails. Neighbouring creations of one resource go in batches of 1, 2, 4, …, so that a creation that
/// cannot succeed is not tried a thousand times; neighbouring deletions go side by side.
pub async fn perform(api: &Arc<dyn Api>, recorder: &Recorder, actions: &[Action]) -> Outcome {
    let mut outcome = Outcome::default();
    let mut rest = actions;
    let mut width = 1;
    while let Some(first) = rest.first() {
        let alike = rest.iter().take_while(|a| goes_with(first, a)).count();
        let count = match first {
            Action::Create { .. } | Action::CreateFor { .. } => alike.min(width),
            _ => alike.min(WIDEST),
        };
        let (batch, after) = rest.split_at(count);
        let requests: Vec<BoxFuture<'_, Result<Option<Expect>, Status>>> =
            batch.iter().map(|action| -> BoxFuture<'_, _> { Box::pin(one(api, recorder, action)) }).collect();
        for result in join_all(requests).await {
            match result {
                Ok(wrote) => outcome.wrote.extend(wrote),
                Err(status) => outcome.failed = Some(status),
            }
        }
        if outcome.failed.is_some() {
            return outcome;
        }
        // Starts small again for the next run of creations.
        width = if alike > count { (width * 2).min(WIDEST) } else { 1 };
        rest = after;
    }
    outcome
}

fn goes_with(first: &Action, other: &Action) -> bool {
    match (first, other) {
        (Action::Create { resource: a, .. }, Action::Create { resource: b, .. }) => a == b,
        (Action::CreateFor { resource: a, .. }, Action::CreateFor { resource: b, .. }) => a == b,
        (Action::Delete { .. }, Action::Delete { .. }) => true,
        _ => std::ptr::eq(first, other),
    }
}

async fn one(api: &Arc<dyn Api>, recorder: &Recorder, action: &Action) -> Result<Option<Expect>, Status> {
    match action {
        Action::Create { resource, name, subresource, object } => {
            let target = if subresource.is_some() { name.name.as_str() } else { "" };
            let mut request = Request::new(Verb::Create, *resource, &name.namespace, target).with_body(object);
            request.subresource = *subresource;
            let response = api.call(request).await?;
            // A subresource answers with something else than the object.
            Ok(if subresource.is_some() { None } else { expect_written(*resource, response) })
        }
        Action::CreateFor { .. } => create_for(api, recorder, action).await,
        Action::Update { resource, subresource, base, change } => {
            let mut object: Value = base.decode().map_err(Status::internal)?;
            merge(&mut object, change);
            let name = gantry_object::meta::object_name(&object);
            let mut request = Request::update(*resource, &name.namespace, &name.name, &object);
            request.subresource = *subresource;
            Ok(expect_written(*resource, api.call(request).await?))
        }
        Action::Patch { resource, name, subresource, kind, patch } => {
            let mut request = Request::patch(*resource, &name.namespace, &name.name, *kind, patch);
            request.subresource = *subresource;
            Ok(expect_written(*resource, api.call(request).await?))
        }
        Action::Delete { resource, name, options } => delete(api, *resource, name, options).await,
        Action::DeleteCollection { resource, namespace } => {
            api.call(Request::new(Verb::DeleteCollection, *resource, namespace, "")).await?;
            Ok(None)
        }
        Action::RequireNone { resource, namespace } => {
            let mut request = Request::list(*resource, namespace);
            request.params = Params { limit: 1, ..Params::default() };
            match api.call(request).await?.list()? {
                (items, _) if items.is_empty() => Ok(None),
                _ => Err(Status::unavailable(format!("namespace {namespace} still has {}", resource.plural))),
            }
        }
        Action::RequireGone { resource, name, uid } => require_gone(api, *resource, name, uid).await,
        Action::RequireAllowed { review } => require_allowed(api, review).await,
        Action::Event { resource, name, uid, kind, reason, message } => {
            recorder.record(api, resource, name, uid, *kind, reason, message).await;
            Ok(None)
        }
    }
}

/// The event is part of the creation only in time: it never fails it.
async fn create_for(api: &Arc<dyn Api>, recorder: &Recorder, action: &Action) -> Result<Option<Expect>, Status> {
    let Action::CreateFor { owner, owner_name, owner_uid, resource, object } = action else { return Ok(None) };
    let kind = resource.kind.to_lowercase();
    match api.call(Request::create(*resource, gantry_object::meta::namespace(object), object)).await {
        Ok(response) => {
            let wrote = expect_written(*resource, response);
            let name = wrote.as_ref().map(|w| w.name().name.as_str()).unwrap_or_default();
            let message = format!("Created {kind}: {name}");
            recorder.record(api, owner, owner_name, owner_uid, EventKind::Normal, "SuccessfulCreate", &message).await;
            Ok(wrote)
        }
        Err(status) => {
            let message = format!("Error creating: {}", status.message);
            recorder.record(api, owner, owner_name, owner_uid, EventKind::Warning, "FailedCreate", &message).await;
            Err(status)
        }
    }
}

async fn require_gone(api: &Arc<dyn Api>, resource: Resource, name: &ObjectName, uid: &str) -> Result<Option<Expect>, Status> {
    match api.call(Request::get(resource, &name.namespace, &name.name)).await {
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status),
        Ok(response) => {
            let object: Value = serde_json::from_slice(&response.object()?.body).map_err(Status::internal)?;
            if uid.is_empty() || gantry_object::meta::uid(&object) == uid {
                return Err(Status::unavailable(format!("{} {name} is still there", resource.plural)));
            }
            Ok(None)
        }
    }
}

async fn require_allowed(api: &Arc<dyn Api>, spec: &Value) -> Result<Option<Expect>, Status> {
    let review = serde_json::json!({"apiVersion": REVIEWS.api_version(), "kind": REVIEWS.kind, "spec": spec});
    let answer: Value = match api.call(Request::create(REVIEWS, "", &review)).await? {
        Response::Transient(bytes) => serde_json::from_slice(&bytes),
        other => serde_json::from_slice(&other.object()?.body),
    }
    .map_err(Status::internal)?;
    match answer["status"]["allowed"].as_bool() {
        Some(true) => Ok(None),
        _ => Err(Status::forbidden(&REVIEWS.group_resource(), "", "the requester may not do this")),
    }
}

async fn delete(api: &Arc<dyn Api>, resource: Resource, name: &ObjectName, options: &DeleteOptions) -> Result<Option<Expect>, Status> {
    match api.call(Request::delete(resource, &name.namespace, &name.name, options)).await {
        Ok(_) => {}
        Err(status) if status.is_not_found() => {}
        Err(status) => return Err(status),
    }
    let uid = options.preconditions.as_ref().and_then(|p| p.uid.clone());
    Ok(uid.map(|uid| Expect::Gone { resource, name: name.clone(), uid }))
}

fn expect_written(resource: Resource, response: Response) -> Option<Expect> {
    let Response::Object(object) = response else { return None };
    let value: Value = serde_json::from_slice(&object.body).ok()?;
    Some(Expect::Revision { resource, name: gantry_object::meta::object_name(&value), revision: object.revision })
}
