//! Layers made by a build: always the same bytes for the same content. Times are 1970's; what counts for caches and
//! signatures is content.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use tar::{EntryType, Header};

use super::merged::{Found, Merged};
use crate::document::{Descriptor, LAYER};
use crate::store::{BlobWriter, Cached, Store};
use crate::{Error, Result};

/// Owner and mode that copies get.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Look {
    /// `None` keeps the source's.
    pub(crate) owner: Option<(u32, u32)>,
    /// `None` keeps the source's.
    pub(crate) mode: Option<u32>,
}

/// A layer on its way into the store.
pub(crate) struct LayerWriter<'a> {
    store: &'a Store,
    archive: tar::Builder<io::BufWriter<BlobWriter>>,
    /// Paths that have entries.
    written: std::collections::BTreeSet<PathBuf>,
}

impl<'a> LayerWriter<'a> {
    pub(crate) fn new(store: &'a Store) -> Result<Self> {
        let archive = tar::Builder::new(io::BufWriter::with_capacity(256 * 1024, store.blob_writer()?));
        Ok(Self { store, archive, written: std::collections::BTreeSet::new() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    /// Puts the layer into the store.
    pub(crate) fn finish(self) -> Result<Cached> {
        let failed = || Error::path("write", "layer");
        let buffered = self.archive.into_inner().map_err(failed())?;
        let writer = buffered.into_inner().map_err(|e| failed()(e.into_error()))?;
        let (digest, size) = writer.keep(self.store, "layer", None)?;
        Ok(Cached { layer: Descriptor::new(LAYER, digest.clone(), size), diff_id: digest })
    }

    /// Directories down to this path that the image doesn't have yet.
    pub(crate) fn directories(&mut self, image: &Merged, path: &Path, look: Look) -> Result<()> {
        let above: Vec<_> = path.ancestors().filter(|a| !a.as_os_str().is_empty()).map(Path::to_owned).collect();
        for directory in above.into_iter().rev() {
            if !self.written.contains(&directory) && image.look(&directory)?.is_none_or(|f| !f.is_directory()) {
                self.entry(
                    &directory,
                    EntryType::Directory,
                    look.mode.unwrap_or(0o755),
                    look.owner.unwrap_or((0, 0)),
                    &mut io::empty(),
                    0,
                )?;
            }
        }
        Ok(())
    }

    /// A file with this content.
    pub(crate) fn text(&mut self, path: &Path, text: &[u8], look: Look) -> Result<()> {
        let mut reader = text;
        self.entry(path, EntryType::Regular, look.mode.unwrap_or(0o644), look.owner.unwrap_or((0, 0)), &mut reader, text.len() as u64)
    }

    /// Copies what is at a path of a stack, and what is below it, unless hidden.
    pub(crate) fn copy(
        &mut self,
        from: &Merged,
        source: &Path,
        found: &Found,
        to: &Path,
        look: Look,
        hidden: &dyn Fn(&Path) -> Hidden,
    ) -> Result<()> {
        let hides = hidden(source);
        if hides == Hidden::All || (hides == Hidden::Itself && !found.is_directory()) {
            return Ok(());
        }
        let mode = look.mode.unwrap_or(found.stat.st_mode & 0o7777);
        let owner = look.owner.unwrap_or((found.stat.st_uid, found.stat.st_gid));
        match found.kind() {
            FileType::Directory => {
                if hides == Hidden::No && !to.as_os_str().is_empty() {
                    self.entry(to, EntryType::Directory, mode, owner, &mut io::empty(), 0)?;
                }
                for name in from.names(source, found)? {
                    let below = source.join(&name);
                    if let Some(inner) = from.look(&below)? {
                        self.copy(from, &below, &inner, &to.join(&name), look, hidden)?;
                    }
                }
                Ok(())
            }
            FileType::RegularFile => {
                let mut file = from.file(source, found)?;
                self.entry(to, EntryType::Regular, mode, owner, &mut file, found.stat.st_size.cast_unsigned())
            }
            FileType::Symlink => self.link(to, EntryType::Symlink, &from.link(source, found)?, owner),
            // Sockets, pipes and devices are of no use in an image.
            _ => Ok(()),
        }
    }

    /// Everything that changed, as overlayfs keeps it in its upper directory. `skip`: what was only there to mount on.
    pub(crate) fn changes(&mut self, upper: &Path, skip: &dyn Fn(&Path) -> bool) -> Result<()> {
        self.changes_below(upper, Path::new(""), skip, &mut BTreeMap::new())
    }

    fn changes_below(
        &mut self,
        upper: &Path,
        below: &Path,
        skip: &dyn Fn(&Path) -> bool,
        seen: &mut BTreeMap<(u64, u64), PathBuf>,
    ) -> Result<()> {
        let directory = upper.join(below);
        let mut names: Vec<OsString> =
            fs::read_dir(&directory).map_err(Error::path("list", &directory))?.flatten().map(|e| e.file_name()).collect();
        names.sort();
        for name in names {
            let (path, full) = (below.join(&name), directory.join(&name));
            let meta = fs::symlink_metadata(&full).map_err(Error::path("look at", &full))?;
            if skip(&path) {
                continue;
            }
            let (mode, owner, kind) = (meta.mode() & 0o7777, (meta.uid(), meta.gid()), meta.file_type());
            if kind.is_dir() {
                self.entry(&path, EntryType::Directory, mode, owner, &mut io::empty(), 0)?;
                let mut value = [0; 4];
                if rustix::fs::lgetxattr(&full, "trusted.overlay.opaque", &mut value).is_ok_and(|n| &value[..n] == b"y") {
                    self.entry(&path.join(".wh..wh..opq"), EntryType::Regular, 0o644, (0, 0), &mut io::empty(), 0)?;
                }
                self.changes_below(upper, &path, skip, seen)?;
            } else if kind.is_char_device() && meta.rdev() == 0 {
                let mut hidden = OsString::from(".wh.");
                hidden.push(&name);
                self.entry(&below.join(hidden), EntryType::Regular, 0o644, (0, 0), &mut io::empty(), 0)?;
            } else if let Some(first) = seen.get(&(meta.dev(), meta.ino())).cloned() {
                self.link(&path, EntryType::Link, &first, owner)?;
            } else {
                if meta.nlink() > 1 {
                    seen.insert((meta.dev(), meta.ino()), path.clone());
                }
                self.change(&path, &full, &meta)?;
            }
        }
        Ok(())
    }

    fn change(&mut self, path: &Path, full: &Path, meta: &fs::Metadata) -> Result<()> {
        let (mode, owner, kind) = (meta.mode() & 0o7777, (meta.uid(), meta.gid()), meta.file_type());
        if kind.is_symlink() {
            return self.link(path, EntryType::Symlink, &fs::read_link(full).map_err(Error::path("read link", full))?, owner);
        }
        if kind.is_file() {
            self.file_capability(full, path)?;
            let mut file = fs::File::open(full).map_err(Error::path("open", full))?;
            return self.entry(path, EntryType::Regular, mode, owner, &mut file, meta.len());
        }
        let entry = match kind {
            k if k.is_fifo() => EntryType::Fifo,
            k if k.is_char_device() => EntryType::Char,
            k if k.is_block_device() => EntryType::Block,
            // A socket without its server is nothing.
            _ => return Ok(()),
        };
        let mut header = header(entry, mode, owner, 0);
        let failed = || Error::path("write", path);
        header.set_device_major(rustix::fs::major(meta.rdev())).map_err(failed())?;
        header.set_device_minor(rustix::fs::minor(meta.rdev())).map_err(failed())?;
        self.written.insert(path.to_owned());
        self.archive.append_data(&mut header, path, io::empty()).map_err(failed())
    }

    /// Capabilities that a program gives who runs it, such as ping's.
    fn file_capability(&mut self, full: &Path, path: &Path) -> Result<()> {
        let mut value = [0; 64];
        match rustix::fs::lgetxattr(full, "security.capability", &mut value) {
            Ok(n) => {
                let pair = ("SCHILY.xattr.security.capability", &value[..n]);
                self.archive.append_pax_extensions([pair]).map_err(Error::path("write attributes of", path))
            }
            Err(_) => Ok(()),
        }
    }

    fn link(&mut self, path: &Path, kind: EntryType, target: &Path, owner: (u32, u32)) -> Result<()> {
        self.written.insert(path.to_owned());
        self.archive.append_link(&mut header(kind, 0o777, owner, 0), path, target).map_err(Error::path("write", path))
    }

    fn entry(&mut self, path: &Path, kind: EntryType, mode: u32, owner: (u32, u32), data: &mut dyn io::Read, size: u64) -> Result<()> {
        self.written.insert(path.to_owned());
        let mut name = path.as_os_str().to_owned();
        if kind == EntryType::Directory {
            name.push("/");
        }
        // A file that grows meanwhile must not spoil the archive; one that shrinks is an error of the next step.
        let limited = io::Read::take(data, size);
        self.archive.append_data(&mut header(kind, mode, owner, size), Path::new(&name), limited).map_err(Error::path("write", path))
    }
}

fn header(kind: EntryType, mode: u32, owner: (u32, u32), size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.0.into());
    header.set_gid(owner.1.into());
    header.set_mtime(0);
    header.set_size(size);
    header
}

/// What of a source is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hidden {
    /// Nothing.
    No,
    /// It, but perhaps not all below it.
    Itself,
    /// It and all below it.
    All,
}
