//! Volumes as directories.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{Gid, chown};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::Payload;

/// The link that a reader follows; it is swapped in one step.
const CURRENT: &str = "..data";

/// Writes a volume's files, so that a reader sees either all old or all new ones. Says whether anything changed.
///
/// The volume's root holds a link per top-level name, leading through `..data` to a directory of this version.
///
/// # Errors
/// When the disk refuses.
pub fn write_payload(volume: &Path, payload: &Payload, group: Option<u32>, version: u64) -> io::Result<bool> {
    fs::create_dir_all(volume)?;
    let current = volume.join(CURRENT);
    if current.exists() && is_same(&current, payload) {
        return Ok(false);
    }
    let name = format!("..{version:020}");
    let directory = volume.join(&name);
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir(&directory)?;
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let target = directory.join(path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, &file.contents)?;
        // Whoever shares the pod's group must be able to read what it was given.
        let mode = if group.is_some() { file.mode | 0o440 } else { file.mode };
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        if let Some(group) = group {
            chown(&target, None, Some(Gid::from_raw(group)))?;
        }
    }
    let before = fs::read_link(&current).ok();
    let temporary = volume.join("..data_tmp");
    let _ = fs::remove_file(&temporary);
    symlink(&name, &temporary)?;
    fs::rename(&temporary, &current)?;
    link_names(volume, payload)?;
    if let Some(before) = before {
        fs::remove_dir_all(volume.join(before))?;
    }
    Ok(true)
}

fn is_same(current: &Path, payload: &Payload) -> bool {
    payload.iter().all(|(path, file)| fs::read(current.join(path)).is_ok_and(|bytes| bytes == file.contents))
        && count_files(current) == payload.len()
}

fn count_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { count_files(&e.path()) } else { 1 }).sum()
}

fn link_names(volume: &Path, payload: &Payload) -> io::Result<()> {
    let top = |path: &str| path.split('/').next().unwrap_or(path).to_owned();
    let wanted: std::collections::BTreeSet<String> = payload.keys().map(|p| top(p)).collect();
    for name in &wanted {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(CURRENT).join(name), &link)?;
        }
    }
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !wanted.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Makes an empty directory that everybody in the pod may write, on disk or in memory. Idempotent.
///
/// # Errors
/// When the disk refuses, or the memory file system cannot be mounted.
pub fn make_empty_dir(volume: &Path, group: Option<u32>, memory: bool, size: Option<i64>) -> io::Result<()> {
    fs::create_dir_all(volume)?;
    if memory && !is_mount_point(volume)? {
        let size = size.map(|s| format!(",size={s}")).unwrap_or_default();
        let data = std::ffi::CString::new(format!("mode=0777{size}")).map_err(io::Error::other)?;
        mount("tmpfs", volume, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(data.as_c_str()))?;
    }
    let mode = if group.is_some() { 0o2777 } else { 0o777 };
    if let Some(group) = group {
        chown(volume, None, Some(Gid::from_raw(group)))?;
    }
    fs::set_permissions(volume, fs::Permissions::from_mode(mode))
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    let parent = path.parent().unwrap_or(path);
    Ok(fs::metadata(path)?.dev() != fs::metadata(parent)?.dev())
}

/// Removes a pod's volumes with everything mounted among them.
///
/// # Errors
/// When something cannot be unmounted or removed.
pub fn remove_volumes(directory: &Path) -> io::Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        while path.is_dir() && is_mount_point(&path)? {
            unmount(&path, UnmountFlags::DETACH)?;
        }
    }
    fs::remove_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::File;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files.iter().map(|(p, c)| ((*p).to_owned(), File { contents: c.as_bytes().to_vec(), mode: 0o600 })).collect()
    }

    #[test]
    fn a_change_is_seen_whole_and_what_is_gone_goes() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("v");
        assert!(write_payload(&volume, &payload(&[("a", "1"), ("d/b", "2")]), None, 1).unwrap());
        assert!(!write_payload(&volume, &payload(&[("a", "1"), ("d/b", "2")]), None, 2).unwrap());
        assert_eq!(fs::read_to_string(volume.join("d/b")).unwrap(), "2");
        assert_eq!(fs::metadata(volume.join("a")).unwrap().mode() & 0o777, 0o600);
        assert!(write_payload(&volume, &payload(&[("a", "3")]), Some(0), 3).unwrap());
        assert_eq!(fs::read_to_string(volume.join("a")).unwrap(), "3");
        assert!(!volume.join("d").exists());
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 3, "the link, its directory, and a");
    }

    #[test]
    fn memory_is_mounted_once_and_unmounted() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("volumes/m");
        make_empty_dir(&volume, Some(7), true, Some(1 << 20)).unwrap();
        make_empty_dir(&volume, Some(7), true, Some(1 << 20)).unwrap();
        assert!(is_mount_point(&volume).unwrap());
        assert_eq!((fs::metadata(&volume).unwrap().gid(), fs::metadata(&volume).unwrap().mode() & 0o7777), (7, 0o2777));
        remove_volumes(&root.path().join("volumes")).unwrap();
        assert!(!volume.exists());
    }
}
