//! The whole state in one file, so that the log before it can go.

use std::sync::Arc;

use gantry_object::{Revision, Timestamp};
use gantry_ports::disk::{Disk, DiskFile};
use rpds::RedBlackTreeMapSync;

use super::frame::{self, FrameBuilder};
use super::record::{self, Reader, Record};
use super::segment::number_in;
use crate::{Key, OpenError, Snapshot};

pub(crate) const PREFIX: &str = "checkpoint-";
const TEMPORARY: &str = "checkpoint.tmp";
/// The salt of checkpoints, which stand alone: a checkpoint is read from its start or not at all.
const SALT: u64 = 0x636b_7074;
/// Payload bytes after which a frame is written out.
const CHUNK: usize = 1 << 20;

/// How many checkpoints are kept: if the newest is damaged, the one before it and the log since hold the same.
const KEPT: usize = 2;

/// Objects that expire, and when.
pub(crate) type Expiries = RedBlackTreeMapSync<Key, Timestamp>;

/// A state to write down: everything up to and with the log frame `sequence`.
pub(crate) struct Image {
    pub(crate) sequence: u64,
    pub(crate) snapshot: Snapshot,
    pub(crate) expiries: Expiries,
}

/// A checkpoint read back.
pub(crate) struct Loaded {
    pub(crate) revision: Revision,
    pub(crate) records: Vec<Record>,
}

pub(crate) fn name(sequence: u64) -> String {
    format!("{PREFIX}{sequence:016x}")
}

/// Writes a checkpoint and, once it is durable, removes those before it but one.
///
/// # Errors
/// When the disk failed or is full; the store goes on without this checkpoint.
pub(crate) fn write(disk: &Arc<dyn Disk>, image: &Image) -> std::io::Result<u64> {
    if disk.list()?.iter().any(|n| n == TEMPORARY) {
        disk.remove(TEMPORARY)?;
    }
    let bytes = write_temporary(disk, image).inspect_err(|_| {
        // Half a checkpoint is of no use and takes space.
        let _ = disk.remove(TEMPORARY);
    })?;
    disk.rename(TEMPORARY, &name(image.sequence))?;
    disk.sync_dir()?;
    let mut kept: Vec<u64> = disk.list()?.iter().filter_map(|n| number_in(n, PREFIX)).collect();
    kept.sort_unstable();
    for old in kept.iter().rev().skip(KEPT) {
        disk.remove(&name(*old))?;
    }
    Ok(bytes)
}

fn write_temporary(disk: &Arc<dyn Disk>, image: &Image) -> std::io::Result<u64> {
    let mut out = Out { file: disk.create(TEMPORARY, 0)?, at: 0, frames: 0 };
    let mut head = FrameBuilder::new();
    head.payload().extend_from_slice(&image.snapshot.revision().0.to_le_bytes());
    out.frame(head)?;
    let mut count = 0_u64;
    let mut chunk = FrameBuilder::new();
    for (resource, objects) in image.snapshot.resources.iter() {
        for (path, object) in objects.iter() {
            let key = Key::from_path(resource.clone(), path.clone());
            record::write(chunk.payload(), &key, object.revision, Some(object), image.expiries.get(&key).copied());
            count += 1;
            if chunk.len() >= CHUNK {
                out.frame(std::mem::replace(&mut chunk, FrameBuilder::new()))?;
            }
        }
    }
    if chunk.len() > 0 {
        out.frame(chunk)?;
    }
    let mut end = FrameBuilder::new();
    end.payload().extend_from_slice(&count.to_le_bytes());
    out.frame(end)?;
    out.file.sync_data()?;
    Ok(out.at)
}

struct Out {
    file: Box<dyn DiskFile>,
    at: u64,
    frames: u64,
}

impl Out {
    fn frame(&mut self, frame: FrameBuilder) -> std::io::Result<()> {
        let bytes = frame.finish(SALT, self.frames);
        self.file.write_at(self.at, &bytes)?;
        self.at += bytes.len() as u64;
        self.frames += 1;
        Ok(())
    }
}

/// Reads a checkpoint, whose file was whole and durable before it had its name: anything wrong with it is damage.
pub(crate) fn read(file: &str, bytes: &[u8], reader: &mut Reader) -> Result<Loaded, OpenError> {
    let damaged = |offset: usize, what| OpenError::Damaged { file: file.into(), offset: offset as u64, what };
    let mut records = Vec::new();
    let mut revision = None;
    let mut last: Option<(usize, &[u8])> = None;
    let (mut at, mut number) = (0, 0);
    while at < bytes.len() {
        let frame = frame::read(bytes, at, SALT).ok_or_else(|| damaged(at, "a checkpoint's checksum does not hold"))?;
        if frame.sequence != number {
            return Err(damaged(at, "a part of the checkpoint is missing"));
        }
        match revision {
            None => revision = Some(Revision(u64_of(frame.payload).ok_or_else(|| damaged(at, "bad checkpoint header"))?)),
            Some(_) => {
                if let Some((at, payload)) = last.replace((at, frame.payload)) {
                    records.extend(reader.read(payload).ok_or_else(|| damaged(at, "a record has an unknown form"))?);
                }
            }
        }
        at += frame.length;
        number += 1;
    }
    let count = last.and_then(|(_, payload)| u64_of(payload));
    match (revision, count) {
        (Some(revision), Some(count)) if count == records.len() as u64 => Ok(Loaded { revision, records }),
        _ => Err(damaged(bytes.len(), "the checkpoint's end is missing")),
    }
}

fn u64_of(payload: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(payload.try_into().ok()?))
}
