//! Small acts on files, each naming itself when it fails.

use std::fs;
use std::io;
use std::path::Path;

use crate::{Error, Result};

/// Reads all of a text file.
pub(crate) fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::path("read", path))
}

/// Writes a kernel file, which takes a value in one write.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().write(true).open(path).map_err(Error::path("open", path))?;
    io::Write::write_all(&mut file, text.as_bytes()).map_err(Error::path("write", path))
}

/// Replaces a file so that a reader sees the old text or the new, whoever dies meanwhile.
pub(crate) fn replace(path: &Path, text: &[u8]) -> Result<()> {
    let staged = path.with_extension("new");
    fs::write(&staged, text).map_err(Error::path("write", &staged))?;
    fs::rename(&staged, path).map_err(Error::path("rename onto", path))
}

/// Removes a directory with all in it; gone already is fine.
pub(crate) fn remove_all(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::path("remove", path)(e)),
        _ => Ok(()),
    }
}
