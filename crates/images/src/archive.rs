//! Images from files and to files: OCI archives, `docker save`'s archives, and plain root file systems.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tar::{Archive, EntryType, Header};

use crate::digest::Hashing;
use crate::document::{
    CONFIG, DOCKER_LIST, Descriptor, DockerImage, History, INDEX, ImageConfig, Index, LAYER, LAYER_GZIP, LAYER_ZSTD, MANIFEST, Manifest,
    RootFs, architecture, to_json,
};
use crate::store::Store;
use crate::unpack::{decompress, plain_path};
use crate::{Digest, Error, Reference, Result};

const REF_NAME: &str = "org.opencontainers.image.ref.name";
const IMAGE_NAME: &str = "io.containerd.image.name";
/// Largest JSON document taken from an archive.
const LARGEST: u64 = 4 << 20;

/// What an archive turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Oci,
    Docker,
    RootFs,
}

/// Files of an archive: documents in memory, all in the store.
#[derive(Default)]
struct Contents {
    documents: BTreeMap<PathBuf, Vec<u8>>,
    blobs: BTreeMap<PathBuf, (Digest, u64)>,
    links: BTreeMap<PathBuf, PathBuf>,
}

fn open(path: &Path) -> Result<impl Read + 'static> {
    let file = File::open(path).map_err(Error::path("open", path))?;
    decompress(file).map_err(Error::path("read", path))
}

fn damaged(path: &Path) -> impl Fn(io::Error) -> Error {
    let path = path.display().to_string();
    move |e| Error::refused(path.clone(), format!("damaged or cut short: {e}"))
}

impl Store {
    /// Takes in an archive: an OCI image layout or `docker save`'s in a tar, or a tar of a root file system; each plain
    /// or compressed by gzip or zstd. Returns the names given: `name` if given, else the archive's own.
    ///
    /// Blocks; run it where blocking is fine.
    ///
    /// # Errors
    /// `Refused` and `WrongDigest` for archives that are damaged or would do harm. They get no name, and what of them
    /// came into the store goes with the next collection.
    pub fn import(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Reference>> {
        let _adding = self.adding()?;
        match recognise(path)? {
            Kind::Oci => self.import_oci(path, name),
            Kind::Docker => self.import_docker(path, name),
            Kind::RootFs => self.import_rootfs(path, name),
        }
    }

    /// Copies an archive's files into the store. Those named by their digest must have it.
    fn take(&self, path: &Path) -> Result<Contents> {
        let mut contents = Contents::default();
        let mut archive = Archive::new(open(path)?);
        for entry in archive.entries().map_err(damaged(path))? {
            let mut entry = entry.map_err(damaged(path))?;
            let name = plain_path(&entry.path().map_err(damaged(path))?)?;
            match entry.header().entry_type() {
                EntryType::Regular | EntryType::Continuous => {}
                EntryType::Symlink => {
                    let target = entry.link_name().map_err(damaged(path))?.unwrap_or_default().into_owned();
                    contents.links.insert(name.clone(), resolve(&name, &target)?);
                    continue;
                }
                _ => continue,
            }
            let size = entry.size();
            let expected =
                name.strip_prefix("blobs/sha256").ok().and_then(|hex| format!("sha256:{}", hex.display()).parse::<Digest>().ok());
            if expected.is_none() && size <= LARGEST && name.extension().is_some_and(|e| e == "json") {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(damaged(path))?;
                contents.documents.insert(name.clone(), bytes.clone());
                contents.blobs.insert(name.clone(), self.add_blob(&name.display().to_string(), bytes.as_slice(), None)?);
                continue;
            }
            let blob = self.add_blob(&name.display().to_string(), &mut entry, expected.as_ref().map(|d| (d, Some(size))))?;
            contents.blobs.insert(name, blob);
        }
        Ok(contents)
    }

    fn import_oci(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Reference>> {
        let contents = self.take(path)?;
        let refused = |why: String| Error::refused(path.display().to_string(), why);
        let index = contents.documents.get(Path::new("index.json")).ok_or_else(|| refused("no index.json".to_owned()))?;
        let index: Index = serde_json::from_slice(index).map_err(|e| refused(format!("index.json: {e}")))?;
        let mut names = Vec::new();
        for descriptor in &index.manifests {
            // The other annotation is often but a tag.
            let whole = |name: &&String| name.contains(['/', ':']);
            let own = descriptor.annotations.get(IMAGE_NAME).or_else(|| descriptor.annotations.get(REF_NAME).filter(whole));
            let reference = match (name, own) {
                (Some(name), _) => name.clone(),
                (None, Some(own)) => Reference::parse(own)?,
                (None, None) => return Err(refused("the image has no name in it; give it one".to_owned())),
            };
            self.check_blob(descriptor)?;
            let manifest = self.choose_platform(descriptor)?;
            self.check_references(&manifest)?;
            self.complete(&manifest)?;
            self.set_name(&reference, &manifest, None)?;
            names.push(reference);
            if name.is_some() {
                break;
            }
        }
        if names.is_empty() { Err(refused("no image in it".to_owned())) } else { Ok(names) }
    }

    fn check_blob(&self, descriptor: &Descriptor) -> Result<()> {
        if self.has_blob(descriptor) {
            Ok(())
        } else {
            Err(Error::refused(descriptor.digest.as_str(), "it is missing, or not as long as announced"))
        }
    }

    fn check_references(&self, manifest: &Digest) -> Result<()> {
        let parsed: Manifest = self.parse("manifest", manifest)?;
        std::iter::once(&parsed.config).chain(&parsed.layers).try_for_each(|d| self.check_blob(d))
    }

    /// The manifest for this machine: the descriptor's own, or one of its list.
    pub(crate) fn choose_platform(&self, descriptor: &Descriptor) -> Result<Digest> {
        if ![INDEX, DOCKER_LIST].contains(&descriptor.media_type.as_str()) {
            return Ok(descriptor.digest.clone());
        }
        let index: Index = self.parse("index", &descriptor.digest)?;
        Ok(choose(&index, &descriptor.digest)?.digest.clone())
    }

    fn import_docker(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Reference>> {
        let contents = self.take(path)?;
        let refused = |why: String| Error::refused(path.display().to_string(), why);
        let manifest = contents.documents.get(Path::new("manifest.json")).ok_or_else(|| refused("no manifest.json".to_owned()))?;
        let images: Vec<DockerImage> = serde_json::from_slice(manifest).map_err(|e| refused(format!("manifest.json: {e}")))?;
        let mut names = Vec::new();
        for image in images {
            let tags = image.repo_tags.unwrap_or_default();
            let own = match name {
                Some(name) => vec![name.clone()],
                None => tags.iter().map(|t| Reference::parse(t)).collect::<Result<Vec<_>>>()?,
            };
            if own.is_empty() {
                return Err(refused("the image has no name in it; give it one".to_owned()));
            }
            let find =
                |file: &str| contents.find(file).ok_or_else(|| Error::refused(file, "named in manifest.json, but not in the archive"));
            let (digest, size) = find(&image.config)?;
            let mut layers = Vec::new();
            for layer in &image.layers {
                let (digest, size) = find(layer)?;
                layers.push(Descriptor::new(self.layer_type(&digest)?, digest, size));
            }
            let manifest = Manifest {
                schema_version: 2,
                media_type: Some(MANIFEST.to_owned()),
                config: Descriptor::new(CONFIG, digest, size),
                layers,
            };
            let manifest = self.add_document(MANIFEST, &to_json(&manifest))?.digest;
            self.complete(&manifest)?;
            for reference in own {
                self.set_name(&reference, &manifest, None)?;
                names.push(reference);
            }
            if name.is_some() {
                break;
            }
        }
        Ok(names)
    }

    fn layer_type(&self, digest: &Digest) -> Result<&'static str> {
        let path = self.blob_path(digest);
        let mut head = [0; 4];
        let mut file = File::open(&path).map_err(Error::path("open", &path))?;
        // A shorter file is no layer and found out later.
        let n = file.read(&mut head).map_err(Error::path("read", &path))?;
        Ok(compression(&head[..n]))
    }

    fn import_rootfs(&self, path: &Path, name: Option<&Reference>) -> Result<Vec<Reference>> {
        let name = name.ok_or_else(|| Error::refused(path.display().to_string(), "a root file system has no name in it; give it one"))?;
        let file = File::open(path).map_err(Error::path("open", path))?;
        let (digest, size) = self.add_blob(&path.display().to_string(), file, None)?;
        let kind = self.layer_type(&digest)?;
        let diff_id = if kind == LAYER {
            digest.clone()
        } else {
            let mut hashing = Hashing::new(open(path)?);
            io::copy(&mut hashing, &mut io::sink()).map_err(damaged(path))?;
            hashing.finish().0
        };
        let layer = Descriptor::new(kind, digest, size);
        let history = History { created: None, created_by: Some("gantry image import".to_owned()), empty_layer: false };
        let manifest = self.add_image(ImageConfig { history: vec![history], ..ImageConfig::default() }, vec![layer], vec![diff_id])?;
        self.complete(&manifest)?;
        self.set_name(name, &manifest, None)?;
        Ok(vec![name.clone()])
    }

    /// Adds an image's documents, for layers that are here. Returns its manifest.
    pub(crate) fn add_image(&self, config: ImageConfig, layers: Vec<Descriptor>, diff_ids: Vec<Digest>) -> Result<Digest> {
        let config = ImageConfig {
            architecture: architecture().to_owned(),
            os: "linux".to_owned(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
            ..config
        };
        let config = self.add_document(CONFIG, &to_json(&config))?;
        let manifest = Manifest { schema_version: 2, media_type: Some(MANIFEST.to_owned()), config, layers };
        Ok(self.add_document(MANIFEST, &to_json(&manifest))?.digest)
    }

    /// Writes an image as an OCI archive that other tools take, `docker load` among them.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn export(&self, name: &str, path: &Path) -> Result<()> {
        let _adding = self.adding()?;
        let image = self.find(name)?;
        let bytes = self.document(&image.manifest)?;
        let manifest: Manifest = self.parse("manifest", &image.manifest)?;
        let mut descriptor =
            Descriptor::new(manifest.media_type.as_deref().unwrap_or(MANIFEST), image.manifest.clone(), bytes.len() as u64);
        let shown = if name.parse::<Digest>().is_ok() { image.names.first().cloned() } else { Some(Reference::parse(name)?.to_string()) };
        if let Some(shown) = &shown {
            let tag = Reference::parse(shown)?.tag().unwrap_or("latest").to_owned();
            descriptor.annotations = BTreeMap::from([(IMAGE_NAME.to_owned(), shown.clone()), (REF_NAME.to_owned(), tag)]);
        }
        let index = Index { schema_version: 2, media_type: Some(INDEX.to_owned()), manifests: vec![descriptor] };
        let blob = |d: &Digest| format!("blobs/sha256/{}", d.hex());
        let docker = serde_json::json!([{ "Config": blob(&manifest.config.digest), "RepoTags": shown.into_iter().collect::<Vec<_>>(),
            "Layers": manifest.layers.iter().map(|l| blob(&l.digest)).collect::<Vec<_>>() }]);

        let file = File::create(path).map_err(Error::path("make", path))?;
        let mut archive = tar::Builder::new(io::BufWriter::new(file));
        let write = || Error::path("write", path);
        append(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).map_err(write())?;
        append(&mut archive, "index.json", &to_json(&index)).map_err(write())?;
        append(&mut archive, "manifest.json", &to_json(&docker)).map_err(write())?;
        let mut digests = vec![&image.manifest, &manifest.config.digest];
        digests.extend(manifest.layers.iter().map(|l| &l.digest));
        digests.sort();
        digests.dedup();
        for digest in digests {
            let source = self.blob_path(digest);
            let file = File::open(&source).map_err(Error::path("open", &source))?;
            let length = file.metadata().map_err(Error::path("look at", &source))?.len();
            archive.append_data(&mut header(length), blob(digest), file).map_err(write())?;
        }
        let buffered = archive.into_inner().map_err(write())?;
        let file = buffered.into_inner().map_err(|e| write()(e.into_error()))?;
        file.sync_all().map_err(write())
    }
}

impl Contents {
    fn find(&self, name: &str) -> Option<(Digest, u64)> {
        let mut name = PathBuf::from(name);
        // `docker save` of old links a layer that several images share.
        for _ in 0..8 {
            if let Some(blob) = self.blobs.get(&name) {
                return Some(blob.clone());
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }
}

/// Where a link in an archive leads, by names alone.
fn resolve(link: &Path, target: &Path) -> Result<PathBuf> {
    let mut at = link.parent().unwrap_or(Path::new("")).to_owned();
    for part in target.components() {
        match part {
            std::path::Component::ParentDir if at.pop() => {}
            std::path::Component::Normal(name) => at.push(name),
            std::path::Component::CurDir => {}
            _ => return Err(Error::refused(link.display().to_string(), "a link that leads out of the archive")),
        }
    }
    Ok(at)
}

/// Tells by the names at the top what an archive is.
fn recognise(path: &Path) -> Result<Kind> {
    let mut names = Names::default();
    let mut file = File::open(path).map_err(Error::path("open", path))?;
    let mut head = [0; 4];
    let n = file.read(&mut head).map_err(Error::path("read", path))?;
    io::Seek::rewind(&mut file).map_err(Error::path("read", path))?;
    if compression(&head[..n]) == LAYER {
        // Not compressed: what is in the files needn't be read.
        for entry in Archive::new(file).entries_with_seek().map_err(damaged(path))? {
            names.take(path, entry.map_err(damaged(path))?)?;
        }
    } else {
        for entry in Archive::new(open(path)?).entries().map_err(damaged(path))? {
            names.take(path, entry.map_err(damaged(path))?)?;
        }
    }
    Ok(match (names.layout && names.index, names.docker) {
        (true, _) => Kind::Oci,
        (false, true) => Kind::Docker,
        (false, false) => Kind::RootFs,
    })
}

/// The kind of layer that begins so.
fn compression(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => LAYER_ZSTD,
        _ => LAYER,
    }
}

/// Which telling names an archive has.
#[derive(Default)]
struct Names {
    layout: bool,
    index: bool,
    docker: bool,
}

impl Names {
    fn take<R: Read>(&mut self, path: &Path, mut entry: tar::Entry<'_, R>) -> Result<()> {
        // Bad paths are refused by those who use them.
        let Ok(name) = plain_path(&entry.path().map_err(damaged(path))?) else { return Ok(()) };
        match name.to_str() {
            Some("oci-layout") => self.layout = true,
            Some("index.json") => self.index = true,
            Some("manifest.json") if entry.size() <= LARGEST => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map_err(damaged(path))?;
                self.docker = serde_json::from_slice::<Vec<DockerImage>>(&bytes).is_ok();
            }
            _ => {}
        }
        Ok(())
    }
}

/// The entry of an index for this machine.
pub(crate) fn choose<'a>(index: &'a Index, digest: &Digest) -> Result<&'a Descriptor> {
    let fits = |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == architecture());
    let only = || index.manifests.first().filter(|d| index.manifests.len() == 1 && d.platform.is_none());
    index.manifests.iter().find(fits).or_else(only).ok_or_else(|| {
        let has: Vec<_> =
            index.manifests.iter().filter_map(|d| d.platform.as_ref()).map(|p| format!("{}/{}", p.os, p.architecture)).collect();
        Error::refused(format!("index {digest}"), format!("no image for linux/{}, only for {}", architecture(), has.join(", ")))
    })
}

fn header(length: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_size(length);
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_entry_type(EntryType::Regular);
    header
}

fn append<W: io::Write>(archive: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64), name, bytes)
}
