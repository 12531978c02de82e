//! Figures of the log backend on a directory: `cargo run --release -p gantry-store --example figures DIR`.
//!
//! Durable creations by 1 and 64 writers beside a bare append and fdatasync of as many bytes, then the time to open 50,000 objects.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_object::{Encoded, Revision};
use gantry_ports::disk::{Disk, RealDisk};
use gantry_ports::{BoxFuture, Clock, RealClock, Tasks, join_all};
use gantry_store::{Key, Store, Txn, log};

fn object() -> Encoded {
    let text = format!("{{\"metadata\":{{\"name\":\"x\"}},\"data\":{{\"k\":\"{}\"}}}}", "v".repeat(1450));
    Encoded { body: Bytes::from(text), splice: 13, revision: Revision(0) }
}

async fn write(store: Store, writer: usize, count: usize) {
    for i in 0..count {
        let key = Key::new("configmaps", "default", &format!("w{writer}-{i}"));
        store.commit(Txn::create(key, object())).await.expect("the disk has room");
    }
}

fn bare_append(dir: &Path, clock: &RealClock) -> Duration {
    let disk = RealDisk::new(&dir.join("bare")).expect("the directory can be made");
    let file = disk.create("file", 16 << 20).expect("there is room");
    let bytes = vec![1; 1600];
    let start = clock.monotonic();
    for i in 0..300 {
        file.write_at(i * 1600, &bytes).and_then(|()| file.sync_data()).expect("the disk works");
    }
    (clock.monotonic() - start) / 300
}

fn main() {
    let dir = std::env::args().nth(1).expect("usage: figures DIR");
    let dir = Path::new(&dir);
    let clock = RealClock::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let tasks = Tasks::on(runtime.handle().clone());
    let bare = bare_append(dir, &clock);
    println!("bare append and fdatasync: {bare:?}");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(&dir.join("store")).expect("the directory can be made"));
    let (store, log) = log::open(disk.clone(), log::Options::default()).expect("an empty store opens");
    log.start(&tasks).expect("threads can be had");
    for (writers, each) in [(1, 300), (64, 780)] {
        let start = clock.monotonic();
        let all = (0..writers).map(|w| Box::pin(write(store.clone(), writers * 1000 + w, each)) as BoxFuture<'_, ()>).collect();
        runtime.block_on(join_all(all));
        let took = clock.monotonic() - start;
        let count = writers * each;
        println!("{count} creations by {writers}: {took:?}, {:.0}/s, {:?} each", count as f64 / took.as_secs_f64(), took / each as u32);
    }
    log.close();
    drop((store, log));
    let start = clock.monotonic();
    let (store, log) = loop {
        // The threads of the store that was closed let go of the lock when they have seen it.
        match log::open(disk.clone(), log::Options::default()) {
            Err(gantry_store::OpenError::InUse) => std::thread::yield_now(),
            opened => break opened.expect("what was written can be read"),
        }
    };
    let count = store.snapshot().count("configmaps", None, None);
    println!("{count} objects opened from the log in {:?}", clock.monotonic() - start);
    let start = clock.monotonic();
    log.checkpoint().expect("there is room");
    println!("checkpoint in {:?}", clock.monotonic() - start);
    drop((store, log));
    let start = clock.monotonic();
    let (store, _log) = log::open(disk, log::Options::default()).expect("what was written can be read");
    println!("{} objects opened from the checkpoint in {:?}", store.snapshot().count("configmaps", None, None), clock.monotonic() - start);
}
