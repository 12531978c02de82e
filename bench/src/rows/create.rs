//! Durable creation of ConfigMaps of 1.5 kB by 1, 16 and 64 clients, beside the disk, the stack, and etcd.

use std::sync::Arc;
use std::time::Duration;

use gantry_ports::Clock;

use super::Measured;
use crate::api::{CONFIG_MAPS, config_map, post};
use crate::cluster::{Cluster, Server};
use crate::constant::ConstantServer;
use crate::disk::append_and_flush;
use crate::etcd::Etcd;
use crate::figures::{Samples, median};
use crate::load::{Client, Load, Until, connect, load};
use crate::report::{Bar, Row};
use crate::{Bench, Result};

/// Bytes of an object.
pub(crate) const SIZE: usize = 1500;
/// What a frame of the log, a key and a record add to an object's bytes.
const FRAMED: usize = SIZE + 100;

/// What took turns for one number of clients.
#[derive(Default)]
struct Turns {
    flushes: Vec<Samples>,
    ours: Vec<Load>,
    our_cpu: f64,
    constant: Vec<Load>,
    constant_cpu: f64,
    etcd: Vec<Load>,
    etcd_cpu: f64,
}

fn rate(loads: &[Load]) -> f64 {
    median(loads.iter().map(Load::rate))
}

fn p50(loads: &[Load]) -> f64 {
    Samples::merged(loads.iter().map(|l| l.took.clone())).p50()
}

/// CPU milliseconds for each request, which is CPU seconds for a thousand.
fn cpu(seconds: f64, loads: &[Load]) -> f64 {
    seconds / loads.iter().map(|l| l.took.count()).sum::<usize>().max(1) as f64 * 1e3
}

struct Peers {
    server: Server,
    constant: ConstantServer,
    etcd: Option<Etcd>,
    clock: Arc<dyn Clock>,
}

pub(crate) async fn run(bench: &Bench) -> Result<Measured> {
    let cluster = Cluster::new(bench)?;
    let server = cluster.serve(&[]).await?;
    let etcd = Etcd::start(bench).await?;
    let mut measured = Measured::default();
    if etcd.is_none() {
        measured.notes.push("etcd is not installed, so nothing was compared with it: apt-get install etcd-server".into());
    }
    let peers = Peers { server, constant: ConstantServer::start()?, etcd, clock: Arc::new(bench.clock) };
    for clients in [1, 16, 64] {
        measured.rows.extend(with_clients(bench, &peers, clients).await?);
    }
    Ok(measured)
}

async fn with_clients(bench: &Bench, peers: &Peers, clients: usize) -> Result<Vec<Row>> {
    let (rounds, each) = (bench.pick(5, 2), Duration::from_millis(bench.pick(1000, 500)));
    let (mut ours, mut constant) = (connect(peers.server.endpoint(), clients).await?, connect(&peers.constant.endpoint, clients).await?);
    let mut turns = Turns::default();
    for round in 0..rounds {
        take_turns(bench, peers, &mut turns, (&mut ours, &mut constant), (clients, round, each)).await?;
    }
    let flush = Samples::merged(turns.flushes.clone());
    let (f, ours, constant, etcd) = (flush.p50(), rate(&turns.ours), rate(&turns.constant), rate(&turns.etcd));
    let limit = 0.6 * clients as f64 / (f / 1e3);
    let who = if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
    let row = match clients {
        1 => Row::new(format!("durable CREATE, {who}: p50"), p50(&turns.ours), "ms", Bar::AtMost(f + 0.3)),
        16 => Row::new(format!("durable CREATE, {who}"), ours, "/s", Bar::AtLeast(limit)),
        _ => Row::new(format!("durable CREATE, {who}"), ours, "/s", Bar::AtLeast(limit.min(0.6 * constant))),
    };
    let row = row.beside("F", f, "ms").beside("F p99", flush.p99(), "ms").beside("constant answer", constant, "/s");
    let row = row.beside("p50", p50(&turns.ours), "ms").beside("CPU per 1,000", cpu(turns.our_cpu, &turns.ours), "s");
    let row = row.beside("constant's CPU per 1,000", cpu(turns.constant_cpu, &turns.constant), "s");
    let mut rows = vec![row];
    if peers.etcd.is_some() {
        let row = Row::new(format!("durable CREATE beside etcd's put, {who}"), ours, "/s", Bar::AtLeast(etcd));
        let row = row.beside("etcd", etcd, "/s").beside("etcd's p50", p50(&turns.etcd), "ms");
        rows.push(row.beside("etcd's CPU per 1,000", cpu(turns.etcd_cpu, &turns.etcd), "s"));
    }
    Ok(rows)
}

/// One round: disk, subject, stack, peer.
async fn take_turns(
    bench: &Bench,
    peers: &Peers,
    turns: &mut Turns,
    (ours, constant): (&mut Vec<Client>, &mut Vec<Client>),
    (clients, round, each): (usize, usize, Duration),
) -> Result<()> {
    turns.flushes.push(append_and_flush(bench, FRAMED, each / 2).await?);
    let before = peers.server.cpu_seconds();
    let make = move |client, n| post(CONFIG_MAPS, &config_map(&format!("c{clients}-{round}-{client}-{n}"), SIZE));
    turns.ours.push(load(&bench.tasks, &peers.clock, ours, Until::Passed(each), make).await?);
    turns.our_cpu += peers.server.cpu_seconds() - before;
    let before = peers.constant.cpu_seconds();
    let path = format!("/{SIZE}");
    let make = move |client, n| post(&path, &config_map(&format!("c{clients}-{round}-{client}-{n}"), SIZE));
    turns.constant.push(load(&bench.tasks, &peers.clock, constant, Until::Passed(each), make).await?);
    turns.constant_cpu += peers.constant.cpu_seconds() - before;
    if let Some(etcd) = &peers.etcd {
        let before = etcd.cpu_seconds();
        turns.etcd.push(etcd.puts(bench, clients, SIZE, each).await?);
        turns.etcd_cpu += etcd.cpu_seconds() - before;
    }
    Ok(())
}
