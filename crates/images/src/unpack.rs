//! Layers as directories that overlayfs can stack: tar in, whiteouts and all, without ever leaving the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use tar::EntryType;

use crate::digest::Hashing;
use crate::{Digest, Error, Result};

/// What a name starts with that takes another away from the layers below.
const WHITEOUT: &[u8] = b".wh.";
/// The name that takes away all that is in its directory below.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What was learnt while unpacking.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Of the uncompressed tar.
    pub(crate) diff_id: Digest,
    /// Directories that the layer has no entry for, topmost first: they look as they do in the layers below.
    pub(crate) implied: Vec<PathBuf>,
}

/// A reader of what is compressed, or not, by its first bytes.
pub(crate) fn decompress<'a>(reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(256 * 1024, reader);
    let head = io::BufRead::fill_buf(&mut reader)?;
    if head.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Ok(Box::new(zstd::stream::read::Decoder::with_buffer(reader)?))
    } else {
        Ok(Box::new(reader))
    }
}

/// A path as a tar has it, made plain. Absolute ones and those with `..` are refused.
pub(crate) fn plain_path(path: &Path) -> Result<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err(Error::refused(path.display().to_string(), "the path has .. in it")),
            Component::RootDir | Component::Prefix(_) => return Err(Error::refused(path.display().to_string(), "the path is absolute")),
        }
    }
    Ok(plain)
}

/// Unpacks a layer, compressed or not, into an empty directory. Reads to the end, so that all of it is hashed.
pub(crate) fn unpack(reader: impl Read, directory: &Path) -> Result<Unpacked> {
    let what = || directory.display().to_string();
    let damaged = |e: io::Error| Error::refused("layer", format!("damaged or cut short: {e}"));
    let mut hashing = Hashing::new(decompress(reader).map_err(damaged)?);
    let root = rustix::fs::open(directory, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::path("open", directory))?;
    rustix::fs::fchmod(&root, Mode::from_raw_mode(0o755)).map_err(Error::path("set mode of", directory))?;
    let mut layer = Layer { root, parent: None, named: BTreeSet::new(), implied: BTreeSet::new(), times: BTreeMap::new() };
    let mut archive = tar::Archive::new(&mut hashing);
    for entry in archive.entries().map_err(damaged)? {
        layer.add(&mut entry.map_err(damaged)?)?;
    }
    io::copy(&mut hashing, &mut io::sink()).map_err(damaged)?;
    let (diff_id, length, _) = hashing.finish();
    if length == 0 {
        return Err(Error::refused(what(), "the layer is empty, not even an empty tar"));
    }
    layer.finish()?;
    Ok(Unpacked { diff_id, implied: layer.implied.into_iter().collect() })
}

struct Layer {
    root: OwnedFd,
    /// The directory of the last entry, which the next one is likely to be in.
    parent: Option<(PathBuf, OwnedFd)>,
    /// Directories that have entries.
    named: BTreeSet<PathBuf>,
    implied: BTreeSet<PathBuf>,
    /// Directories' times, set at the end since entries change them.
    times: BTreeMap<PathBuf, i64>,
}

fn open_below(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

impl Layer {
    fn add<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let damaged = |e: io::Error| Error::refused("layer", format!("damaged or cut short: {e}"));
        let path = plain_path(&entry.path().map_err(damaged)?)?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let Some(name) = path.file_name().map(OsStr::to_owned) else { return self.attributes_of_root(entry) };
        let parent = path.parent().unwrap_or(Path::new(""));
        self.enter(parent)?;
        let Some((_, at)) = &self.parent else { return Ok(()) };
        if name.as_bytes().starts_with(WHITEOUT) {
            return whiteout(at.as_fd(), &name, &path);
        }
        let failed = |act| Error::path(act, &path);
        if kind != EntryType::Directory {
            make_room(at.as_fd(), &name).map_err(failed("replace"))?;
        }
        let mode = Mode::from_raw_mode(entry.header().mode().map_err(damaged)? & 0o7777);
        match kind {
            EntryType::Directory => self.directory(&path, &name)?,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => regular(at.as_fd(), &name, entry, &path)?,
            EntryType::Symlink => {
                let target =
                    entry.link_name().map_err(damaged)?.ok_or_else(|| Error::refused(path.display().to_string(), "a link to nothing"))?;
                rustix::fs::symlinkat(&*target, at, &name).map_err(failed("make link"))?;
            }
            EntryType::Link => return self.hard_link(&path, &name, entry),
            EntryType::Char | EntryType::Block | EntryType::Fifo => node(at.as_fd(), &name, entry, &path)?,
            other => return Err(Error::refused(path.display().to_string(), format!("entries of kind {other:?} aren't known"))),
        }
        let Some((_, at)) = &self.parent else { return Ok(()) };
        attributes(at.as_fd(), &name, entry, mode, kind == EntryType::Symlink, &path)?;
        if kind == EntryType::Directory {
            self.times.insert(path, entry.header().mtime().unwrap_or(0).cast_signed());
        }
        Ok(())
    }

    /// `./` itself.
    fn attributes_of_root<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<()> {
        let mode = Mode::from_raw_mode(entry.header().mode().unwrap_or(0o755) & 0o7777);
        self.named.insert(PathBuf::new());
        let at = self.root.try_clone().map_err(Error::path("open", "/"))?;
        attributes(at.as_fd(), OsStr::new("."), entry, mode, false, Path::new("/"))
    }

    /// Opens the directory that an entry goes into, making what of it the layer has no entries for.
    fn enter(&mut self, parent: &Path) -> Result<()> {
        if self.parent.as_ref().is_some_and(|(path, _)| path == parent) {
            return Ok(());
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let found = match open_below(self.root.as_fd(), parent, flags) {
            Err(rustix::io::Errno::NOENT) => {
                let mut at = PathBuf::new();
                for name in parent {
                    let above = open_below(self.root.as_fd(), &at, flags).map_err(|e| through_link(&at, e))?;
                    at.push(name);
                    match rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) => {
                            // Whatever our own mask is.
                            rustix::fs::chmodat(&above, name, Mode::from_raw_mode(0o755), AtFlags::empty())
                                .map_err(Error::path("set mode of", &at))?;
                            self.implied.insert(at.clone());
                        }
                        Err(rustix::io::Errno::EXIST) => {}
                        Err(e) => return Err(Error::path("make", &at)(e)),
                    }
                }
                open_below(self.root.as_fd(), parent, flags)
            }
            other => other,
        };
        self.parent = Some((parent.to_owned(), found.map_err(|e| through_link(parent, e))?));
        Ok(())
    }

    fn directory(&mut self, path: &Path, name: &OsStr) -> Result<()> {
        let Some((_, at)) = &self.parent else { return Ok(()) };
        let exists = rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW).map(|s| FileType::from_raw_mode(s.st_mode));
        if exists != Ok(FileType::Directory) {
            make_room(at.as_fd(), name).map_err(Error::path("replace", path))?;
            rustix::fs::mkdirat(at, name, Mode::from_raw_mode(0o755)).map_err(Error::path("make", path))?;
        }
        self.implied.remove(path);
        self.named.insert(path.to_owned());
        Ok(())
    }

    fn hard_link<R: Read>(&mut self, path: &Path, name: &OsStr, entry: &tar::Entry<'_, R>) -> Result<()> {
        let refused = |why: String| Error::refused(path.display().to_string(), why);
        let target = entry.link_name().ok().flatten().ok_or_else(|| refused("a link to nothing".to_owned()))?;
        // Tools write hard links' targets with a leading slash too, meaning the archive's root.
        let target = plain_path(target.strip_prefix("/").unwrap_or(&target))?;
        let above = open_below(self.root.as_fd(), target.parent().unwrap_or(Path::new("")), OFlags::DIRECTORY | OFlags::RDONLY)
            .map_err(|_| refused(format!("a hard link to {}, which isn't in its layer", target.display())))?;
        let Some((_, at)) = &self.parent else { return Ok(()) };
        rustix::fs::linkat(&above, target.file_name().unwrap_or_default(), at, name, AtFlags::empty())
            .map_err(|e| refused(format!("a hard link to {}: {e}", target.display())))
    }

    fn finish(&mut self) -> Result<()> {
        self.parent = None;
        for (path, seconds) in self.times.iter().rev() {
            if let Ok(at) = open_below(self.root.as_fd(), path, OFlags::DIRECTORY | OFlags::RDONLY) {
                rustix::fs::futimens(&at, &times(*seconds)).map_err(Error::path("set times of", path))?;
            }
        }
        if !self.named.contains(Path::new("")) {
            self.implied.insert(PathBuf::new());
        }
        Ok(())
    }
}

fn through_link(path: &Path, error: rustix::io::Errno) -> Error {
    match error {
        rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR | rustix::io::Errno::XDEV => {
            Error::refused(path.display().to_string(), "something is to be put below what is a link or a file, not a directory")
        }
        e => Error::path("open", path)(e),
    }
}

/// Takes away what stands where an entry goes.
fn make_room(at: BorrowedFd<'_>, name: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(rustix::io::Errno::ISDIR) => {
            let inner =
                rustix::fs::openat(at, name, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
            for entry in rustix::fs::Dir::read_from(&inner)? {
                let entry = entry?;
                let name = OsString::from_vec(entry.file_name().to_bytes().to_vec());
                if name != "." && name != ".." {
                    make_room(inner.as_fd(), &name)?;
                }
            }
            rustix::fs::unlinkat(at, name, AtFlags::REMOVEDIR)
        }
        Err(e) => Err(e),
    }
}

/// Overlayfs knows a missing name by a character device 0:0, and a whole directory replaced by an attribute.
fn whiteout(at: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<()> {
    if name.as_bytes() == OPAQUE {
        return rustix::fs::fsetxattr(at, "trusted.overlay.opaque", b"y", XattrFlags::empty()).map_err(Error::path("make opaque", path));
    }
    let hidden = OsStr::from_bytes(&name.as_bytes()[WHITEOUT.len()..]);
    if hidden.is_empty() || hidden == "." || hidden == ".." {
        return Err(Error::refused(path.display().to_string(), "a whiteout of nothing"));
    }
    make_room(at, hidden)
        .and_then(|()| rustix::fs::mknodat(at, hidden, FileType::CharacterDevice, Mode::empty(), 0))
        .map_err(Error::path("hide", path))
}

fn regular<R: Read>(at: BorrowedFd<'_>, name: &OsStr, entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(at, name, flags, Mode::from_raw_mode(0o600)).map_err(Error::path("make", path))?;
    let size = entry.size();
    let written = io::copy(entry, &mut std::fs::File::from(fd)).map_err(Error::path("write", path))?;
    if written == size { Ok(()) } else { Err(Error::refused(path.display().to_string(), "the layer is cut short")) }
}

fn node<R: Read>(at: BorrowedFd<'_>, name: &OsStr, entry: &tar::Entry<'_, R>, path: &Path) -> Result<()> {
    let (kind, number) = match entry.header().entry_type() {
        EntryType::Fifo => (FileType::Fifo, 0),
        other => {
            let part = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0);
            let number = rustix::fs::makedev(part(entry.header().device_major()), part(entry.header().device_minor()));
            (if other == EntryType::Char { FileType::CharacterDevice } else { FileType::BlockDevice }, number)
        }
    };
    rustix::fs::mknodat(at, name, kind, Mode::from_raw_mode(0o600), number).map_err(Error::path("make device", path))
}

fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Owner, attributes, mode, times: in this order, as each may undo the one before.
fn attributes<R: Read>(at: BorrowedFd<'_>, name: &OsStr, entry: &mut tar::Entry<'_, R>, mode: Mode, link: bool, path: &Path) -> Result<()> {
    let id = |n: io::Result<u64>| n.ok().and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
    let (uid, gid) = (Uid::from_raw(id(entry.header().uid())), Gid::from_raw(id(entry.header().gid())));
    rustix::fs::chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(Error::path("own", path))?;
    if !link {
        extended_attributes(at, name, entry, path)?;
        rustix::fs::chmodat(at, name, mode, AtFlags::empty()).map_err(Error::path("set mode of", path))?;
    }
    let seconds = entry.header().mtime().unwrap_or(0).cast_signed();
    rustix::fs::utimensat(at, name, &times(seconds), AtFlags::SYMLINK_NOFOLLOW).map_err(Error::path("set times of", path))
}

/// File capabilities and users' own; never those by which overlayfs is steered.
fn extended_attributes<R: Read>(at: BorrowedFd<'_>, name: &OsStr, entry: &mut tar::Entry<'_, R>, path: &Path) -> Result<()> {
    let Ok(Some(extensions)) = entry.pax_extensions() else { return Ok(()) };
    let wanted: Vec<_> = extensions
        .flatten()
        .filter_map(|e| Some((e.key().ok()?.strip_prefix("SCHILY.xattr.")?.to_owned(), e.value_bytes().to_vec())))
        .filter(|(key, _)| key == "security.capability" || key.starts_with("user."))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let fd = rustix::fs::openat(at, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
        .map_err(Error::path("open", path))?;
    for (key, value) in wanted {
        rustix::fs::fsetxattr(&fd, key.as_str(), &value, XattrFlags::empty()).map_err(Error::path("set attribute of", path))?;
    }
    Ok(())
}

/// Gives directories that a layer implies the looks they have in the layers below, the nearest first.
pub(crate) fn settle_implied(directory: &Path, implied: &[PathBuf], lower: &[PathBuf]) -> Result<()> {
    let open = |at: &Path| {
        rustix::fs::open(at, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(Error::path("open", at))
    };
    let own = open(directory)?;
    let lower = lower.iter().map(|l| open(l)).collect::<Result<Vec<_>>>()?;
    for path in implied {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let Some(below) = lower.iter().find_map(|l| open_below(l.as_fd(), path, flags).ok()) else { continue };
        let look = rustix::fs::fstat(&below).map_err(Error::path("look at", path))?;
        let above = open_below(own.as_fd(), path, flags).map_err(Error::path("open", path))?;
        rustix::fs::fchown(&above, Some(Uid::from_raw(look.st_uid)), Some(Gid::from_raw(look.st_gid))).map_err(Error::path("own", path))?;
        rustix::fs::fchmod(&above, Mode::from_raw_mode(look.st_mode & 0o7777)).map_err(Error::path("set mode of", path))?;
        rustix::fs::futimens(&above, &times(look.st_mtime)).map_err(Error::path("set times of", path))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A small tar with every kind of entry.
    fn sample() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind) in
            [("d/", EntryType::Directory), ("d/f", EntryType::Regular), ("d/.wh.x", EntryType::Regular), ("p", EntryType::Fifo)]
        {
            let mut header = tar::Header::new_ustar();
            header.set_entry_type(kind);
            header.set_mode(0o700);
            header.set_size(if path == "d/f" { 5 } else { 0 });
            builder.append_data(&mut header, path, if path == "d/f" { &b"hello"[..] } else { b"" }).unwrap();
        }
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        builder.append_link(&mut header, "l", "/tmp").unwrap();
        builder.into_inner().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn a_spoilt_layer_stays_in_its_directory(at in 0_usize..3000, with in proptest::num::u8::ANY, cut in 0_usize..6000) {
            let mut bytes = sample();
            let length = bytes.len();
            bytes[at % length] = with;
            bytes.truncate(cut.max(1));
            let outer = tempfile::tempdir().unwrap();
            let inner = outer.path().join("inner");
            std::fs::create_dir(&inner).unwrap();
            let _ = unpack(bytes.as_slice(), &inner);
            prop_assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 1);
        }
    }
}
