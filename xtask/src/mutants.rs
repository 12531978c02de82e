//! Whether the simulator finds bugs that are known to be there: each is a patch, planted in a copy of the sources and looked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Outcome;

/// Where the patches are.
const PATCHES: &str = "sim/mutants";
/// The copy of the sources: a worktree at the last commit. Crates from registries are shared with other builds.
const TREE: &str = "target/mutants";
/// With so many seeds without a failure a planted bug counts as not found.
const SEEDS: &str = "500";

/// Plants every bug whose name contains `only`, one by one, and says after how many seeds each was found.
///
/// # Errors
/// When one was not found, does not apply, or does not build.
pub(crate) fn hunt(only: &str) -> Outcome {
    let mut patches: Vec<PathBuf> =
        fs::read_dir(PATCHES).map_err(|e| format!("reading {PATCHES}: {e}"))?.flatten().map(|e| e.path()).collect();
    patches.retain(|p| p.extension().is_some_and(|e| e == "patch") && p.to_string_lossy().contains(only));
    patches.sort();
    make_tree()?;
    let mut rows = Vec::new();
    for patch in &patches {
        let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let row = match look_for(patch)? {
            Some((seed, what)) => format!("| {name} | {seed} | {what} |"),
            None => format!("| {name} | not found | |"),
        };
        println!("{row}");
        rows.push(row);
    }
    let missed = rows.iter().filter(|r| r.contains("| not found |")).count();
    if missed == 0 { Ok(()) } else { Err(format!("{missed} of {} planted bugs were not found", rows.len())) }
}

fn git(args: &[&str]) -> Result<String, String> {
    let line = format!("git {}", args.join(" "));
    let output = Command::new("git").args(args).output().map_err(|e| format!("`{line}` could not be started: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(format!("`{line}` failed: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn make_tree() -> Outcome {
    if !Path::new(TREE).join("Cargo.toml").exists() {
        git(&["worktree", "prune"])?;
        git(&["worktree", "add", "--force", "--detach", TREE, "HEAD"])?;
    }
    let head = git(&["rev-parse", "HEAD"])?;
    git(&["-C", TREE, "checkout", "--quiet", "--force", "--detach", &head]).map(drop)
}

/// The first seed that fails, and how.
fn look_for(patch: &Path) -> Result<Option<(u64, String)>, String> {
    let absolute = fs::canonicalize(patch).map_err(|e| format!("{}: {e}", patch.display()))?;
    git(&["-C", TREE, "checkout", "--quiet", "--force", "."])?;
    git(&["-C", TREE, "apply", &absolute.to_string_lossy()])?;
    let manifest = format!("{TREE}/Cargo.toml");
    // Unoptimised: most of the time goes into building, and few seeds are needed.
    let build = ["build", "--quiet", "--package", "gantry-sim", "--manifest-path", &manifest, "--target-dir", "target"];
    crate::run("cargo", &build)?;
    let program = "target/debug/gantry-sim";
    let arguments = ["--from", "0", "--seeds", SEEDS, "--once", "--until-failure"];
    let output = Command::new(program).args(arguments).output().map_err(|e| format!("{program} could not be started: {e}"))?;
    git(&["-C", TREE, "checkout", "--quiet", "--force", "."])?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let failures = told.lines().filter_map(|l| l.strip_prefix("seed ")?.split_once(": "));
    let first = failures.filter_map(|(seed, what)| Some((seed.parse::<u64>().ok()?, what))).min_by_key(|(seed, _)| *seed);
    Ok(first.map(|(seed, what)| (seed, what.chars().take(90).collect::<String>().replace('|', "/"))))
}
