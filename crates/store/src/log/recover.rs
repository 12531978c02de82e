//! From files to state: the newest checkpoint and the log after it.

use std::sync::Arc;

use gantry_object::Revision;
use gantry_ports::disk::Disk;

use super::checkpoint;
use super::frame;
use super::record::{Reader, Record};
use super::segment::{SEGMENT_HEADER, SegmentHeader, number_in, segment_name};
use crate::OpenError;

/// What the files held.
pub(crate) struct Recovered {
    /// The checkpoint's records, and the revision it was taken at.
    pub(crate) base: Vec<Record>,
    pub(crate) base_revision: Revision,
    pub(crate) base_bytes: u64,
    /// Each later log frame's records, oldest first.
    pub(crate) batches: Vec<Vec<Record>>,
    pub(crate) log_bytes: u64,
    /// The number of the next frame to write.
    pub(crate) next: u64,
    /// The store's salt, if any segment is left to say it.
    pub(crate) salt: Option<u64>,
}

/// Reads everything, cuts a torn tail, and reports damage.
pub(crate) fn recover(disk: &Arc<dyn Disk>) -> Result<Recovered, OpenError> {
    let names = disk.list().map_err(|source| OpenError::Io { act: "listing", file: "the store's directory".into(), source })?;
    let mut reader = Reader::default();
    let newest = names.iter().filter_map(|n| number_in(n, checkpoint::PREFIX)).max();
    let mut found = Recovered {
        base: Vec::new(),
        base_revision: Revision(0),
        base_bytes: 0,
        batches: Vec::new(),
        log_bytes: 0,
        next: newest.map_or(1, |s| s + 1),
        salt: None,
    };
    if let Some(sequence) = newest {
        let file = checkpoint::name(sequence);
        let bytes = read_file(disk, &file)?;
        let loaded = checkpoint::read(&file, &bytes, &mut reader)?;
        found.base = loaded.records;
        found.base_revision = loaded.revision;
        found.base_bytes = bytes.len() as u64;
    }
    let mut segments: Vec<u64> = names.iter().filter_map(|n| number_in(n, "log-")).collect();
    for first in covered(&segments, found.next - 1) {
        remove(disk, &segment_name(first))?;
        segments.retain(|s| *s != first);
    }
    let mut expected = None;
    for (i, first) in segments.iter().enumerate() {
        let is_last = i + 1 == segments.len();
        let next = replay(disk, *first, is_last, expected, &mut found, &mut reader)?;
        expected = Some(next);
    }
    if expected.is_some_and(|e| e < found.next) {
        // The checkpoint holds more than these still do. Without them the next segment follows the checkpoint without a gap.
        for first in segments {
            remove(disk, &segment_name(first))?;
        }
    }
    found.next = expected.unwrap_or(1).max(found.next);
    Ok(found)
}

/// The segments, of these in order, that a checkpoint up to frame `sequence` makes needless: those whose successor begins by then.
pub(crate) fn covered(segments: &[u64], sequence: u64) -> Vec<u64> {
    segments.windows(2).filter(|pair| pair[1] <= sequence + 1).map(|pair| pair[0]).collect()
}

fn read_file(disk: &Arc<dyn Disk>, file: &str) -> Result<Vec<u8>, OpenError> {
    let failed = |source| OpenError::Io { act: "reading", file: file.into(), source };
    let open = disk.open(file).map_err(failed)?;
    let mut bytes = vec![0; open.size().map_err(failed)? as usize];
    open.read_at(0, &mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Reads one segment; says the number of the frame after its last.
fn replay(
    disk: &Arc<dyn Disk>,
    first: u64,
    is_last: bool,
    expected: Option<u64>,
    found: &mut Recovered,
    reader: &mut Reader,
) -> Result<u64, OpenError> {
    let file = segment_name(first);
    let bytes = read_file(disk, &file)?;
    let damaged = |offset: usize, what| OpenError::Damaged { file: file.clone(), offset: offset as u64, what };
    // The checkpoint holds every frame before `found.next` at the beginning.
    if first > expected.unwrap_or(found.next) {
        return Err(damaged(0, "the log before this file is missing"));
    }
    let header = match SegmentHeader::read(&bytes) {
        Some(header) if header.first == first => header,
        // A header is durable before the first frame is written, so a torn one has no frames after it.
        _ if is_last && !looks_used(&bytes, found.salt) => {
            remove(disk, &file)?;
            return Ok(first);
        }
        _ => return Err(damaged(0, "the file's header is damaged")),
    };
    if expected.is_some_and(|e| e != first) {
        return Err(damaged(0, "the log before this file has lost its end"));
    }
    found.salt = Some(header.salt);
    let (mut at, mut next) = (SEGMENT_HEADER, first);
    while let Some(frame) = frame::read(&bytes, at, header.salt).filter(|f| f.sequence == next) {
        if next >= found.next {
            found.batches.push(reader.read(frame.payload).ok_or_else(|| damaged(at, "a record has an unknown form"))?);
            found.log_bytes += frame.length as u64;
        }
        at += frame.length;
        next += 1;
    }
    let clean = bytes[at..].iter().all(|b| *b == 0);
    if !clean && (!is_last || frame::any_after(&bytes, at, header.salt, next)) {
        return Err(damaged(at, "a log record's checksum does not hold"));
    }
    if is_last {
        cut(disk, &file, next == first, at, bytes.len())?;
    }
    Ok(next)
}

/// Whether a segment without a good header has frames: with the salt known any whole frame says so, else any byte after the header.
fn looks_used(bytes: &[u8], salt: Option<u64>) -> bool {
    match salt {
        Some(salt) => frame::any_after(bytes, SEGMENT_HEADER, salt, 0),
        None => bytes.get(SEGMENT_HEADER..).is_some_and(|rest| rest.iter().any(|b| *b != 0)),
    }
}

/// Takes a torn tail away for good, since the next segment follows what is left.
fn cut(disk: &Arc<dyn Disk>, file: &str, empty: bool, end: usize, size: usize) -> Result<(), OpenError> {
    if empty {
        return remove(disk, file);
    }
    if end == size {
        return Ok(());
    }
    let failed = |source| OpenError::Io { act: "cutting", file: file.into(), source };
    disk.open(file).map_err(failed)?.truncate(end as u64).map_err(failed)
}

fn remove(disk: &Arc<dyn Disk>, file: &str) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io { act: "removing", file: file.into(), source };
    disk.remove(file).map_err(failed)?;
    disk.sync_dir().map_err(failed)
}
