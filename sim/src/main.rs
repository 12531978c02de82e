//! Runs seeds: `cargo xtask sim --from 0 --seeds 100`, or one with its trace: `--seed 7`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use gantry_sim::{Counts, Sort, run, run_twice};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| words.iter().position(|w| w == name).and_then(|i| words.get(i + 1)?.parse::<u64>().ok());
    if let Some(seed) = value("--seed") {
        return show(seed);
    }
    let (from, count) = (value("--from").unwrap_or(0), value("--seeds").unwrap_or(100));
    let jobs = value("--jobs").unwrap_or(2).max(1);
    let has = |flag: &str| words.iter().any(|w| w == flag);
    let (first_only, once) = (has("--until-failure"), has("--once"));
    let tally = Tally { next: AtomicU64::new(from), end: from + count, first_only, once, ..Tally::default() };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| tally.work());
        }
    });
    tally.print(from)
}

/// One seed, with everything that happened.
fn show(seed: u64) -> ExitCode {
    match run(seed) {
        Ok(report) => {
            println!("{}\nseed {seed}: well, trace {:016x}", report.trace, report.hash);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{}\n{failure}", failure.trace);
            ExitCode::FAILURE
        }
    }
}

/// What several threads count together, each over its own seeds.
#[derive(Default)]
struct Tally {
    next: AtomicU64,
    end: u64,
    first_only: bool,
    once: bool,
    failed: AtomicU64,
    counts: Mutex<Counts>,
}

impl Tally {
    fn work(&self) {
        loop {
            let seed = self.next.fetch_add(1, Ordering::SeqCst);
            if seed >= self.end || (self.first_only && self.failed.load(Ordering::SeqCst) > 0) {
                return;
            }
            match if self.once { run(seed) } else { run_twice(seed) } {
                Ok(report) => {
                    let mut counts = self.counts.lock().expect("no one panics while counting");
                    for (what, times) in report.counts {
                        *counts.entry(what).or_default() += times;
                    }
                }
                Err(failure) => {
                    self.failed.fetch_add(1, Ordering::SeqCst);
                    println!("{failure}");
                }
            }
        }
    }

    fn print(&self, from: u64) -> ExitCode {
        let counts = self.counts.lock().expect("no one panics while counting");
        for (sort, title) in [(Sort::Work, "work"), (Sort::Act, "actions"), (Sort::Fault, "faults"), (Sort::Check, "checks")] {
            println!("{title}:");
            let of_sort = counts.iter().filter(|((s, _), _)| *s == sort);
            of_sort.for_each(|((_, what), times)| println!("  {times:>10}  {what}"));
        }
        let failed = self.failed.load(Ordering::SeqCst);
        let (last, often) = (self.next.load(Ordering::SeqCst).min(self.end).saturating_sub(1), if self.once { "once" } else { "twice" });
        println!("seeds {from} to {last}, each {often}: {failed} failed");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
