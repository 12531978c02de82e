//! Benchmarks: builds the release binary and the program that measures it, the same way, and runs it.

use crate::release::{STATIC_FLAGS, TARGET};
use crate::{Outcome, run, run_with};

/// Builds and measures. `--profile NAME` builds with another profile of Cargo's; all else is handed on.
pub(crate) fn bench(args: &[&str]) -> Outcome {
    let at = args.iter().position(|a| *a == "--profile");
    let profile = at.and_then(|at| args.get(at + 1)).copied().unwrap_or("release");
    let rest = args.iter().enumerate().filter(|(i, _)| at.is_none_or(|at| *i != at && *i != at + 1)).map(|(_, a)| *a);
    let build = ["build", "--profile", profile, "--package", "gantry", "--package", "gantry-bench", "--bins", "--target", TARGET];
    run_with("cargo", &build, &[("RUSTFLAGS", STATIC_FLAGS)])?;
    let directory = format!("target/{TARGET}/{profile}");
    let gantry = format!("{directory}/gantry");
    let mut words = vec!["--gantry", &gantry];
    words.extend(rest);
    run(&format!("{directory}/gantry-bench"), &words)
}
