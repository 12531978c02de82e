//! A directory on a disk: the least that an append-only log needs of one.

#[cfg(test)]
mod contract;
mod real;
mod simulated;

use std::io;

pub use real::RealDisk;
pub use simulated::SimDisk;

/// One directory of files. What is not synced may be lost or torn by a crash, sector by sector; names are not safe before
/// [`Disk::sync_dir`].
pub trait Disk: Send + Sync + 'static {
    /// Makes a file of `size` zero bytes whose space is set aside, so that writing inside it never finds the disk full.
    ///
    /// # Errors
    /// `AlreadyExists`; `StorageFull`, in which case no file is left.
    fn create(&self, name: &str, size: u64) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, over any file that has it.
    ///
    /// # Errors
    /// `NotFound`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// `NotFound`.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes created, renamed and removed names durable.
    ///
    /// # Errors
    /// When the disk failed: names may or may not be durable.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes the directory for this process until the lock is dropped.
    ///
    /// # Errors
    /// `WouldBlock` when another holder has it.
    fn lock(&self) -> io::Result<DiskLock>;
}

/// A lock on a directory, held until dropped.
pub struct DiskLock(#[allow(dead_code, reason = "held for its Drop")] Box<dyn Send + Sync>);

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its size in bytes.
    ///
    /// # Errors
    /// When the disk failed.
    fn size(&self) -> io::Result<u64>;

    /// Fills the buffer from an offset.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before the buffer is full.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all bytes at an offset, growing the file where needed.
    ///
    /// # Errors
    /// `StorageFull`, or the disk failed: part of the bytes may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file's bytes and size durable.
    ///
    /// # Errors
    /// When the disk failed: any bytes since the last sync may be lost, even if a later sync succeeds.
    fn sync_data(&self) -> io::Result<()>;

    /// Cuts the file to a size, durably.
    ///
    /// # Errors
    /// When the disk failed.
    fn truncate(&self, size: u64) -> io::Result<()>;
}
