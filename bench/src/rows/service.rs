//! One endpoint of a Service with a thousand changes: from the write until the kernel's table has it.

use std::process::Stdio;
use std::time::Duration;

use gantry_ports::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use super::Measured;
use crate::api::{JSON, post};
use crate::cluster::Up;
use crate::figures::Samples;
use crate::load::{Client, request};
use crate::report::{Bar, Row};
use crate::{Bench, Result, failed};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const EACH: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);

/// A slice of endpoints somewhere outside the cluster's own addresses; `last` is the last one's address.
fn slice(number: usize, last: &str) -> Value {
    let addresses = (0..EACH - 1).map(|i| format!("172.31.{number}.{i}")).chain([last.to_owned()]);
    let endpoints: Vec<Value> = addresses.map(|a| json!({"addresses": [a], "conditions": {"ready": true}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("many-{number}"), "labels": {"kubernetes.io/service-name": "many"}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints,
    })
}

pub(crate) async fn run(bench: &Bench) -> Result<Measured> {
    let up = Up::start(bench, &[])?;
    let mut client = Client::connect(&up.0.endpoint()?).await?;
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "many"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
    client.succeed(&post(SERVICES, service.to_string().as_bytes())).await?;
    let mut command = tokio::process::Command::new("nft");
    command.arg("monitor").stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut monitor = command.spawn().map_err(failed("nft monitor (apt-get install nftables)"))?;
    let mut changes = BufReader::new(monitor.stdout.take().ok_or("nft monitor has no output")?).lines();
    for number in 0..10 {
        client.succeed(&post(SLICES, slice(number, &format!("172.31.{number}.200")).to_string().as_bytes())).await?;
    }
    let mut took = Vec::new();
    let rounds = bench.pick(100, 20);
    for n in 0..=rounds {
        let (number, address) = (n % 10, format!("172.30.{}.{}", n / 200, n % 200 + 1));
        let begun = bench.clock.monotonic();
        let path = format!("{SLICES}/many-{number}");
        client.succeed(&request("PUT", &path, JSON, slice(number, &address).to_string().as_bytes())).await?;
        loop {
            let line = gantry_ports::select! {
                line = changes.next_line() => line.map_err(failed("nft monitor"))?.ok_or("nft monitor ended")?,
                () = bench.clock.sleep(PATIENCE) => return Err(format!("after {PATIENCE:?} {address} is not in the kernel")),
            };
            if line.contains(&format!("{address} ")) {
                break;
            }
        }
        // The first round also sees the service itself being written.
        if n > 0 {
            took.push(bench.clock.monotonic() - begun);
        }
    }
    let took = Samples::new(took);
    let row = Row::new("one of 1,000 endpoints changes: write sent → seen in the kernel, p50", took.p50(), "ms", Bar::AtMost(5.0));
    Ok(vec![row.beside("p99", took.p99(), "ms")].into())
}
