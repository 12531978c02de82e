//! Mounts by descriptor (fsopen(2), open_tree(2), move_mount(2), mount_setattr(2)), so that no path inside a container
//! is ever followed by its name. Needs Linux 5.12.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

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
    if !options.iter().any(|(key, _)| *key == "source") {
        // What tools show as the device.
        rustix::mount::fsconfig_set_string(context.as_fd(), "source", kind)?;
    }
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
    make_point(root, path, kind)
}

/// Walks a path name by name, making what is missing. Links are followed as the root sees them, dangling ones too.
fn make_point(root: BorrowedFd<'_>, path: &Path, kind: Point) -> Result<OwnedFd> {
    const MOST_LINKS: u32 = 40;
    let mut todo: VecDeque<OsString> = path.components().map(|c| c.as_os_str().to_owned()).collect();
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = todo.pop_front() {
        match Path::new(&name).components().next() {
            Some(Component::RootDir) => here = PathBuf::from("/"),
            Some(Component::ParentDir) => drop(here.pop()),
            Some(Component::Normal(name)) => here.push(name),
            _ => continue,
        }
        let fd = match open_in(root, &here, OFlags::PATH | OFlags::NOFOLLOW) {
            Err(rustix::io::Errno::NOENT) => {
                make_missing(root, &here, if todo.is_empty() { kind } else { Point::Directory })?;
                continue;
            }
            other => other.map_err(Error::path("open mount point", &here))?,
        };
        let is_link = rustix::fs::fstat(&fd).map(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink);
        if is_link.map_err(Error::path("look at mount point", &here))? {
            links += 1;
            if links > MOST_LINKS {
                return Err(Error::path("open mount point", path)(rustix::io::Errno::LOOP));
            }
            let target = rustix::fs::readlinkat(&fd, "", Vec::new()).map_err(Error::path("read link", &here))?;
            here.pop();
            let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
            for part in target.components().rev() {
                todo.push_front(part.as_os_str().to_owned());
            }
        }
    }
    open_in(root, &here, OFlags::PATH).map_err(Error::path("open mount point", &here))
}

fn make_missing(root: BorrowedFd<'_>, path: &Path, kind: Point) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let parent = open_in(root, parent, OFlags::PATH | OFlags::DIRECTORY).map_err(Error::path("open mount point", parent))?;
    let made = match kind {
        Point::File => rustix::fs::mknodat(&parent, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0),
        Point::Directory => rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)),
    };
    match made {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(Error::path("make mount point", path)(e)),
    }
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
