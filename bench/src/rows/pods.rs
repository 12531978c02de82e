//! From creating a pod to a watcher's seeing it run.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_ports::Clock;
use serde_json::{Value, json};

use super::Measured;
use crate::api::{PODS, get, post};
use crate::cluster::Up;
use crate::figures::{Samples, median};
use crate::load::{Client, request};
use crate::report::{Bar, Row};
use crate::{Bench, Result, failed, machine};

const IMAGE: &str = "bench.local/busybox:1";
/// How long a pod may take before the row is given up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Builds the image: Debian's static busybox, and nothing else.
fn build_image(up: &Up<'_>) -> Result<()> {
    let context = up.0.directory.path().join("bench-image");
    let make = || {
        std::fs::create_dir_all(&context)?;
        std::fs::copy("/bin/busybox", context.join("busybox"))?;
        std::fs::write(
            context.join("Dockerfile"),
            "FROM scratch\nCOPY busybox /bin/busybox\nENTRYPOINT [\"/bin/busybox\", \"sleep\", \"1000000\"]\n",
        )
    };
    make().map_err(failed("the image's files (apt-get install busybox-static)"))?;
    up.0.run(&["image", "build", "-t", IMAGE, &context.to_string_lossy()]).map(drop)
}

fn pod(name: &str) -> Vec<u8> {
    let container = json!({"name": "main", "image": IMAGE, "imagePullPolicy": "Never"});
    let spec = json!({"containers": [container], "terminationGracePeriodSeconds": 0});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}).to_string().into_bytes()
}

/// What a watcher of pods has seen of each: its phase, `Gone` after its end.
struct Watcher {
    client: Client,
    seen: BTreeMap<String, String>,
}

impl Watcher {
    async fn new(up: &Up<'_>) -> Result<Self> {
        let mut client = Client::connect(&up.0.endpoint()?).await?;
        client.watch(&format!("{PODS}?watch=true&resourceVersion=0")).await?;
        Ok(Self { client, seen: BTreeMap::new() })
    }

    /// Waits until all of these are in a phase.
    async fn until(&mut self, bench: &Bench, names: &[String], phase: &str) -> Result<()> {
        let is = |seen: &BTreeMap<String, String>, name: &String| seen.get(name).is_some_and(|p| p == phase);
        while !names.iter().all(|n| is(&self.seen, n)) {
            let lines = gantry_ports::select! {
                lines = self.client.lines() => lines?.ok_or("the watch ended")?,
                () = bench.clock.sleep(PATIENCE) => return Err(format!("after {PATIENCE:?} not all pods are {phase}: {:?}", self.seen)),
            };
            for line in lines[..].split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                let event: Value = serde_json::from_slice(line).map_err(failed("an event"))?;
                let name = event["object"]["metadata"]["name"].as_str().unwrap_or("").to_owned();
                let phase = if event["type"] == "DELETED" { "Gone" } else { event["object"]["status"]["phase"].as_str().unwrap_or("") };
                self.seen.insert(name, phase.to_owned());
            }
        }
        Ok(())
    }
}

/// What some pods took, and what they cost.
struct Round {
    running: Duration,
    gone: Duration,
    cpu: f64,
    shim: f64,
}

/// Creates pods at once, waits until all run, and deletes them.
async fn round(bench: &Bench, up: &Up<'_>, (client, watcher): (&mut Client, &mut Watcher), names: &[String]) -> Result<Round> {
    let server = up.0.pids(Some("server"))?.first().copied().unwrap_or(0);
    let before = machine::cpu_seconds(server);
    let begun = bench.clock.monotonic();
    for name in names {
        client.succeed(&post(PODS, &pod(name))).await?;
    }
    watcher.until(bench, names, "Running").await?;
    let running = bench.clock.monotonic() - begun;
    let cpu = machine::cpu_seconds(server) - before;
    let shims = up.0.pids(Some("shim"))?;
    let private = |pid: &u32| machine::memory_kb(*pid, "Private_Dirty:") + machine::memory_kb(*pid, "Private_Clean:");
    let shim = median(shims.iter().map(|pid| private(pid) * 1024.0 / 1e6));
    let begun = bench.clock.monotonic();
    for name in names {
        client.succeed(&request("DELETE", &format!("{PODS}/{name}?gracePeriodSeconds=1"), "", b"")).await?;
    }
    watcher.until(bench, names, "Gone").await?;
    Ok(Round { running, gone: bench.clock.monotonic() - begun, cpu, shim })
}

pub(crate) async fn run(bench: &Bench) -> Result<Measured> {
    let up = Up::start(bench, &[])?;
    build_image(&up)?;
    let mut client = Client::connect(&up.0.endpoint()?).await?;
    client.succeed(&get(PODS)).await?;
    let mut watcher = Watcher::new(&up).await?;
    let (mut one_by_one, mut together) = (Vec::new(), Vec::new());
    for n in 0..bench.pick(50, 10) {
        one_by_one.push(round(bench, &up, (&mut client, &mut watcher), &[format!("one-{n}")]).await?);
    }
    for n in 0..bench.pick(5, 2) {
        let names: Vec<String> = (0..50).map(|i| format!("all-{n}-{i}")).collect();
        together.push(round(bench, &up, (&mut client, &mut watcher), &names).await?);
    }
    let one = Samples::new(one_by_one.iter().map(|r| r.running).collect());
    let all = Samples::new(together.iter().map(|r| r.running).collect());
    let gone = |rounds: &[Round]| Samples::new(rounds.iter().map(|r| r.gone).collect()).p50();
    let what = format!("pod create → Running seen, {} one at a time", one.count());
    let cpu = median(one_by_one.iter().map(|r| r.cpu)) * 1e3;
    let shim = median(together.iter().map(|r| r.shim));
    let first = Row::new(format!("{what}: p50"), one.p50(), "ms", Bar::AtMost(100.0)).beside("delete → gone", gone(&one_by_one), "ms");
    Ok(vec![
        first.beside("CPU of the server each", cpu, "ms"),
        Row::new(format!("{what}: p99"), one.p99(), "ms", Bar::AtMost(250.0)).beside("longest", one.longest(), "ms"),
        Row::new("50 pods at once: all Running, p50", all.p50(), "ms", Bar::AtMost(1500.0))
            .beside("longest", all.longest(), "ms")
            .beside("CPU of the server", median(together.iter().map(|r| r.cpu)), "s")
            .beside("all deleted → gone", gone(&together), "ms"),
        Row::new("private memory of a shim", shim, "MB", Bar::AtMost(2.0)),
    ]
    .into())
}
