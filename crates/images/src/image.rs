//! What is told of an image, and what running it takes.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::document::{ImageConfig, Manifest};
use crate::store::Named;
use crate::{Digest, Error, Reference, Result};

/// An image that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The digest of its configuration, as the image's id in the API.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// All its names, complete.
    pub names: Vec<String>,
    /// Its names by digest in the registries it came from.
    pub repo_digests: Vec<String>,
    /// Bytes of its configuration and layers as transferred.
    pub size: u64,
}

impl Image {
    pub(crate) fn new(digest: &Digest, manifest: &Manifest, named: &[Named]) -> Result<Self> {
        let mut repo_digests = Vec::new();
        for n in named {
            let repo_digest = Reference::parse(&n.name)?.with_digest(n.registry_digest.as_ref().unwrap_or(digest)).to_string();
            if !repo_digests.contains(&repo_digest) {
                repo_digests.push(repo_digest);
            }
        }
        let mut names: Vec<_> = named.iter().map(|n| n.name.clone()).collect();
        names.sort();
        let size = manifest.config.size + manifest.layers.iter().map(|l| l.size).sum::<u64>();
        Ok(Self { id: manifest.config.digest.clone(), manifest: digest.clone(), names, repo_digests, size })
    }
}

/// What the node needs to run an image.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// Which image.
    pub image: Image,
    /// Runs first, with `cmd` as its arguments.
    pub entrypoint: Vec<String>,
    /// The command, or the entrypoint's arguments.
    pub cmd: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// Where it starts; empty for `/`.
    pub workdir: String,
    /// `user`, `uid`, `user:group` or such; see [`resolve_user`]. Empty for root.
    pub user: String,
    /// Ports as `80/tcp`.
    pub exposed: Vec<String>,
    /// Paths that are meant to be volumes.
    pub volumes: Vec<String>,
    /// Such as `SIGQUIT`; empty for the default.
    pub stop_signal: String,
    /// As the image has them.
    pub labels: BTreeMap<String, String>,
    /// Unpacked layers, the **topmost first**: an overlay's lower directories.
    pub lower: Vec<PathBuf>,
}

impl ImageSpec {
    pub(crate) fn new(image: Image, config: ImageConfig, lower: Vec<PathBuf>) -> Self {
        let c = config.config;
        let keys = |map: Option<BTreeMap<String, crate::document::Empty>>| map.unwrap_or_default().into_keys().collect();
        Self {
            image,
            entrypoint: c.entrypoint.unwrap_or_default(),
            cmd: c.cmd.unwrap_or_default(),
            env: c.env.unwrap_or_default(),
            workdir: c.working_dir,
            user: c.user,
            exposed: keys(c.exposed_ports),
            volumes: keys(c.volumes),
            stop_signal: c.stop_signal,
            labels: c.labels.unwrap_or_default(),
            lower,
        }
    }
}

/// A user with groups, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Groups that the image's `/etc/group` puts the user in, the primary one aside.
    pub groups: Vec<u32>,
}

/// Looks a user up in the image's own `/etc/passwd` and `/etc/group`. `user` is `name`, `uid`, `name:group` or the like.
///
/// # Errors
/// `Refused` for a name that isn't there; numbers needn't be.
pub fn resolve_user(lower: &[PathBuf], user: &str) -> Result<User> {
    let (name, group) = user.split_once(':').map_or((user, None), |(u, g)| (u, Some(g)));
    let name = if name.is_empty() { "0" } else { name };
    let passwd = read_in_layers(lower, "etc/passwd")?;
    let groups = read_in_layers(lower, "etc/group")?;
    let rows = |text: &str| text.lines().map(|l| l.split(':').map(str::to_owned).collect::<Vec<_>>()).collect::<Vec<_>>();
    let number = |row: &[String], at: usize| row.get(at).and_then(|f| f.parse::<u32>().ok());
    let passwd = rows(&passwd);
    let numeric = name.parse::<u32>().ok();
    let row = passwd
        .iter()
        .find(|r| r.first().is_some_and(|n| n == name))
        .or_else(|| passwd.iter().find(|r| numeric.is_some() && number(r, 2) == numeric));
    let uid = row
        .and_then(|r| number(r, 2))
        .or(numeric)
        .ok_or_else(|| Error::refused(format!("user {name:?}"), "the image's /etc/passwd doesn't have it"))?;
    let groups = rows(&groups);
    let gid = match group {
        Some(group) => {
            let found = groups.iter().find(|r| r.first().is_some_and(|n| n == group)).and_then(|r| number(r, 2));
            let why = || Error::refused(format!("group {group:?}"), "the image's /etc/group doesn't have it");
            found.or_else(|| group.parse().ok()).ok_or_else(why)?
        }
        None => row.and_then(|r| number(r, 3)).unwrap_or(0),
    };
    let login = row.and_then(|r| r.first().cloned()).unwrap_or_default();
    let member = |r: &&Vec<String>| !login.is_empty() && r.get(3).is_some_and(|m| m.split(',').any(|n| n == login));
    let mut others: Vec<u32> = groups.iter().filter(member).filter_map(|r| number(r, 2)).filter(|g| *g != gid).collect();
    others.sort_unstable();
    others.dedup();
    Ok(User { uid, gid, groups: others })
}

/// Reads a file as the stacked layers show it; empty if it isn't there. Links are followed within a layer only.
fn read_in_layers(lower: &[PathBuf], path: &str) -> Result<String> {
    for layer in lower {
        let root = rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::path("open", layer))?;
        if let Some(fd) = open_within(&root, path) {
            let is_file =
                rustix::fs::fstat(&fd).is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode) == rustix::fs::FileType::RegularFile);
            if !is_file {
                // A whiteout: the layers below don't count.
                return Ok(String::new());
            }
            let mut text = Vec::new();
            std::io::Read::read_to_end(&mut fs::File::from(fd), &mut text).map_err(Error::path("read", Path::new(path)))?;
            return Ok(String::from_utf8_lossy(&text).into_owned());
        }
    }
    Ok(String::new())
}

fn open_within(root: &OwnedFd, path: &str) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
        Ok(fd) => Some(fd),
        // A whiteout device has no driver behind it.
        Err(rustix::io::Errno::NXIO | rustix::io::Errno::NODEV) => {
            rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).ok()
        }
        Err(_) => None,
    }
}
