use bytes::Bytes;
use gantry_object::{Encoded, Resource, Revision, Status};
use gantry_ports::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// The Kubernetes API as one component sees it. The identity it acts under is part of the value.
pub trait Api: Send + Sync + 'static {
    /// Does one request.
    ///
    /// # Errors
    /// The Status the server answered with; a server that cannot be reached is `ServiceUnavailable`.
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>>;

    /// Starts a watch. Ends when the stream ends; the caller then lists or watches again.
    ///
    /// # Errors
    /// As [`Api::call`]; `Expired` when the revision is no longer kept.
    fn watch(&self, watch: Watch) -> BoxFuture<'_, Result<WatchStream, Status>>;
}

/// One request, typed as far as the URL goes.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// With objects of which resource.
    pub resource: Resource,
    /// Which part of the object, when not the object itself.
    pub subresource: Option<&'static str>,
    /// The namespace; empty for all, or for cluster-wide resources.
    pub namespace: String,
    /// The object's name; empty for verbs on collections.
    pub name: String,
    /// The query.
    pub params: Params,
    /// The object, patch or options as JSON; empty for none.
    pub body: Bytes,
}

impl Request {
    /// A request for one object or collection with nothing else said.
    pub fn new(verb: Verb, resource: Resource, namespace: &str, name: &str) -> Self {
        Self {
            verb,
            resource,
            subresource: None,
            namespace: namespace.into(),
            name: name.into(),
            params: Params::default(),
            body: Bytes::new(),
        }
    }

    /// Reads one object.
    pub fn get(resource: Resource, namespace: &str, name: &str) -> Self {
        Self::new(Verb::Get, resource, namespace, name)
    }

    /// Reads a collection.
    pub fn list(resource: Resource, namespace: &str) -> Self {
        Self::new(Verb::List, resource, namespace, "")
    }

    /// Creates an object.
    pub fn create(resource: Resource, namespace: &str, object: &gantry_object::Value) -> Self {
        Self::new(Verb::Create, resource, namespace, "").with_body(object)
    }

    /// Replaces an object.
    pub fn update(resource: Resource, namespace: &str, name: &str, object: &gantry_object::Value) -> Self {
        Self::new(Verb::Update, resource, namespace, name).with_body(object)
    }

    /// Patches an object.
    pub fn patch(resource: Resource, namespace: &str, name: &str, kind: PatchType, patch: &gantry_object::Value) -> Self {
        Self::new(Verb::Patch(kind), resource, namespace, name).with_body(patch)
    }

    /// Deletes an object.
    pub fn delete(resource: Resource, namespace: &str, name: &str, options: &DeleteOptions) -> Self {
        let body = serde_json::to_value(options).expect("options have only text keys");
        Self::new(Verb::Delete, resource, namespace, name).with_body(&body)
    }

    /// The same request on a subresource.
    pub fn on(mut self, subresource: &'static str) -> Self {
        self.subresource = Some(subresource);
        self
    }

    /// The same request with a JSON body.
    pub fn with_body(mut self, body: &gantry_object::Value) -> Self {
        self.body = Bytes::from(body.to_string());
        self
    }

    /// The request's path, as HTTP has it.
    pub fn path(&self) -> String {
        path(&self.resource, &self.namespace, &self.name, self.subresource)
    }
}

/// The URL path of a collection, object or subresource.
pub(crate) fn path(resource: &Resource, namespace: &str, name: &str, subresource: Option<&str>) -> String {
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    if resource.namespaced && !namespace.is_empty() {
        path = format!("{path}/namespaces/{namespace}");
    }
    path = format!("{path}/{}", resource.plural);
    for part in [name, subresource.unwrap_or("")].iter().filter(|p| !p.is_empty()) {
        path = format!("{path}/{part}");
    }
    path
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the API's own verbs")]
pub enum Verb {
    Get,
    List,
    Create,
    Update,
    Patch(PatchType),
    Delete,
    DeleteCollection,
}

/// The language a patch is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    /// RFC 6902.
    Json,
    /// RFC 7386.
    Merge,
    /// Kubernetes' strategic merge.
    Strategic,
    /// Server-side apply: not a patch but what the manager wants to be there.
    Apply,
}

impl PatchType {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json-patch+json",
            Self::Merge => "application/merge-patch+json",
            Self::Strategic => "application/strategic-merge-patch+json",
            Self::Apply => "application/apply-patch+yaml",
        }
    }

    /// The language of a media type.
    pub fn from_media_type(media_type: &str) -> Option<Self> {
        [Self::Json, Self::Merge, Self::Strategic, Self::Apply].into_iter().find(|p| p.media_type() == media_type)
    }
}

/// The query of a request. Empty texts say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    /// Only objects whose labels match.
    pub label_selector: String,
    /// Only objects whose fields match.
    pub field_selector: String,
    /// At most so many objects; 0 for all.
    pub limit: usize,
    /// Where the page before ended.
    pub continue_token: String,
    /// The resourceVersion asked for.
    pub resource_version: String,
    /// How it is meant: `Exact` or `NotOlderThan`.
    pub resource_version_match: String,
    /// `All` for a trial that changes nothing.
    pub dry_run: String,
    /// Who writes.
    pub field_manager: String,
    /// Apply: takes over what others own.
    pub force: bool,
}

/// How a delete goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    /// Always `DeleteOptions` when sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Always `v1` when sent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// Seconds until the object may be removed by force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_period_seconds: Option<i64>,
    /// What must hold for the delete to happen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preconditions: Option<Preconditions>,
    /// What becomes of dependents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation_policy: Option<Propagation>,
    /// The old way to say `Orphan`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub orphan_dependents: Option<bool>,
    /// `All` for a trial that changes nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dry_run: Vec<String>,
}

/// What must hold for a delete to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    /// The object's uid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The object's resourceVersion.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// What becomes of an object's dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// They stay.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

/// What a request came to.
#[derive(Clone, Debug)]
pub enum Response {
    /// One object.
    Object(Encoded),
    /// A collection at one revision.
    List {
        /// Its objects, by namespace and name.
        items: Vec<Encoded>,
        /// The revision it shows.
        revision: Revision,
        /// Where the next page starts, if there is one.
        continue_token: Option<String>,
    },
    /// An object that isn't stored, such as a review or a token: its JSON.
    Transient(Bytes),
    /// A success without an object.
    Status(Box<Status>),
}

impl Response {
    /// The object, when the response is one.
    ///
    /// # Errors
    /// An internal error when the response is something else, which a server should not send for the verb.
    pub fn object(self) -> Result<Encoded, Status> {
        match self {
            Self::Object(object) => Ok(object),
            other => Err(Status::internal(format_args!("expected an object, the server sent {other:?}"))),
        }
    }

    /// The list, when the response is one.
    ///
    /// # Errors
    /// As [`Response::object`].
    pub fn list(self) -> Result<(Vec<Encoded>, Revision), Status> {
        match self {
            Self::List { items, revision, .. } => Ok((items, revision)),
            other => Err(Status::internal(format_args!("expected a list, the server sent {other:?}"))),
        }
    }
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Objects of which resource.
    pub resource: Resource,
    /// In which namespace; empty for all.
    pub namespace: String,
    /// Which of them: the selectors count, the rest does not.
    pub params: Params,
    /// After which revision. `None` starts now.
    pub from: Option<Revision>,
    /// Whether to send what exists first, then a bookmark that says so. Needs no list beforehand.
    pub initial_events: bool,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum WatchEvent {
    /// An object came to exist, or came to match the selectors.
    Added(Encoded),
    /// It changed.
    Modified(Encoded),
    /// It is gone, or no longer matches; as it was last seen.
    Deleted(Encoded),
    /// Nothing up to this revision is still to come.
    Bookmark {
        /// The revision.
        revision: Revision,
        /// Whether everything that existed has now been sent.
        initial_events_end: bool,
    },
    /// The watch is over, and why.
    Error(Box<Status>),
}

/// The events of a watch, in order. Dropping it ends the watch.
#[derive(Debug)]
pub struct WatchStream {
    events: mpsc::Receiver<WatchEvent>,
}

impl WatchStream {
    /// A stream fed by a channel.
    pub fn new(events: mpsc::Receiver<WatchEvent>) -> Self {
        Self { events }
    }

    /// The next event; `None` when the watch is over.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.recv().await
    }

    /// Everything that is there without waiting.
    pub fn ready(&mut self) -> Vec<WatchEvent> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}
