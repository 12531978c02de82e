//! The log's files, and the one who appends to them.

use std::io;
use std::sync::Arc;

use gantry_ports::disk::{Disk, DiskFile};

use super::frame::{FrameBuilder, u64_at};

/// Bytes before a segment's first frame.
pub(crate) const SEGMENT_HEADER: usize = 40;
const MAGIC: &[u8; 8] = b"GANTLOG1";

/// What a segment says about itself: its first frame's number and the store's salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) first: u64,
    pub(crate) salt: u64,
}

impl SegmentHeader {
    fn to_bytes(self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&self.first.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..24]);
        bytes[24..28].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None` when the bytes do not begin with an unharmed header.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let header = Self { first: u64_at(bytes.get(..SEGMENT_HEADER)?, 8), salt: u64_at(bytes, 16) };
        (bytes[..SEGMENT_HEADER] == header.to_bytes()).then_some(header)
    }
}

/// The name of the segment whose first frame has this number. Names sort as numbers do.
pub(crate) fn segment_name(first: u64) -> String {
    format!("log-{first:016x}")
}

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

struct Open {
    file: Box<dyn DiskFile>,
    at: u64,
    size: u64,
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
    /// Will append frames from number `next` on, into a segment of its own.
    pub(crate) fn new(disk: Arc<dyn Disk>, salt: u64, segment_size: u64, next: u64) -> Self {
        Self { disk, salt, segment_size, next, open: None }
    }

    /// Writes a frame and makes it durable; says its number and its length.
    pub(crate) fn append(&mut self, frame: FrameBuilder) -> Result<(u64, usize), AppendError> {
        let sequence = self.next;
        let bytes = frame.finish(self.salt, sequence);
        let open = match self.open.take().filter(|o| o.at + bytes.len() as u64 <= o.size) {
            Some(open) => self.open.insert(open),
            None => {
                let open = self.roll(bytes.len())?;
                self.open.insert(open)
            }
        };
        open.file.write_at(open.at, &bytes).and_then(|()| open.file.sync_data()).map_err(AppendError::Unknown)?;
        open.at += bytes.len() as u64;
        self.next += 1;
        Ok((sequence, bytes.len()))
    }

    /// Begins a segment that holds at least a frame of this length. Its header and name are durable before any frame is.
    fn roll(&self, frame: usize) -> Result<Open, AppendError> {
        let size = self.segment_size.max((SEGMENT_HEADER + frame) as u64);
        let name = segment_name(self.next);
        let file = self.disk.create(&name, size).map_err(|error| match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => AppendError::Full(error),
            _ => AppendError::Unknown(error),
        })?;
        let header = SegmentHeader { first: self.next, salt: self.salt }.to_bytes();
        let made = file.write_at(0, &header).and_then(|()| file.sync_data()).and_then(|()| self.disk.sync_dir());
        made.map_err(AppendError::Unknown)?;
        Ok(Open { file, at: SEGMENT_HEADER as u64, size })
    }
}
