//! From files to state: the newest checkpoint that is sound and the log after it.

use std::sync::Arc;

use gantry_object::Revision;
use gantry_ports::disk::Disk;

use super::checkpoint::{self, Loaded};
use super::frame;
use super::record::{Reader, Record};
use super::sector::{DATA, SECTOR, Sector, look, unseal};
use super::segment::{Open, SegmentHeader, UNBORN, number_in, segment_name};
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
    /// The last segment, where there is room for more.
    pub(crate) open: Option<Open>,
}

/// The names in a store's directory.
pub(crate) struct Names {
    /// Numbers of checkpoints, newest first.
    pub(crate) checkpoints: Vec<u64>,
    /// First frames of segments, oldest first.
    pub(crate) segments: Vec<u64>,
    pub(crate) unborn: Vec<String>,
}

/// How far the files are sound.
pub(crate) struct Found {
    pub(crate) recovered: Recovered,
    /// Where the log ends, if a segment is left.
    pub(crate) tail: Option<Tail>,
    /// Checkpoints newer than the one that was read, all of them damaged.
    pub(crate) damaged_checkpoints: Vec<u64>,
    /// The first damage that keeps this from being everything.
    pub(crate) damage: Option<OpenError>,
}

/// The end of a segment.
pub(crate) struct Tail {
    header: SegmentHeader,
    /// The sector after its last frame.
    sector: usize,
    /// The number of the frame after its last.
    next: u64,
}

impl Names {
    pub(crate) fn read(disk: &Arc<dyn Disk>) -> Result<Self, OpenError> {
        let names = disk.list().map_err(|source| OpenError::Io { act: "listing", file: "the store's directory".into(), source })?;
        let numbers = |prefix| names.iter().filter_map(|n| number_in(n, prefix)).collect::<Vec<u64>>();
        let (mut checkpoints, mut segments) = (numbers(checkpoint::PREFIX), numbers("log-"));
        checkpoints.sort_unstable_by(|a, b| b.cmp(a));
        segments.sort_unstable();
        Ok(Self { checkpoints, segments, unborn: names.into_iter().filter(|n| n.ends_with(UNBORN)).collect() })
    }
}

/// Reads as far as the files are sound, and changes nothing.
///
/// # Errors
/// When the disk fails, or not even a beginning is sound.
pub(crate) fn read(disk: &Arc<dyn Disk>, names: &Names) -> Result<Found, OpenError> {
    let mut damaged_checkpoints = Vec::new();
    let mut harm = None;
    for candidate in names.checkpoints.iter().copied().map(Some).chain([None]) {
        let mut reader = Reader::default();
        let loaded = match candidate.map(|sequence| load(disk, sequence, &mut reader)).transpose() {
            Ok(loaded) => loaded,
            Err(error @ OpenError::Damaged { .. }) => {
                damaged_checkpoints.extend(candidate);
                harm.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error),
        };
        if candidate.is_none() && harm.is_some() && names.segments.first() != Some(&1) {
            // Without any checkpoint the log must be there from its beginning.
            break;
        }
        let mut found = from_base(loaded);
        replay_all(disk, names, &mut found, &mut reader)?;
        // What a damaged checkpoint held, the log must have given.
        if names.checkpoints.first().is_some_and(|newest| found.recovered.next <= *newest) {
            found.damage = harm;
        }
        found.damaged_checkpoints = damaged_checkpoints;
        return Ok(found);
    }
    Err(harm.expect("the last candidate, no checkpoint, is passed over only after damage"))
}

/// Reads everything, wipes a torn tail, and reports damage.
pub(crate) fn recover(disk: &Arc<dyn Disk>, names: &Names, found: Found) -> Result<Recovered, OpenError> {
    if let Some(damage) = found.damage {
        return Err(damage);
    }
    // A process that was killed may have left names that never reached the disk; what is written from now on rests on them.
    disk.sync_dir().map_err(|source| OpenError::Io { act: "flushing", file: "the store's directory".into(), source })?;
    let mut recovered = found.recovered;
    for unborn in &names.unborn {
        remove(disk, unborn)?;
    }
    for sequence in found.damaged_checkpoints {
        let aside = put_aside(disk, &checkpoint::name(sequence))?;
        tracing::error!(aside, "a checkpoint is damaged and was put aside; the log since the one before it gave the same, nothing is lost");
    }
    match found.tail {
        Some(tail) if tail.next == recovered.next => recovered.open = Some(settle(disk, &tail)?),
        // The checkpoint holds more than the log still does. Without it the next segment follows the checkpoint without a gap.
        Some(_) => names.segments.iter().try_for_each(|first| remove(disk, &segment_name(*first)))?,
        None => {}
    }
    Ok(recovered)
}

fn load(disk: &Arc<dyn Disk>, sequence: u64, reader: &mut Reader) -> Result<(u64, Loaded, u64), OpenError> {
    let file = checkpoint::name(sequence);
    let bytes = read_file(disk, &file)?;
    Ok((sequence, checkpoint::read(&file, &bytes, reader)?, bytes.len() as u64))
}

/// A checkpoint, or nothing, with the log after it unread.
fn from_base(loaded: Option<(u64, Loaded, u64)>) -> Found {
    let (sequence, loaded, base_bytes) = loaded.unwrap_or((0, Loaded { revision: Revision(0), records: Vec::new() }, 0));
    let recovered = Recovered {
        base: loaded.records,
        base_revision: loaded.revision,
        base_bytes,
        batches: Vec::new(),
        log_bytes: 0,
        next: sequence + 1,
        salt: None,
        open: None,
    };
    Found { recovered, tail: None, damaged_checkpoints: Vec::new(), damage: None }
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

/// Reads the log after what was found so far, up to its end or the first damage.
fn replay_all(disk: &Arc<dyn Disk>, names: &Names, found: &mut Found, reader: &mut Reader) -> Result<(), OpenError> {
    let needless = covered(&names.segments, found.recovered.next - 1).len();
    let segments = &names.segments[needless..];
    for (i, first) in segments.iter().enumerate() {
        match replay(disk, *first, i + 1 == segments.len(), found, reader) {
            Ok(()) => {}
            Err(damage @ OpenError::Damaged { .. }) => {
                found.damage = Some(damage);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    if let Some(tail) = &found.tail {
        found.recovered.next = found.recovered.next.max(tail.next);
    }
    Ok(())
}

/// Reads one segment.
fn replay(disk: &Arc<dyn Disk>, first: u64, is_last: bool, found: &mut Found, reader: &mut Reader) -> Result<(), OpenError> {
    let file = segment_name(first);
    let bytes = read_file(disk, &file)?;
    let damaged = |offset: usize, what| OpenError::Damaged { file: file.clone(), offset: offset as u64, what };
    let before = found.tail.as_ref().map(|t| t.next);
    // The checkpoint holds every frame before `next` at the beginning.
    if first > before.unwrap_or(found.recovered.next) {
        return Err(damaged(
            0,
            if before.is_some() { "the log before this file has lost its end" } else { "the log before this file is missing" },
        ));
    }
    let header = SegmentHeader::read(&bytes).filter(|h| h.first == first && before.is_none_or(|b| b == first));
    let header = header.ok_or_else(|| damaged(0, "the file's header is damaged, or of another version"))?;
    found.recovered.salt = Some(header.salt);
    let data = unseal(&bytes);
    let (mut sector, mut next) = (1, first);
    while let Some(frame) = frame::read(&data, sector * DATA, header.salt).filter(|f| f.sequence == next) {
        let sectors = frame.length.div_ceil(DATA);
        if next >= found.recovered.next {
            let records = reader.read(frame.payload).ok_or_else(|| damaged(sector * SECTOR, "a record has an unknown form"))?;
            found.recovered.batches.push(records);
            found.recovered.log_bytes += (sectors * SECTOR) as u64;
        }
        sector += sectors;
        next += 1;
        // Kept up to date, so that damage after this frame does not take it along.
        found.tail = Some(Tail { header, sector, next });
    }
    found.tail = Some(Tail { header, sector, next });
    if bytes.len() as u64 != header.size {
        return Err(damaged(bytes.len().min(header.size as usize), "the file is not as long as it was made"));
    }
    match after_the_frames(&bytes, &data, &header, sector, next) {
        Rest::Blank => Ok(()),
        Rest::Torn if is_last => Ok(()),
        Rest::Torn => Err(damaged(sector * SECTOR, "a log record is not whole although others follow")),
        Rest::Bad(at) => Err(damaged(at * SECTOR, "a log record's checksum does not hold")),
    }
}

/// What follows the frames of a segment.
enum Rest {
    /// Nothing.
    Blank,
    /// Part of a frame that was being written when the machine stopped, and so was never acknowledged.
    Torn,
    /// What no crash leaves; with the sector.
    Bad(usize),
}

fn after_the_frames(bytes: &[u8], data: &[u8], header: &SegmentHeader, from: usize, next: u64) -> Rest {
    let looks: Vec<Sector> = (from..bytes.len() / SECTOR).map(|i| look(bytes, header.place(), i)).collect();
    if let Some(bad) = looks.iter().position(|l| *l == Sector::Bad) {
        return Rest::Bad(from + bad);
    }
    let Some(written) = looks.iter().position(|l| *l == Sector::Whole) else { return Rest::Blank };
    let is_frame =
        |i: &usize| looks[*i] == Sector::Whole && frame::read(data, (from + i) * DATA, header.salt).is_some_and(|f| f.sequence >= next);
    if (written..looks.len()).any(|i| is_frame(&i)) {
        return Rest::Bad(from);
    }
    if written > 0 {
        return Rest::Torn;
    }
    // The frame's beginning is there: then one of its sectors is not.
    match frame::claim(data, from * DATA) {
        Some((number, length)) if number == next && looks.iter().take(length.div_ceil(DATA)).any(|l| *l == Sector::Blank) => Rest::Torn,
        _ => Rest::Bad(from),
    }
}

/// Takes a torn tail away for good, since the next frame will be written in its place, and makes sure that what was read is durable: a process
/// that was killed may have left bytes that never reached the disk.
fn settle(disk: &Arc<dyn Disk>, tail: &Tail) -> Result<Open, OpenError> {
    let name = segment_name(tail.header.first);
    let failed = |source| OpenError::Io { act: "wiping the end of", file: name.clone(), source };
    let (file, at) = (disk.open(&name).map_err(failed)?, (tail.sector * SECTOR) as u64);
    let mut rest = vec![0; (tail.header.size - at) as usize];
    file.read_at(at, &mut rest).map_err(failed)?;
    if let Some(last) = rest.iter().rposition(|b| *b != 0) {
        let torn = (last + 1).next_multiple_of(SECTOR);
        tracing::warn!(
            file = name,
            offset = at,
            bytes = torn,
            "an unfinished write at the log's end was taken away; it was never acknowledged"
        );
        rest.truncate(torn);
        rest.fill(0);
        file.write_at(at, &rest).map_err(failed)?;
    }
    file.sync_data().map_err(failed)?;
    Ok(Open { file, first: tail.header.first, at, size: tail.header.size })
}

fn remove(disk: &Arc<dyn Disk>, file: &str) -> Result<(), OpenError> {
    let failed = |source| OpenError::Io { act: "removing", file: file.into(), source };
    disk.remove(file).map_err(failed)?;
    disk.sync_dir().map_err(failed)
}

/// Gives a damaged file a name that nothing reads.
pub(crate) fn put_aside(disk: &Arc<dyn Disk>, file: &str) -> Result<String, OpenError> {
    let failed = |source| OpenError::Io { act: "putting aside", file: file.into(), source };
    let aside = format!("damaged-{file}");
    disk.rename(file, &aside).map_err(failed)?;
    disk.sync_dir().map_err(failed)?;
    Ok(aside)
}
