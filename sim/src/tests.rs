//! Two hundred seeds, and the same one twice. More with `cargo xtask sim`.

use crate::run;

fn seeds(range: std::ops::Range<u64>) {
    let mut crashes = 0;
    for seed in range {
        match run(seed) {
            Ok(report) => crashes += report.crashes,
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(crashes > 0, "the faults did not strike");
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    for seed in [1, 2, 3] {
        let (a, b) = (run(seed).unwrap(), run(seed).unwrap());
        assert_eq!((a.hash, &a.trace), (b.hash, &b.trace));
    }
    assert_ne!(run(4).unwrap().hash, run(5).unwrap().hash);
}

/// Four tests, so that they can run side by side.
#[test]
fn seeds_0_to_50() {
    seeds(0..50);
}

#[test]
fn seeds_50_to_100() {
    seeds(50..100);
}

#[test]
fn seeds_100_to_150() {
    seeds(100..150);
}

#[test]
fn seeds_150_to_200() {
    seeds(150..200);
}
