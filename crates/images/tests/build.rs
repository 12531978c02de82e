//! Builds, with commands run in real containers. Needs root and Debian's `busybox-static`.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use gantry_containers::{LocalConfig, LocalRuntime};
use gantry_images::{BuildOptions, Builder, Digest, Error, Image, Reference, Runner, Store};
use gantry_ports::RealClock;

static COUNT: AtomicU32 = AtomicU32::new(0);

struct World {
    directory: tempfile::TempDir,
    store: Arc<Store>,
    runtime: LocalRuntime,
    cgroup: String,
    said: Mutex<String>,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Tests may share a process.
        let cgroup = format!("/gantry-build-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let config = LocalConfig {
            state_dir: directory.path().join("state"),
            cgroup_parent: cgroup.clone(),
            shim_program: env!("CARGO_BIN_EXE_gantry-build-shim").into(),
            shim_args: vec![],
        };
        let runtime = LocalRuntime::open(config, Arc::new(RealClock::new())).await.unwrap();
        let store = Arc::new(Store::open(directory.path().join("store")).unwrap());
        let w = Self { directory, store, runtime, cgroup, said: Mutex::default() };
        w.file("Dockerfile", "FROM scratch\n");
        w
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join("context").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// An image with a shell, to build upon.
    fn busybox(&self) {
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_path_with_name("/bin/busybox", "usr/bin/busybox").expect("these tests need Debian's busybox-static");
        let mut link = |name: &str, to: &str| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, name, to).unwrap();
        };
        for name in ["sh", "cat", "ls", "id", "rm", "mkdir", "ln", "mv", "echo", "pwd", "env", "touch", "chmod", "head", "wc"] {
            link(&format!("usr/bin/{name}"), "busybox");
        }
        // As on every merged system: what goes to /bin must end up in /usr/bin.
        link("bin", "usr/bin");
        let mut add = |name: &str, text: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text).unwrap();
        };
        add("etc/passwd", b"root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n");
        add("etc/group", b"web:x:44:\n");
        add("old/a", b"a");
        add("old/b", b"b");
        let path = self.directory.path().join("busybox.tar");
        fs::write(&path, tar.into_inner().unwrap()).unwrap();
        self.store.import(&path, Some(&Reference::parse("busybox").unwrap())).unwrap();
    }

    async fn build_with(&self, change: impl FnOnce(&mut BuildOptions)) -> gantry_images::Result<Image> {
        let mut options = BuildOptions {
            context: self.directory.path().join("context"),
            names: vec![Reference::parse("built").unwrap()],
            ..BuildOptions::default()
        };
        change(&mut options);
        let progress = |line: &str| {
            let mut said = self.said.lock().unwrap();
            said.push_str(line);
            said.push('\n');
        };
        self.said.lock().unwrap().clear();
        let runner = Runner::new(&self.runtime, "build", &format!("{}/build", self.cgroup));
        let built = Builder { store: &self.store, runner: Some(runner), registries: None, progress: &progress }.build(&options).await;
        // Whatever came of it, nothing runs and nothing staged is left.
        assert_eq!(fs::read_dir(self.directory.path().join("state")).unwrap().count(), 1, "only the lock");
        assert_eq!(fs::read_dir(self.directory.path().join("store/tmp")).unwrap().count(), 0);
        built
    }

    async fn build(&self, dockerfile: &str) -> gantry_images::Result<Image> {
        self.file("Dockerfile", dockerfile);
        self.build_with(|_| {}).await
    }

    async fn good(&self, dockerfile: &str) -> gantry_images::ImageSpec {
        self.build(dockerfile).await.unwrap_or_else(|e| panic!("{}\n{}", gantry_object::chain(&e), self.said.lock().unwrap()));
        self.store.spec("built").unwrap()
    }

    /// A file as the stacked layers show it.
    fn read(&self, path: &str) -> Option<String> {
        self.find(path).map(|p| fs::read_to_string(p).unwrap())
    }

    fn find(&self, path: &str) -> Option<PathBuf> {
        let lower = self.store.spec("built").unwrap().lower;
        let found = lower.iter().map(|l| l.join(path)).find(|p| p.symlink_metadata().is_ok())?;
        let meta = found.symlink_metadata().unwrap();
        (meta.is_file() || meta.is_dir()).then_some(found)
    }

    async fn refused(&self, dockerfile: &str, line: usize, instruction: &str, why: &str) {
        let error = self.build(dockerfile).await.unwrap_err();
        let Error::Dockerfile { line: l, instruction: i, why: w, .. } = &error else { panic!("{error:?}") };
        assert!(*l == line && i == instruction && w.contains(why), "{error}");
    }

    fn finish(self) {
        self.runtime.remove_cgroups().unwrap();
    }
}

#[tokio::test]
async fn configuration_is_as_written() {
    let w = World::new().await;
    let spec = w
        .good(concat!(
            "ARG base=scratch\nFROM ${base} AS one\nARG WHO=you\nENV GREETING=\"hello $WHO\" B=2\nENV OLD a  b\nLABEL a=b \"c d\"='e f'\n",
            "EXPOSE 80 90-91/udp\nVOLUME [\"/data\"]\nUSER web:web\nWORKDIR /srv\nWORKDIR app\nSTOPSIGNAL SIGQUIT\n",
            "HEALTHCHECK --interval=1m30s --retries=3 CMD true\nENTRYPOINT [\"/run\"]\nCMD [\"a\", \"$b\"]\n"
        ))
        .await;
    assert_eq!(spec.env, ["GREETING=hello you", "B=2", "OLD=a  b"]);
    assert_eq!((spec.entrypoint, spec.cmd), (vec!["/run".to_owned()], vec!["a".to_owned(), "$b".to_owned()]));
    assert_eq!((spec.user.as_str(), spec.workdir.as_str(), spec.stop_signal.as_str()), ("web:web", "/srv/app", "SIGQUIT"));
    assert_eq!((spec.exposed, spec.volumes), (vec!["80/tcp".to_owned(), "90/udp".into(), "91/udp".into()], vec!["/data".to_owned()]));
    assert_eq!(spec.labels, BTreeMap::from([("a".to_owned(), "b".to_owned()), ("c d".into(), "e f".into())]));
    assert!(w.find("srv/app").unwrap().is_dir());
    let spec = w.good("FROM scratch\nCMD echo hi\nSHELL [\"/bin/x\"]\nENTRYPOINT a b\n").await;
    assert_eq!(spec.entrypoint, ["/bin/x", "a b"]);
    assert_eq!(spec.cmd, ["/bin/sh", "-c", "echo hi"]);
    w.finish();
}

#[tokio::test]
async fn files_are_copied_as_asked() {
    let w = World::new().await;
    w.busybox();
    w.file("a.txt", "a");
    w.file("d/b.txt", "b");
    w.file("d/e/c.log", "c");
    w.file("secret/key", "k");
    w.file(".dockerignore", "secret\n**/*.log\n");
    let spec = w
        .good(concat!(
            "FROM busybox\nWORKDIR /w\nCOPY a.txt .\nCOPY a.txt renamed\nCOPY d /d/\nCOPY *.txt d/*.txt /all/\nCOPY . /ctx\n",
            "COPY --chown=web --chmod=4711 a.txt /bin/tool\nCOPY <<one <<'two' /texts/\nis $PATH\none\n$stays\ntwo\n"
        ))
        .await;
    for (path, text) in [
        ("w/a.txt", "a"),
        ("w/renamed", "a"),
        ("d/b.txt", "b"),
        ("all/a.txt", "a"),
        ("all/b.txt", "b"),
        ("ctx/d/b.txt", "b"),
        ("texts/two", "$stays\n"),
    ] {
        assert_eq!(w.read(path).as_deref(), Some(text), "{path}");
    }
    for path in ["d/e/c.log", "ctx/secret", "ctx/secret/key", "ctx/d/e/c.log"] {
        assert!(w.find(path).is_none(), "{path}");
    }
    let tool = fs::metadata(w.find("usr/bin/tool").unwrap()).unwrap();
    assert_eq!((tool.uid(), tool.gid(), tool.mode() & 0o7777, tool.mtime()), (33, 33, 0o4711, 0), "through the link /bin");
    // The same content gives the same image, whatever the files' times.
    let again = w.good(&fs::read_to_string(w.directory.path().join("context/Dockerfile")).unwrap()).await;
    assert_eq!(again.image.manifest, spec.image.manifest);
    w.refused("FROM scratch\nCOPY nothing /\n", 2, "COPY", "not found").await;
    w.refused("FROM scratch\n\nCOPY ../up /\n", 3, "COPY", "outside").await;
    w.refused("FROM scratch\nCOPY secret/key /\n", 2, "COPY", ".dockerignore").await;
    w.refused("FROM scratch\nCOPY a.txt d/b.txt /x\n", 2, "COPY", "must end with /").await;
    w.refused("FROM scratch\nADD https://example.invalid/x /\n", 2, "ADD", "fetching").await;
    // A link in the context that leads out of it leads nowhere.
    std::os::unix::fs::symlink("/etc/passwd", w.directory.path().join("context/escape")).unwrap();
    w.refused("FROM scratch\nCOPY escape /x\n", 2, "COPY", "not found").await;
    w.finish();
}

#[tokio::test]
async fn archives_are_unpacked_by_add_alone() {
    let w = World::new().await;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    header.set_mode(0o600);
    header.set_uid(7);
    tar.append_data(&mut header, "in/side", &b"in"[..]).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, &tar.into_inner().unwrap()).unwrap();
    w.file("x.tgz", encoder.finish().unwrap());
    w.file("plain", "text");
    w.good("FROM scratch\nADD x.tgz plain /a/\nCOPY x.tgz /c/\n").await;
    assert_eq!((w.read("a/in/side").as_deref(), w.read("a/plain").as_deref()), (Some("in"), Some("text")));
    assert_eq!(fs::metadata(w.find("a/in/side").unwrap()).unwrap().uid(), 7);
    assert!(w.find("c/x.tgz").is_some());
    w.finish();
}

#[tokio::test]
async fn commands_run_in_containers_and_are_remembered() {
    let w = World::new().await;
    w.busybox();
    w.file("in", "1");
    let text = concat!(
        "FROM busybox\nARG V=1\nENV E=env\nWORKDIR /work\nCOPY in .\nRUN echo $V $E $(cat in) > out && id -u >> out\n",
        "RUN [\"/bin/sh\", \"-c\", \"pwd > exec; head -c 1 /dev/kmsg && echo broken\"]\n"
    );
    // The second command fails on purpose: no device is let in.
    let error = w.build(text).await.unwrap_err().to_string();
    assert!(error.starts_with("Dockerfile:7: RUN: ") && error.contains("exit code 1"), "{error}");
    let text = text.replace("&& echo broken", "; rm -r /old; mkdir /old; touch /old/new; ln out hard; rm /etc/group");
    let spec = w.good(&text).await;
    assert_eq!(w.read("work/out").as_deref(), Some("1 env 1\n0\n"));
    assert_eq!(w.read("work/exec").as_deref(), Some("/work\n"));
    assert!(w.said.lock().unwrap().contains("cached"), "the first command had run before");
    assert_eq!(fs::metadata(w.find("work/hard").unwrap()).unwrap().nlink(), 2);
    assert!(w.find("etc/group").is_none() && w.find("etc/passwd").is_some());
    let top = &spec.lower[0];
    assert!(top.join("old/new").exists() && !top.join("proc").exists() && !top.join("dev").exists(), "mount points are no changes");
    assert!(!top.join("etc/resolv.conf").exists());
    // Opaque or whited out one by one: what was in it is gone when stacked.
    let shown = w.good("FROM built\nRUN ls /old > /list; echo $0 > /shell\nUSER web\nRUN id > /tmp-id 2>&1 || true\nRUN <<EOF\necho several\nid -u\nEOF\n").await;
    assert_eq!(w.read("list").as_deref(), Some("new\n"));
    assert!(w.said.lock().unwrap().contains("several\n  33\n"));
    drop(shown);
    // All remembered, in the same image; forgotten when told so, or when something before changes.
    let first = w.good(&text).await.image.manifest;
    assert_eq!(w.said.lock().unwrap().matches("cached").count(), 2);
    w.file("in", "2");
    let changed = w.good(&text).await.image.manifest;
    assert!(!w.said.lock().unwrap().contains("cached") && changed != first);
    assert_eq!(w.read("work/out").as_deref(), Some("1 env 2\n0\n"));
    w.build_with(|o| o.build_args = BTreeMap::from([("V".to_owned(), "9".to_owned())])).await.unwrap();
    assert_eq!(w.read("work/out").as_deref(), Some("9 env 2\n0\n"));
    w.build_with(|o| o.no_cache = true).await.unwrap();
    assert!(!w.said.lock().unwrap().contains("cached"));
    w.finish();
}

#[tokio::test]
async fn stages_take_from_each_other() {
    let w = World::new().await;
    w.busybox();
    let text = concat!(
        "FROM busybox AS build\nRUN mkdir /out && echo made > /out/file && ln -s file /out/link\n",
        "FROM build AS unused\nRUN exit 1\n",
        "FROM build AS more\nRUN rm /out/link; echo more > /out/extra\n",
        "FROM scratch\nCOPY --from=more /out /result/\nCOPY --from=0 /out/link /result/copied\nCOPY --from=busybox /etc/passwd /\n",
        "COPY --from=build /bin/sh /sh\n"
    );
    let spec = w.good(text).await;
    assert_eq!(w.read("result/file").as_deref(), Some("made\n"));
    assert_eq!(w.read("result/extra").as_deref(), Some("more\n"));
    assert!(w.find("result/link").is_none());
    assert_eq!(w.read("result/copied").as_deref(), Some("made\n"), "a link that is named is followed");
    assert!(w.find("passwd").is_some());
    assert!(fs::metadata(w.find("sh").unwrap()).unwrap().len() > 100_000, "through two links");
    assert_eq!(spec.lower.len(), 4, "nothing of the other stages");
    w.build_with(|o| o.target = Some("build".into())).await.unwrap();
    assert!(w.find("out/link").is_none() && w.find("out/file").is_some());
    let failed = w.build_with(|o| o.target = Some("unused".into())).await.unwrap_err().to_string();
    assert!(failed.starts_with("Dockerfile:4: RUN"), "{failed}");
    assert!(w.build_with(|o| o.target = Some("none".into())).await.is_err());
    w.refused("FROM scratch\nCOPY --from=nowhere /x /\n", 2, "COPY", "not found").await;
    w.refused("FROM absent/image\n", 1, "FROM", "not found").await;
    w.finish();
}

#[tokio::test]
async fn triggers_fire_in_the_image_built_upon() {
    let w = World::new().await;
    w.file("x", "x");
    w.good("FROM scratch\nONBUILD COPY x /triggered\nONBUILD ENV T=1\n").await;
    assert!(w.find("triggered").is_none());
    let image = w.store.find("built").unwrap();
    w.store.tag(image.id.as_str(), &Reference::parse("base").unwrap()).unwrap();
    let spec = w.good("FROM base\nENV U=2\n").await;
    assert_eq!((w.read("triggered").as_deref(), spec.env.as_slice()), (Some("x"), &["T=1".to_owned(), "U=2".to_owned()][..]));
    w.refused("FROM scratch\nONBUILD FROM x\n", 2, "ONBUILD", "trigger").await;
    w.finish();
}

#[tokio::test]
async fn mistakes_name_line_and_instruction() {
    let w = World::new().await;
    w.refused("RUN x\nFROM scratch\n", 1, "RUN", "must be FROM").await;
    w.refused("FROM scratch\nENV x\n", 2, "ENV", "KEY=value").await;
    w.refused("FROM scratch\nEXPOSE http\n", 2, "EXPOSE", "port").await;
    w.refused("FROM scratch\nUSER a b\n", 2, "USER", "one argument").await;
    w.refused("FROM scratch\nCOPY --frob=1 a b\n", 2, "COPY", "--frob").await;
    w.refused("FROM scratch\n# c\nLABEL a=\"b\n", 3, "LABEL", "quote").await;
    w.refused("FROM scratch\nRUN --mount=type=cache x\n", 2, "RUN", "--mount").await;
    w.refused("FROM scratch extra words\n", 1, "FROM", "IMAGE").await;
    w.refused("FROM Upper/Case\n", 1, "FROM", "lower-case").await;
    w.finish();
}

#[tokio::test]
async fn what_is_built_is_kept_by_its_name_and_read_by_others() {
    let w = World::new().await;
    w.file("web", "server");
    let spec = w.good("FROM scratch\nCOPY --chmod=755 web /web\nENTRYPOINT [\"/web\"]\n").await;
    w.store.collect_garbage().unwrap();
    assert!(spec.lower[0].join("web").exists());
    let out = w.directory.path().join("out.tar");
    w.store.export("built", &out).unwrap();
    let inspected =
        std::process::Command::new("skopeo").args(["inspect", "--config"]).arg(format!("oci-archive:{}", out.display())).output().unwrap();
    let config: serde_json::Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(config["config"]["Entrypoint"][0], "/web");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 1);
    assert!(config["history"][0]["created_by"].as_str().unwrap().starts_with("COPY"));
    assert!(Path::new(&out).exists() && "built".parse::<Digest>().is_err());
    w.finish();
}
