//! Changes as bytes, in log frames and checkpoints alike.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use gantry_object::{Encoded, Revision, Timestamp};

use crate::{Change, Key};

/// A change with what only the log backend knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) change: Change,
    pub(crate) expires: Option<Timestamp>,
}

const PUT: u8 = 1;
const DELETE: u8 = 2;

/// Appends a record.
pub(crate) fn write(out: &mut Vec<u8>, key: &Key, revision: Revision, object: Option<&Encoded>, expires: Option<Timestamp>) {
    out.push(if object.is_some() { PUT } else { DELETE });
    out.extend_from_slice(&revision.0.to_le_bytes());
    for part in [key.resource(), key.path()] {
        write_bytes(out, part.as_bytes());
    }
    if let Some(object) = object {
        out.extend_from_slice(&expires.map_or(i64::MIN, |t| t.0).to_le_bytes());
        out.extend_from_slice(&object.splice.to_le_bytes());
        write_bytes(out, &object.body);
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("objects are limited to a few MiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads records; keeps one copy of each resource's name.
#[derive(Default)]
pub(crate) struct Reader {
    names: BTreeSet<Arc<str>>,
}

impl Reader {
    /// Reads all records of a payload. `None` when they are not well formed, which a checksum that holds rules out but for other versions.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Option<Vec<Record>> {
        let mut records = Vec::new();
        while !bytes.is_empty() {
            records.push(self.one(&mut bytes)?);
        }
        Some(records)
    }

    fn one(&mut self, bytes: &mut &[u8]) -> Option<Record> {
        let kind = *take(bytes, 1)?.first()?;
        let revision = Revision(u64::from_le_bytes(take(bytes, 8)?.try_into().ok()?));
        let resource = self.intern(std::str::from_utf8(take_bytes(bytes)?).ok()?);
        let path: Arc<str> = std::str::from_utf8(take_bytes(bytes)?).ok()?.into();
        let key = Key::from_path(resource, path);
        match kind {
            PUT => {
                let expires = i64::from_le_bytes(take(bytes, 8)?.try_into().ok()?);
                let splice = u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?);
                let body = Bytes::copy_from_slice(take_bytes(bytes)?);
                let object = Some(Encoded { body, splice, revision });
                let expires = (expires != i64::MIN).then_some(Timestamp(expires));
                Some(Record { change: Change { key, revision, object }, expires })
            }
            DELETE => Some(Record { change: Change { key, revision, object: None }, expires: None }),
            _ => None,
        }
    }

    fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.names.insert(name.clone());
        name
    }
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?);
    take(bytes, length as usize)
}
