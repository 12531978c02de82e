//! The store: blobs by digest, layers unpacked once, names. One directory, shared by all of a host's node processes.
//!
//! `blobs/sha256/<hex>`, `snapshots/<chain>/`, `names/<hash>.json`, `holds/<hash>.json`, `cache/<key>.json`, `empty/`,
//! `tmp/`, `lock`.
//! Everything appears by rename, whole and flushed. Who adds holds `lock` shared; who collects garbage holds it alone.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::digest::Hashing;
use crate::document::{Descriptor, ImageConfig, Manifest, to_json};
use crate::image::{Image, ImageSpec};
use crate::{Digest, Error, Reference, Result, unpack};

/// Largest document (manifest, index, configuration) that is read into memory.
const LARGEST_DOCUMENT: u64 = 4 << 20;

/// A host's images.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    next: AtomicU64,
}

/// What a name means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
    /// This platform's manifest.
    pub(crate) manifest: Digest,
    /// What the registry calls it, if that is another document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) registry_digest: Option<Digest>,
}

/// A user of an image, who keeps it from being collected.
#[derive(Debug, Serialize, Deserialize)]
struct Hold {
    holder: String,
    manifest: Digest,
}

/// A build step's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cached {
    pub(crate) layer: Descriptor,
    pub(crate) diff_id: Digest,
}

/// What collecting garbage removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Files.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Unpacked layers.
    pub snapshots: usize,
}

/// While this lives nothing is collected.
pub(crate) struct Adding {
    _lock: File,
}

/// A file or directory in `tmp/` that goes unless it was put in its place.
pub(crate) struct Staged(pub(crate) PathBuf);

impl Drop for Staged {
    fn drop(&mut self) {
        if fs::remove_file(&self.0).is_err() {
            // Gone to its place, or a directory; what can't be removed is found in `tmp/` by the next collection.
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

impl Store {
    /// Takes up a directory, making it if need be. Any number of processes may.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self> {
        let store = Self { root: root.into(), next: AtomicU64::new(0) };
        for part in ["blobs/sha256", "snapshots", "names", "holds", "cache", "tmp", "empty"] {
            let path = store.root.join(part);
            fs::create_dir_all(&path).map_err(Error::path("make", &path))?;
        }
        let empty = store.root.join("empty");
        fs::set_permissions(&empty, std::os::unix::fs::PermissionsExt::from_mode(0o755)).map_err(Error::path("set mode of", &empty))?;
        Ok(store)
    }

    fn lock(&self, operation: FlockOperation) -> Result<File> {
        let path = self.root.join("lock");
        let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(Error::path("open", &path))?;
        rustix::fs::flock(&file, operation).map_err(Error::path("lock", &path))?;
        Ok(file)
    }

    /// Says that something is being added. Blocks while garbage is collected.
    pub(crate) fn adding(&self) -> Result<Adding> {
        Ok(Adding { _lock: self.lock(FlockOperation::LockShared)? })
    }

    /// A new path in `tmp/`, ours by process and count.
    pub(crate) fn stage(&self) -> Staged {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        Staged(self.root.join("tmp").join(format!("{}-{:p}-{count}", std::process::id(), self)))
    }

    /// Where a blob is, or would be.
    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn has_blob(&self, descriptor: &Descriptor) -> bool {
        fs::metadata(self.blob_path(&descriptor.digest)).is_ok_and(|m| m.len() == descriptor.size)
    }

    /// Copies a blob in. With `expected`, another digest or length is refused and nothing kept.
    pub(crate) fn add_blob(&self, what: &str, reader: impl Read, expected: Option<(&Digest, Option<u64>)>) -> Result<(Digest, u64)> {
        let mut writer = self.blob_writer()?;
        let mut reader = reader;
        io::copy(&mut reader, &mut writer).map_err(|e| Error::refused(what, format!("damaged or cut short: {e}")))?;
        writer.keep(self, what, expected)
    }

    pub(crate) fn blob_writer(&self) -> Result<BlobWriter> {
        let staged = self.stage();
        let file = File::create(&staged.0).map_err(Error::path("make", &staged.0))?;
        Ok(BlobWriter { staged, hashing: Hashing::new(file) })
    }

    /// Adds a document, and describes it.
    pub(crate) fn add_document(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let (digest, size) = self.add_blob("document", bytes, None)?;
        Ok(Descriptor::new(media_type, digest, size))
    }

    /// Reads a document, checking that it is what its name says.
    pub(crate) fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = self.blob_path(digest);
        let meta = fs::metadata(&path).map_err(Error::path("find", &path))?;
        if meta.len() > LARGEST_DOCUMENT {
            return Err(Error::refused(digest.as_str(), format!("a document of {} bytes", meta.len())));
        }
        let bytes = fs::read(&path).map_err(Error::path("read", &path))?;
        let found = Digest::of(&bytes);
        if found == *digest {
            Ok(bytes)
        } else {
            Err(Error::WrongDigest { what: path.display().to_string(), expected: digest.clone(), found })
        }
    }

    pub(crate) fn parse<T: for<'a> Deserialize<'a>>(&self, what: &str, digest: &Digest) -> Result<T> {
        serde_json::from_slice(&self.document(digest)?).map_err(|e| Error::refused(format!("{what} {digest}"), e.to_string()))
    }

    /// Makes sure that all of an image is here and fits together, and unpacks its layers.
    pub(crate) fn complete(&self, manifest: &Digest) -> Result<ImageConfig> {
        let parsed: Manifest = self.parse("manifest", manifest)?;
        let config: ImageConfig = self.parse("configuration", &parsed.config.digest)?;
        for layer in &parsed.layers {
            let path = self.blob_path(&layer.digest);
            let length = fs::metadata(&path).map_err(|_| Error::refused(format!("layer {}", layer.digest), "it is missing"))?.len();
            if length != layer.size {
                return Err(Error::refused(format!("layer {}", layer.digest), format!("{length} bytes, not {}", layer.size)));
            }
        }
        if parsed.layers.len() != config.rootfs.diff_ids.len() {
            let why = format!("{} layers, but its configuration names {}", parsed.layers.len(), config.rootfs.diff_ids.len());
            return Err(Error::refused(format!("manifest {manifest}"), why));
        }
        self.unpack_all(&parsed.layers, &config.rootfs.diff_ids)?;
        Ok(config)
    }

    /// Where a chain of layers is unpacked.
    pub(crate) fn snapshot_path(&self, chain: &Digest) -> PathBuf {
        self.root.join("snapshots").join(chain.hex())
    }

    /// Unpacks what isn't yet, several at once, and puts each in its place only when all below it are there.
    pub(crate) fn unpack_all(&self, layers: &[Descriptor], diff_ids: &[Digest]) -> Result<()> {
        let chains = chain_ids(diff_ids);
        let missing: Vec<usize> = (0..layers.len()).filter(|i| !self.snapshot_path(&chains[*i]).exists()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut staged: Vec<(usize, Staged, unpack::Unpacked)> = Vec::new();
        for batch in missing.chunks(std::thread::available_parallelism().map_or(2, |n| n.get().min(8))) {
            let results = std::thread::scope(|scope| {
                let threads: Vec<_> =
                    batch.iter().map(|&i| (i, scope.spawn(move || self.unpack_one(&layers[i].digest, &diff_ids[i])))).collect();
                threads.into_iter().map(|(i, thread)| (i, thread.join())).collect::<Vec<_>>()
            });
            for (i, result) in results {
                let (directory, unpacked) =
                    result.map_err(|_| Error::refused(format!("layer {}", layers[i].digest), "unpacking it panicked"))??;
                staged.push((i, directory, unpacked));
            }
        }
        self.flush()?;
        for (i, directory, unpacked) in staged {
            let lower: Vec<_> = chains[..i].iter().rev().map(|c| self.snapshot_path(c)).collect();
            unpack::settle_implied(&directory.0, &unpacked.implied, &lower)?;
            let place = self.snapshot_path(&chains[i]);
            match rename_directory(&directory.0, &place) {
                // Another process was faster with the same.
                Err(_) if place.exists() => {}
                other => other.map_err(Error::path("put in place", &place))?,
            }
        }
        Ok(())
    }

    fn unpack_one(&self, layer: &Digest, diff_id: &Digest) -> Result<(Staged, unpack::Unpacked)> {
        let staged = self.stage();
        fs::create_dir(&staged.0).map_err(Error::path("make", &staged.0))?;
        let path = self.blob_path(layer);
        let file = File::open(&path).map_err(Error::path("open", &path))?;
        let unpacked = unpack::unpack(file, &staged.0).map_err(|e| in_layer(layer, e))?;
        if unpacked.diff_id != *diff_id {
            let what = format!("layer {layer}, unpacked,");
            return Err(Error::WrongDigest { what, expected: diff_id.clone(), found: unpacked.diff_id });
        }
        Ok((staged, unpacked))
    }

    /// Everything written so far is on the disk when this returns.
    pub(crate) fn flush(&self) -> Result<()> {
        let file = File::open(&self.root).map_err(Error::path("open", &self.root))?;
        rustix::fs::syncfs(&file).map_err(Error::path("flush", &self.root))
    }

    fn write_record<T: Serialize>(&self, place: &Path, record: &T) -> Result<()> {
        let staged = self.stage();
        let mut file = File::create(&staged.0).map_err(Error::path("make", &staged.0))?;
        file.write_all(&to_json(record)).and_then(|()| file.sync_all()).map_err(Error::path("write", &staged.0))?;
        fs::rename(&staged.0, place).map_err(Error::path("put in place", place))
    }

    fn records<T: for<'a> Deserialize<'a>>(&self, part: &str) -> Result<Vec<(PathBuf, T)>> {
        let directory = self.root.join(part);
        let mut all = Vec::new();
        for entry in fs::read_dir(&directory).map_err(Error::path("list", &directory))? {
            let path = entry.map_err(Error::path("list", &directory))?.path();
            // Removed meanwhile, or damaged by other hands: neither names anything.
            if let Some(record) = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                all.push((path, record));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(all)
    }

    fn record_path(&self, part: &str, key: &str) -> PathBuf {
        self.root.join(part).join(format!("{}.json", Digest::of(key).hex()))
    }

    /// Lets a name mean an image that is complete.
    pub(crate) fn set_name(&self, reference: &Reference, manifest: &Digest, registry_digest: Option<Digest>) -> Result<()> {
        let name = reference.to_string();
        self.write_record(&self.record_path("names", &name), &Named { name, manifest: manifest.clone(), registry_digest })
    }

    fn named(&self, reference: &Reference) -> Result<Option<Named>> {
        let path = self.record_path("names", &reference.to_string());
        match fs::read(&path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::path("read", &path)(e)),
        }
    }

    /// Finds an image by name, or by the digest of its configuration or manifest (`sha256:…`).
    ///
    /// # Errors
    /// `NotFound`; `Name` if it is neither.
    pub fn find(&self, name: &str) -> Result<Image> {
        let not_found = || Error::NotFound(name.to_owned());
        if let Ok(digest) = name.parse::<Digest>() {
            return self.list()?.into_iter().find(|i| i.id == digest || i.manifest == digest).ok_or_else(not_found);
        }
        let reference = Reference::parse(name)?;
        if let Some(named) = self.named(&reference)? {
            return self.image(&named.manifest);
        }
        // By digest in a repository of which a tag is here.
        let Some(digest) = reference.digest() else { return Err(not_found()) };
        let all = self.list()?;
        let same = |image: &Image| image.repo_digests.iter().any(|d| *d == reference.with_digest(digest).to_string());
        all.into_iter().find(same).ok_or_else(not_found)
    }

    /// All images, by id.
    pub fn list(&self) -> Result<Vec<Image>> {
        let manifests: BTreeSet<_> = self.records::<Named>("names")?.into_iter().map(|(_, n)| n.manifest).collect();
        let mut all = manifests.iter().map(|m| self.image(m)).collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    fn image(&self, manifest: &Digest) -> Result<Image> {
        Image::new(manifest, &self.parse("manifest", manifest)?, &self.names_of(manifest)?)
    }

    /// All names that mean this image.
    pub(crate) fn names_of(&self, manifest: &Digest) -> Result<Vec<Named>> {
        Ok(self.records::<Named>("names")?.into_iter().map(|(_, n)| n).filter(|n| n.manifest == *manifest).collect())
    }

    /// What running an image takes. Its directories are there, unless the store was damaged; they stay while the image
    /// has a name or is held.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn spec(&self, name: &str) -> Result<ImageSpec> {
        let image = self.find(name)?;
        let _adding = self.adding()?;
        let config = self.complete(&image.manifest)?;
        let lower = self.lower(&config.rootfs.diff_ids);
        Ok(ImageSpec::new(image, config, lower))
    }

    /// Lower directories of an overlay, the topmost first. An image without layers has an empty one.
    pub(crate) fn lower(&self, diff_ids: &[Digest]) -> Vec<PathBuf> {
        if diff_ids.is_empty() {
            return vec![self.root.join("empty")];
        }
        chain_ids(diff_ids).iter().rev().map(|c| self.snapshot_path(c)).collect()
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn tag(&self, name: &str, new: &Reference) -> Result<()> {
        let _adding = self.adding()?;
        self.set_name(new, &self.find(name)?.manifest, None)
    }

    /// Takes a name away, or all names if an id is given. What nothing names or holds goes with the next collection.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn remove(&self, name: &str) -> Result<()> {
        let image = self.find(name)?;
        let names = match Reference::parse(name) {
            Ok(reference) if name.parse::<Digest>().is_err() && self.named(&reference)?.is_some() => vec![reference.to_string()],
            _ => image.names,
        };
        for name in names {
            let path = self.record_path("names", &name);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::path("remove", &path)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps an image from being collected, name or no name, until the holder lets go. A holder (a container, say)
    /// holds one image at a time.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn hold(&self, holder: &str, name: &str) -> Result<()> {
        let _adding = self.adding()?;
        let manifest = self.find(name)?.manifest;
        self.write_record(&self.record_path("holds", holder), &Hold { holder: holder.to_owned(), manifest })
    }

    /// Ends a hold; none is no error.
    pub fn let_go(&self, holder: &str) -> Result<()> {
        let path = self.record_path("holds", holder);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::path("remove", &path)(e)),
            _ => Ok(()),
        }
    }

    /// Who holds images.
    pub fn holders(&self) -> Result<Vec<String>> {
        Ok(self.records::<Hold>("holds")?.into_iter().map(|(_, hold)| hold.holder).collect())
    }

    pub(crate) fn cached(&self, key: &Digest) -> Option<Cached> {
        let bytes = fs::read(self.root.join("cache").join(format!("{}.json", key.hex()))).ok()?;
        let cached: Cached = serde_json::from_slice(&bytes).ok()?;
        self.has_blob(&cached.layer).then_some(cached)
    }

    pub(crate) fn set_cached(&self, key: &Digest, cached: &Cached) -> Result<()> {
        self.write_record(&self.root.join("cache").join(format!("{}.json", key.hex())), cached)
    }

    /// Removes blobs and unpacked layers that no name and no holder needs, and what builds remember of them. Waits for
    /// those who are adding.
    pub fn collect_garbage(&self) -> Result<Collected> {
        let _alone = self.lock(FlockOperation::LockExclusive)?;
        let (mut blobs, mut chains) = (BTreeSet::new(), BTreeSet::new());
        let named = self.records::<Named>("names")?.into_iter().map(|(_, n)| n.manifest);
        let held = self.records::<Hold>("holds")?.into_iter().map(|(_, h)| h.manifest);
        for digest in named.chain(held) {
            let manifest: Manifest = self.parse("manifest", &digest)?;
            let config: ImageConfig = self.parse("configuration", &manifest.config.digest)?;
            chains.extend(chain_ids(&config.rootfs.diff_ids).iter().map(|c| c.hex().to_owned()));
            blobs.extend(manifest.layers.iter().map(|l| l.digest.hex().to_owned()));
            blobs.extend([digest.hex().to_owned(), manifest.config.digest.hex().to_owned()]);
        }
        let mut collected = Collected::default();
        for path in others(&self.root.join("blobs/sha256"), &blobs)? {
            collected.bytes += fs::metadata(&path).map_or(0, |m| m.len());
            fs::remove_file(&path).map_err(Error::path("remove", &path))?;
            collected.blobs += 1;
        }
        for path in others(&self.root.join("snapshots"), &chains)? {
            // Out of its place first, so that half of it is never taken for whole.
            let staged = self.stage();
            fs::rename(&path, &staged.0).map_err(Error::path("remove", &path))?;
            fs::remove_dir_all(&staged.0).map_err(Error::path("remove", &staged.0))?;
            collected.snapshots += 1;
        }
        for (path, cached) in self.records::<Cached>("cache")? {
            if !self.has_blob(&cached.layer) {
                fs::remove_file(&path).map_err(Error::path("remove", &path))?;
            }
        }
        // Whoever stages holds the lock: what is left here is of the dead.
        for path in others(&self.root.join("tmp"), &BTreeSet::new())? {
            drop(Staged(path));
        }
        Ok(collected)
    }
}

/// A blob on its way in.
pub(crate) struct BlobWriter {
    staged: Staged,
    hashing: Hashing<File>,
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hashing.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.hashing.flush()
    }
}

impl BlobWriter {
    /// Puts it in its place once it proves to be what is expected.
    pub(crate) fn keep(self, store: &Store, what: &str, expected: Option<(&Digest, Option<u64>)>) -> Result<(Digest, u64)> {
        let (digest, length, file) = self.hashing.finish();
        if let Some((expected, size)) = expected {
            if size.is_some_and(|size| size != length) {
                return Err(Error::refused(what, format!("cut short or overlong: {length} bytes, not {}", size.unwrap_or(0))));
            }
            if digest != *expected {
                return Err(Error::WrongDigest { what: what.to_owned(), expected: expected.clone(), found: digest });
            }
        }
        let place = store.blob_path(&digest);
        file.sync_all().map_err(Error::path("flush", &self.staged.0))?;
        fs::rename(&self.staged.0, &place).map_err(Error::path("put in place", &place))?;
        let directory = store.root.join("blobs/sha256");
        File::open(&directory).and_then(|d| d.sync_all()).map_err(Error::path("flush", &directory))?;
        Ok((digest, length))
    }
}

/// What is in a directory besides these names.
fn others(directory: &Path, keep: &BTreeSet<String>) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).map_err(Error::path("list", directory))?;
    Ok(entries.flatten().filter(|e| e.file_name().to_str().is_none_or(|n| !keep.contains(n))).map(|e| e.path()).collect())
}

fn rename_directory(from: &Path, to: &Path) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(rustix::fs::CWD, from, rustix::fs::CWD, to, rustix::fs::RenameFlags::NOREPLACE)?)
}

fn in_layer(layer: &Digest, error: Error) -> Error {
    match error {
        Error::Refused { what, why } => Error::refused(format!("layer {layer}: {what}"), why),
        other => other,
    }
}

/// The names of each layer together with all below it, as the OCI image specification defines chain ids.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let chain = chains.last().map_or_else(|| diff_id.clone(), |below| Digest::of(format!("{below} {diff_id}")));
        chains.push(chain);
    }
    chains
}
