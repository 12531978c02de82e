//! Answers as bytes, in the encoding and shape the client asked for.

mod accept;
mod list;
mod stream;

use bytes::Bytes;
use gantry_object::{Encoded, Status, Value, meta};
use gantry_schema::Envelope;
use gantry_transport::{Response, full};
use http::header::CONTENT_TYPE;
use serde_json::json;

pub(crate) use accept::{Accept, Alternative, Format, Shape};
pub(crate) use stream::WatchEncoder;

use list::PlainList;

use crate::call::{Answer, Answered, Call, Collection};
use crate::server::Server;
use crate::verbs::tree;

/// A response with a body of one media type.
pub(crate) fn response(code: u16, media_type: &str, body: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(body));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = media_type.parse() {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    // Nobody may keep an answer that the next write makes wrong.
    response.headers_mut().insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    response
}

/// From which size on answers are compressed, in bytes.
const WORTH_COMPRESSING: usize = 128 << 10;

/// An object or a collection as a response, compressed if it is large and the client can read that.
fn answer(accept: &Accept, created: bool, body: Vec<u8>) -> Response {
    let code = if created { 201 } else { 200 };
    if !accept.gzip || body.len() < WORTH_COMPRESSING {
        return response(code, accept.format.media_type(), body);
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = std::io::Write::write_all(&mut packed, &body).and_then(|()| packed.finish());
    let mut response = response(code, accept.format.media_type(), packed.expect("memory takes every write"));
    response.headers_mut().insert(http::header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    response.headers_mut().insert(http::header::VARY, http::HeaderValue::from_static("Accept-Encoding"));
    response
}

/// A Status as a response.
pub(crate) fn status_response(server: &Server, format: Format, status: &Status) -> Response {
    let value = serde_json::to_value(status).expect("a Status has only text keys");
    let mut response = response(if status.code == 0 { 200 } else { status.code }, format.media_type(), server.encode_value(format, &value));
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(http::header::RETRY_AFTER, retry.into());
    }
    if status.code == 401 {
        response.headers_mut().insert(http::header::WWW_AUTHENTICATE, http::HeaderValue::from_static("Basic realm=\"kubernetes-master\""));
    }
    response
}

impl Server {
    /// What a call came to, as a response.
    pub(crate) fn respond(&self, call: &Call, accept: &Accept, answered: Answered) -> Response {
        let mut response = match answered.answer {
            Answer::Status(status) => status_response(self, accept.format, &status),
            Answer::Object { object, created } => {
                let body = match accept.is_plain() && !call.kind.is_converted() {
                    true => object.to_json(),
                    false => self.shaped(call, accept, &self.tree(call, &object)),
                };
                answer(accept, created, body)
            }
            Answer::Transient { value, created } => answer(accept, created, self.shaped(call, accept, &value)),
            Answer::List(collection) if accept.is_plain() && !call.kind.is_converted() => {
                let list = PlainList::new(call, &list_metadata(&collection), collection.items);
                match accept.gzip && list.length >= WORTH_COMPRESSING {
                    true => answer(accept, false, list.flatten().collect()),
                    false => list.into_response(accept),
                }
            }
            Answer::List(collection) => answer(accept, false, self.encode_list(call, accept, &collection)),
        };
        for warning in answered.warnings {
            let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
            if let Ok(value) = format!("299 - \"{text}\"").parse() {
                response.headers_mut().append(http::header::WARNING, value);
            }
        }
        response
    }

    /// One object in the shape and encoding asked for.
    pub(crate) fn shaped(&self, call: &Call, accept: &Accept, object: &Value) -> Vec<u8> {
        let is_own_kind = object["kind"] == call.kind.kind.as_str();
        match accept.shape {
            Shape::Table(include) if is_own_kind => {
                let metadata = json!({"resourceVersion": meta::text(object, "resourceVersion")});
                let table = call.kind.table([object], metadata, include, true, self.clock().now());
                self.encode_value(accept.format, &table)
            }
            Shape::Partial if is_own_kind => self.encode_value(accept.format, &gantry_kinds::partial_metadata(object)),
            _ => self.encode_value(accept.format, object),
        }
    }

    fn encode_list(&self, call: &Call, accept: &Accept, list: &Collection) -> Vec<u8> {
        let metadata = list_metadata(list);
        let trees: Vec<Value> = list.items.iter().map(|o| self.tree(call, o)).collect();
        let value = match accept.shape {
            Shape::Table(include) => call.kind.table(&trees, metadata, include, true, self.clock().now()),
            Shape::Partial => {
                let items: Vec<Value> = trees.iter().map(gantry_kinds::partial_metadata).collect();
                json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "items": items})
            }
            Shape::Object => {
                json!({"kind": call.kind.list_kind, "apiVersion": call.kind.api_version(), "metadata": metadata, "items": trees})
            }
        };
        self.encode_value(accept.format, &value)
    }

    /// A tree in an encoding. What the schema doesn't know goes as JSON whatever was asked for.
    pub(crate) fn encode_value(&self, format: Format, value: &Value) -> Vec<u8> {
        match format {
            Format::Json => serde_json::to_vec(value).expect("a tree has only text keys"),
            Format::Yaml => gantry_schema::to_yaml(value).into_bytes(),
            Format::Protobuf => self.encode_protobuf(value),
        }
    }

    fn encode_protobuf(&self, value: &Value) -> Vec<u8> {
        let api_version = value["apiVersion"].as_str().unwrap_or("");
        let kind = value["kind"].as_str().unwrap_or("");
        let gv = gantry_object::GroupVersion::parse(api_version).unwrap_or_else(|| gantry_object::GroupVersion::new("", "v1"));
        let gvk = gantry_object::GroupVersionKind::new(&gv.group, &gv.version, kind);
        match self.registry().type_of(&gvk) {
            Some(ty) => Envelope::seal(api_version, kind, &self.registry().schema().encode_protobuf(ty, value)),
            None => serde_json::to_vec(value).expect("a tree has only text keys"),
        }
    }
}

fn list_metadata(list: &Collection) -> Value {
    let mut metadata = json!({"resourceVersion": list.revision.to_string()});
    if let Some(token) = &list.continue_token {
        metadata["continue"] = json!(token);
    }
    if let Some(remaining) = list.remaining {
        metadata["remainingItemCount"] = json!(remaining);
    }
    metadata
}

/// An object in one encoding, for a watch.
pub(crate) fn encode_object(server: &Server, call: &Call, accept: &Accept, object: &Encoded) -> Vec<u8> {
    if accept.is_plain() && !call.kind.is_converted() {
        object.to_json()
    } else {
        server.shaped(call, accept, &call.kind.from_storage(tree(object)))
    }
}
