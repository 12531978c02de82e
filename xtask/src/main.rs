//! Checks, releases, benchmarks and simulations of the project: `cargo xtask check`, `cargo xtask release`, `cargo xtask sim`,
//! `cargo xtask bench`.

mod arrows;
mod bench;
mod fuzz;
mod mutants;
mod release;
mod sizes;

use std::process::{Command, ExitCode};

/// What a task came to: nothing, or what went wrong in words for a person.
pub(crate) type Outcome = Result<(), String>;

const USAGE: &str = "usage: cargo xtask TASK
  check [--quick]   everything a change must pass: format, lints, arrows between rooms, licences, documentation, tests
                    (--quick leaves out licences and tests)
  release           the static release binaries, at target/release/gantry and target/release/hello
  sim ARGS          the simulator: --from S --seeds N [--jobs J], each seed twice; --seed S shows one with its trace
  sim --mutants [NAME]
                    plants the bugs of sim/mutants one by one; the simulator must find each
  bench [NAME...]   measures the release binary beside its peers; --quick for a short look, --help for more
  fuzz [TARGET]     decoders fed with anything, five seconds each
  soak [TARGET] [--for SECONDS]
                    the same for an hour each, or for so long
  sizes             sizes of files and functions of production code";

fn main() -> ExitCode {
    if let Some(code) = fuzz::compile() {
        return code;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["check"] => check(false),
        ["check", "--quick"] => check(true),
        ["release"] => release::build(),
        ["sim", "--mutants"] => mutants::hunt(""),
        ["sim", "--mutants", name] => mutants::hunt(name),
        ["sim", ..] => {
            let mut sim = vec!["run", "--quiet", "--profile", "sim", "--package", "gantry-sim", "--"];
            sim.extend(&words[1..]);
            run("cargo", &sim)
        }
        ["bench", ..] => bench::bench(&words[1..]),
        ["fuzz"] => fuzz::run(None, 5),
        ["fuzz", target] => fuzz::run(Some(target), 5),
        ["soak", ..] => soak(&words[1..]),
        ["sizes"] => sizes::report(),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn soak(words: &[&str]) -> Outcome {
    let (target, seconds) = match words {
        [] => (None, "3600"),
        ["--for", seconds] => (None, *seconds),
        [target] => (Some(*target), "3600"),
        [target, "--for", seconds] => (Some(*target), *seconds),
        _ => return Err(USAGE.into()),
    };
    fuzz::run(target, seconds.parse().map_err(|_| USAGE.to_owned())?)
}

/// Runs a program and waits for it.
pub(crate) fn run(program: &str, args: &[&str]) -> Outcome {
    run_with(program, args, &[])
}

/// Runs a program with more in its environment.
pub(crate) fn run_with(program: &str, args: &[&str], environment: &[(&str, &str)]) -> Outcome {
    let line = format!("{program} {}", args.join(" "));
    eprintln!("── {line}");
    #[expect(clippy::disallowed_methods, reason = "this tells a person how long a task took; nothing depends on it")]
    let begun = std::time::Instant::now();
    let status = Command::new(program).args(args).envs(environment.iter().copied()).status();
    match status {
        Ok(status) if status.success() => {
            eprintln!("   {:.1} s", begun.elapsed().as_secs_f64());
            Ok(())
        }
        Ok(status) => Err(format!("`{line}` failed ({status})")),
        Err(error) => Err(format!("`{line}` could not be started: {error}")),
    }
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|o| o.status.success())
}

fn check(quick: bool) -> Outcome {
    run("cargo", &["fmt", "--all", "--check"])?;
    arrows::check()?;
    sizes::report()?;
    run("cargo", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    if quick {
        return Ok(());
    }
    if !is_installed("cargo-deny") {
        run("cargo", &["install", "cargo-deny", "--locked", "--quiet", "--no-default-features"])?;
    }
    run("cargo", &["deny", "--log-level", "error", "check", "licenses", "bans", "sources"])?;
    fuzz::run(None, 5)?;
    run_with("cargo", &["doc", "--workspace", "--no-deps", "--quiet"], &[("RUSTDOCFLAGS", "-D warnings")])?;
    match is_installed("cargo-nextest") {
        true => run("cargo", &["nextest", "run", "--workspace", "--status-level", "fail", "--no-fail-fast"]),
        false => run("cargo", &["test", "--workspace", "--quiet"]),
    }
}
