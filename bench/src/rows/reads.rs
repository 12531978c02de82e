//! GET by 64 clients and LIST of 5,000 pods, beside constant answers of as many bytes over the same stack.

use std::sync::Arc;
use std::time::Duration;

use gantry_ports::Clock;
use serde_json::{Value, json};

use super::Measured;
use crate::api::{CONFIG_MAPS, MERGE, PODS, config_map, get as get_request, make_nodes, pod, post, running_status};
use crate::cluster::{Cluster, Server};
use crate::constant::ConstantServer;
use crate::figures::{Samples, median};
use crate::load::{Client, Endpoint, Load, Until, connect, load, request};
use crate::report::{Bar, Row};
use crate::rows::create::SIZE;
use crate::{Bench, Result};

/// Subject and baseline in turns, asked for the same number of bytes.
struct Turns {
    ours: Vec<Load>,
    constant: Vec<Load>,
    our_cpu: f64,
    constant_cpu: f64,
}

async fn take_turns(
    bench: &Bench,
    server: &Server,
    path: &str,
    (clients, rounds, each): (usize, usize, Duration),
) -> Result<(Turns, usize)> {
    let constant_server = ConstantServer::start()?;
    let clock: Arc<dyn Clock> = Arc::new(bench.clock);
    let mut ours = connect(server.endpoint(), clients).await?;
    let mut constant = connect(&constant_server.endpoint, clients).await?;
    let request = get_request(path);
    let size = ours[0].succeed(&request).await?.len();
    let constant_request = get_request(&format!("/{size}"));
    constant[0].succeed(&constant_request).await?;
    let mut turns = Turns { ours: vec![], constant: vec![], our_cpu: 0.0, constant_cpu: 0.0 };
    for _ in 0..rounds {
        let (request, constant_request) = (request.clone(), constant_request.clone());
        let before = server.cpu_seconds();
        turns.ours.push(load(&bench.tasks, &clock, &mut ours, Until::Passed(each), move |_, _| request.clone()).await?);
        turns.our_cpu += server.cpu_seconds() - before;
        let before = constant_server.cpu_seconds();
        turns.constant.push(load(&bench.tasks, &clock, &mut constant, Until::Passed(each), move |_, _| constant_request.clone()).await?);
        turns.constant_cpu += constant_server.cpu_seconds() - before;
    }
    Ok((turns, size))
}

fn per_thousand(seconds: f64, loads: &[Load]) -> f64 {
    seconds / loads.iter().map(|l| l.took.count()).sum::<usize>().max(1) as f64 * 1e3
}

fn took(loads: &[Load]) -> Samples {
    Samples::merged(loads.iter().map(|l| l.took.clone()))
}

pub(crate) async fn get(bench: &Bench) -> Result<Measured> {
    let cluster = Cluster::new(bench)?;
    let server = cluster.serve(&[]).await?;
    let mut client = Client::connect(server.endpoint()).await?;
    client.succeed(&post(CONFIG_MAPS, &config_map("one", SIZE))).await?;
    let path = format!("{CONFIG_MAPS}/one");
    let (rounds, each) = (bench.pick(7, 3), Duration::from_millis(bench.pick(1000, 500)));
    let (turns, _) = take_turns(bench, &server, &path, (64, rounds, each)).await?;
    let (ours, constant) = (median(turns.ours.iter().map(Load::rate)), median(turns.constant.iter().map(Load::rate)));
    let row = Row::new("GET, 64 clients", ours, "/s", Bar::AtLeast(0.8 * constant)).beside("constant answer", constant, "/s");
    let row = row.beside("ratio", ours / constant, "").beside("p99", took(&turns.ours).p99(), "ms");
    let row = row.beside("CPU per 1,000", per_thousand(turns.our_cpu, &turns.ours), "s");
    let many = row.beside("constant's CPU per 1,000", per_thousand(turns.constant_cpu, &turns.constant), "s");
    let (turns, _) = take_turns(bench, &server, &path, (1, rounds, each / 2)).await?;
    let one = Row::new("GET, 1 client: p50", took(&turns.ours).p50(), "ms", Bar::AtMost(0.15));
    Ok(vec![many, one.beside("constant answer", took(&turns.constant).p50(), "ms")].into())
}

/// Makes pods that run, as far as anybody can tell, spread over nodes that nobody runs.
pub(crate) async fn make_pods(bench: &Bench, endpoint: &Endpoint, count: usize, nodes: usize) -> Result<()> {
    make_nodes(&mut Client::connect(endpoint).await?, nodes, 110_000).await?;
    let clock: Arc<dyn Clock> = Arc::new(bench.clock);
    let mut clients = connect(endpoint, 32).await?;
    let each = count.div_ceil(32);
    let name = move |client: usize, n: usize| format!("pod-{:06}", client * each + n);
    let on_node = move |client: usize, n: usize| json!({"nodeName": format!("bench-{}", (client * each + n) % nodes)});
    let make = move |client, n| post(PODS, pod(&name(client, n), &on_node(client, n)).to_string().as_bytes());
    load(&bench.tasks, &clock, &mut clients, Until::Made(each), make).await?;
    let make = move |client: usize, n: usize| {
        let status = running_status(&format!("10.{}.{}.{}", client, n / 250, n % 250)).to_string();
        request("PATCH", &format!("{PODS}/{}/status", name(client, n)), MERGE, status.as_bytes())
    };
    load(&bench.tasks, &clock, &mut clients, Until::Made(each), make).await.map(drop)
}

pub(crate) async fn list(bench: &Bench) -> Result<Measured> {
    let cluster = Cluster::new(bench)?;
    let server = cluster.serve(&["--node-grace", "3600"]).await?;
    make_pods(bench, server.endpoint(), 5000, 50).await?;
    let (rounds, each) = (bench.pick(9, 3), Duration::from_millis(bench.pick(1000, 500)));
    let (turns, size) = take_turns(bench, &server, PODS, (1, rounds, each)).await?;
    let (ours, constant) = (took(&turns.ours), took(&turns.constant));
    let mut client = Client::connect(server.endpoint()).await?;
    let list: Value = serde_json::from_slice(&client.succeed(&get_request(PODS)).await?).map_err(|e| e.to_string())?;
    let count = list["items"].as_array().map_or(0, Vec::len);
    let row = Row::new(format!("LIST of {count} pods: p50"), ours.p50(), "ms", Bar::AtMost(1.5 * constant.p50()));
    let row = row.beside("constant bytes", constant.p50(), "ms").beside("ratio", ours.p50() / constant.p50(), "");
    let row = row.beside("size", size as f64 / 1e6, "MB").beside("p99", ours.p99(), "ms");
    let row = row.beside("CPU per 1,000", per_thousand(turns.our_cpu, &turns.ours), "s");
    Ok(vec![row.beside("constant's CPU per 1,000", per_thousand(turns.constant_cpu, &turns.constant), "s")].into())
}
