//! A few hundred seeds, and the same one twice.

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

#[test]
fn seeds_0_to_100() {
    seeds(0..100);
}

#[test]
fn seeds_100_to_200() {
    seeds(100..200);
}

#[test]
fn seeds_200_to_300() {
    seeds(200..300);
}
