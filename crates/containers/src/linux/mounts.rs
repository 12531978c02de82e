//! Mounts by descriptor (fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)), so that no path inside a container
//! is ever followed by its name. Needs Linux 5.12.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::{Error, Propagation, Result};

/// Attributes of a mount, as in mount_setattr(2).
pub(crate) const RDONLY: u64 = 0x1;
pub(crate) const NOSUID: u64 = 0x2;
pub(crate) const NODEV: u64 = 0x4;
pub(crate) const NOEXEC: u64 = 0x8;

/// A new file system with these options, not yet anywhere.
pub(crate) fn new(kind: &str, options: &[(&str, &str)], attributes: u64) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            rustix::mount::fsconfig_set_flag(context.as_fd(), *key)?;
        } else {
            rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
        }
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes as u32))
}

/// Another mount of what is at a path, not yet anywhere.
pub(crate) fn copy(at: BorrowedFd<'_>, path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path.as_os_str().is_empty() {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(at, path, flags)
}

/// Puts a mount where a descriptor points to.
pub(crate) fn place(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, "", target, "", flags)
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Default)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Adds attributes to a mount, sets how it propagates, or both.
pub(crate) fn change(mount: BorrowedFd<'_>, set: u64, propagation: Option<Propagation>, recursive: bool) -> io::Result<()> {
    let propagation = propagation.map_or(0, |p| match p {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
    });
    let attr = MountAttr { set, propagation, ..MountAttr::default() };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a C string and `attr` a whole mount_attr of its size; the kernel only reads them.
    let result =
        unsafe { libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size_of::<MountAttr>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Opens a path below a root as a process in that root would see it; links can't lead out.
pub(crate) fn open_in(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// What a missing mount point is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    File,
    Directory,
}

/// Opens a mount point below a root, making what is missing of it.
pub(crate) fn open_point(root: BorrowedFd<'_>, path: &Path, kind: Point) -> Result<OwnedFd> {
    match open_in(root, path, OFlags::PATH) {
        Ok(fd) => return Ok(fd),
        Err(rustix::io::Errno::NOENT) => {}
        Err(e) => return Err(Error::path("open mount point", path)(e)),
    }
    let names: Vec<_> = path.components().filter_map(|c| if let Component::Normal(n) = c { Some(n) } else { None }).collect();
    let mut at = open_in(root, Path::new("/"), OFlags::PATH | OFlags::DIRECTORY).map_err(Error::path("open root for", path))?;
    let mut so_far = std::path::PathBuf::from("/");
    for (i, name) in names.iter().enumerate() {
        so_far.push(name);
        let last = i + 1 == names.len();
        let made = if last && kind == Point::File {
            rustix::fs::mknodat(&at, *name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0)
        } else {
            rustix::fs::mkdirat(&at, *name, Mode::from_raw_mode(0o755))
        };
        if let Err(e) = made
            && e != rustix::io::Errno::EXIST
        {
            return Err(Error::path("make mount point", &so_far)(e));
        }
        // From the root again: a part that was there may be a link.
        at = open_in(root, &so_far, OFlags::PATH).map_err(Error::path("open mount point", &so_far))?;
    }
    Ok(at)
}

/// Whether what a descriptor points to is a directory.
pub(crate) fn point_for(source: BorrowedFd<'_>) -> rustix::io::Result<Point> {
    let kind = FileType::from_raw_mode(rustix::fs::fstat(source)?.st_mode);
    Ok(if kind == FileType::Directory { Point::Directory } else { Point::File })
}

/// The calling process's idea of here, for paths of the host.
pub(crate) fn here() -> BorrowedFd<'static> {
    CWD
}
