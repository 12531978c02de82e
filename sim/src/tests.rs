//! Some seeds, a tenth of them twice, in which every fault must have struck. More with `cargo xtask sim`, each twice.

use std::collections::BTreeSet;
use std::process::Command;

use crate::{Counts, Sort, run, run_twice};

fn seeds(range: std::ops::Range<u64>) {
    let mut counts = Counts::new();
    for seed in range {
        match if seed % 10 == 0 { run_twice(seed) } else { run(seed) } {
            Ok(report) => counts.extend(report.counts),
            Err(failure) => panic!("{failure}"),
        }
    }
    let names: BTreeSet<&str> = counts.keys().map(|(_, what)| *what).collect();
    for (sort, expected) in [(Sort::Fault, FAULTS), (Sort::Work, WORK), (Sort::Check, CHECKS)] {
        let missing: Vec<&&str> = expected.iter().filter(|what| !names.contains(**what)).collect();
        assert!(missing.is_empty(), "{sort:?}: {missing:?} never came up");
    }
}

const FAULTS: &[&str] = &[
    "agent dies",
    "clock jumps ahead",
    "clock jumps back",
    "conflict",
    "container dies",
    "container not ready",
    "container not started",
    "controller dies",
    "disk fails to flush",
    "disk full",
    "event duplicated",
    "events coalesced",
    "events delayed",
    "node partitioned",
    "node reboots",
    "power lost",
    "sandbox not made",
    "scheduler dies",
    "server dies",
    "slow disk",
    "stale watch",
    "watch cut",
];
const WORK: &[&str] = &["change strategy", "create", "delete", "pause", "roll back", "roll out", "scale", "write ledger"];
const CHECKS: &[&str] = &["availability", "binding", "event of a watch", "events against state", "state after a restart", "surge"];

/// Two tests, so that they can run side by side.
#[test]
fn seeds_from_0() {
    seeds(0..60);
}

#[test]
fn seeds_from_60() {
    seeds(60..120);
}

/// What is planted by `cargo xtask sim --mutants` must still be there to be planted.
#[test]
fn every_planted_bug_still_applies() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut count = 0;
    for entry in std::fs::read_dir(format!("{root}/sim/mutants")).unwrap() {
        let path = entry.unwrap().path();
        let output = Command::new("git").args(["-C", root, "apply", "--check"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        count += 1;
    }
    assert!(count >= 10, "{count} planted bugs");
}
