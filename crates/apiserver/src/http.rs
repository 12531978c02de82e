//! Requests as HTTP brings them: identified, taken apart, and answered in the client's own format.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_client::{Params, PatchType, Verb};
use gantry_kinds::{IncludeObject, Kind};
use gantry_object::{ObjectName, Status};
use gantry_ports::BoxFuture;
use gantry_transport::{Handler, Peer, Pieces, Request, Response, streaming};
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::authorize::Attributes;
use crate::call::{Call, FieldValidation, Media, Notes, verb_name};
use crate::discovery::{AGGREGATED, version};
use crate::encode::{Accept, Alternative, WatchEncoder, response, status_response};
use crate::fairness::Class;
use crate::health::Health;
use crate::metrics::{Series, UnderWay};
use crate::options::{field_validation, manager_of, media, params, query_options};
use crate::path::{self, Query, ResourcePath, Target};
use crate::server::Server;
use crate::subresource::is_stream;
use crate::user::User;
use crate::verbs::watch::{Feed, WatchOptions};

/// The largest body taken, in bytes.
const LARGEST_BODY: usize = 3 << 20;
/// About how many bytes of a watch go in one piece, when so many events are there already.
const PIECE: usize = 32 << 10;
/// How long a watch lasts when the client names no time: up to twice this.
const SHORTEST_WATCH: Duration = Duration::from_secs(1800);

impl Handler for Server {
    fn handle(self: Arc<Self>, request: Request, peer: Peer) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let format = Accept::negotiate(header(&request, ACCEPT), IncludeObject::Metadata, None).map(|a| a.format).unwrap_or_default();
            let target = path::parse(request.uri().path());
            let query = Query::parse(request.uri().query().unwrap_or(""));
            let is_watch = matches!(&target, Target::Resource(p) if p.watch || p.name.is_empty() && query.is_true("watch"));
            let under_way = self.metrics().begin(Series::of(&self, request.method(), &target, is_watch));
            let begun = self.clock().monotonic();
            let mut class = None;
            let asked = Asked { target, query, is_watch };
            let mut response = match self.answer(request, asked, &peer, &under_way, &mut class).await {
                Ok(response) => response,
                Err(status) => status_response(&self, format, &status),
            };
            if let Some(class) = class {
                class.mark(&mut response);
            }
            self.metrics().answered(&under_way, response.status().as_u16(), self.clock().monotonic().saturating_sub(begun));
            response
        })
    }
}

fn header(request: &Request, name: http::HeaderName) -> &str {
    request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// What a request asks for, by its URL.
struct Asked {
    target: Target,
    query: Query,
    is_watch: bool,
}

impl Asked {
    fn attributes(&self, request: &Request) -> Attributes {
        match &self.target {
            Target::Resource(path) => Attributes::of_request(request.method(), path, &self.query, self.is_watch),
            Target::Other => Attributes::path(&request.method().as_str().to_lowercase(), request.uri().path()),
        }
    }
}

impl Server {
    async fn answer(
        &self,
        request: Request,
        asked: Asked,
        peer: &Peer,
        under_way: &UnderWay,
        class: &mut Option<Class>,
    ) -> Result<Response, Status> {
        let bearer = header(&request, AUTHORIZATION).strip_prefix("Bearer ").map(str::trim).filter(|t| !t.is_empty());
        let user = self.authenticate(peer.certificate.as_deref(), bearer)?;
        let user = self.impersonate(user, &request)?;
        let attributes = asked.attributes(&request);
        let limit = asked.query.get("limit").parse().unwrap_or(0);
        let _permit = match under_way.needs_seat() {
            true => self.enter(&user, &attributes, limit, class).await?,
            false => None,
        };
        if let Some(remote) = self.remote_for(request.uri().path(), &asked.target) {
            return self.pass_on(request, user, &attributes, &remote).await;
        }
        self.authorizer().check(self.store(), &user, &attributes)?;
        let Asked { target, query, is_watch } = asked;
        match target {
            Target::Resource(resource) => self.answer_resource(request, user, resource, query, is_watch).await,
            Target::Other => self.answer_other(&request),
        }
    }

    fn answer_other(&self, request: &Request) -> Result<Response, Status> {
        let path = request.uri().path();
        let accept = header(request, ACCEPT);
        if (path == "/api" || path == "/apis") && wants_aggregated(accept) {
            let own = self.discovery().aggregated(path == "/api");
            let all = if path == "/api" { own } else { self.with_remote_groups(own) };
            return Ok(response(200, AGGREGATED, all));
        }
        if let Some(health) = Health::asked(path, request.uri().query().unwrap_or("")) {
            let (status, text) = health.answer(self.store());
            return Ok(response(status, "text/plain; charset=utf-8", text));
        }
        let json = |value: gantry_object::Value| response(200, "application/json", value.to_string());
        match path {
            "/metrics" => Ok(response(200, "text/plain; version=0.0.4; charset=utf-8", self.metrics_text())),
            "/version" | "/version/" => Ok(json(version())),
            "/openid/v1/jwks" => Ok(response(200, "application/jwk-set+json", self.token_key().key_set().to_string())),
            "/openapi/v2" if wants_openapi_protobuf(accept) => Ok(response(200, &OPENAPI_PROTOBUF.replace('@', "."), openapi_protobuf())),
            _ if path.starts_with("/openapi/") => self
                .with_remote_schemas(path, self.openapi(path))
                .map(|body| response(200, "application/json", body))
                .ok_or_else(Status::no_such_path),
            _ => self.with_older_remote_groups(path, self.discover(path)).map(json).ok_or_else(Status::no_such_path),
        }
    }

    async fn answer_resource(
        &self,
        request: Request,
        user: User,
        path: ResourcePath,
        query: Query,
        is_watch: bool,
    ) -> Result<Response, Status> {
        let content_type = header(&request, CONTENT_TYPE).split(';').next().unwrap_or("").trim().to_owned();
        let patch = PatchType::from_media_type(&content_type);
        let kind = self.kind(&path.group, &path.version, &path.resource).ok_or_else(Status::no_such_path)?;
        if !exists(&kind, &path) {
            return Err(Status::no_such_path());
        }
        // What patch it is matters only once it is known that this can be patched.
        let namespace = if kind.namespaced { path.namespace.clone() } else { String::new() };
        let object = ObjectName { namespace, name: path.name.clone() };
        if path.subresource == "proxy" && kind.subresource("proxy").is_some() {
            let call = proxy_call(user, kind, &path, object);
            return self.proxy(&call, request, &query).await;
        }
        let verb = path::verb(request.method(), &path, Some(patch.unwrap_or(PatchType::Json)));
        let verb = verb.filter(|verb| has_verb(&kind, &path.subresource, &object, *verb));
        let verb = verb.ok_or_else(|| method_not_allowed(request.method(), &path))?;
        let include = include_object(&query)?;
        let accept = Accept::negotiate(header(&request, ACCEPT), include, Some(&*kind))?.with_encoding(header(&request, ACCEPT_ENCODING));
        let unfit = kind.is_custom() && verb == Verb::Patch(PatchType::Strategic);
        if unfit {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        if kind.is_custom() && content_type == "application/vnd.kubernetes.protobuf" && matches!(verb, Verb::Create | Verb::Update) {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml",
            ));
        }
        if matches!(verb, Verb::Patch(_)) && patch.is_none() {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml",
            ));
        }
        let mut call = Call {
            user,
            verb,
            kind,
            subresource: path.subresource.clone(),
            object,
            params: params(verb, &query)?,
            field_validation: field_validation(verb, &query)?,
            media: media(verb, &content_type)?,
            body: Bytes::new(),
            agent: manager_of(header(&request, USER_AGENT)),
            query_options: query_options(&query)?,
            own: false,
            notes: Notes::default(),
        };
        if is_watch && matches!(verb, Verb::Get | Verb::List) {
            return self.answer_watch(call, accept, &query).await;
        }
        if is_stream(&call) {
            return self.stream(&call, request, &query).await;
        }
        let is_head = request.method() == http::Method::HEAD;
        call.body = read_body(request).await?;
        let answered = self.dispatch(&call).await?;
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
        let initial_events = (!query.get("sendInitialEvents").is_empty()).then(|| query.is_true("sendInitialEvents"));
        let options = WatchOptions { bookmarks: query.is_true("allowWatchBookmarks"), initial_events };
        let lasts = match query.get("timeoutSeconds").parse::<u64>() {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => SHORTEST_WATCH + Duration::from_secs(self.random().below(SHORTEST_WATCH.as_secs())),
        };
        let feed = match self.start_watch(call.clone(), options).await {
            Ok(feed) => feed,
            // A watch from a point that is gone has begun all the same, and ends with this event.
            Err(status) if status.is_expired() => {
                let encoder = WatchEncoder::new(self.clone(), Arc::new(call), accept);
                return Ok(response(200, encoder.media_type(), encoder.error(&status)));
            }
            Err(status) => return Err(status),
        };
        let kind = feed.call().kind.clone();
        let series = Series::of(self, &http::Method::GET, &Target::Resource(path_of(&kind)), true);
        let under_way = self.metrics().begin(series);
        let encoder = WatchEncoder::new(self.clone(), feed.call().clone(), accept);
        let mut response = response(200, encoder.media_type(), Bytes::new());
        *response.body_mut() = streaming(Watching { feed, encoder, end: self.clock().sleep(lasts), kind, under_way });
        Ok(response)
    }
}

/// A watch on its way to a client. A client that does not read holds nothing up: its events stay in the store's ring until that turns.
struct Watching {
    feed: Feed,
    encoder: WatchEncoder,
    end: BoxFuture<'static, ()>,
    kind: Arc<Kind>,
    under_way: UnderWay,
}

impl Pieces for Watching {
    async fn next(&mut self) -> Option<Bytes> {
        let told = gantry_ports::select! {
            told = self.feed.next() => told?,
            () = &mut self.end => return None,
        };
        let first = self.encoder.encode(told);
        let Some(told) = self.feed.next_ready() else {
            self.under_way.watch_events(&self.kind, 1);
            return Some(first);
        };
        let mut piece = [first, self.encoder.encode(told)].concat();
        let mut count = 2;
        while piece.len() < PIECE
            && let Some(told) = self.feed.next_ready()
        {
            piece.extend_from_slice(&self.encoder.encode(told));
            count += 1;
        }
        self.under_way.watch_events(&self.kind, count);
        Some(piece.into())
    }
}

/// The path of all objects of a kind.
fn path_of(kind: &Kind) -> ResourcePath {
    ResourcePath { group: kind.group.clone(), version: kind.version.clone(), resource: kind.plural.clone(), ..ResourcePath::default() }
}

/// A request for a proxy: what is sent and how is for the other end to judge.
fn proxy_call(user: User, kind: Arc<Kind>, path: &ResourcePath, object: ObjectName) -> Call {
    Call {
        user,
        verb: Verb::Get,
        kind,
        subresource: path.subresource.clone(),
        object,
        params: Params::default(),
        field_validation: FieldValidation::Ignore,
        media: Media::Json,
        body: Bytes::new(),
        agent: String::new(),
        query_options: None,
        own: false,
        notes: Notes::default(),
    }
}

/// Whether a kind has what a path names: objects of namespaces lie in namespaces, others do not, and subresources are the kind's own.
fn exists(kind: &Kind, path: &ResourcePath) -> bool {
    let placed = if kind.namespaced { path.name.is_empty() || !path.namespace.is_empty() } else { path.namespace.is_empty() };
    placed && (path.subresource.is_empty() || kind.subresource(&path.subresource).is_some())
}

/// Whether a verb can be done to what a request names.
pub(crate) fn has_verb(kind: &Kind, subresource: &str, object: &ObjectName, verb: Verb) -> bool {
    let has = |verbs: &[String]| verbs.iter().any(|v| v == verb_name(verb));
    match kind.subresource(subresource) {
        Some(subresource) => has(&subresource.verbs),
        // All namespaces together can be read, and that is all.
        // Objects are created in their collection, and changed under their name.
        None if !object.name.is_empty() && verb == Verb::Create => false,
        None if object.name.is_empty() && matches!(verb, Verb::Update | Verb::Patch(_)) => false,
        None => has(&kind.verbs) && (verb == Verb::List || !kind.namespaced || !object.namespace.is_empty()),
    }
}

fn method_not_allowed(method: &http::Method, path: &ResourcePath) -> Status {
    let verb = path::verb(method, path, Some(PatchType::Json)).map_or_else(|| method.as_str().to_lowercase(), |v| verb_name(v).into());
    Status::method_not_supported(&gantry_object::GroupResource::new(&path.group, &path.resource), &verb)
}

fn include_object(query: &Query) -> Result<IncludeObject, Status> {
    let given = query.get("includeObject");
    let wrong = || Status::bad_request(format!("unrecognized includeObject value: {given:?}"));
    if given.is_empty() { Ok(IncludeObject::Metadata) } else { IncludeObject::parse(given).ok_or_else(wrong) }
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
