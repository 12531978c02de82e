//! Crashes, damage, full disks and group commit, against a model.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use gantry_object::{Encoded, Revision, Timestamp};
use gantry_ports::disk::{Disk, RealDisk, SimDisk};
use gantry_ports::{Random, SeededRandom, Tasks};

use super::{LogStore, Options, open};
use crate::{Action, BoxFuture, CommitError, Key, OpenError, Precondition, Store, Txn};

type Model = BTreeMap<(String, String), (Bytes, Revision)>;

fn object(text: &str) -> Encoded {
    Encoded { body: Bytes::from(format!("{{\"metadata\":{{\"name\":\"{text}\"}}}}")), splice: 13, revision: Revision(0) }
}

fn now<T>(mut future: BoxFuture<T>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn small(inline: bool) -> Options {
    Options { segment_size: 4096, checkpoint_after: 6000, batch_size: 2000, salt: 7, inline, ..Options::default() }
}

fn contents(store: &Store) -> Model {
    let snapshot = store.snapshot();
    let all = snapshot.resources().flat_map(|r| snapshot.list(r, None, None).map(move |i| (r, i)));
    all.map(|(r, i)| ((r.to_owned(), i.path.to_owned()), (i.object.body.clone(), i.object.revision))).collect()
}

/// A random change to one of a few keys, made against staged state as the API server would.
fn random_txn(random: &dyn Random, store: &Store) -> Txn {
    let resource = ["pods", "leases"][random.below(2) as usize];
    let key = Key::new(resource, ["a", "b", ""][random.below(3) as usize], &format!("n{}", random.below(6)));
    let text = format!("{}-{}", random.u64(), "x".repeat(random.below(900) as usize));
    match store.staged(&key) {
        None => Txn::create(key, object(&text)),
        Some(old) if random.below(3) == 0 => Txn::delete(key, old.revision),
        Some(old) => Txn::update(key, old.revision, object(&text)),
    }
}

fn apply(model: &mut Model, txn: &Txn, revision: Revision) {
    for op in &txn.ops {
        let name = (op.key.resource().to_owned(), op.key.path().to_owned());
        match &op.action {
            Action::Put { object, .. } => model.insert(name, (object.body.clone(), revision)),
            Action::Delete => model.remove(&name),
        };
    }
}

/// Stages and flushes until the power fails; gives back the acknowledged state and, in order, what was never answered.
fn run_until_dark(store: &Store, log: &LogStore, random: &dyn Random, mut model: Model) -> (Model, Vec<Txn>) {
    let mut open: Vec<(Txn, BoxFuture<Result<Revision, CommitError>>)> = Vec::new();
    loop {
        for _ in 0..=random.below(6) {
            let txn = random_txn(random, store);
            open.push((txn.clone(), store.commit(txn)));
        }
        while log.flush() {}
        let mut failed = Vec::new();
        for (txn, ended) in open.drain(..) {
            match now(ended).expect("flushed") {
                Ok(revision) => {
                    assert!(failed.is_empty(), "nothing succeeds after a failure");
                    assert_eq!(revision, store.get(&txn.ops[0].key).map_or(revision, |o| o.revision).min(revision));
                    apply(&mut model, &txn, revision);
                }
                Err(CommitError::Flush(_) | CommitError::ReadOnly(_)) => failed.push(txn),
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(contents(store), model, "readers see exactly what was acknowledged");
        if !failed.is_empty() {
            return (model, failed);
        }
        if random.below(10) == 0 && log.checkpoint().is_err() {
            return (model, Vec::new());
        }
    }
}

#[test]
fn a_crash_at_any_flush_loses_nothing_acknowledged() {
    let mut survived_unanswered = 0;
    for seed in 0..400 {
        let random = SeededRandom::new(seed);
        let disk = SimDisk::new();
        let mut model = Model::new();
        for round in 0..4 {
            let (store, log) = open(Arc::new(disk.clone()), small(false)).unwrap_or_else(|e| panic!("seed {seed} round {round}: {e}"));
            let found = contents(&store);
            assert_eq!(found, model, "seed {seed} round {round}");
            disk.fail_power_in(random.below(60));
            let (acknowledged, unanswered) = run_until_dark(&store, &log, &random, model);
            drop((store, log));
            disk.crash(random.u64());
            let reopened = match open(Arc::new(disk.clone()), small(false)) {
                Ok((store, _log)) => contents(&store),
                Err(error) => panic!("seed {seed} round {round}: {error}"),
            };
            // The batch in flight is there whole or not at all: a prefix of the unanswered changes.
            let same = |a: &Model, b: &Model| a.iter().map(|(k, v)| (k, &v.0)).eq(b.iter().map(|(k, v)| (k, &v.0)));
            let mut candidate = acknowledged;
            let mut fits = same(&candidate, &reopened);
            for txn in &unanswered {
                apply(&mut candidate, txn, Revision(0));
                if !fits && same(&candidate, &reopened) {
                    fits = true;
                    survived_unanswered += 1;
                }
            }
            assert!(fits, "seed {seed} round {round}: neither what was acknowledged nor that and a prefix of the rest");
            model = reopened;
        }
    }
    assert!(survived_unanswered > 10, "some flushes were complete although the power failed: {survived_unanswered}");
}

/// A store with segments, two checkpoints and a used last segment; and its contents after each commit, by revision.
fn well_used() -> (SimDisk, BTreeMap<Revision, Model>) {
    let disk = SimDisk::new();
    let random = SeededRandom::new(5);
    let options = Options { checkpoint_after: 1 << 30, ..small(true) };
    let (store, log) = open(Arc::new(disk.clone()), options).unwrap();
    let mut history = BTreeMap::from([(Revision(0), Model::new())]);
    for i in 0..60 {
        let revision = now(store.commit(random_txn(&random, &store))).unwrap().unwrap();
        history.insert(revision, contents(&store));
        if i % 20 == 12 && i < 40 {
            log.checkpoint().unwrap();
        }
    }
    drop((store, log));
    // Names are durable too, so that what is done to the files below is done to files at rest.
    disk.sync_dir().unwrap();
    let names = disk.list().unwrap();
    let count = |prefix: &str| names.iter().filter(|n| n.starts_with(prefix)).count();
    assert!(count("checkpoint-") == 2 && count("log-") > 3, "{names:?}");
    (disk, history)
}

/// What damage leads to: the same contents, or an error that names the file and, if salvaging is asked for, an earlier state, all later
/// revisions above all earlier ones. Says whether it was an error.
fn check_damage(damaged: &SimDisk, name: &str, history: &BTreeMap<Revision, Model>, what: &str) -> bool {
    let (last, full) = history.last_key_value().unwrap();
    match open(Arc::new(damaged.duplicate()), small(true)) {
        Ok((store, _log)) => {
            assert_eq!((&contents(&store), store.durable_revision()), (full, *last), "{what}: unseen");
            return false;
        }
        Err(OpenError::Damaged { file, .. }) => assert!(file == name || file.starts_with("log-"), "{what}: {file} was blamed for {name}"),
        Err(other) => panic!("{what}: {other}"),
    }
    let (store, log) = open(Arc::new(damaged.clone()), Options { salvage: true, ..small(true) }).unwrap();
    let salvaged = contents(&store);
    assert!(history.values().any(|m| *m == salvaged), "{what}: salvaged what never was");
    let revision = now(store.commit(Txn::create(Key::new("pods", "a", "after"), object("after")))).unwrap().unwrap();
    assert!(revision > *last, "{what}: {revision:?} was given before");
    assert!(store.watch("pods", None, *last).is_err(), "{what}: a watcher of what is lost must list again");
    drop((store, log));
    let (store, _log) = open(Arc::new(damaged.clone()), small(true)).unwrap_or_else(|e| panic!("{what}: after salvaging: {e}"));
    assert_eq!(contents(&store).len(), salvaged.len() + 1, "{what}");
    assert!(damaged.list().unwrap().iter().any(|n| n.starts_with("damaged-")), "{what}: nothing was put aside");
    true
}

#[test]
fn any_flipped_byte_is_found_or_costs_nothing() {
    let (disk, history) = well_used();
    let (mut found, mut harmless) = (0, 0);
    for name in &disk.list().unwrap() {
        let size = disk.bytes(name).unwrap().len();
        for at in (0..size).step_by(131) {
            let copy = disk.duplicate();
            assert!(copy.flip(name, at as u64, 0x10));
            if check_damage(&copy, name, &history, &format!("{name}:{at}")) { found += 1 } else { harmless += 1 }
        }
    }
    // Harmless: in the newest checkpoint and in what it holds; anywhere in the last segment it is found, be it used or not.
    assert!(found > 50 && harmless > 50, "{found} {harmless}");
    let last = disk.list().unwrap().pop().unwrap();
    assert!(last.starts_with("log-"));
    for at in (0..disk.bytes(&last).unwrap().len()).step_by(5) {
        let copy = disk.duplicate();
        assert!(copy.flip(&last, at as u64, 1));
        let opened = open(Arc::new(copy), small(true));
        assert!(
            matches!(&opened, Err(OpenError::Damaged { file, .. }) if *file == last)
                || opened.is_ok_and(|(s, _)| contents(&s) == history.last_key_value().unwrap().1.clone()),
            "{last}:{at}"
        );
    }
}

#[test]
fn any_file_cut_short_is_found_or_costs_nothing() {
    let (disk, history) = well_used();
    let (mut found, mut harmless) = (0, 0);
    for name in &disk.list().unwrap() {
        let size = disk.bytes(name).unwrap().len();
        for length in (0..size).step_by(149) {
            let copy = disk.duplicate();
            copy.open(name).unwrap().truncate(length as u64).unwrap();
            if check_damage(&copy, name, &history, &format!("{name} cut to {length}")) { found += 1 } else { harmless += 1 }
        }
    }
    assert!(found > 50 && harmless > 50, "{found} {harmless}");
}

#[test]
fn a_damaged_checkpoint_costs_nothing_and_two_are_said() {
    let (disk, history) = well_used();
    let checkpoints: Vec<String> = disk.list().unwrap().into_iter().filter(|n| n.starts_with("checkpoint-")).collect();
    assert!(disk.flip(&checkpoints[1], 100, 1));
    assert!(!check_damage(&disk, &checkpoints[1], &history, "one"));
    assert!(disk.flip(&checkpoints[0], 100, 1));
    let opened = open(Arc::new(disk.clone()), Options { salvage: true, ..small(true) });
    assert!(matches!(opened, Err(OpenError::Damaged { file, .. }) if file == checkpoints[1]), "the log's beginning is gone by now");
}

#[test]
fn a_full_disk_fails_commits_until_there_is_room() {
    let disk = SimDisk::new();
    let (store, log) = open(Arc::new(disk.clone()), small(true)).unwrap();
    disk.set_capacity(Some(10_000));
    let mut written = 0;
    let error = loop {
        let key = Key::new("pods", "a", &format!("p{written}"));
        match now(store.commit(Txn::create(key, object(&"x".repeat(500))))).unwrap() {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, CommitError::Flush(e) if e.kind() == std::io::ErrorKind::StorageFull), "{error:?}");
    assert!(store.failure().is_none());
    let key = Key::new("pods", "a", "late");
    assert_eq!(store.staged(&key), None);
    disk.set_capacity(None);
    now(store.commit(Txn::create(key.clone(), object("late")))).unwrap().unwrap();
    drop((store, log));
    let (store, _log) = open(Arc::new(disk), small(true)).unwrap();
    assert_eq!(contents(&store).len(), written + 1);
    assert!(store.get(&key).is_some());
}

#[test]
fn a_failed_flush_fails_all_that_was_staged_and_makes_the_store_read_only() {
    let disk = SimDisk::new();
    let (store, log) = open(Arc::new(disk.clone()), small(false)).unwrap();
    let key = |n: &str| Key::new("pods", "a", n);
    let first = store.commit(Txn::create(key("1"), object("1")));
    assert!(log.flush());
    let first = now(first).unwrap().unwrap();
    disk.fail_syncs(1);
    let second = store.commit(Txn::update(key("1"), first, object("2")));
    let staged = store.staged(&key("1")).unwrap();
    assert_eq!(store.get(&key("1")).unwrap().revision, first, "readers do not see staged state");
    let third = store.commit(Txn::delete(key("1"), staged.revision));
    assert_eq!(store.staged(&key("1")), None);
    log.flush();
    assert!(matches!(now(second), Some(Err(CommitError::Flush(_)))));
    assert!(matches!(now(third), Some(Err(CommitError::Flush(_)))));
    assert_eq!(store.staged(&key("1")).unwrap().revision, first);
    assert!(matches!(now(store.commit(Txn::create(key("2"), object("2")))), Some(Err(CommitError::ReadOnly(_)))));
    assert!(store.failure().is_some());
}

#[test]
fn conflicts_carry_the_staged_object() {
    let (store, log) = open(Arc::new(SimDisk::new()), small(false)).unwrap();
    let key = Key::new("pods", "a", "1");
    let _first = store.commit(Txn::create(key.clone(), object("1")));
    let Some(Err(CommitError::Conflict { current: Some(current), .. })) = now(store.commit(Txn::create(key.clone(), object("1")))) else {
        panic!("a second create conflicts");
    };
    let _second = store.commit(Txn::update(key.clone(), current.revision, object("2")));
    assert!(matches!(
        now(store.commit(Txn::update(key.clone(), current.revision, object("3")))),
        Some(Err(CommitError::Conflict { current: Some(_), .. }))
    ));
    let any = Txn::one(Key::new("pods", "a", "none"), Precondition::Any, Action::Delete);
    assert!(matches!(now(store.commit(any)), Some(Err(CommitError::Conflict { current: None, .. }))));
    assert!(log.flush() && !log.flush(), "one batch took both");
    assert_eq!(store.get(&key).unwrap().revision, Revision(2));
    log.close();
    assert!(matches!(now(store.commit(Txn::create(key, object("1")))), Some(Err(CommitError::Closed))));
}

#[test]
fn objects_expire_and_remember_it_over_restarts_and_checkpoints() {
    let disk = SimDisk::new();
    let at = Timestamp::from_seconds;
    let key = |n: &str| Key::new("events", "a", n);
    let (store, log) = open(Arc::new(disk.clone()), small(true)).unwrap();
    let put = |store: &Store, txn| now(store.commit(txn)).unwrap().unwrap();
    put(&store, Txn::create(key("soon"), object("1")).expiring(at(10)));
    let renewed = put(&store, Txn::create(key("renewed"), object("1")).expiring(at(10)));
    put(&store, Txn::create(key("late"), object("1")).expiring(at(30)));
    put(&store, Txn::create(key("never"), object("1")));
    log.checkpoint().unwrap();
    put(&store, Txn::update(key("renewed"), renewed, object("2")).expiring(at(20)));
    drop((store, log));
    let (store, _log) = open(Arc::new(disk.clone()), small(true)).unwrap();
    let expire = |t| {
        let store = store.clone();
        now(Box::pin(async move { store.expire(at(t)).await })).unwrap()
    };
    assert_eq!((expire(9), expire(10), expire(10), expire(25)), (0, 1, 0, 1));
    assert_eq!(contents(&store).into_keys().map(|(_, path)| path).collect::<Vec<_>>(), ["a/late", "a/never"]);
}

#[test]
fn a_store_is_opened_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(RealDisk::new(dir.path()).unwrap());
    let held = open(disk.clone(), small(true)).unwrap();
    assert!(matches!(open(disk.clone(), small(true)), Err(OpenError::InUse)));
    drop(held);
    open(disk, small(true)).unwrap();
}

#[test]
fn concurrent_writers_survive_a_restart_on_a_real_disk() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(dir.path()).unwrap());
    let options = Options { segment_size: 64 << 10, checkpoint_after: 100 << 10, salt: 3, ..Options::default() };
    let tasks = Tasks::on(runtime.handle().clone());
    let (store, log) = open(disk.clone(), options.clone()).unwrap();
    log.start(&tasks).unwrap();
    let writer = |w: usize| {
        let store = store.clone();
        let write: BoxFuture<()> = Box::pin(async move {
            for i in 0..50 {
                let key = Key::new("pods", "a", &format!("{w}-{i}"));
                let revision = store.commit(Txn::create(key.clone(), object(&"x".repeat(200)))).await.unwrap();
                assert_eq!(store.get(&key).unwrap().revision, revision, "acknowledged is visible");
            }
        });
        write
    };
    runtime.block_on(gantry_ports::join_all((0..16).map(writer).collect()));
    let before = contents(&store);
    assert_eq!(before.len(), 800);
    log.close();
    drop((store, log));
    // The threads let go of the lock when they see the close.
    let store = loop {
        match open(disk.clone(), options.clone()) {
            Ok((store, _log)) => break store,
            Err(OpenError::InUse) => std::thread::yield_now(),
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(contents(&store), before);
}

#[test]
fn what_was_staged_is_settled_once_it_is_durable_and_not_when_that_fails() {
    let disk = SimDisk::new();
    let (store, log) = open(Arc::new(disk.clone()), small(false)).unwrap();
    assert!(now(store.settled()).unwrap().is_ok(), "nothing is staged");
    let key = Key::new("pods", "a", "p");
    let written = store.commit(Txn::create(key.clone(), object("1")));
    let mut settled = store.settled();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(settled.as_mut().poll(&mut cx).is_pending(), "it is not durable yet");
    while log.flush() {}
    let revision = now(written).unwrap().unwrap();
    assert!(now(settled).unwrap().is_ok());
    disk.fail_syncs(1);
    let lost = store.commit(Txn::update(key, revision, object("2")));
    let settled = store.settled();
    while log.flush() {}
    assert!(now(lost).unwrap().is_err());
    assert!(now(settled).unwrap().is_err(), "what was seen staged never became durable");
    assert_eq!(store.durable_revision(), revision);
}

#[test]
fn a_name_that_a_killed_process_left_unflushed_is_flushed_before_anything_rests_on_it() {
    let disk = SimDisk::new();
    let commit = |store: &Store, name: &str| now(store.commit(Txn::create(Key::new("pods", "a", name), object(name)))).expect("inline");
    {
        let (store, _log) = open(Arc::new(disk.clone()), small(true)).unwrap();
        commit(&store, "before").unwrap();
    }
    let name = disk.list().unwrap().into_iter().find(|n| n.starts_with("log-")).unwrap();
    disk.rename(&name, "elsewhere").unwrap();
    disk.sync_dir().unwrap();
    disk.rename("elsewhere", &name).unwrap();
    disk.kill();
    {
        let (store, _log) = open(Arc::new(disk.clone()), small(true)).unwrap();
        commit(&store, "after").unwrap();
    }
    disk.crash(1);
    let (store, _log) = open(Arc::new(disk), small(true)).unwrap();
    assert_eq!(contents(&store).len(), 2);
}

#[test]
fn after_a_failed_flush_nothing_is_settled() {
    let disk = SimDisk::new();
    let (store, _log) = open(Arc::new(disk.clone()), small(true)).unwrap();
    disk.fail_syncs(1);
    assert!(now(store.commit(Txn::create(Key::new("pods", "a", "n"), object("n")))).expect("inline").is_err());
    assert!(matches!(now(store.settled()), Some(Err(CommitError::ReadOnly(_)))), "the pod may be on the disk, or not");
}
