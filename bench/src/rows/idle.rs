//! What a cluster costs that does nothing.

use std::time::Duration;

use gantry_ports::Clock;

use super::Measured;
use crate::cluster::Up;
use crate::report::{Bar, Row};
use crate::{Bench, Result, machine};

pub(crate) async fn run(bench: &Bench) -> Result<Measured> {
    let (settle, watch) = bench.pick((60, 60), (10, 10));
    let mut rows = Vec::new();
    for nodes in ["1", "3"] {
        let up = Up::start(bench, &["--nodes", nodes])?;
        bench.clock.sleep(Duration::from_secs(settle)).await;
        let pids = up.0.pids(None)?;
        let used = || pids.iter().map(|pid| machine::cpu_seconds(*pid)).sum::<f64>();
        let (memory, before) = (machine::pss_mb(&pids), used());
        bench.clock.sleep(Duration::from_secs(watch)).await;
        let cpu = (used() - before) / watch as f64 * 100.0;
        let bar = |bar| if nodes == "1" { Bar::AtMost(bar) } else { Bar::None };
        let what = format!("idle, {nodes} node{}, {settle} s after start", if nodes == "1" { "" } else { "s" });
        rows.push(Row::new(format!("{what}: PSS of all processes"), memory, "MB", bar(60.0)).beside("processes", pids.len() as f64, ""));
        rows.push(Row::new(format!("{what}: CPU of a core"), cpu, "%", bar(1.0)));
    }
    Ok(rows.into())
}
