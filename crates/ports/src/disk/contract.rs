//! What every disk must do, run over both sides; and what only a simulated one can show.

use std::io::ErrorKind;

use super::{Disk, RealDisk, SimDisk};

fn check(disk: &dyn Disk) {
    let file = disk.create("a", 4096).unwrap();
    assert_eq!(disk.create("a", 1).err().unwrap().kind(), ErrorKind::AlreadyExists);
    assert_eq!(file.size().unwrap(), 4096);
    let mut buffer = [1; 8];
    file.read_at(4088, &mut buffer).unwrap();
    assert_eq!(buffer, [0; 8], "preallocated bytes are zero");
    assert_eq!(file.read_at(4089, &mut buffer).unwrap_err().kind(), ErrorKind::UnexpectedEof);

    file.write_at(4090, b"0123456789").unwrap();
    assert_eq!(file.size().unwrap(), 4100, "a write past the end grows the file");
    file.sync_data().unwrap();
    disk.sync_dir().unwrap();
    let again = disk.open("a").unwrap();
    let mut buffer = [0; 10];
    again.read_at(4090, &mut buffer).unwrap();
    assert_eq!(&buffer, b"0123456789");
    again.truncate(4095).unwrap();
    assert_eq!(file.size().unwrap(), 4095);

    disk.create("b", 0).unwrap().write_at(0, b"b").unwrap();
    assert_eq!(disk.list().unwrap(), ["a", "b"]);
    disk.rename("b", "a").unwrap();
    assert_eq!(disk.list().unwrap(), ["a"]);
    assert_eq!(disk.open("a").unwrap().size().unwrap(), 1);
    assert_eq!(disk.open("b").err().unwrap().kind(), ErrorKind::NotFound);
    assert_eq!(disk.rename("b", "c").unwrap_err().kind(), ErrorKind::NotFound);
    disk.remove("a").unwrap();
    assert_eq!(disk.remove("a").unwrap_err().kind(), ErrorKind::NotFound);
    disk.sync_dir().unwrap();

    let lock = disk.lock().unwrap();
    assert_eq!(disk.lock().err().unwrap().kind(), ErrorKind::WouldBlock);
    drop(lock);
    drop(disk.lock().unwrap());
    assert!(disk.list().unwrap().is_empty(), "the lock is not listed");
}

#[test]
fn the_real_disk_keeps_the_contract() {
    let dir = tempfile::tempdir().unwrap();
    check(&RealDisk::new(&dir.path().join("made/by/it")).unwrap());
}

#[test]
fn the_simulated_disk_keeps_the_contract() {
    check(&SimDisk::new());
}

#[test]
fn a_crash_keeps_what_was_synced_and_tears_the_rest() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..64 {
        let disk = SimDisk::new();
        let file = disk.create("a", 2048).unwrap();
        file.write_at(0, &[1; 1024]).unwrap();
        file.sync_data().unwrap();
        disk.sync_dir().unwrap();
        file.write_at(1024, &[2; 1024]).unwrap();
        disk.crash(seed);
        assert!(file.size().is_err(), "files of before the crash are closed");
        let bytes = disk.bytes("a").unwrap();
        assert_eq!(bytes[..1024], [1; 1024]);
        match (bytes[1024], bytes[1536]) {
            (2, 2) => kept += 1,
            (0, 0) => lost += 1,
            _ => torn += 1,
        }
    }
    assert!(kept > 0 && lost > 0 && torn > 0, "{kept} {lost} {torn}");
}

#[test]
fn names_are_not_safe_before_the_directory_is_synced() {
    let outcomes: std::collections::BTreeSet<Vec<String>> = (0..64)
        .map(|seed| {
            let disk = SimDisk::new();
            disk.create("a", 0).unwrap();
            disk.rename("a", "b").unwrap();
            disk.crash(seed);
            disk.list().unwrap()
        })
        .collect();
    assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [vec![], vec!["a".to_owned()], vec!["b".to_owned()]]);
}

#[test]
fn a_killed_process_loses_its_lock_and_files_and_nothing_else() {
    let disk = SimDisk::new();
    let (file, _lock) = (disk.create("a", 4).unwrap(), disk.lock().unwrap());
    file.write_at(0, b"text").unwrap();
    disk.kill();
    assert!(file.size().is_err());
    assert_eq!(disk.bytes("a").unwrap(), b"text");
    let copy = disk.duplicate();
    disk.lock().unwrap();
    copy.crash(1);
    assert_eq!(copy.bytes("a").unwrap(), b"text", "a duplicate has everything on its platters");
}

#[test]
fn a_full_disk_says_so_and_recovers() {
    let disk = SimDisk::new();
    disk.set_capacity(Some(1000));
    let file = disk.create("a", 900).unwrap();
    assert_eq!(disk.create("b", 200).err().unwrap().kind(), ErrorKind::StorageFull);
    assert_eq!(file.write_at(950, &[0; 100]).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(0, &[1; 900]).unwrap();
    disk.set_capacity(None);
    file.write_at(950, &[0; 100]).unwrap();
}

#[test]
fn power_fails_when_told_and_bytes_flip() {
    let disk = SimDisk::new();
    let file = disk.create("a", 16).unwrap();
    disk.fail_power_in(1);
    file.write_at(0, b"x").unwrap();
    assert!(file.sync_data().is_err());
    assert!(disk.is_dead() && disk.list().is_err());
    disk.crash(1);
    let disk2 = SimDisk::new();
    disk2.create("a", 4).unwrap().sync_data().unwrap();
    assert!(disk2.flip("a", 2, 0x80) && !disk2.flip("a", 4, 1));
    assert_eq!(disk2.bytes("a").unwrap(), [0, 0, 0x80, 0]);
}
