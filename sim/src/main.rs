//! Runs seeds: `cargo run -p gantry-sim -- --from 0 --seeds 100`, or one with its trace: `--seed 7`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| words.iter().position(|w| w == name).and_then(|i| words.get(i + 1)?.parse::<u64>().ok());
    let (from, count, show) = match value("--seed") {
        Some(seed) => (seed, 1, true),
        None => (value("--from").unwrap_or(0), value("--seeds").unwrap_or(100), false),
    };
    let mut failed = 0;
    for seed in from..from + count {
        match gantry_sim::run(seed) {
            Ok(report) => {
                if show {
                    println!("{}", report.trace);
                }
                println!("seed {seed}: {} crashes, trace {:016x}", report.crashes, report.hash);
            }
            Err(failure) => {
                failed += 1;
                if show {
                    println!("{}", failure.trace);
                }
                println!("{failure}");
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
