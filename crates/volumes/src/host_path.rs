//! Paths of the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Why a path of the host cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    /// It isn't what the volume says it is.
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    WrongType {
        /// The path.
        path: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// It could not be made.
    #[error("making {path}")]
    Make {
        /// The path.
        path: String,
        /// The kernel's reason.
        #[source]
        source: std::io::Error,
    },
}

/// Checks that a path is what a hostPath volume says, making it where the type says so.
///
/// # Errors
/// When it isn't, or cannot be made.
pub fn check_host_path(path: &Path, kind: &str) -> Result<(), HostPathError> {
    let text = || path.display().to_string();
    let made = |result: std::io::Result<()>| result.map_err(|source| HostPathError::Make { path: text(), source });
    let metadata = fs::metadata(path).ok();
    let is = |test: fn(&fs::FileType) -> bool| metadata.as_ref().is_some_and(|m| test(&m.file_type()));
    let (holds, wanted) = match kind {
        "DirectoryOrCreate" if metadata.is_none() => {
            made(fs::create_dir_all(path).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755))))?;
            (true, "directory")
        }
        "FileOrCreate" if metadata.is_none() => {
            made(fs::File::create(path).and_then(|f| f.set_permissions(fs::Permissions::from_mode(0o644))))?;
            (true, "file")
        }
        // Nothing was said: a missing path becomes a directory, as container runtimes have always done.
        "" if metadata.is_none() => {
            made(fs::create_dir_all(path))?;
            (true, "path")
        }
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "file"),
        "Socket" => (is(FileTypeExt::is_socket), "socket"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "block device"),
        _ => (true, "path"),
    };
    if holds { Ok(()) } else { Err(HostPathError::WrongType { path: text(), wanted }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_and_made() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        assert!(check_host_path(&path("a"), "Directory").is_err());
        check_host_path(&path("a"), "DirectoryOrCreate").unwrap();
        check_host_path(&path("a"), "Directory").unwrap();
        assert!(check_host_path(&path("a"), "File").is_err());
        check_host_path(&path("f"), "FileOrCreate").unwrap();
        check_host_path(&path("f"), "File").unwrap();
        check_host_path(Path::new("/dev/null"), "CharDevice").unwrap();
        check_host_path(&path("x/y"), "").unwrap();
    }
}
