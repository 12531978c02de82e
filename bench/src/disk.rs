//! What the disk alone can do: the limit of everything durable.

use std::time::Duration;

use gantry_ports::Clock;
use gantry_ports::disk::{Disk, RealDisk};

use crate::figures::Samples;
use crate::{Bench, Result, failed};

/// Bytes set aside, as the store sets them aside: appending inside them changes no metadata.
const SPACE: u64 = 16 << 20;

/// Appends `bytes` bytes and flushes them, again and again for `lasts`: how long each took.
pub(crate) async fn append_and_flush(bench: &Bench, bytes: usize, lasts: Duration) -> Result<Samples> {
    let directory = bench.directory()?;
    let clock = bench.clock;
    let work = move || -> std::io::Result<Vec<Duration>> {
        let disk = RealDisk::new(directory.path())?;
        let file = disk.create("append", SPACE)?;
        let content = vec![b'x'; bytes];
        let (mut all, mut at, begun) = (Vec::new(), 0, clock.monotonic());
        // The first flushes also write what creating the file left behind.
        for _ in 0..5 {
            file.write_at(0, &content)?;
            file.sync_data()?;
        }
        while clock.monotonic() - begun < lasts && at + (bytes as u64) < SPACE {
            let start = clock.monotonic();
            file.write_at(at, &content)?;
            file.sync_data()?;
            all.push(clock.monotonic() - start);
            at += bytes as u64;
        }
        Ok(all)
    };
    bench.tasks.blocking(work).await.map(Samples::new).map_err(failed("appending and flushing"))
}
