//! A store's files with bytes changed: what was acknowledged is there when it opens, or it says that it is damaged.
//!
//! The first byte says how many objects are written; then three bytes each change one byte of a file: which, where, and how.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::FutureExt;
use gantry_object::{Encoded, Revision};
use gantry_ports::disk::{Disk, SimDisk};
use gantry_store::log::{Options, open};
use gantry_store::{Key, Store, Txn};

const SEGMENT: u64 = 2048;

fn options() -> Options {
    Options { segment_size: SEGMENT, checkpoint_after: 4096, batch_size: 512, salt: 7, inline: true, ..Options::default() }
}

fn contents(store: &Store) -> BTreeMap<String, (u64, bytes::Bytes)> {
    let key = |n: u8| Key::new("pods", "a", &format!("p{n}"));
    (0..=u8::MAX).filter_map(|n| store.get(&key(n)).map(|o| (n.to_string(), (o.revision.0, o.body)))).collect()
}

pub(crate) fn log(data: &[u8]) {
    let Some((&count, changes)) = data.split_first().filter(|(count, _)| *count % 64 > 0) else { return };
    let disk = SimDisk::new();
    let before = {
        let (store, _log) = open(Arc::new(disk.clone()), options()).expect("an empty disk opens");
        for n in 0..count % 64 {
            let object =
                Encoded::from_value(serde_json::json!({"metadata": {"name": n, "labels": "x".repeat(usize::from(n))}}), Revision(0));
            let created = store.commit(Txn::create(Key::new("pods", "a", &format!("p{n}")), object)).now_or_never();
            created.expect("inline").expect("there is room");
        }
        contents(&store)
    };
    let files = disk.list().expect("it works");
    for change in changes.chunks_exact(3) {
        let file = &files[usize::from(change[0] >> 4) % files.len()];
        let offset = (u64::from(change[0] & 0xf) << 8 | u64::from(change[1])) % SEGMENT;
        disk.flip(file, offset, change[2]);
    }
    match open(Arc::new(disk.clone()), options()) {
        Ok((store, _log)) => assert_eq!(contents(&store), before, "something acknowledged is gone, and nothing was said"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
