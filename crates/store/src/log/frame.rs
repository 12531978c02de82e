//! Checksummed frames: what segments and checkpoints are made of.
//!
//! A frame is a header of 24 bytes (magic, checksum, payload length, zero, sequence number) and its payload, padded to 8 bytes. The
//! checksum covers everything after itself and the store's salt, so that no object a user stores can pass for a frame.

/// Bytes of a frame's header.
pub(crate) const HEADER: usize = 24;
/// Frames begin at multiples of this.
pub(crate) const ALIGN: usize = 8;
const MAGIC: u32 = 0x6d72_4647;

/// A frame found in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) sequence: u64,
    pub(crate) payload: &'a [u8],
    /// Its length in the file, padding included.
    pub(crate) length: usize,
}

fn checksum(salt: u64, rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(rest);
    hasher.finalize()
}

fn padded(length: usize) -> usize {
    length.next_multiple_of(ALIGN)
}

/// A frame being filled.
pub(crate) struct FrameBuilder(Vec<u8>);

impl FrameBuilder {
    pub(crate) fn new() -> Self {
        Self(vec![0; HEADER])
    }

    /// Where to append the payload.
    pub(crate) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len() - HEADER
    }

    /// The bytes to write. A payload is at most 4 GiB, which batches stay far below.
    pub(crate) fn finish(mut self, salt: u64, sequence: u64) -> Vec<u8> {
        let length = u32::try_from(self.len()).expect("batches are cut well below 4 GiB");
        self.0[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        self.0[8..12].copy_from_slice(&length.to_le_bytes());
        self.0[16..24].copy_from_slice(&sequence.to_le_bytes());
        let sum = checksum(salt, &self.0[8..]);
        self.0[4..8].copy_from_slice(&sum.to_le_bytes());
        self.0.resize(padded(self.0.len()), 0);
        self.0
    }
}

/// Reads the frame that begins at `at`. `None` when there is no whole, unharmed frame.
pub(crate) fn read(bytes: &[u8], at: usize, salt: u64) -> Option<Frame<'_>> {
    let header = bytes.get(at..at + HEADER)?;
    if u32_at(header, 0) != MAGIC {
        return None;
    }
    let end = at + HEADER + u32_at(header, 8) as usize;
    let body = bytes.get(at + 8..end)?;
    let payload = bytes.get(at + HEADER..end)?;
    (checksum(salt, body) == u32_at(header, 4)).then(|| Frame { sequence: u64_at(header, 16), payload, length: padded(end - at) })
}

/// The number and length in the file that a frame's header claims, with its checksum unseen. `None` when there is no header.
pub(crate) fn claim(bytes: &[u8], at: usize) -> Option<(u64, usize)> {
    let header = bytes.get(at..at + HEADER).filter(|h| u32_at(h, 0) == MAGIC)?;
    Some((u64_at(header, 16), padded(HEADER + u32_at(header, 8) as usize)))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
