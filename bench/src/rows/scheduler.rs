//! How fast pods are placed on 1,000 nodes, through the API with everything durable.

use std::sync::Arc;
use std::time::Duration;

use gantry_ports::Clock;
use serde_json::json;

use super::Measured;
use crate::api::{PODS, make_nodes, pod, post};
use crate::cluster::Cluster;
use crate::load::{Client, Until, connect, load};
use crate::report::{Bar, Row};
use crate::{Bench, Result};

const CLIENTS: usize = 64;
/// How long without a binding until the row is given up.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn run(bench: &Bench) -> Result<Measured> {
    let (nodes, pods) = bench.pick((1000, 10_000), (100, 1000));
    let cluster = Cluster::new(bench)?;
    let server = cluster.serve(&["--node-grace", "3600"]).await?;
    let clock: Arc<dyn Clock> = Arc::new(bench.clock);
    make_nodes(&mut Client::connect(server.endpoint()).await?, nodes, 110).await?;
    let mut clients = connect(server.endpoint(), CLIENTS).await?;
    let each = pods / CLIENTS;
    let pods = each * CLIENTS;
    // First as many pods that nobody schedules: the rate at which they can be made at all.
    let make = |c, n| post(PODS, pod(&format!("left-{c}-{n}"), &json!({"schedulerName": "nobody"})).to_string().as_bytes());
    let alone = load(&bench.tasks, &clock, &mut clients, Until::Made(each), make).await?;
    let mut watcher = Client::connect(server.endpoint()).await?;
    watcher.watch(&format!("{PODS}?watch=true&fieldSelector=spec.schedulerName=default-scheduler,spec.nodeName!=")).await?;
    let (before, begun) = (server.cpu_seconds(), clock.monotonic());
    let make = |c, n| post(PODS, pod(&format!("placed-{c}-{n}"), &json!({})).to_string().as_bytes());
    let making = load(&bench.tasks, &clock, &mut clients, Until::Made(each), make);
    let watching = async {
        let mut bound = 0;
        while bound < pods {
            let lines = gantry_ports::select! {
                lines = watcher.lines() => lines?.ok_or("the watch ended")?,
                () = clock.sleep(PATIENCE) => return Err(format!("{bound} of {pods} pods are bound, and no more for {PATIENCE:?}")),
            };
            // A pod enters what is watched when it is bound.
            bound += lines.windows(15).filter(|w| w == b"{\"type\":\"ADDED\"").count();
        }
        Ok(clock.monotonic() - begun)
    };
    let (made, bound) = tokio::join!(making, watching);
    let (made, bound) = (made?, bound?);
    let rate = pods as f64 / bound.as_secs_f64();
    let row = Row::new(
        format!("{pods} pods onto {nodes} nodes, first created → last bound"),
        rate,
        "pods/s",
        Bar::AtLeast(alone.rate().min(5000.0)),
    );
    let row = row.beside("durable creates alone", alone.rate(), "/s").beside("creates meanwhile", made.rate(), "/s");
    Ok(vec![row.beside("CPU per 1,000 pods", (server.cpu_seconds() - before) / pods as f64 * 1e3, "s")].into())
}
