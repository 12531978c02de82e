//! A thousand watchers of a hundred events a second.

use std::sync::Arc;
use std::time::Duration;

use gantry_ports::{BoxFuture, Clock, join_all};

use super::Measured;
use crate::api::{CONFIG_MAPS, post};
use crate::cluster::Cluster;
use crate::figures::Samples;
use crate::load::{Client, connect};
use crate::report::{Bar, Row};
use crate::{Bench, Result, failed};

const RATE: u32 = 100;
/// How long after the last write an event counts as missed.
const PATIENCE: Duration = Duration::from_secs(5);
/// What stands before the moment of writing in an event.
const MARK: &[u8] = b"\"writtenAt\":\"";

/// The moments of writing, in nanoseconds of the loader's clock, of the events in some lines.
fn moments(lines: &[u8]) -> impl Iterator<Item = Duration> {
    let starts = lines.windows(MARK.len()).enumerate().filter(|(_, w)| *w == MARK).map(|(at, _)| at + MARK.len());
    starts.map(|at| {
        let digits = lines[at..].iter().take_while(|b| b.is_ascii_digit());
        Duration::from_nanos(digits.fold(0, |n, digit| n * 10 + u64::from(digit - b'0')))
    })
}

/// Takes events until there were so many or none came for long; how late each was.
async fn follow(mut client: Client, clock: Arc<dyn Clock>, wanted: usize) -> Result<Vec<Duration>> {
    let mut late = Vec::with_capacity(wanted);
    while late.len() < wanted {
        let lines = gantry_ports::select! {
            lines = client.lines() => lines?,
            () = clock.sleep(PATIENCE) => None,
        };
        let Some(lines) = lines else { break };
        let now = clock.monotonic();
        late.extend(moments(&lines).map(|written| now.saturating_sub(written)));
    }
    Ok(late)
}

pub(crate) async fn run(bench: &Bench) -> Result<Measured> {
    let (watchers, seconds) = (bench.pick(1000, 100), bench.pick(10, 3));
    let cluster = Cluster::new(bench)?;
    let server = cluster.serve(&[]).await?;
    let clock: Arc<dyn Clock> = Arc::new(bench.clock);
    let wanted = (RATE * seconds) as usize;
    let mut all: Vec<BoxFuture<'_, Result<Vec<Duration>>>> = Vec::new();
    for mut client in connect(server.endpoint(), watchers).await? {
        client.watch(&format!("{CONFIG_MAPS}?watch=true&resourceVersion=0")).await?;
        let (done, ended) = tokio::sync::oneshot::channel();
        let follower = follow(client, clock.clone(), wanted);
        bench.tasks.spawn(async move {
            // The receiver is gone only when the row was given up.
            let _ = done.send(follower.await);
        });
        all.push(Box::pin(async { ended.await.map_err(failed("a watcher"))? }));
    }
    let mut writer = Client::connect(server.endpoint()).await?;
    let (before, begun) = (server.cpu_seconds(), clock.monotonic());
    for n in 0..wanted as u32 {
        clock.sleep((begun + Duration::from_secs(1) * n / RATE).saturating_sub(clock.monotonic())).await;
        let at = clock.monotonic().as_nanos();
        let body = format!(r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"event-{n}"}},"data":{{"writtenAt":"{at}"}}}}"#);
        writer.succeed(&post(CONFIG_MAPS, body.as_bytes())).await?;
    }
    let late: Result<Vec<Vec<Duration>>> = join_all(all).await.into_iter().collect();
    let (used, late) = (server.cpu_seconds() - before, Samples::new(late?.concat()));
    let missed = watchers * wanted - late.count().min(watchers * wanted);
    let row = Row::new(format!("{watchers} watchers, {RATE} events/s: written → seen, p99"), late.p99(), "ms", Bar::AtMost(100.0));
    let row = row.beside("p50", late.p50(), "ms").beside("longest", late.longest(), "ms");
    let row = row.beside("CPU per 1,000 events delivered", used / late.count().max(1) as f64 * 1e3, "s");
    Ok(vec![row, Row::new("events missed", missed as f64, "", Bar::AtMost(0.0))].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_from_several_lines() {
        let lines = br#"{"object":{"data":{"writtenAt":"12"}}}
{"object":{"data":{"writtenAt":"1000000345"}}}
{"object":{"data":{}}}"#;
        assert_eq!(moments(lines).map(|m| m.as_nanos()).collect::<Vec<_>>(), [12, 1_000_000_345]);
    }
}
