//! Requests as HTTP brings them: identified, taken apart, and answered in the client's own format.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_client::{DeleteOptions, Params, PatchType, Propagation, Verb};
use gantry_kinds::IncludeObject;
use gantry_object::{ObjectName, Status};
use gantry_ports::BoxFuture;
use gantry_transport::{Handler, Peer, Request, Response, streaming};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::sync::mpsc;

use crate::authorize::Attributes;
use crate::call::{Call, FieldValidation, Media};
use crate::discovery::{AGGREGATED, version};
use crate::encode::{Accept, Alternative, WatchEncoder, response, status_response};
use crate::path::{self, Query, ResourcePath, Target};
use crate::server::Server;
use crate::subresource::is_stream;
use crate::user::{AUTHENTICATED, User};
use crate::verbs::watch::WatchOptions;

/// The largest body taken, in bytes.
const LARGEST_BODY: usize = 3 << 20;
/// How many pieces may wait for a slow watcher before it falls behind the ring.
const BUFFER: usize = 64;
/// How long a watch lasts when the client names no time: up to twice this.
const SHORTEST_WATCH: Duration = Duration::from_secs(1800);

impl Handler for Server {
    fn handle(self: Arc<Self>, request: Request, peer: Peer) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let format = Accept::negotiate(header(&request, ACCEPT), IncludeObject::Metadata).map(|a| a.format).unwrap_or_default();
            match self.answer(request, &peer).await {
                Ok(response) => response,
                Err(status) => status_response(&self, format, &status),
            }
        })
    }
}

fn header(request: &Request, name: http::HeaderName) -> &str {
    request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

impl Server {
    async fn answer(&self, request: Request, peer: &Peer) -> Result<Response, Status> {
        let bearer = header(&request, AUTHORIZATION).strip_prefix("Bearer ").map(str::trim).filter(|t| !t.is_empty());
        let user = self.authenticate(peer.certificate.as_deref(), bearer)?;
        let user = self.impersonate(user, &request)?;
        let target = path::parse(request.uri().path());
        match target {
            Target::Resource(resource) => self.answer_resource(request, user, resource).await,
            Target::Other => self.answer_other(&request, &user),
        }
    }

    /// Takes on the identity that the headers name, if the caller may.
    fn impersonate(&self, user: User, request: &Request) -> Result<User, Status> {
        let all =
            |name: &str| request.headers().get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect::<Vec<_>>();
        let names = all("impersonate-user");
        let groups = all("impersonate-group");
        let Some(name) = names.first().filter(|n| !n.is_empty()) else {
            if groups.is_empty() {
                return Ok(user);
            }
            return Err(Status::bad_request("requested [{Group}] without impersonating a user"));
        };
        let may = |resource: &str, namespace: &str, name: &str| {
            let (verb, resource, namespace, name) = ("impersonate".into(), resource.into(), namespace.into(), name.into());
            let what = Attributes { verb, resource, namespace, name, ..Attributes::default() };
            self.authorizer().check(self.store(), &user, &what)
        };
        let mut target = User { name: name.clone(), groups: groups.clone(), ..User::default() };
        match name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':')) {
            Some((namespace, account)) => {
                may("serviceaccounts", namespace, account)?;
                if groups.is_empty() {
                    target = User::service_account(namespace, account);
                }
            }
            None => may("users", "", name)?,
        }
        for group in &groups {
            may("groups", "", group)?;
        }
        if name != "system:anonymous" && !target.is_in(AUTHENTICATED) {
            target.groups.push(AUTHENTICATED.into());
        }
        Ok(target)
    }

    fn answer_other(&self, request: &Request, user: &User) -> Result<Response, Status> {
        let path = request.uri().path();
        let verb = request.method().as_str().to_lowercase();
        self.authorizer().check(self.store(), user, &Attributes::path(&verb, path))?;
        let accept = header(request, ACCEPT);
        if (path == "/api" || path == "/apis") && wants_aggregated(accept) {
            return Ok(response(200, AGGREGATED, self.discovery().aggregated(path == "/api")));
        }
        let json = |value: gantry_object::Value| response(200, "application/json", value.to_string());
        match path {
            "/healthz" | "/livez" | "/readyz" => Ok(response(200, "text/plain; charset=utf-8", "ok")),
            "/version" | "/version/" => Ok(json(version())),
            "/openid/v1/jwks" => Ok(response(200, "application/jwk-set+json", self.token_key().key_set().to_string())),
            "/openapi/v2" if wants_openapi_protobuf(accept) => Ok(response(200, &OPENAPI_PROTOBUF.replace('@', "."), openapi_protobuf())),
            _ if path.starts_with("/openapi/") => {
                self.openapi(path).map(|body| response(200, "application/json", body)).ok_or_else(Status::no_such_path)
            }
            _ => self.discover(path).map(json).ok_or_else(Status::no_such_path),
        }
    }

    async fn answer_resource(&self, request: Request, user: User, path: ResourcePath) -> Result<Response, Status> {
        let query = Query::parse(request.uri().query().unwrap_or(""));
        let kind = self.kind(&path.group, &path.version, &path.resource).ok_or_else(Status::no_such_path)?;
        let include = IncludeObject::parse(query.get("includeObject")).unwrap_or(IncludeObject::Metadata);
        let accept = Accept::negotiate(header(&request, ACCEPT), include)?;
        let content_type = header(&request, CONTENT_TYPE).split(';').next().unwrap_or("").trim().to_owned();
        let patch = PatchType::from_media_type(&content_type);
        let unknown_patch = request.method() == http::Method::PATCH && patch.is_none();
        if unknown_patch {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json",
            ));
        }
        let verb = path::verb(request.method(), &path, patch);
        let verb = verb.ok_or_else(|| {
            Status::method_not_supported(
                &gantry_object::GroupResource::new(&path.group, &path.resource),
                &request.method().as_str().to_lowercase(),
            )
        })?;
        let (namespace, name) = match path.namespace.as_str() {
            _ if !kind.namespaced => (String::new(), path.name.clone()),
            namespace => (namespace.to_owned(), path.name.clone()),
        };
        if kind.namespaced && namespace.is_empty() && !name.is_empty() {
            return Err(Status::no_such_path());
        }
        let mut call = Call {
            user,
            verb,
            kind,
            subresource: path.subresource.clone(),
            object: ObjectName { namespace, name },
            params: params(&query)?,
            field_validation: field_validation(&query)?,
            media: media(&content_type)?,
            body: Bytes::new(),
            query_options: query_options(&query)?,
        };
        let watches = path.watch || query.is_true("watch");
        if watches && matches!(verb, Verb::Get | Verb::List) {
            return self.answer_watch(call, accept, &query).await;
        }
        check_verb(&call)?;
        self.authorize_call(&call, call.verb_name())?;
        if is_stream(&call) {
            return self.stream(&call, request, &query).await;
        }
        let is_head = request.method() == http::Method::HEAD;
        call.body = read_body(request).await?;
        let answered = self.dispatch(call.clone()).await?;
        let mut response = self.respond(&call, &accept, answered);
        if is_head {
            *response.body_mut() = gantry_transport::full(Bytes::new());
        }
        Ok(response)
    }

    async fn answer_watch(&self, mut call: Call, accept: Accept, query: &Query) -> Result<Response, Status> {
        call.verb = Verb::List;
        if !call.object.name.is_empty() {
            call.params.field_selector = format!("metadata.name={}", call.object.name);
            call.object.name.clear();
        }
        if !call.kind.stored() || !call.subresource.is_empty() || !call.kind.verbs.iter().any(|v| v == "watch") {
            return Err(Status::method_not_supported(&call.resource(), "watch"));
        }
        self.authorize_call(&call, "watch")?;
        let initial_events = (!query.get("sendInitialEvents").is_empty()).then(|| query.is_true("sendInitialEvents"));
        let options = WatchOptions { bookmarks: query.is_true("allowWatchBookmarks"), initial_events };
        let lasts = match query.get("timeoutSeconds").parse::<u64>() {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => SHORTEST_WATCH + Duration::from_secs(self.random().below(SHORTEST_WATCH.as_secs())),
        };
        let mut feed = match self.start_watch(call.clone(), options).await {
            Ok(feed) => feed,
            // A watch from a point that is gone has begun all the same, and ends with this event.
            Err(status) if status.is_expired() => {
                let encoder = WatchEncoder::new(self.clone(), Arc::new(call), accept);
                return Ok(response(200, encoder.media_type(), encoder.error(&status)));
            }
            Err(status) => return Err(status),
        };
        let mut encoder = WatchEncoder::new(self.clone(), feed.call().clone(), accept);
        let media_type = encoder.media_type();
        let (send, pieces) = mpsc::channel(BUFFER);
        let end = self.clock().sleep(lasts);
        self.tasks().spawn(async move {
            let mut end = end;
            loop {
                let told = gantry_ports::select! {
                    told = feed.next() => told,
                    () = &mut end => None,
                    () = send.closed() => None,
                };
                let Some(told) = told else { break };
                let piece = encoder.encode(told);
                let sent = gantry_ports::select! {
                    sent = send.send(piece) => sent.is_ok(),
                    () = &mut end => false,
                };
                if !sent {
                    break;
                }
            }
        });
        let mut response = response(200, media_type, Bytes::new());
        *response.body_mut() = streaming(pieces);
        Ok(response)
    }
}

/// Refuses verbs that the kind doesn't have.
fn check_verb(call: &Call) -> Result<(), Status> {
    let known = if call.subresource.is_empty() {
        call.kind.verbs.iter().any(|v| v == call.verb_name())
    } else {
        let subresource = call.kind.subresource(&call.subresource).ok_or_else(Status::no_such_path)?;
        subresource.verbs.iter().any(|v| v == call.verb_name())
    };
    if known { Ok(()) } else { Err(Status::method_not_supported(&call.resource(), call.verb_name())) }
}

async fn read_body(request: Request) -> Result<Bytes, Status> {
    match Limited::new(request.into_body(), LARGEST_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Status::too_large(format!("Request entity too large: limit is {LARGEST_BODY}")))
        }
        Err(error) => Err(Status::bad_request(format!("the request's body could not be read: {error}"))),
    }
}

fn params(query: &Query) -> Result<Params, Status> {
    let text = |key: &str| query.get(key).to_owned();
    let limit = match query.get("limit") {
        "" => 0,
        given => given.parse().map_err(|_| Status::bad_request(format!("invalid limit {given:?}: must be a whole number")))?,
    };
    if let Some(other) = query.all("dryRun").find(|v| !v.is_empty() && *v != "All") {
        let why = format!("dryRun: Unsupported value: {other:?}: supported values: \"All\"");
        return Err(Status::bad_request(why));
    }
    Ok(Params {
        label_selector: text("labelSelector"),
        field_selector: text("fieldSelector"),
        limit,
        continue_token: text("continue"),
        resource_version: text("resourceVersion"),
        resource_version_match: text("resourceVersionMatch"),
        dry_run: text("dryRun"),
        field_manager: text("fieldManager"),
    })
}

fn field_validation(query: &Query) -> Result<FieldValidation, Status> {
    match query.get("fieldValidation") {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        other => {
            let allowed = "supported values: \"Ignore\", \"Warn\", \"Strict\"";
            Err(Status::bad_request(format!("fieldValidation: Unsupported value: {other:?}: {allowed}")))
        }
    }
}

fn media(content_type: &str) -> Result<Media, Status> {
    match content_type {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Media::Protobuf),
        other if PatchType::from_media_type(other).is_some() => Ok(Media::Json),
        _ => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

fn query_options(query: &Query) -> Result<Option<DeleteOptions>, Status> {
    let mut options = DeleteOptions::default();
    if let Some(seconds) = Some(query.get("gracePeriodSeconds")).filter(|s| !s.is_empty()) {
        let seconds = seconds.parse().map_err(|_| Status::bad_request("gracePeriodSeconds must be a whole number"))?;
        options.grace_period_seconds = Some(seconds);
    }
    options.propagation_policy = match query.get("propagationPolicy") {
        "" => None,
        "Orphan" => Some(Propagation::Orphan),
        "Background" => Some(Propagation::Background),
        "Foreground" => Some(Propagation::Foreground),
        other => return Err(Status::bad_request(format!("propagationPolicy: Unsupported value: {other:?}"))),
    };
    if !query.get("orphanDependents").is_empty() {
        options.orphan_dependents = Some(query.is_true("orphanDependents"));
    }
    Ok((options != DeleteOptions::default()).then_some(options))
}

fn wants_aggregated(accept: &str) -> bool {
    Alternative::all(accept).iter().any(|a| a.parameter("as") == "APIGroupDiscoveryList" && a.parameter("v") == "v2")
}

const OPENAPI_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

/// Clients ask for the old document in protobuf alone when the new one doesn't know a kind.
fn wants_openapi_protobuf(accept: &str) -> bool {
    let alternatives = Alternative::all(accept);
    alternatives.iter().all(|a| a.media_type == OPENAPI_PROTOBUF) && !alternatives.is_empty()
}

/// The old document in protobuf names no definitions: those are in its JSON form, and in version 3. A client that finds none leaves
/// checking to the server.
fn openapi_protobuf() -> Vec<u8> {
    let mut out = Vec::new();
    let mut field = |number: u8, bytes: &[u8]| {
        out.extend([number << 3 | 2, bytes.len() as u8]);
        out.extend_from_slice(bytes);
    };
    field(1, b"2.0");
    field(2, b"\x0a\x0aKubernetes\x12\x07v1.36.0");
    out
}
