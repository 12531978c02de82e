//! Watch events as bytes: JSON lines or length-delimited protobuf.

use std::sync::Arc;

use bytes::Bytes;
use gantry_object::{Encoded, Status};
use serde_json::json;

use super::{Accept, Format, Shape, encode_object};
use crate::call::Call;
use crate::server::Server;
use crate::verbs::watch::{Change, Told};

/// Encodes one watcher's events.
pub(crate) struct WatchEncoder {
    server: Server,
    call: Arc<Call>,
    accept: Accept,
    /// Tables name their columns once.
    sent_columns: bool,
}

impl WatchEncoder {
    pub(crate) fn new(server: Server, call: Arc<Call>, accept: Accept) -> Self {
        Self { server, call, accept, sent_columns: false }
    }

    /// The media type of the stream.
    pub(crate) fn media_type(&self) -> &'static str {
        match self.accept.format {
            Format::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            Format::Yaml => "application/yaml",
            Format::Json => "application/json",
        }
    }

    /// One event, framed.
    pub(crate) fn encode(&mut self, told: Told) -> Bytes {
        match told {
            Told::Change { change, object, event } => {
                let slot = self.slot(change);
                match (event, slot) {
                    (Some(event), Some(slot)) => event.cache.get_or_init(slot, || self.change(change, &object)),
                    _ => {
                        let bytes = self.change(change, &object);
                        self.sent_columns = true;
                        bytes
                    }
                }
            }
            Told::Bookmark { revision, initial_end } => {
                let mut metadata = json!({"resourceVersion": revision.to_string()});
                if initial_end {
                    metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                }
                let kind = &self.call.kind;
                let object = json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata});
                let shaped = self.server.shaped(&self.call, &Accept { shape: self.bookmark_shape(), ..self.accept }, &object);
                self.frame("BOOKMARK", &shaped)
            }
            Told::Gone(status) => self.error(&status),
        }
    }

    fn bookmark_shape(&self) -> Shape {
        match self.accept.shape {
            Shape::Table(_) => Shape::Table(gantry_kinds::IncludeObject::Metadata),
            other => other,
        }
    }

    /// The end of a watch, and why.
    pub(crate) fn error(&self, status: &Status) -> Bytes {
        let value = serde_json::to_value(status).expect("a Status has only text keys");
        self.frame("ERROR", &self.server.encode_value(self.accept.format, &value))
    }

    /// Where an event keeps this encoding for other watchers. Tables hold ages, so theirs cannot be shared.
    fn slot(&self, change: Change) -> Option<u8> {
        let kind = &self.call.kind;
        // Versions of one resource are shown each in its own form, and an event keeps the stored one's alone.
        if kind.is_custom() && !kind.shows_stored_form() {
            return None;
        }
        let format = match (self.accept.format, self.accept.shape, self.call.kind.is_converted()) {
            (Format::Json, Shape::Object, false) => 0,
            (Format::Json, Shape::Object, true) => 3,
            (Format::Protobuf, Shape::Object, false) => 6,
            (Format::Protobuf, Shape::Object, true) => 9,
            (Format::Json, Shape::Partial, false) => 12,
            _ => return None,
        };
        Some(format + change as u8)
    }

    fn change(&self, change: Change, object: &Encoded) -> Bytes {
        let name = match change {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted => "DELETED",
        };
        if let Shape::Table(include) = self.accept.shape {
            let tree = self.server.tree(&self.call, object);
            let metadata = json!({"resourceVersion": object.revision.to_string()});
            let table = self.call.kind.table([&tree], metadata, include, !self.sent_columns, self.server.clock().now());
            return self.frame(name, &self.server.encode_value(self.accept.format, &table));
        }
        self.frame(name, &encode_object(&self.server, &self.call, &self.accept, object))
    }

    fn frame(&self, name: &str, object: &[u8]) -> Bytes {
        match self.accept.format {
            Format::Protobuf => protobuf_frame(name, object),
            Format::Json | Format::Yaml => {
                let mut out = Vec::with_capacity(object.len() + 40);
                out.extend_from_slice(b"{\"type\":\"");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\",\"object\":");
                out.extend_from_slice(object);
                out.extend_from_slice(b"}\n");
                out.into()
            }
        }
    }
}

fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}

/// A `meta/v1 WatchEvent` message behind its length in four bytes.
fn protobuf_frame(name: &str, object: &[u8]) -> Bytes {
    let mut raw = Vec::with_capacity(object.len() + 8);
    field(&mut raw, 1, object);
    let mut event = Vec::with_capacity(raw.len() + 24);
    field(&mut event, 1, name.as_bytes());
    field(&mut event, 2, &raw);
    let mut out = Vec::with_capacity(event.len() + 4);
    out.extend_from_slice(&(event.len() as u32).to_be_bytes());
    out.extend_from_slice(&event);
    out.into()
}
