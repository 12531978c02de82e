//! Going on from a damaged log, when its owner says so: with what is sound before the damage.

use std::sync::Arc;

use gantry_object::Revision;
use gantry_ports::disk::Disk;

use super::checkpoint;
use super::frame;
use super::record::Reader;
use super::recover::{Found, Names};
use super::sector::{DATA, SECTOR, unseal};
use super::segment::{SegmentHeader, segment_name};
use crate::OpenError;

/// The fewest bytes that a record takes in the log.
const SMALLEST_RECORD: u64 = 17;

/// What is no longer read, and where to go on so that no number is given twice.
pub(crate) struct GivenUp {
    /// No revision above this was ever given.
    pub(crate) revision: Revision,
    /// No frame above this was ever written.
    pub(crate) sequence: u64,
    /// The files to put aside.
    pub(crate) files: Vec<String>,
}

/// Gives up what follows the damage that was found, if any.
///
/// # Errors
/// When the disk fails.
pub(crate) fn give_up(disk: &Arc<dyn Disk>, names: &Names, found: &mut Found, segment_size: u64) -> Result<Option<GivenUp>, OpenError> {
    let Some(damage) = found.damage.take() else { return Ok(None) };
    let recovered = &found.recovered;
    let sound = recovered.batches.iter().flatten().map(|r| r.change.revision).max().unwrap_or(recovered.base_revision);
    let (mut revision, mut sequence) = (sound.0, recovered.next.max(names.checkpoints.first().copied().unwrap_or(0)));
    // What cannot be read holds no more revisions and frames than its bytes can.
    let mut unreadable = 0;
    for first in names.segments.iter().copied() {
        let failed = |source| OpenError::Io { act: "reading", file: segment_name(first), source };
        let file = disk.open(&segment_name(first)).map_err(failed)?;
        let mut bytes = vec![0; file.size().map_err(failed)? as usize];
        file.read_at(0, &mut bytes).map_err(failed)?;
        unreadable += segment_size.max(bytes.len() as u64);
        let seen = highest(&bytes, recovered.salt);
        revision = revision.max(seen.map_or(0, |(r, _)| r));
        sequence = sequence.max(first).max(seen.map_or(0, |(_, s)| s));
    }
    revision += unreadable / SMALLEST_RECORD + 1;
    sequence += unreadable / SECTOR as u64 + 1;
    let checkpoints = found.damaged_checkpoints.drain(..).map(checkpoint::name);
    let files: Vec<String> = names.segments.iter().map(|s| segment_name(*s)).chain(checkpoints).collect();
    tracing::error!(%damage, sound_revision = sound.0, next_revision = revision + 1, aside = ?files,
        "the log is damaged: going on with what is sound before the damage; what came after is lost");
    found.tail = None;
    Ok(Some(GivenUp { revision: Revision(revision), sequence, files }))
}

/// The highest revision and frame number among a segment's whole frames, wherever they lie.
fn highest(bytes: &[u8], salt: Option<u64>) -> Option<(u64, u64)> {
    let salt = SegmentHeader::read(bytes).map(|h| h.salt).or(salt)?;
    let data = unseal(bytes);
    let frames = (0..bytes.len() / SECTOR).filter_map(|i| frame::read(&data, i * DATA, salt));
    let numbers = frames.filter_map(|f| {
        let records = Reader::default().read(f.payload)?;
        Some((records.iter().map(|r| r.change.revision.0).max()?, f.sequence))
    });
    numbers.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
}
