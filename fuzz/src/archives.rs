//! Image archives: nothing outside the store is written, and what was taken in can be read.

use std::fs;

use gantry_images::{Reference, Store};

pub(crate) fn archive(data: &[u8]) {
    let outside = tempfile::tempdir_in("/dev/shm").expect("memory");
    let file = outside.path().join("archive");
    fs::write(&file, data).expect("memory");
    let store = Store::open(outside.path().join("store")).expect("an empty directory is a store");
    let name = Reference::parse("fuzz:1").expect("a name");
    if let Ok(names) = store.import(&file, Some(&name)) {
        for name in names {
            store.find(&name.to_string()).expect("what was imported is there");
        }
    }
    let mut left: Vec<_> = fs::read_dir(outside.path()).expect("it is there").flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["archive", "store"], "something outside the store was written");
    assert_eq!(fs::read(&file).expect("it is there"), data, "the archive was changed");
}
