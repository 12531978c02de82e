//! Segments consist of sectors that vouch for themselves, so that what a crash tore can be told from what was damaged later.
//!
//! A disk writes a sector whole or not at all, and segments are zeros until they are written, once. So a torn frame is missing sectors, and
//! those it has are whole; a sector that is neither blank nor whole was written and has changed since. Without this the last frame
//! of the log, damaged, would look like one that was never acknowledged. `docs/decisions/0007-sectors-that-vouch-for-themselves.md`.

use super::frame::u32_at;

/// What every disk writes whole or not at all.
pub(crate) const SECTOR: usize = 512;
/// Bytes of frames in a sector; its checksum follows them.
pub(crate) const DATA: usize = SECTOR - 4;

/// What a sector's checksum covers besides its bytes: a sector of another store, file or place is not whole here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) salt: u64,
    /// The number of the segment's first frame.
    pub(crate) segment: u64,
}

/// What became of a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sector {
    /// Zeros: never written.
    Blank,
    /// As it was written.
    Whole,
    /// Neither: written, and not what was written.
    Bad,
}

fn checksum(place: Place, index: usize, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    for number in [place.salt, place.segment, index as u64] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(data);
    // Never zero, so that no written sector is blank.
    hasher.finalize().max(1)
}

/// Bytes as sectors, the first of them at this index of the file.
pub(crate) fn seal(bytes: &[u8], place: Place, first: usize) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(bytes.len().div_ceil(DATA) * SECTOR);
    for (i, piece) in bytes.chunks(DATA).enumerate() {
        let begin = sealed.len();
        sealed.extend_from_slice(piece);
        sealed.resize(begin + DATA, 0);
        let sum = checksum(place, first + i, &sealed[begin..]);
        sealed.extend_from_slice(&sum.to_le_bytes());
    }
    sealed
}

/// The bytes of frames in a file, checked by nobody yet. Sector `n` of the file gives the bytes from `n * DATA` on.
pub(crate) fn unseal(file: &[u8]) -> Vec<u8> {
    file.chunks_exact(SECTOR).flat_map(|sector| &sector[..DATA]).copied().collect()
}

/// Looks at one sector of a file.
pub(crate) fn look(file: &[u8], place: Place, index: usize) -> Sector {
    let sector = &file[index * SECTOR..(index + 1) * SECTOR];
    if sector.iter().all(|b| *b == 0) {
        return Sector::Blank;
    }
    let sum = checksum(place, index, &sector[..DATA]);
    if u32_at(sector, DATA) == sum { Sector::Whole } else { Sector::Bad }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_whole_in_their_own_place_only() {
        let place = Place { salt: 7, segment: 1 };
        let bytes: Vec<u8> = (0..1500).map(|i| i as u8).collect();
        let mut file = vec![0; SECTOR];
        file.extend(seal(&bytes, place, 1));
        file.resize(6 * SECTOR, 0);
        assert_eq!(&unseal(&file)[DATA..][..1500], &bytes[..]);
        let looks = |file: &[u8], place| (0..6).map(|i| look(file, place, i)).collect::<Vec<_>>();
        use Sector::{Bad, Blank, Whole};
        assert_eq!(looks(&file, place), [Blank, Whole, Whole, Whole, Blank, Blank]);
        assert_eq!(looks(&file, Place { segment: 2, ..place }), [Blank, Bad, Bad, Bad, Blank, Blank]);
        file.copy_within(SECTOR..2 * SECTOR, 4 * SECTOR);
        file[2 * SECTOR + 11] ^= 1;
        assert_eq!(looks(&file, place), [Blank, Whole, Bad, Whole, Bad, Blank]);
    }
}
