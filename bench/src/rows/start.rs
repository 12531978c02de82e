//! From nothing to ready, and back again with 50,000 objects.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gantry_ports::Clock;
use serde_json::Value;

use super::Measured;
use crate::api::{CONFIG_MAPS, NODES, config_map, count, get, post};
use crate::cluster::{Cluster, Up};
use crate::figures::Samples;
use crate::load::{Client, Until, connect, load};
use crate::report::{Bar, Row};
use crate::rows::create::SIZE;
use crate::{Bench, Result, failed};

/// What one start took until each point.
struct Moments {
    api: Duration,
    nodes: Duration,
    all: Duration,
}

/// Whether every node is ready, and there are so many.
async fn are_ready(client: &mut Client, nodes: usize) -> Result<bool> {
    let list: Value = serde_json::from_slice(&client.succeed(&get(NODES)).await?).map_err(failed("nodes"))?;
    let items = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ready = |node: &Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    Ok(items.len() == nodes && items.iter().all(ready))
}

/// Starts a cluster of so many nodes in a new directory, and takes it down again.
async fn once(bench: &Bench, nodes: usize) -> Result<Moments> {
    let up = Up(Cluster::new(bench)?);
    let (port, number) = (up.0.port.to_string(), nodes.to_string());
    let mut command: Command = up.0.gantry(&["up", "--port", &port, "--nodes", &number]);
    let begun = bench.clock.monotonic();
    let mut child = command.stdout(Stdio::null()).spawn().map_err(failed("gantry up"))?;
    let waiting = bench.tasks.blocking(move || child.wait());
    let clock = bench.clock;
    let watching = async {
        let endpoint = up.0.until_ready(begun).await?;
        let api = clock.monotonic() - begun;
        let mut client = Client::connect(&endpoint).await?;
        while !are_ready(&mut client, nodes).await? {
            clock.sleep(Duration::from_millis(2)).await;
        }
        Ok::<_, String>((api, clock.monotonic() - begun))
    };
    let ended = async { waiting.await.map(|status| (status, clock.monotonic() - begun)).map_err(failed("gantry up")) };
    let (watched, ended) = tokio::join!(watching, ended);
    let ((api, nodes), (status, all)) = (watched?, ended?);
    if status.success() { Ok(Moments { api, nodes, all }) } else { Err(format!("gantry up: {status}")) }
}

pub(crate) async fn start(bench: &Bench) -> Result<Measured> {
    let mut rows = Vec::new();
    for (nodes, bar) in [(1, 1000.0), (3, 3000.0)] {
        let mut all = Vec::new();
        for _ in 0..bench.pick(10, 3) {
            all.push(once(bench, nodes).await?);
        }
        let of = |moment: fn(&Moments) -> Duration| Samples::new(all.iter().map(moment).collect());
        let (api, ready, done) = (of(|m| m.api), of(|m| m.nodes), of(|m| m.all));
        if nodes == 1 {
            rows.push(Row::new("gantry up → API ready: p50", api.p50(), "ms", Bar::AtMost(300.0)).beside("longest", api.longest(), "ms"));
        }
        let what = if nodes == 1 { "gantry up → node Ready: p50".to_owned() } else { format!("gantry up → {nodes} nodes Ready: p50") };
        let row = Row::new(what, ready.p50(), "ms", Bar::AtMost(bar)).beside("longest", ready.longest(), "ms");
        rows.push(row.beside("until it says so (also DNS, default account)", done.p50(), "ms"));
    }
    Ok(rows.into())
}

pub(crate) async fn restart(bench: &Bench) -> Result<Measured> {
    let objects = bench.options.objects.unwrap_or(bench.pick(50_000, 5_000));
    let cluster = Cluster::new(bench)?;
    let server = cluster.serve(&[]).await?;
    let mut clients = connect(server.endpoint(), 64).await?;
    let clock: Arc<dyn Clock> = Arc::new(bench.clock);
    let make = |client, n| post(CONFIG_MAPS, &config_map(&format!("c-{client}-{n}"), SIZE));
    load(&bench.tasks, &clock, &mut clients, Until::Made(objects.div_ceil(64)), make).await?;
    drop((clients, server));
    let mut took = Vec::new();
    let mut there = 0;
    for _ in 0..bench.pick(5, 3) {
        // Killed, not asked to stop: what a crash leaves has to be read again too.
        let server = cluster.serve(&[]).await?;
        took.push(server.started_in);
        there = count(&mut Client::connect(server.endpoint()).await?, CONFIG_MAPS).await?;
    }
    let took = Samples::new(took);
    let row = Row::new(format!("restart with {there} objects of {SIZE} bytes → API ready: p50"), took.p50(), "ms", Bar::AtMost(1000.0));
    Ok(vec![row.beside("longest", took.longest(), "ms")].into())
}
