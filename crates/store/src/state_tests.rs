//! Snapshots and watches over a state that is fed by hand.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gantry_object::{Encoded, Revision, Timestamp};
use proptest::prelude::*;

use crate::{Change, EventKind, Gone, Key, Limits, State};

fn put(path: (&str, &str), revision: u64) -> Change {
    let object = Encoded { body: Bytes::from(format!("{{\"metadata\":{{\"r\":{revision}}}}}")), splice: 13, revision: Revision(revision) };
    Change { key: Key::new("pods", path.0, path.1), revision: Revision(revision), object: Some(object) }
}

fn delete(path: (&str, &str), revision: u64) -> Change {
    Change { object: None, ..put(path, revision) }
}

fn state(limits: Limits) -> Arc<State> {
    Arc::new(State::new(limits))
}

fn paths(state: &State, namespace: Option<&str>, after: Option<&str>) -> Vec<String> {
    state.snapshot().list("pods", namespace, after).map(|i| i.path.to_owned()).collect()
}

#[test]
fn lists_go_by_namespace_and_page() {
    let state = state(Limits::default());
    state.apply(vec![put(("b", "1"), 1), put(("a-b", "1"), 2), put(("a", "2"), 3), put(("a", "1"), 4), put(("", "z"), 5)]);
    assert_eq!(paths(&state, None, None), ["a-b/1", "a/1", "a/2", "b/1", "z"]);
    assert_eq!(paths(&state, Some("a"), None), ["a/1", "a/2"]);
    assert_eq!(paths(&state, Some("a"), Some("a/1")), ["a/2"]);
    assert_eq!(paths(&state, Some("a"), Some("a/2")), [""; 0]);
    assert_eq!(paths(&state, Some("a"), Some("b/1")), [""; 0]);
    assert_eq!(paths(&state, Some("b"), Some("a/1")), ["b/1"]);
    assert_eq!(paths(&state, Some("c"), None), [""; 0]);
    assert_eq!(paths(&state, None, Some("a/10")), ["a/2", "b/1", "z"]);
    let snapshot = state.snapshot();
    assert_eq!(
        (snapshot.count("pods", None, None), snapshot.count("pods", Some("a"), None), snapshot.count("none", None, None)),
        (5, 2, 0)
    );
}

#[test]
fn a_snapshot_does_not_change_and_can_be_found_again() {
    let limits = Limits { retained_snapshots: 2, retained_for: Duration::from_secs(10), ring_events: 2, ..Limits::default() };
    let state = state(limits);
    let at = Timestamp::from_seconds;
    state.apply(vec![put(("a", "1"), 1)]);
    let old = state.snapshot();
    state.retain(&old, at(0));
    state.apply(vec![put(("a", "1"), 2)]);
    state.apply(vec![put(("a", "2"), 3), delete(("a", "1"), 4)]);
    assert_eq!(old.get(&Key::new("pods", "a", "1")).unwrap().revision, Revision(1));
    // Revision 2 is rebuilt from the ring, 1 was kept.
    let rebuilt = state.snapshot_at("pods", Revision(2), at(1)).unwrap();
    assert_eq!(rebuilt.list("pods", None, None).map(|i| (i.path, i.object.revision.0)).collect::<Vec<_>>(), [("a/1", 2)]);
    assert_eq!(state.snapshot_at("pods", Revision(1), at(9)).unwrap().count("pods", None, None), 1);
    assert_eq!(state.snapshot_at("pods", Revision(1), at(10)).err(), Some(Gone { asked: Revision(1), oldest: Revision(2) }));
    assert!(state.snapshot_at("pods", Revision(9), at(1)).is_err());
}

#[test]
fn a_snapshot_that_is_kept_again_and_again_grows_old_all_the_same() {
    let state = state(Limits { retained_for: Duration::from_secs(10), ..Limits::default() });
    let at = Timestamp::from_seconds;
    state.apply(vec![put(("a", "1"), 1)]);
    let old = state.snapshot();
    for second in 0..10 {
        state.retain(&old, at(second));
    }
    // The newest state is no older for having been kept.
    assert_eq!(state.snapshot_at("pods", Revision(1), at(10)).unwrap().revision(), Revision(1));
    state.apply(vec![put(("a", "1"), 2), put(("a", "1"), 3)]);
    assert_eq!(state.snapshot_at("pods", Revision(1), at(11)).err(), Some(Gone { asked: Revision(1), oldest: Revision(2) }));
    assert_eq!(state.snapshot_at("pods", Revision(2), at(11)).unwrap().revision(), Revision(2));
}

#[test]
fn watchers_see_their_namespace_with_the_object_before() {
    let state = state(Limits::default());
    state.apply(vec![put(("a", "1"), 1), put(("b", "1"), 2)]);
    let mut watcher = state.watch("pods", Some("a"), Revision(1)).unwrap();
    state.apply(vec![put(("a", "1"), 3), put(("b", "1"), 4)]);
    assert_eq!(watcher.progress(), None);
    let event = watcher.try_next().unwrap().unwrap();
    assert!(matches!(&event.kind, EventKind::Put { new, prev: Some(prev) } if new.revision.0 == 3 && prev.revision.0 == 1));
    assert!(watcher.try_next().unwrap().is_none());
    assert_eq!(watcher.progress(), Some(Revision(4)));
    state.apply(vec![delete(("a", "1"), 5), delete(("a", "none"), 6)]);
    let event = watcher.try_next().unwrap().unwrap();
    assert_eq!((event.revision(), event.previous().unwrap().revision), (Revision(5), Revision(3)));
    assert!(watcher.try_next().unwrap().is_none());
    assert_eq!(watcher.progress(), Some(Revision(6)));
    let first = event.cache.get_or_init(3, || Bytes::from_static(b"x"));
    assert_eq!(event.cache.get_or_init(3, || panic!("made once")), first);
}

#[test]
fn too_old_and_too_slow_watchers_are_told() {
    let state = state(Limits { ring_events: 3, ..Limits::default() });
    let mut slow = state.watch("pods", None, Revision(0)).unwrap();
    state.load([], Revision(0));
    let mut slower = state.watch("pods", None, Revision(0)).unwrap();
    state.apply((1..=5).map(|r| put(("a", "1"), r)).collect());
    assert!(slow.try_next().unwrap().is_none(), "a reloaded state leaves old watchers behind without events");
    assert_eq!(slower.try_next().unwrap_err(), Gone { asked: Revision(0), oldest: Revision(2) });
    assert!(state.watch("pods", None, Revision(1)).is_err());
    let mut exact = state.watch("pods", None, Revision(2)).unwrap();
    assert_eq!(exact.try_next().unwrap().unwrap().revision(), Revision(3));
    let mut future = state.watch("pods", None, Revision(6)).unwrap();
    state.apply(vec![put(("a", "1"), 6), put(("a", "1"), 7)]);
    assert_eq!(future.try_next().unwrap().unwrap().revision(), Revision(7), "what lies ahead is waited for");
}

#[tokio::test]
async fn waiters_wake() {
    let state = state(Limits::default());
    let mut watcher = state.watch("pods", None, Revision(0)).unwrap();
    let waiting: gantry_ports::BoxFuture<'_, u64> = Box::pin(async { watcher.next().await.unwrap().revision().0 });
    let reached: gantry_ports::BoxFuture<'_, u64> = Box::pin(async {
        state.at_least(Revision(2)).await;
        state.durable_revision().0
    });
    let feeding: gantry_ports::BoxFuture<'_, u64> = Box::pin(async {
        tokio::task::yield_now().await;
        state.apply(vec![put(("a", "1"), 1)]);
        state.apply(vec![put(("a", "1"), 2)]);
        0
    });
    assert_eq!(gantry_ports::join_all(vec![waiting, reached, feeding]).await, [1, 2, 0]);
}

proptest! {
    /// Applying a watch's events to the snapshot it started from gives the state, whatever the batches and wherever it starts.
    #[test]
    fn events_replay_to_the_state(ops in proptest::collection::vec((0..3usize, 0..4usize, any::<bool>(), any::<bool>()), 1..80), start in 0..80usize) {
        let state = state(Limits::default());
        let names = ["1", "2", "3", "4"];
        let spaces = ["a", "b", ""];
        let mut batch = Vec::new();
        let mut base = state.snapshot();
        for (i, (space, name, put_it, cut)) in ops.iter().enumerate() {
            let path = (spaces[*space], names[*name]);
            batch.push(if *put_it { put(path, i as u64 + 1) } else { delete(path, i as u64 + 1) });
            if *cut {
                state.apply(std::mem::take(&mut batch));
            }
            if i == start {
                base = state.snapshot();
            }
        }
        state.apply(batch);
        let mut watcher = state.watch("pods", None, base.revision()).unwrap();
        let mut last = base.revision();
        let mut replayed = base;
        while let Some(event) = watcher.try_next().unwrap() {
            prop_assert!(event.revision() > last);
            last = event.revision();
            let before = replayed.put(&event.key, event.new_object().cloned());
            prop_assert_eq!(before.as_ref(), event.previous());
        }
        let now = state.snapshot();
        let items = |s: &crate::Snapshot| s.list("pods", None, None).map(|i| (i.path.to_owned(), i.object.clone())).collect::<Vec<_>>();
        prop_assert_eq!(items(&replayed), items(&now));
    }
}
