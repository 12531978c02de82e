//! Sizes of files and functions of production code, as docs and reviews quote them.

use std::path::{Path, PathBuf};

use crate::Outcome;

/// Prints the distribution, and what stands out.
pub(crate) fn report() -> Outcome {
    let mut files = Vec::new();
    for room in ["bench", "crates", "sim", "xtask"] {
        collect(Path::new(room), &mut files);
    }
    let (mut lengths, mut functions) = (Vec::new(), Vec::new());
    for file in &files {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        let production = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
        lengths.push((production.lines().count(), file.display().to_string()));
        functions.extend(function_lengths(production).into_iter().map(|(lines, name)| (lines, format!("{} {name}", file.display()))));
    }
    show("files", &mut lengths, 600);
    show("functions", &mut functions, 70);
    Ok(())
}

/// The production source files under a folder.
pub(crate) fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_test = path.ends_with("tests") || path.file_stem().is_some_and(|s| s.to_string_lossy().ends_with("tests"));
        if path.is_dir() && !is_test && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") && !is_test {
            files.push(path);
        }
    }
}

/// Lines from each `fn` to the brace that closes it at the same indentation.
fn function_lengths(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let Some(at) = code
            .find("fn ")
            .filter(|at| code[..*at].split(' ').all(|w| w.is_empty() || w.starts_with("pub") || matches!(w, "async" | "const" | "unsafe")))
        else {
            continue;
        };
        let closing = format!("{}}}", " ".repeat(indent));
        if let Some(length) = lines[i..].iter().position(|l| *l == closing) {
            let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            found.push((length + 1, name));
        }
    }
    found
}

fn show(what: &str, all: &mut [(usize, String)], limit: usize) {
    all.sort();
    let at = |percent: usize| all.get(all.len() * percent / 100).map_or(0, |(n, _)| *n);
    println!("{what}: {} of them, median {} lines, 90th percentile {}", all.len(), at(50), at(90));
    for (lines, name) in all.iter().rev().take_while(|(n, _)| *n > limit).take(20) {
        println!("  {lines:5} {name}");
    }
}
