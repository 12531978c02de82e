//! Archives in and out, good ones and hostile ones.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use gantry_images::{Digest, Error, Reference, Store, User, resolve_user};
use tar::{EntryType, Header};

struct World {
    directory: tempfile::TempDir,
    store: Store,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path().join("store")).unwrap();
        Self { directory, store }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn import(&self, bytes: &[u8], name: Option<&str>) -> gantry_images::Result<Vec<String>> {
        let path = self.file("archive", bytes);
        let name = name.map(|n| Reference::parse(n).unwrap());
        Ok(self.store.import(&path, name.as_ref())?.iter().map(ToString::to_string).collect())
    }

    /// Nothing staged is left, and nothing lies beside the store.
    fn is_clean(&self) {
        assert_eq!(fs::read_dir(self.directory.path().join("store/tmp")).unwrap().count(), 0);
        let names: Vec<_> = fs::read_dir(self.directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(names.iter().all(|n| n == "store" || n == "archive" || n == "out.tar"), "{names:?}");
    }
}

/// One entry: its path, kind, and content or link.
type Entry<'a> = (&'a str, EntryType, &'a [u8]);

/// A tar with whatever paths, which the library's own builder would refuse.
fn tar_of(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content) in entries {
        let mut header = Header::new_gnu();
        header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o750 } else { 0o640 });
        header.set_uid(12);
        header.set_gid(34);
        header.set_mtime(1_000_000);
        let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
        if is_link {
            header.as_gnu_mut().unwrap().linkname[..content.len()].copy_from_slice(content);
        }
        let data: &[u8] = if is_link { b"" } else { content };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

const FILE: EntryType = EntryType::Regular;
const DIR: EntryType = EntryType::Directory;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[derive(Default)]
struct Oci {
    layers: Vec<Vec<u8>>,
    diff_ids: Option<Vec<Digest>>,
    name: Option<&'static str>,
    /// Changes blobs before they are put into the archive, by their digest.
    tamper: BTreeMap<usize, Vec<u8>>,
    config: serde_json::Value,
}

impl Oci {
    fn archive(&self) -> Vec<u8> {
        let diff_ids = self.diff_ids.clone().unwrap_or_else(|| self.layers.iter().map(Digest::of).collect());
        let packed: Vec<_> = self.layers.iter().map(|l| gzip(l)).collect();
        let describe = |bytes: &[u8], kind: &str| serde_json::json!({"mediaType": kind, "digest": Digest::of(bytes), "size": bytes.len()});
        let config = serde_json::json!({"architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }, "os": "linux",
            "config": self.config, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = serde_json::to_vec(&config).unwrap();
        let layers: Vec<_> = packed.iter().map(|l| describe(l, "application/vnd.oci.image.layer.v1.tar+gzip")).collect();
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe(&config, "application/vnd.oci.image.config.v1+json"), "layers": layers});
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let mut descriptor = describe(&manifest, "application/vnd.oci.image.manifest.v1+json");
        if let Some(name) = self.name {
            descriptor["annotations"] = serde_json::json!({"io.containerd.image.name": name});
        }
        let index = serde_json::to_vec(&serde_json::json!({"schemaVersion": 2, "manifests": [descriptor]})).unwrap();
        let mut entries: Vec<(String, Vec<u8>)> =
            vec![("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()), ("index.json".into(), index)];
        for blob in [&manifest, &config] {
            entries.push((format!("blobs/sha256/{}", Digest::of(blob).hex()), blob.clone()));
        }
        for (i, blob) in packed.iter().enumerate() {
            entries.push((format!("blobs/sha256/{}", Digest::of(blob).hex()), self.tamper.get(&i).unwrap_or(blob).clone()));
        }
        tar_of(&entries.iter().map(|(n, b)| (n.as_str(), FILE, b.as_slice())).collect::<Vec<_>>())
    }
}

fn base() -> Vec<u8> {
    tar_of(&[
        ("etc/", DIR, b""),
        ("etc/passwd", FILE, b"root:x:0:0::/root:/bin/sh\nweb:x:33:44::/var:/bin/sh\n"),
        ("etc/group", FILE, b"root:x:0:\nweb:x:44:\ndisk:x:6:web,root\nlog:x:7:web\n"),
        ("var/", DIR, b""),
        ("var/old", FILE, b"old"),
        ("var/dir/", DIR, b""),
        ("var/dir/a", FILE, b"a"),
        ("bin", EntryType::Symlink, b"usr/bin"),
        ("usr/bin/tool", FILE, b"tool"),
        ("usr/bin/same", EntryType::Link, b"usr/bin/tool"),
    ])
}

fn top() -> Vec<u8> {
    tar_of(&[
        ("var/.wh.old", FILE, b""),
        ("var/dir/", DIR, b""),
        ("var/dir/.wh..wh..opq", FILE, b""),
        ("var/dir/b", FILE, b"b"),
        // No entry for etc: it must look as it does below.
        ("etc/new", FILE, b"new"),
    ])
}

#[test]
fn an_oci_archive_becomes_directories_to_stack() {
    let w = World::new();
    let config = serde_json::json!({"Entrypoint": ["/run"], "Cmd": null, "Env": ["A=b"], "User": "web", "WorkingDir": "/var",
        "ExposedPorts": {"80/tcp": {}}, "StopSignal": "SIGQUIT", "Labels": {"x": "y"}});
    let oci = Oci { layers: vec![base(), top()], name: Some("a/b:1"), config, ..Oci::default() };
    assert_eq!(w.import(&oci.archive(), None).unwrap(), ["docker.io/a/b:1"]);
    let spec = w.store.spec("a/b:1").unwrap();
    assert_eq!((spec.entrypoint.as_slice(), spec.cmd.len(), spec.env.as_slice()), (&["/run".to_owned()][..], 0, &["A=b".to_owned()][..]));
    assert_eq!((spec.user.as_str(), spec.workdir.as_str(), spec.stop_signal.as_str()), ("web", "/var", "SIGQUIT"));
    assert_eq!((spec.exposed.as_slice(), spec.labels["x"].as_str()), (&["80/tcp".to_owned()][..], "y"));
    let [top, base] = spec.lower.as_slice() else { panic!("{:?}", spec.lower) };
    assert_eq!(fs::read(base.join("usr/bin/same")).unwrap(), b"tool");
    let tool = fs::metadata(base.join("usr/bin/tool")).unwrap();
    assert_eq!((tool.uid(), tool.gid(), tool.mode() & 0o7777, tool.mtime(), tool.nlink()), (12, 34, 0o640, 1_000_000, 2));
    let hidden = fs::symlink_metadata(top.join("var/old")).unwrap();
    assert!(hidden.file_type().is_char_device() && hidden.rdev() == 0);
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(top.join("var/dir"), "trusted.overlay.opaque", &mut value), Ok(1));
    let etc = fs::metadata(top.join("etc")).unwrap();
    assert_eq!((etc.uid(), etc.mode() & 0o7777), (12, 0o750), "an implied directory looks as below");
    let made = fs::metadata(base.join("usr")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o7777), (0, 0o755), "one that no layer has an entry for");
    assert_eq!(resolve_user(&spec.lower, "web").unwrap(), User { uid: 33, gid: 44, groups: vec![6, 7] });
    assert_eq!(resolve_user(&spec.lower, "").unwrap(), User { uid: 0, gid: 0, groups: vec![6] });
    assert_eq!(resolve_user(&spec.lower, "1000").unwrap(), User { uid: 1000, gid: 0, groups: vec![] });
    assert_eq!(resolve_user(&spec.lower, "33:disk").unwrap(), User { uid: 33, gid: 6, groups: vec![7] });
    assert!(resolve_user(&spec.lower, "nobody").is_err());
    w.is_clean();
}

#[test]
fn layers_are_shared_and_go_with_the_last_user() {
    let w = World::new();
    let one = Oci { layers: vec![base()], name: Some("one"), ..Oci::default() };
    let two = Oci { layers: vec![base(), top()], name: Some("two"), ..Oci::default() };
    w.import(&one.archive(), None).unwrap();
    w.import(&two.archive(), None).unwrap();
    let (a, b) = (w.store.spec("one").unwrap(), w.store.spec("two").unwrap());
    assert_eq!(a.lower[0], b.lower[1], "one directory for the same layer");
    assert_eq!(w.store.list().unwrap().len(), 2);
    w.store.tag("two", &Reference::parse("localhost:5000/other:x").unwrap()).unwrap();
    w.store.hold("pod-1", "two").unwrap();
    w.store.remove("two").unwrap();
    assert!(w.store.find("two").is_err() && w.store.find("localhost:5000/other:x").is_ok());
    let id = b.image.id.to_string();
    assert_eq!(w.store.find(&id).unwrap().names, ["localhost:5000/other:x"]);
    w.store.remove(&id).unwrap();
    assert_eq!(w.store.collect_garbage().unwrap().snapshots, 0, "it is held");
    assert_eq!(w.store.holders().unwrap(), ["pod-1"]);
    w.store.let_go("pod-1").unwrap();
    let collected = w.store.collect_garbage().unwrap();
    assert!(collected.snapshots == 1 && collected.blobs >= 3 && collected.bytes > 0, "{collected:?}");
    assert!(a.lower[0].exists() && !b.lower[0].exists());
    assert!(matches!(w.store.remove("two").unwrap_err(), Error::NotFound(_)));
    w.store.spec("one").unwrap();
    w.is_clean();
}

#[test]
fn other_archives_are_told_by_what_is_in_them() {
    let w = World::new();
    let (layer, config) = (
        base(),
        serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(base())]}}),
    );
    let config = serde_json::to_vec(&config).unwrap();
    let manifest = br#"[{"Config":"c.json","RepoTags":["old/image:2"],"Layers":["x/layer.tar"]}]"#;
    let docker = tar_of(&[
        ("x/layer.tar", EntryType::Symlink, b"../y/layer.tar"),
        ("y/layer.tar", FILE, &layer),
        ("c.json", FILE, &config),
        ("manifest.json", FILE, manifest),
    ]);
    assert_eq!(w.import(&docker, None).unwrap(), ["docker.io/old/image:2"]);
    assert_eq!(w.import(&gzip(&docker), Some("renamed")).unwrap(), ["docker.io/library/renamed:latest"]);
    assert_eq!(w.import(&base(), Some("plain")).unwrap(), ["docker.io/library/plain:latest"]);
    assert_eq!(w.import(&gzip(&base()), Some("zipped")).unwrap().len(), 1);
    assert_eq!(w.import(&zstd::encode_all(base().as_slice(), 1).unwrap(), Some("zst")).unwrap().len(), 1);
    for name in ["old/image:2", "renamed", "plain", "zipped", "zst"] {
        let spec = w.store.spec(name).unwrap();
        assert_eq!(fs::read(spec.lower[0].join("usr/bin/tool")).unwrap(), b"tool", "{name}");
    }
    assert!(w.import(&base(), None).unwrap_err().to_string().contains("name"));
    w.is_clean();
}

#[test]
fn what_is_exported_is_taken_back_and_by_others() {
    let w = World::new();
    let oci = Oci { layers: vec![base(), top()], name: Some("a/b:1"), ..Oci::default() };
    w.import(&oci.archive(), None).unwrap();
    let out = w.directory.path().join("out.tar");
    w.store.export("a/b:1", &out).unwrap();
    let other = World::new();
    assert_eq!(other.store.import(&out, None).unwrap()[0].to_string(), "docker.io/a/b:1");
    assert_eq!(other.store.find("a/b:1").unwrap(), w.store.find("a/b:1").unwrap());
    let inspected =
        std::process::Command::new("skopeo").args(["inspect", "--config"]).arg(format!("oci-archive:{}", out.display())).output().unwrap();
    assert!(inspected.status.success(), "{}", String::from_utf8_lossy(&inspected.stderr));
    let docker =
        std::process::Command::new("skopeo").args(["inspect", "--raw"]).arg(format!("docker-archive:{}", out.display())).output().unwrap();
    assert!(docker.status.success(), "{}", String::from_utf8_lossy(&docker.stderr));
}

/// A hostile layer is refused in every kind of archive, and nothing is written outside.
fn refused(entries: &[Entry<'_>], expected: &str) {
    let w = World::new();
    let layer = tar_of(entries);
    for (archive, name) in
        [(layer.clone(), Some("bad")), (Oci { layers: vec![layer], name: Some("bad"), ..Oci::default() }.archive(), None)]
    {
        let error = w.import(&archive, name).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(w.store.find("bad").is_err());
        assert_eq!(fs::read_dir(w.directory.path().join("store/snapshots")).unwrap().count(), 0);
        w.is_clean();
    }
    assert!(!Path::new("/tmp/gantry-escaped").exists());
}

#[test]
fn layers_that_reach_out_are_refused() {
    refused(&[("../gantry-escaped", FILE, b"x")], "..");
    refused(&[("a/../../gantry-escaped", FILE, b"x")], "..");
    refused(&[("/tmp/gantry-escaped", FILE, b"x")], "absolute");
    refused(&[("link", EntryType::Symlink, b"/tmp"), ("link/gantry-escaped", FILE, b"x")], "link");
    refused(&[("link", EntryType::Symlink, b"../../../.."), ("link/tmp/gantry-escaped", FILE, b"x")], "link");
    refused(&[("d/", DIR, b""), ("d/link", EntryType::Symlink, b"."), ("d/link/x", FILE, b"x")], "link");
    refused(&[("hard", EntryType::Link, b"../../../../../etc/passwd")], "..");
    refused(&[("hard", EntryType::Link, b"/etc/passwd")], "hard link");
    refused(&[("link", EntryType::Symlink, b"/etc"), ("hard", EntryType::Link, b"link/passwd")], "hard link");
    refused(&[("link", EntryType::Symlink, b"/etc"), ("link/.wh.passwd", FILE, b"")], "link");
    refused(&[("d/.wh...", FILE, b"")], "whiteout");
    refused(&[("file", FILE, b"x"), ("file/below", FILE, b"x")], "not a directory");
    assert!(Path::new("/etc/passwd").exists());
}

#[test]
fn links_are_replaced_and_never_written_through() {
    let w = World::new();
    let outside = w.directory.path().join("archive.outside");
    fs::write(&outside, "untouched").unwrap();
    let target = outside.to_str().unwrap().to_owned();
    let layer = tar_of(&[
        ("x", EntryType::Symlink, target.as_bytes()),
        ("x", FILE, b"inside"),
        ("d/", DIR, b""),
        ("d/f", FILE, b"f"),
        ("d", EntryType::Symlink, b"/tmp"),
    ]);
    w.import(&layer, Some("links")).unwrap();
    assert_eq!(fs::read_to_string(&outside).unwrap(), "untouched");
    let spec = w.store.spec("links").unwrap();
    assert_eq!(fs::read_to_string(spec.lower[0].join("x")).unwrap(), "inside");
    assert_eq!(fs::read_link(spec.lower[0].join("d")).unwrap(), Path::new("/tmp"));
}

#[test]
fn content_must_be_what_it_is_said_to_be() {
    let w = World::new();
    let layers = vec![base()];
    let wrong_blob = Oci { layers: layers.clone(), name: Some("x"), tamper: BTreeMap::from([(0, gzip(&top()))]), ..Oci::default() };
    assert!(matches!(w.import(&wrong_blob.archive(), None).unwrap_err(), Error::WrongDigest { .. }));
    let wrong_diff = Oci { layers: layers.clone(), name: Some("x"), diff_ids: Some(vec![Digest::of("other")]), ..Oci::default() };
    assert!(matches!(w.import(&wrong_diff.archive(), None).unwrap_err(), Error::WrongDigest { .. }));
    let too_many = Oci { layers: layers.clone(), name: Some("x"), diff_ids: Some(vec![]), ..Oci::default() };
    assert!(w.import(&too_many.archive(), None).unwrap_err().to_string().contains("layers"));
    // A layer cut in the middle, honestly described, and an archive cut in the middle.
    let half = base()[..700].to_vec();
    let cut = Oci { layers: vec![half.clone()], name: Some("x"), ..Oci::default() };
    assert!(w.import(&cut.archive(), None).unwrap_err().to_string().contains("cut short"));
    assert!(w.import(&half, Some("x")).unwrap_err().to_string().contains("cut short"));
    let good = Oci { layers, name: Some("x"), ..Oci::default() }.archive();
    for length in (1..good.len() - 1024).step_by(900) {
        // Elsewhere, since a store that has the missing part already rightly takes what is left.
        let error = World::new().import(&good[..length], None).unwrap_err().to_string();
        assert!(["cut short", "missing", "no name"].iter().any(|e| error.contains(e)), "{length}: {error}");
    }
    let zipped = gzip(&base());
    assert!(w.import(&zipped[..zipped.len() / 2], Some("x")).unwrap_err().to_string().contains("cut short"));
    assert!(w.import(b"not a tar at all", Some("x")).is_err());
    assert!(w.import(b"", Some("x")).is_err());
    assert!(w.store.list().unwrap().is_empty());
    w.store.collect_garbage().unwrap();
    assert_eq!(fs::read_dir(w.directory.path().join("store/blobs/sha256")).unwrap().count(), 0);
    w.is_clean();
}

#[test]
fn several_processes_can_import_the_same_at_once() {
    let w = World::new();
    let archive = Oci { layers: vec![base(), top()], name: Some("same"), ..Oci::default() }.archive();
    let path = w.file("archive", &archive);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let store = Store::open(w.directory.path().join("store")).unwrap();
                store.import(&path, None).unwrap();
                store.collect_garbage().unwrap();
                assert!(store.spec("same").unwrap().lower.iter().all(|l| l.exists()));
            });
        }
    });
    w.is_clean();
}
