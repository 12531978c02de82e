//! Disks that are full, and files that are not what they were.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::client::{config_map, connect};
use crate::harness::Server;

/// A small disk of the test's own.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Self {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at));
        Self(at.into())
    }

    fn grow(&self, size: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0));
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let file = fs::File::create(self.0.join("filler")).expect("a name takes no room");
        let block = vec![1; 4096];
        let mut at = 0;
        while file.write_all_at(&block, at).is_ok() {
            at += 4096;
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
        // What the server's directory could not remove itself, since this was mounted there.
        let _ = fs::remove_dir(&self.0);
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn large(name: &str) -> ConfigMap {
    let data = json!({"metadata": {"name": name}, "data": {"rest": "x".repeat(200_000)}});
    serde_json::from_value(data).expect("a ConfigMap")
}

/// Writes until it is refused; how many were written, and the refusal.
async fn write_until_refused(api: &Api<ConfigMap>, prefix: &str) -> (usize, kube::Error) {
    for i in 0.. {
        if let Err(error) = api.create(&PostParams::default(), &large(&format!("{prefix}-{i}"))).await {
            return (i, error);
        }
    }
    unreachable!("a disk has an end")
}

async fn count(api: &Api<ConfigMap>, prefix: &str) -> usize {
    let all = api.list(&ListParams::default()).await.expect("lists").items;
    all.iter().filter(|m| m.metadata.name.as_ref().is_some_and(|n| n.starts_with(prefix))).count()
}

/// What a command that must fail says last.
fn last_words(command: &mut Command) -> String {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it starts");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    let mut said = Vec::new();
    for line in lines {
        let ready = line.contains("the API is ready");
        said.push(line);
        if ready {
            child.kill().expect("ours to kill");
            child.wait().expect("ours to wait for");
            panic!("it should not start: {said:#?}");
        }
    }
    let status = child.wait().expect("ours to wait for");
    assert!(!status.success(), "{command:?} should fail, said {said:#?}");
    said.pop().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_loses_nothing_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk = SmallDisk::mount(dir.path(), "20m");
    let mut server = Server::start_in(dir);
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
    let (written, refusal) = write_until_refused(&api, "first").await;
    let kube::Error::Api(status) = &refusal else { panic!("{refusal:?}") };
    assert_eq!((status.code, status.reason.as_str()), (507, "ServiceUnavailable"), "{status:?}");
    assert!(status.message.contains("nothing was written, the server's disk is full"), "{status:?}");
    assert!(written > 30, "a segment fits: {written}");
    // What is small finds room in the segment, and makes none: the log only grows. Reading goes on.
    assert_eq!(count(&api, "first").await, written);
    api.create(&PostParams::default(), &config_map("small")).await.expect("there is room for this");
    api.delete("first-0", &DeleteParams::default()).await.expect("and for a deletion");
    server.kubectl("create configmap small2").says("created");

    // A killed server starts on a disk that is full but for a few blocks, and nothing is lost.
    server.kill();
    server.run();
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
    assert_eq!((count(&api, "first").await, count(&api, "small").await), (written - 1, 2));
    assert!(write_until_refused(&api, "second").await.0 <= 1);

    // Without a block left it says what is wrong.
    server.kill();
    disk.fill();
    let said = last_words(&mut server.command());
    assert!(said.contains("the disk is full: make room there and start again"), "{said}");
    let said = last_words(Command::new(env!("CARGO_BIN_EXE_gantry")).arg("up").arg("--data-dir").arg(server.dir.path()));
    assert!(said.contains("the disk is full: make room there and start again"), "{said}");
    disk.empty();
    server.run();

    // With room it goes on without a restart.
    disk.grow("60m");
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
    for i in 0..40 {
        api.create(&PostParams::default(), &large(&format!("third-{i}"))).await.expect("there is room again");
    }
    server.kill();
    server.run();
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
    assert_eq!((count(&api, "first").await, count(&api, "small").await, count(&api, "third").await), (written - 1, 2, 40));
    server.kill();
}

/// The store's files of one sort, sorted.
fn files(server: &Server, prefix: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(server.dir.path().join("store")).expect("a directory").flatten().map(|e| e.path());
    let mut found: Vec<PathBuf> = all.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix))).collect();
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_store_is_said_not_served_and_salvaged_when_asked() {
    let mut server = Server::start();
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
    let create = async |name: &str| {
        let written = api.create(&PostParams::default(), &config_map(name)).await.expect("creates");
        written.metadata.resource_version.expect("a version").parse::<u64>().expect("a number")
    };
    create("one").await;
    let last = create("two").await;
    server.kill();
    // A byte of a record near the log's end.
    let segment = files(&server, "log-").pop().expect("a segment");
    let file = fs::OpenOptions::new().read(true).write(true).open(&segment).expect("opens");
    let bytes = fs::read(&segment).expect("reads");
    let at = bytes.windows(5).rposition(|w| w == b"\"two\"").expect("its name is there");
    file.write_all_at(&[bytes[at] ^ 4], at as u64).expect("writes");
    for _ in 0..2 {
        let said = last_words(&mut server.command());
        let name = segment.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(said.contains(&format!("{name} is damaged at byte {}", at / 512 * 512)) && said.contains("--salvage"), "{said}");
    }
    server.run_with(&["--salvage"]);
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
    assert!(api.get_opt("one").await.expect("gets").is_some(), "what was before the damage is there");
    let again = api.create(&PostParams::default(), &config_map("three")).await.expect("creates");
    assert!(again.metadata.resource_version.expect("a version").parse::<u64>().expect("a number") > last);
    let kept = files(&server, "damaged-");
    assert_eq!(kept.len(), 1, "{kept:?}");
    server.kill();
    server.run();
    let api: Api<ConfigMap> = Api::default_namespaced(connect(&server).await);
    assert!(api.get_opt("three").await.expect("gets").is_some());
}
