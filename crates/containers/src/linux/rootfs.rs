//! A container's file system: built in its own mount namespace by its own first process, so nothing of it shows on the
//! host and all of it goes with the last process.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use super::cgroup::Cgroup;
use super::devices;
use super::mounts::{self, NODEV, NOEXEC, NOSUID, Point, RDONLY};
use crate::{ContainerConfig, Error, Mount, MountKind, Propagation, Result, Rootfs};

/// Files of the kernel's that tell too much or break too easily.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// Files of the kernel's that may be looked at.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What a root is built from.
pub(crate) struct Plan<'a> {
    pub(crate) config: &'a ContainerConfig,
    /// The container's own directory: the overlay's upper layer lies here unless given, and the root is put together here.
    pub(crate) directory: &'a Path,
    /// The pod's shared memory.
    pub(crate) shm: Option<&'a Path>,
    pub(crate) cgroup: &'a Cgroup,
}

/// Builds the root and goes there. The caller is in a mount namespace of its own, and in the container's others.
pub(crate) fn enter(plan: &Plan<'_>) -> Result<()> {
    // What a shared mount is shared with is lost below, so these are taken first.
    let binds = plan.config.mounts.iter().map(take_source).collect::<Result<Vec<_>>>()?;
    let shm =
        plan.shm.map(|path| mounts::copy(mounts::here(), path, false).map_err(Error::path("take shared memory", path))).transpose()?;
    rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(Error::path("unshare mounts at", "/"))?;

    // Device nodes and mount points get the modes that are given; the program's own mask is set later.
    rustix::process::umask(Mode::empty());
    let root = root_mount(plan)?;
    let root = root.as_fd();
    kernel_mounts(root, plan, shm)?;
    device_nodes(root, plan.config.security.privileged)?;
    for (mount, source) in plan.config.mounts.iter().zip(binds) {
        place_mount(root, mount, source)?;
    }
    restrict_paths(root, plan.config)?;
    if plan.config.security.read_only_rootfs {
        mounts::change(root, RDONLY, None, false).map_err(Error::path("make read-only", "/"))?;
    }
    rustix::process::fchdir(root).map_err(Error::path("go to root of", plan.directory))?;
    pivot()
}

/// Makes the current directory the root and lets the old one go.
pub(crate) fn pivot() -> Result<()> {
    rustix::process::pivot_root(".", ".").map_err(Error::system("pivot_root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(Error::system("leave the host's root"))?;
    rustix::process::chdir("/").map_err(Error::path("change to", "/"))
}

fn take_source(mount: &Mount) -> Result<Option<OwnedFd>> {
    match &mount.kind {
        MountKind::Bind { source, recursive } => {
            mounts::copy(mounts::here(), source, *recursive).map(Some).map_err(Error::path("take mount source", source))
        }
        MountKind::Tmpfs { .. } => Ok(None),
    }
}

/// The root itself, mounted on the container's directory.
fn root_mount(plan: &Plan<'_>) -> Result<OwnedFd> {
    let point = plan.directory.join("root");
    let place = |mount: OwnedFd| {
        let target = open_directory(&point)?;
        mounts::place(mount.as_fd(), target.as_fd()).map_err(Error::path("mount root at", &point)).map(|()| mount)
    };
    let mount = match &plan.config.rootfs {
        Rootfs::Directory(path) => place(mounts::copy(mounts::here(), path, true).map_err(Error::path("take root", path))?)?,
        Rootfs::Overlay { lower, upper } => {
            let (upper, work) = upper.clone().unwrap_or_else(|| (plan.directory.join("upper"), plan.directory.join("work")));
            let layers = Layers::new(lower, &upper, &work)?;
            match layers.mount() {
                // Before Linux 6.5 layers can't be given one by one.
                Err(rustix::io::Errno::INVAL) => layers.mount_by_text(&point)?,
                other => place(other.map_err(Error::path("mount overlay with upper", upper))?)?,
            }
        }
    };
    mounts::change(mount.as_fd(), 0, Some(Propagation::Private), true).map_err(Error::path("make private", &point))?;
    Ok(mount)
}

fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(Error::path("open", path))
}

/// The parts of an overlay, as text.
struct Layers {
    lower: Vec<String>,
    upper: String,
    work: String,
}

impl Layers {
    fn new(lower: &[PathBuf], upper: &Path, work: &Path) -> Result<Self> {
        let text = |p: &Path| p.to_str().map(str::to_owned).ok_or_else(|| Error::Invalid(format!("{} isn't UTF-8", p.display())));
        if lower.is_empty() {
            return Err(Error::Invalid("an overlay root needs a lower directory".to_owned()));
        }
        Ok(Self { lower: lower.iter().map(|p| text(p)).collect::<Result<_>>()?, upper: text(upper)?, work: text(work)? })
    }

    fn mount(&self) -> rustix::io::Result<OwnedFd> {
        let mut options: Vec<(&str, &str)> = vec![("source", "overlay")];
        options.extend(self.lower.iter().map(|l| ("lowerdir+", l.as_str())));
        options.extend([("upperdir", self.upper.as_str()), ("workdir", self.work.as_str())]);
        mounts::new("overlay", &options, 0)
    }

    /// All options in one text of at most a page, which is what older kernels take; mounted at once.
    fn mount_by_text(&self, point: &Path) -> Result<OwnedFd> {
        let escape = |path: &str| path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,");
        let lower = self.lower.iter().map(|l| escape(l)).collect::<Vec<_>>().join(":");
        let options = format!("lowerdir={lower},upperdir={},workdir={}", escape(&self.upper), escape(&self.work));
        let options = std::ffi::CString::new(options).map_err(|_| Error::Invalid("a path holds a zero byte".to_owned()))?;
        rustix::mount::mount("overlay", point, "overlay", rustix::mount::MountFlags::empty(), Some(options.as_c_str()))
            .map_err(Error::path("mount overlay with upper", &self.upper))?;
        open_directory(point)
    }
}

/// Puts a mount at a path below the root, making the path.
fn place_at(root: BorrowedFd<'_>, path: &str, point: Point, mount: BorrowedFd<'_>) -> Result<()> {
    let target = mounts::open_point(root, Path::new(path), point)?;
    mounts::place(mount, target.as_fd()).map_err(Error::path("mount at", path))
}

/// `/proc`, `/dev` and what lies in it, `/sys` and the cgroups in it.
fn kernel_mounts(root: BorrowedFd<'_>, plan: &Plan<'_>, shm: Option<OwnedFd>) -> Result<()> {
    let quiet = NOSUID | NODEV | NOEXEC;
    let system = if plan.config.security.privileged { quiet } else { quiet | RDONLY };
    let make = |kind: &str, path: &str, options: &[(&str, &str)], attributes| {
        let mount = mounts::new(kind, options, attributes).map_err(Error::path("make file system for", path))?;
        place_at(root, path, Point::Directory, mount.as_fd())
    };
    make("proc", "/proc", &[], quiet)?;
    make("tmpfs", "/dev", &[("mode", "755"), ("size", "65536k")], NOSUID)?;
    make("devpts", "/dev/pts", &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")], NOSUID | NOEXEC)?;
    make("mqueue", "/dev/mqueue", &[], quiet)?;
    match shm {
        Some(shm) => place_at(root, "/dev/shm", Point::Directory, shm.as_fd())?,
        None => make("tmpfs", "/dev/shm", &[("mode", "1777"), ("size", "65536k")], quiet)?,
    }
    make("sysfs", "/sys", &[], system)?;
    let plans = plan.cgroup.mount_plan();
    if plans.first().is_some_and(|(kind, ..)| *kind == "cgroup2") {
        return make("cgroup2", "/sys/fs/cgroup", &[], system);
    }
    let base = mounts::new("tmpfs", &[("mode", "755")], quiet).map_err(Error::path("make file system for", "/sys/fs/cgroup"))?;
    place_at(root, "/sys/fs/cgroup", Point::Directory, base.as_fd())?;
    for (kind, controllers, name) in plans {
        let options: Vec<_> = controllers.iter().map(|c| (c.as_str(), "")).collect();
        make(kind, &format!("/sys/fs/cgroup/{name}"), &options, system)?;
    }
    mounts::change(base.as_fd(), RDONLY, None, false).map_err(Error::path("make read-only", "/sys/fs/cgroup"))
}

fn device_nodes(root: BorrowedFd<'_>, privileged: bool) -> Result<()> {
    let dev = mounts::open_in(root, Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY).map_err(Error::path("open", "/dev"))?;
    for d in &devices::ALLOWED {
        if let (Some(name), Some(minor)) = (d.name, d.minor) {
            make_node(dev.as_fd(), Path::new(name), FileType::CharacterDevice, 0o666, rustix::fs::makedev(d.major, minor))?;
        }
    }
    for (link, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        rustix::fs::symlinkat(to, &dev, link).map_err(Error::path("link", format!("/dev/{link}")))?;
    }
    if privileged { copy_devices(Path::new("/dev"), dev.as_fd(), Path::new("")) } else { Ok(()) }
}

fn make_node(dev: BorrowedFd<'_>, name: &Path, kind: FileType, mode: u32, number: u64) -> Result<()> {
    match rustix::fs::mknodat(dev, name, kind, Mode::from_raw_mode(mode), number) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(e) => Err(Error::path("make device", Path::new("/dev").join(name))(e)),
    }
}

/// Makes nodes for all of the host's devices. Terminals and memory are the container's own.
fn copy_devices(host: &Path, dev: BorrowedFd<'_>, below: &Path) -> Result<()> {
    for entry in fs::read_dir(host.join(below)).map_err(Error::path("list", host))?.flatten() {
        let path = below.join(entry.file_name());
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            let own = ["pts", "shm", "mqueue", "fd", ".udev", "hugepages"].iter().any(|n| Path::new(n) == path);
            if !own && rustix::fs::mkdirat(dev, &path, Mode::from_raw_mode(0o755)).is_ok() {
                copy_devices(host, dev, &path)?;
            }
        } else if meta.file_type().is_char_device() && path != Path::new("console") {
            make_node(dev, &path, FileType::CharacterDevice, meta.mode() & 0o777, meta.rdev())?;
            own(dev, &path, &meta)?;
        } else if meta.file_type().is_block_device() {
            make_node(dev, &path, FileType::BlockDevice, meta.mode() & 0o777, meta.rdev())?;
            own(dev, &path, &meta)?;
        }
    }
    Ok(())
}

fn own(dev: BorrowedFd<'_>, path: &Path, meta: &fs::Metadata) -> Result<()> {
    let (uid, gid) = (Uid::from_raw(meta.uid()), Gid::from_raw(meta.gid()));
    rustix::fs::chownat(dev, path, Some(uid), Some(gid), rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map_err(Error::path("own device", path))
}

/// One of the mounts that were asked for.
fn place_mount(root: BorrowedFd<'_>, mount: &Mount, source: Option<OwnedFd>) -> Result<()> {
    let (fd, recursive) = match (&mount.kind, source) {
        (MountKind::Bind { recursive, .. }, Some(fd)) => (fd, *recursive),
        (MountKind::Tmpfs { size, mode }, _) => {
            let (mode, size) = (format!("{mode:o}"), size.map(|s| s.to_string()));
            let mut options = vec![("mode", mode.as_str())];
            options.extend(size.as_deref().map(|s| ("size", s)));
            (mounts::new("tmpfs", &options, NOSUID | NODEV).map_err(Error::path("make tmpfs for", &mount.target))?, false)
        }
        (MountKind::Bind { source, .. }, None) => return Err(Error::Invalid(format!("no source for {}", source.display()))),
    };
    let point = mounts::point_for(fd.as_fd()).map_err(Error::path("look at source of", &mount.target))?;
    let target = mounts::open_point(root, &mount.target, point)?;
    mounts::place(fd.as_fd(), target.as_fd()).map_err(Error::path("mount at", &mount.target))?;
    mounts::change(fd.as_fd(), 0, Some(mount.propagation), recursive).map_err(Error::path("set propagation of", &mount.target))?;
    if mount.read_only {
        mounts::change(fd.as_fd(), RDONLY, None, recursive).map_err(Error::path("make read-only", &mount.target))?;
    }
    Ok(())
}

/// Hides some paths and makes others read-only. Those that aren't there need neither.
fn restrict_paths(root: BorrowedFd<'_>, config: &ContainerConfig) -> Result<()> {
    if config.security.privileged {
        return Ok(());
    }
    let defaults = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    for path in config.security.read_only_paths.clone().unwrap_or_else(|| defaults(&READ_ONLY)) {
        if let Some(fd) = find(root, &path)? {
            let copy = mounts::copy(fd.as_fd(), Path::new(""), true).map_err(Error::path("take", &path))?;
            mounts::change(copy.as_fd(), RDONLY, None, true).map_err(Error::path("make read-only", &path))?;
            mounts::place(copy.as_fd(), fd.as_fd()).map_err(Error::path("make read-only", &path))?;
        }
    }
    for path in config.security.masked_paths.clone().unwrap_or_else(|| defaults(&MASKED)) {
        let Some(fd) = find(root, &path)? else { continue };
        let cover = match mounts::point_for(fd.as_fd()).map_err(Error::path("look at", &path))? {
            Point::Directory => mounts::new("tmpfs", &[("size", "0k"), ("nr_inodes", "1")], RDONLY | NOSUID | NODEV | NOEXEC),
            Point::File => mounts::open_in(root, Path::new("/dev/null"), OFlags::PATH)
                .and_then(|null| mounts::copy(null.as_fd(), Path::new(""), false)),
        };
        mounts::place(cover.map_err(Error::path("mask", &path))?.as_fd(), fd.as_fd()).map_err(Error::path("mask", &path))?;
    }
    Ok(())
}

fn find(root: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>> {
    match mounts::open_in(root, Path::new(path), OFlags::PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(e) => Err(Error::path("open", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names with all that means something in a text of options.
    #[test]
    fn layers_are_stacked_the_new_way_and_the_old() {
        let directory = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = directory.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let lower = [make("top:a,b"), make("bottom\\c")];
        fs::write(lower[0].join("file"), "top").unwrap();
        fs::write(lower[1].join("file"), "bottom").unwrap();
        fs::write(lower[1].join("below"), "bottom").unwrap();
        let check = |mount: OwnedFd| {
            for (name, text) in [("file", "top"), ("below", "bottom")] {
                let fd = mounts::open_in(mount.as_fd(), Path::new(name), OFlags::RDONLY).unwrap();
                assert_eq!(std::io::read_to_string(fs::File::from(fd)).unwrap(), text);
            }
        };
        let point = make("point");
        let layers = Layers::new(&lower, &make("upper 1"), &make("work:1")).unwrap();
        check(layers.mount_by_text(&point).unwrap());
        rustix::mount::unmount(&point, UnmountFlags::DETACH).unwrap();
        match Layers::new(&lower, &make("upper2"), &make("work2")).unwrap().mount() {
            // An old kernel.
            Err(rustix::io::Errno::INVAL) => {}
            other => check(other.unwrap()),
        }
        assert!(Layers::new(&[], &point, &point).is_err());
    }
}
