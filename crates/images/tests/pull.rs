//! Pulls from Debian's docker-registry, and from registries that lie.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gantry_images::{Credentials, Error, Reference, Registries, Store};
use gantry_ports::{RealClock, RealRandom, RealSockets, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn registries() -> Registries {
    Registries {
        sockets: Arc::new(RealSockets),
        tasks: Tasks::on(tokio::runtime::Handle::current()),
        clock: Arc::new(RealClock::new()),
        random: Arc::new(RealRandom::new().unwrap()),
        plain_http: BTreeSet::new(),
        authorities: None,
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// docker-registry on a free port, with or without a password, gone with this.
struct Server {
    process: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn serve(directory: &Path, password_file: Option<&Path>) -> Server {
    let port = free_port();
    let auth = password_file.map_or(String::new(), |f| format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", f.display()));
    let data = directory.join("data");
    let config = format!(
        "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{auth}",
        data.display()
    );
    fs::write(directory.join("config.yml"), config).unwrap();
    let process = Command::new("docker-registry")
        .args(["serve"])
        .arg(directory.join("config.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("these tests need Debian's docker-registry");
    let server = Server { process, port };
    let up = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), up).await.expect("the registry comes up");
    server
}

/// A store with an image of two layers, and an archive of it.
fn make_image(directory: &Path) -> (Store, std::path::PathBuf) {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    let data: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, "data", data.as_slice()).unwrap();
    fs::write(directory.join("root.tar"), builder.into_inner().unwrap()).unwrap();
    let store = Store::open(directory.join("first")).unwrap();
    store.import(&directory.join("root.tar"), Some(&Reference::parse("made/here:1").unwrap())).unwrap();
    let archive = directory.join("image.tar");
    store.export("made/here:1", &archive).unwrap();
    (store, archive)
}

fn push(archive: &Path, port: u16, credentials: &[&str]) {
    let output = Command::new("skopeo")
        .args(["copy", "--insecure-policy", "--dest-tls-verify=false"])
        .args(credentials)
        .arg(format!("oci-archive:{}", archive.display()))
        .arg(format!("docker://127.0.0.1:{port}/team/app:v1"))
        .output()
        .expect("these tests need Debian's skopeo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn an_image_is_pulled_once_and_verified() {
    let d = tempfile::tempdir().unwrap();
    let (first, archive) = make_image(d.path());
    let server = serve(d.path(), None).await;
    push(&archive, server.port, &[]);
    let store = Arc::new(Store::open(d.path().join("second")).unwrap());
    let name = Reference::parse(&format!("127.0.0.1:{}/team/app:v1", server.port)).unwrap();
    let image = registries().pull(&store, &name, None).await.unwrap();
    assert_eq!(image.id, first.find("made/here:1").unwrap().id);
    assert_eq!(image.names, [name.to_string()]);
    let spec = store.spec(&name.to_string()).unwrap();
    assert_eq!(fs::metadata(spec.lower[0].join("data")).unwrap().len(), 1_200_000);
    let by_digest = Reference::parse(&image.repo_digests[0]).unwrap();
    assert_eq!(store.find(&by_digest.to_string()).unwrap(), image, "known by its digest too");
    let again = Arc::new(Store::open(d.path().join("third")).unwrap());
    assert_eq!(registries().pull(&again, &by_digest, None).await.unwrap().id, image.id);

    let missing = Reference::parse(&format!("127.0.0.1:{}/team/app:v2", server.port)).unwrap();
    let error = registries().pull(&store, &missing, None).await.unwrap_err();
    assert!(matches!(&error, Error::Registry { why, .. } if why == "not found"), "{error}");
    // The registry's disk goes bad: a layer is changed behind its back.
    let blobs: Vec<_> =
        walk(&d.path().join("data")).into_iter().filter(|p| p.ends_with("data") && fs::metadata(p).unwrap().len() > 10_000).collect();
    assert_eq!(blobs.len(), 1);
    let mut bytes = fs::read(&blobs[0]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&blobs[0], &bytes).unwrap();
    let fresh = Arc::new(Store::open(d.path().join("fourth")).unwrap());
    let error = registries().pull(&fresh, &name, None).await.unwrap_err();
    assert!(matches!(error, Error::WrongDigest { .. } | Error::Refused { .. }), "{error}");
    assert!(fresh.list().unwrap().is_empty());
    drop(server);
    let gone = registries().pull(&fresh, &name, None).await.unwrap_err();
    assert!(matches!(gone, Error::Connection { .. }), "{gone}");
}

fn walk(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.path().is_dir() { all.extend(walk(&entry.path())) } else { all.push(entry.path()) }
    }
    all
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let d = tempfile::tempdir().unwrap();
    let (_, archive) = make_image(d.path());
    let output = Command::new("htpasswd").args(["-nbB", "-C", "4", "ali", "sesame"]).output();
    let Ok(output) = output else { panic!("these tests need Debian's apache2-utils for htpasswd") };
    fs::write(d.path().join("passwords"), output.stdout).unwrap();
    let server = serve(d.path(), Some(&d.path().join("passwords"))).await;
    push(&archive, server.port, &["--dest-creds", "ali:sesame"]);
    let store = Arc::new(Store::open(d.path().join("second")).unwrap());
    let name = Reference::parse(&format!("127.0.0.1:{}/team/app:v1", server.port)).unwrap();
    let error = registries().pull(&store, &name, None).await.unwrap_err();
    assert!(error.to_string().contains("password"), "{error}");
    let wrong = Credentials { username: "ali".into(), password: "open".into() };
    assert!(registries().pull(&store, &name, Some(&wrong)).await.unwrap_err().to_string().contains("denied"));
    let right = Credentials { username: "ali".into(), password: "sesame".into() };
    registries().pull(&store, &name, Some(&right)).await.unwrap();
}

/// A registry that gives each path of a list its answer: status line with headers, and body.
async fn script(answers: Vec<(&'static str, String, Vec<u8>)>) -> (u16, Tasks) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                let n = stream.read(&mut buffer).await.unwrap_or(0);
                if n == 0 {
                    break;
                }
                request.extend_from_slice(&buffer[..n]);
            }
            let request = String::from_utf8_lossy(&request).to_string();
            let found = answers.iter().find(|(wanted, ..)| wanted.split('&').all(|part| request.contains(part)));
            let (_, head, body) = found.cloned().unwrap_or(("", "404 Not Found".into(), vec![]));
            let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())
                .replace("PORT", &port.to_string());
            let _ = stream.write_all(head.as_bytes()).await;
            let _ = stream.write_all(&body).await;
        }
    };
    let tasks = Tasks::on(tokio::runtime::Handle::current());
    tasks.spawn(serve);
    (port, tasks)
}

#[tokio::test]
async fn tokens_lists_and_redirects_are_followed() {
    let d = tempfile::tempdir().unwrap();
    let (first, _) = make_image(d.path());
    let image = first.find("made/here:1").unwrap();
    let blob = |digest: &gantry_images::Digest| fs::read(d.path().join("first/blobs/sha256").join(digest.hex())).unwrap();
    let manifest = blob(&image.manifest);
    let parsed: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let layer: gantry_images::Digest = parsed["layers"][0]["digest"].as_str().unwrap().parse().unwrap();
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let entry = |arch: &str, digest: &str| {
        serde_json::json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
        "size": manifest.len(), "platform": {"os": "linux", "architecture": arch}})
    };
    let other = format!("sha256:{}", "0".repeat(64));
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry("sparc", &other), entry(arch, image.manifest.as_str())]});
    let leak = |s: String| -> &'static str { Box::leak(s.into_boxed_str()) };
    let (port, _serving) = script(vec![
        ("GET /token?service=s&scope=repository:a/b:pull", "200 OK".into(), br#"{"token":"t0k"}"#.to_vec()),
        ("GET /storage", "200 OK".into(), blob(&layer)),
        ("GET /v2/a/b/manifests/latest&authorization: Bearer t0k", "200 OK".into(), serde_json::to_vec(&index).unwrap()),
        (leak(format!("manifests/{}&Bearer t0k", image.manifest)), "200 OK".into(), manifest),
        (leak(format!("blobs/{}&Bearer t0k", image.id)), "200 OK".into(), blob(&image.id)),
        (leak(format!("blobs/{layer}&Bearer t0k")), "307 Temporary Redirect\r\nLocation: /storage?x=y".into(), vec![]),
        ("GET /v2/", "401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1:PORT/token\",service=\"s\",scope=\"repository:a/b:pull\"".into(), vec![]),
    ])
    .await;
    let store = Arc::new(Store::open(d.path().join("second")).unwrap());
    let name = Reference::parse(&format!("localhost:{port}/a/b")).unwrap();
    let pulled = registries().pull(&store, &name, None).await.unwrap();
    assert_eq!(pulled.id, image.id);
    // The digest by which others know it is the list's.
    assert!(pulled.repo_digests[0].ends_with(gantry_images::Digest::of(serde_json::to_vec(&index).unwrap()).as_str()));
}
