//! Stacked layers as overlayfs would show them, read without mounting anything.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};

use crate::{Error, Result};

const MOST_LINKS: u32 = 40;

/// Layers, the topmost first. A single directory is a stack of one.
pub(crate) struct Merged {
    layers: Vec<OwnedFd>,
}

/// What is at a path.
pub(crate) struct Found {
    pub(crate) stat: Stat,
    /// Where a directory's content lies, or the one layer that a file is in.
    layers: Vec<usize>,
}

impl Found {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind() == FileType::Directory
    }
}

impl Merged {
    pub(crate) fn open(layers: &[PathBuf]) -> Result<Self> {
        let open = |path: &PathBuf| {
            rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(Error::path("open", path))
        };
        Ok(Self { layers: layers.iter().map(open).collect::<Result<_>>()? })
    }

    /// Opens a path in one layer without following links.
    fn open_at(&self, layer: usize, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&self.layers[layer], path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Looks at a plain path, following no links.
    pub(crate) fn look(&self, path: &Path) -> Result<Option<Found>> {
        let mut here = PathBuf::new();
        let root = rustix::fs::fstat(&self.layers[0]).map_err(Error::path("look at", "/"))?;
        let mut found = Found { stat: root, layers: (0..self.layers.len()).collect() };
        for name in path {
            if !found.is_directory() {
                return Ok(None);
            }
            match self.step(&found, &here, name)? {
                Some(next) => found = next,
                None => return Ok(None),
            }
            here.push(name);
        }
        Ok(Some(found))
    }

    fn step(&self, directory: &Found, path: &Path, name: &OsStr) -> Result<Option<Found>> {
        let mut found: Option<Found> = None;
        for &layer in &directory.layers {
            let failed = || Error::path("look at", path.join(name));
            let at = self.open_at(layer, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(failed())?;
            let stat = match rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) => continue,
                other => other.map_err(failed())?,
            };
            let kind = FileType::from_raw_mode(stat.st_mode);
            let whiteout = kind == FileType::CharacterDevice && stat.st_rdev == 0;
            match &mut found {
                _ if whiteout => break,
                Some(_) if kind != FileType::Directory => break,
                Some(above) => above.layers.push(layer),
                None => found = Some(Found { stat, layers: vec![layer] }),
            }
            if kind != FileType::Directory || self.is_opaque(layer, &path.join(name)) {
                break;
            }
        }
        Ok(found)
    }

    fn is_opaque(&self, layer: usize, path: &Path) -> bool {
        let mut value = [0; 4];
        self.open_at(layer, path, OFlags::RDONLY | OFlags::DIRECTORY)
            .is_ok_and(|fd| rustix::fs::fgetxattr(&fd, "trusted.overlay.opaque", &mut value).is_ok_and(|n| &value[..n] == b"y"))
    }

    /// Where a path leads once all links in it are followed as a process in this root would. What isn't there is kept.
    pub(crate) fn real_path(&self, path: &Path) -> Result<PathBuf> {
        let mut todo: VecDeque<OsString> = path.components().map(|c| c.as_os_str().to_owned()).collect();
        let (mut here, mut links) = (PathBuf::new(), 0);
        while let Some(part) = todo.pop_front() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => here = PathBuf::new(),
                Some(Component::ParentDir) => drop(here.pop()),
                Some(Component::Normal(name)) => here.push(name),
                _ => continue,
            }
            let Some(found) = self.look(&here)?.filter(|f| f.kind() == FileType::Symlink) else { continue };
            links += 1;
            if links > MOST_LINKS {
                return Err(Error::refused(path.display().to_string(), "too many links"));
            }
            let target = self.link(&here, &found)?;
            here.pop();
            for part in target.components().rev() {
                todo.push_front(part.as_os_str().to_owned());
            }
        }
        Ok(here)
    }

    /// A link's text.
    pub(crate) fn link(&self, path: &Path, found: &Found) -> Result<PathBuf> {
        let parent = self.open_at(found.layers[0], path.parent().unwrap_or(Path::new("")), OFlags::RDONLY | OFlags::DIRECTORY);
        let parent = parent.map_err(Error::path("open", path))?;
        let text =
            rustix::fs::readlinkat(&parent, path.file_name().unwrap_or_default(), Vec::new()).map_err(Error::path("read link", path))?;
        Ok(PathBuf::from(OsString::from_vec(text.into_bytes())))
    }

    /// A file's content.
    pub(crate) fn file(&self, path: &Path, found: &Found) -> Result<std::fs::File> {
        let fd = self.open_at(found.layers[0], path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(Error::path("open", path))?;
        Ok(fd.into())
    }

    /// A directory's names, sorted.
    pub(crate) fn names(&self, path: &Path, found: &Found) -> Result<Vec<OsString>> {
        let mut names: BTreeMap<OsString, ()> = BTreeMap::new();
        for &layer in &found.layers {
            let fd = self.open_at(layer, path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::path("open", path))?;
            for entry in Dir::read_from(fd.as_fd()).map_err(Error::path("list", path))? {
                let entry = entry.map_err(Error::path("list", path))?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes());
                if name != "." && name != ".." {
                    names.insert(name.to_owned(), ());
                }
            }
        }
        let mut shown = Vec::new();
        for name in names.into_keys() {
            if self.step(found, path, &name)?.is_some() {
                shown.push(name);
            }
        }
        Ok(shown)
    }
}
