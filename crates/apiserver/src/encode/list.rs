//! A list made of the stored bytes themselves, piece by piece as the client reads it: a large one is never whole in memory.

use bytes::Bytes;
use gantry_object::{Encoded, Value};
use gantry_transport::{Response, in_pieces};
use serde_json::json;

use super::{Accept, response};
use crate::call::Call;

/// About how many bytes a piece has: few enough to stay in a processor's cache until they are encrypted.
const PIECE: usize = 64 << 10;
const END: &[u8] = b"]}";

/// What is left to send of a list.
pub(super) struct PlainList {
    /// Bytes of the whole list.
    pub(super) length: usize,
    /// What goes before the next item.
    before: Vec<u8>,
    items: std::vec::IntoIter<Encoded>,
    ended: bool,
}

impl PlainList {
    pub(super) fn new(call: &Call, metadata: &Value, items: Vec<Encoded>) -> Self {
        let head = json!({"kind": call.kind.list_kind, "apiVersion": call.kind.api_version(), "metadata": metadata}).to_string();
        let before = [&head.as_bytes()[..head.len() - 1], b",\"items\":["].concat();
        let commas = items.len().saturating_sub(1);
        let length = before.len() + items.iter().map(Encoded::json_len).sum::<usize>() + commas + END.len();
        Self { length, before, items: items.into_iter(), ended: false }
    }

    pub(super) fn into_response(self, accept: &Accept) -> Response {
        let mut response = response(200, accept.format.media_type(), Bytes::new());
        *response.body_mut() = in_pieces(self.length, self);
        response
    }
}

impl Iterator for PlainList {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let mut piece = Vec::with_capacity(PIECE.min(self.length) + 4096);
        while piece.len() < PIECE {
            let Some(item) = self.items.next() else {
                // Without any item the head is still to be sent.
                if self.before != b"," {
                    piece.append(&mut self.before);
                }
                piece.extend_from_slice(END);
                self.ended = true;
                break;
            };
            piece.extend_from_slice(&self.before);
            item.write_json(&mut piece);
            self.before.clear();
            self.before.push(b',');
        }
        Some(piece.into())
    }
}
