//! What 100,000 bound pods cost in memory, with everything running, after minutes of churn.

use std::sync::Arc;
use std::time::Duration;

use gantry_ports::Clock;
use serde_json::{Value, json};

use super::Measured;
use super::reads::make_pods;
use crate::api::{MERGE, PODS, get, pod, post, running_status};
use crate::cluster::Up;
use crate::load::{Client, request};
use crate::report::{Bar, Row};
use crate::{Bench, Result, failed, machine};

const NODES: usize = 200;
/// How many pods are replaced, and how many statuses written, each second of churn.
const CHURN: usize = 50;

/// The bytes of all pods as JSON, page by page.
async fn json_bytes(client: &mut Client) -> Result<(usize, usize)> {
    let (mut bytes, mut count, mut next) = (0, 0, String::new());
    loop {
        let page = client.succeed(&get(&format!("{PODS}?limit=2000&continue={next}"))).await?;
        let list: Value = serde_json::from_slice(&page).map_err(failed("a page of pods"))?;
        bytes += page.len();
        count += list["items"].as_array().map_or(0, Vec::len);
        match list["metadata"]["continue"].as_str() {
            Some(token) if !token.is_empty() => next = token.to_owned(),
            _ => return Ok((bytes, count)),
        }
    }
}

/// Replaces pods and writes statuses, so many each second.
async fn churn(bench: &Bench, client: &mut Client, pods: usize, lasts: Duration) -> Result<()> {
    let begun = bench.clock.monotonic();
    let mut n = 0;
    while bench.clock.monotonic() - begun < lasts {
        let due = begun + Duration::from_secs(1) * (n / CHURN) as u32;
        bench.clock.sleep(due.saturating_sub(bench.clock.monotonic())).await;
        for _ in 0..CHURN {
            let name = format!("pod-{:06}", n * 7919 % pods);
            client.succeed(&request("DELETE", &format!("{PODS}/{name}?gracePeriodSeconds=0"), "", b"")).await?;
            let on = json!({"nodeName": format!("bench-{}", n % NODES)});
            client.succeed(&post(PODS, pod(&name, &on).to_string().as_bytes())).await?;
            let status = running_status(&format!("10.9.{}.{}", n / 250 % 250, n % 250)).to_string();
            client.succeed(&request("PATCH", &format!("{PODS}/{name}/status"), MERGE, status.as_bytes())).await?;
            n += 1;
        }
    }
    Ok(())
}

pub(crate) async fn run(bench: &Bench) -> Result<Measured> {
    let wanted = bench.options.objects.unwrap_or(bench.pick(100_000, 5_000));
    // Nobody reports for the nodes; nobody must miss them either.
    let up = Up::start(bench, &["--node-grace", "3600"])?;
    let endpoint = up.0.endpoint()?;
    let clock: Arc<dyn Clock> = Arc::new(bench.clock);
    let begun = clock.monotonic();
    make_pods(bench, &endpoint, wanted, NODES).await?;
    let filled = clock.monotonic() - begun;
    let pids = up.0.pids(None)?;
    let before = machine::pss_mb(&pids);
    let mut client = Client::connect(&endpoint).await?;
    let lasts = Duration::from_secs_f64(bench.options.minutes * 60.0).min(bench.pick(Duration::MAX, Duration::from_secs(10)));
    let used = machine::cpu_seconds(pids[0]);
    churn(bench, &mut client, wanted, lasts).await?;
    let cpu = (machine::cpu_seconds(pids[0]) - used) / lasts.as_secs_f64() * 100.0;
    let memory = machine::pss_mb(&pids);
    let (bytes, count) = json_bytes(&mut client).await?;
    let json = bytes as f64 / 1e6;
    let what = format!("{count} bound pods after {:.1} minutes of churn: PSS", lasts.as_secs_f64() / 60.0);
    let row = Row::new(what, memory, "MB", Bar::AtMost(2.0 * json + 60.0)).beside("their JSON", json, "MB");
    let row = row.beside("PSS before the churn", before, "MB").beside("CPU of a core under churn", cpu, "%");
    Ok(vec![row.beside("made and reported at", 2.0 * count as f64 / filled.as_secs_f64(), "writes/s")].into())
}
