//! Fuzzing with libFuzzer, on the stable toolchain: coverage comes from LLVM's own pass.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::Outcome;

/// What makes our own crates tell the fuzzer which way they went.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Set when cargo calls this program in place of the compiler.
const WRAPPER: &str = "GANTRY_FUZZ_COMPILER";
/// What was found before, and what failed.
const KEPT: &str = "target/fuzz";

/// Does the compiler's work with coverage, if that is what this program was called for.
pub(crate) fn compile() -> Option<ExitCode> {
    std::env::var_os(WRAPPER)?;
    let mut words = std::env::args_os().skip(1);
    let status = Command::new(words.next()?).args(words).args(COVERAGE).args(["-Cdebug-assertions", "-Coverflow-checks"]).status();
    Some(if status.is_ok_and(|s| s.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every target with a corpus, or one; each for so many seconds, two at a time. A short run builds quickly, a long one optimizes.
pub(crate) fn run(named: Option<&str>, seconds: u64) -> Outcome {
    let mut targets: Vec<String> = fs::read_dir("fuzz/corpus")
        .map_err(|e| format!("fuzz/corpus: {e}"))?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| named.is_none_or(|n| n == name))
        .collect();
    if targets.is_empty() {
        return Err(format!("no target is called {}", named.unwrap_or_default()));
    }
    targets.sort();
    let profile = if seconds > 60 { "release" } else { "dev" };
    let this = std::env::current_exe().map_err(|e| format!("finding this program: {e}"))?;
    let build = ["build", "--quiet", "--package", "gantry-fuzz", "--features", "libfuzzer", "--profile", profile];
    // Only our own crates are compiled anew; what they stand on is shared with the other builds.
    crate::run_with("cargo", &build, &[("RUSTC_WORKSPACE_WRAPPER", &this.to_string_lossy()), (WRAPPER, "1")])?;
    let program = if profile == "dev" { "target/debug/fuzz" } else { "target/release/fuzz" };
    for pair in targets.chunks(2) {
        let running: Vec<_> = pair.iter().map(|target| Running::start(program, target, seconds)).collect::<Result<_, String>>()?;
        running.into_iter().try_for_each(Running::end)?;
    }
    Ok(())
}

struct Running {
    target: String,
    child: std::process::Child,
}

impl Running {
    fn start(program: &str, target: &str, seconds: u64) -> Result<Self, String> {
        let corpus = PathBuf::from(KEPT).join("corpus").join(target);
        let found = PathBuf::from(KEPT).join("found").join(target);
        for directory in [&corpus, &found] {
            fs::create_dir_all(directory).map_err(|e| format!("{}: {e}", directory.display()))?;
        }
        let child = Command::new(program)
            .env("FUZZ_TARGET", target)
            .arg(corpus)
            .arg(format!("fuzz/corpus/{target}"))
            .args([format!("-max_total_time={seconds}"), format!("-artifact_prefix={}/", found.display())])
            .args(["-timeout=10", "-rss_limit_mb=2048", "-max_len=8192", "-print_final_stats=1"])
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| format!("the fuzzer could not be started: {e}"))?;
        Ok(Self { target: target.to_owned(), child })
    }

    fn end(self) -> Outcome {
        let output = self.child.wait_with_output().map_err(|e| format!("the fuzzer of {}: {e}", self.target))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{said}\nfuzzing {} failed; put the input it names into fuzz/corpus/{0} with the fix", self.target));
        }
        let stat = |name: &str| said.lines().find_map(|l| l.strip_prefix(name)).map_or("?", str::trim).to_owned();
        let coverage = said.lines().rev().find_map(|l| l.split("cov: ").nth(1)?.split(' ').next()).unwrap_or("?");
        eprintln!("   {}: {} runs, {coverage} edges", self.target, stat("stat::number_of_executed_units:"));
        Ok(())
    }
}
