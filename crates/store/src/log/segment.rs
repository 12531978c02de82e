//! The log's files, and the one who appends to them.

use std::io;
use std::sync::Arc;

use gantry_ports::disk::{Disk, DiskFile};

use super::frame::{FrameBuilder, u64_at};
use super::sector::{self, Place, SECTOR};

const MAGIC: &[u8; 8] = b"GANTLOG2";
/// Bytes of what a header says; the rest of its sector is zeros.
const SAID: usize = 36;

/// What the first sector of a segment says: its first frame's number, the store's salt, and the file's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) first: u64,
    pub(crate) salt: u64,
    pub(crate) size: u64,
}

impl SegmentHeader {
    fn to_bytes(self) -> [u8; SECTOR] {
        let mut bytes = [0; SECTOR];
        bytes[..8].copy_from_slice(MAGIC);
        for (at, number) in [(8, self.first), (16, self.salt), (24, self.size)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        let sum = crc32fast::hash(&bytes[..32]);
        bytes[32..SAID].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` when the bytes do not begin with an unharmed header.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let sector = bytes.get(..SECTOR)?;
        let header = Self { first: u64_at(sector, 8), salt: u64_at(sector, 16), size: u64_at(sector, 24) };
        (sector == header.to_bytes()).then_some(header)
    }

    /// Where this segment's sectors are at home.
    pub(crate) fn place(&self) -> Place {
        Place { salt: self.salt, segment: self.first }
    }
}

/// The name of the segment whose first frame has this number. Names sort as numbers do.
pub(crate) fn segment_name(first: u64) -> String {
    format!("log-{first:016x}")
}

/// What a segment's name ends with until its header is durable. Whatever has a segment's name has once had a header.
pub(crate) const UNBORN: &str = ".new";

/// The number in a name that starts with `prefix`.
pub(crate) fn number_in(name: &str, prefix: &str) -> Option<u64> {
    name.strip_prefix(prefix).filter(|n| n.len() == 16).and_then(|n| u64::from_str_radix(n, 16).ok())
}

/// Appends frames, one flush each.
pub(crate) struct Appender {
    disk: Arc<dyn Disk>,
    salt: u64,
    segment_size: u64,
    next: u64,
    open: Option<Open>,
}

/// A segment that frames are written into.
pub(crate) struct Open {
    pub(crate) file: Box<dyn DiskFile>,
    /// The number of its first frame.
    pub(crate) first: u64,
    /// Where the next frame goes: the beginning of a sector.
    pub(crate) at: u64,
    pub(crate) size: u64,
}

/// How an append failed.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// Nothing was written: no space for a new segment. Can be tried again.
    Full(io::Error),
    /// Something may have been written; the log's end is unknown.
    Unknown(io::Error),
}

impl Appender {
    /// Will append frames from number `next` on: to the segment that is open, or into one of its own.
    pub(crate) fn new(disk: Arc<dyn Disk>, salt: u64, segment_size: u64, next: u64, open: Option<Open>) -> Self {
        Self { disk, salt, segment_size, next, open }
    }

    /// Writes a frame and makes it durable; says its number and its length in the file.
    pub(crate) fn append(&mut self, frame: FrameBuilder) -> Result<(u64, usize), AppendError> {
        let sequence = self.next;
        let bytes = frame.finish(self.salt, sequence);
        let length = bytes.len().div_ceil(sector::DATA) * SECTOR;
        if self.open.as_ref().is_none_or(|o| o.at + length as u64 > o.size) {
            // The old segment stays in use where there is no space for a new one: a smaller frame may still fit in.
            self.open = Some(self.roll(length)?);
        }
        let open = self.open.as_mut().expect("just made if there was none");
        let place = Place { salt: self.salt, segment: open.first };
        let sealed = sector::seal(&bytes, place, open.at as usize / SECTOR);
        open.file.write_at(open.at, &sealed).and_then(|()| open.file.sync_data()).map_err(AppendError::Unknown)?;
        open.at += length as u64;
        self.next += 1;
        Ok((sequence, length))
    }

    /// Begins a segment that holds at least a frame of this length in the file.
    fn roll(&self, frame: usize) -> Result<Open, AppendError> {
        let size = self.segment_size.max((SECTOR + frame) as u64).next_multiple_of(SECTOR as u64);
        let unborn = segment_name(self.next) + UNBORN;
        self.begin(&unborn, size).map_err(|error| {
            // What is left of it takes space; opening removes it too.
            let _ = self.disk.remove(&unborn);
            match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full(error),
                _ => AppendError::Unknown(error),
            }
        })
    }

    /// Makes a segment's file. Its header is durable before it has its name, and its name before any frame is written.
    fn begin(&self, unborn: &str, size: u64) -> io::Result<Open> {
        let file = self.disk.create(unborn, size)?;
        let header = SegmentHeader { first: self.next, salt: self.salt, size };
        file.write_at(0, &header.to_bytes())?;
        file.sync_data()?;
        self.disk.rename(unborn, &segment_name(self.next))?;
        self.disk.sync_dir()?;
        Ok(Open { file, first: self.next, at: SECTOR as u64, size })
    }
}
