//! One endpoint of a Service with a thousand changes: from the write until the kernel's table has it.

use std::process::Stdio;
use std::time::Duration;

use gantry_ports::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStdout;

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
/// How long a change may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);

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

/// Waits until the kernel's tables hold an address.
async fn until_listed(bench: &Bench, address: &str) -> Result<()> {
    let begun = bench.clock.monotonic();
    loop {
        let listed = tokio::process::Command::new("nft").args(["list", "ruleset"]).output().await;
        let listed = listed.map_err(failed("nft (apt-get install nftables)"))?;
        if String::from_utf8_lossy(&listed.stdout).contains(address) {
            return Ok(());
        }
        if bench.clock.monotonic() - begun > 5 * PATIENCE {
            return Err(format!("{address} does not come into the kernel"));
        }
    }
}

/// `nft monitor`: the kernel's own word of every change.
struct Monitor {
    _child: tokio::process::Child,
    changes: Lines<BufReader<ChildStdout>>,
}

impl Monitor {
    fn start() -> Result<Self> {
        let mut command = tokio::process::Command::new("nft");
        command.arg("monitor").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().map_err(failed("nft monitor"))?;
        let output = child.stdout.take().ok_or("nft monitor has no output")?;
        Ok(Self { _child: child, changes: BufReader::new(output).lines() })
    }

    /// Waits until a change names an address; `false` when none does.
    async fn sees(&mut self, bench: &Bench, address: &str) -> Result<bool> {
        let word = format!("{address} ");
        loop {
            let line = gantry_ports::select! {
                line = self.changes.next_line() => line.map_err(failed("nft monitor"))?.ok_or("nft monitor ended")?,
                () = bench.clock.sleep(PATIENCE) => return Ok(false),
            };
            if line.contains(&word) {
                return Ok(true);
            }
        }
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<Measured> {
    let up = Up::start(bench, &[])?;
    let mut client = Client::connect(&up.0.endpoint()?).await?;
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "many"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
    client.succeed(&post(SERVICES, service.to_string().as_bytes())).await?;
    for number in 0..10 {
        client.succeed(&post(SLICES, slice(number, &format!("172.31.{number}.200")).to_string().as_bytes())).await?;
    }
    until_listed(bench, "172.31.9.200").await?;
    let mut monitor = Monitor::start()?;
    let (mut took, rounds) = (Vec::new(), bench.pick(100, 20));
    for n in 0.. {
        let (number, address) = (n % 10, format!("172.30.{}.{}", n / 200, n % 200 + 1));
        let begun = bench.clock.monotonic();
        let path = format!("{SLICES}/many-{number}");
        client.succeed(&request("PUT", &path, JSON, slice(number, &address).to_string().as_bytes())).await?;
        match monitor.sees(bench, &address).await? {
            true => took.push(bench.clock.monotonic() - begun),
            // It first reads the table that is there, and may miss what changes meanwhile.
            false if took.is_empty() && n < 50 => {}
            false => return Err(format!("after {PATIENCE:?} {address} is not in the kernel")),
        }
        if took.len() == rounds {
            break;
        }
    }
    let took = Samples::new(took);
    let row = Row::new("one of 1,000 endpoints changes: write sent → seen in the kernel, p50", took.p50(), "ms", Bar::AtMost(5.0));
    Ok(vec![row.beside("p99", took.p99(), "ms")].into())
}
