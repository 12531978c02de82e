//! The release binaries: static, not position independent, so that shims share their pages.

use std::path::Path;

use crate::{Outcome, run_with};

/// What is built for.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What makes a binary static and not position independent. With an explicit target these do not reach build scripts and procedural macros,
/// which cannot be static.
pub(crate) const STATIC_FLAGS: &str = "-C target-feature=+crt-static -C relocation-model=static";

/// Builds `gantry` and the example `hello`, and leaves them in `target/release`.
pub(crate) fn build() -> Outcome {
    run_with(
        "cargo",
        &["build", "--release", "--package", "gantry", "--bin", "gantry", "--package", "hello", "--bin", "hello", "--target", TARGET],
        &[("RUSTFLAGS", STATIC_FLAGS)],
    )?;
    std::fs::create_dir_all("target/release").map_err(|e| format!("target/release: {e}"))?;
    ["gantry", "hello"].into_iter().try_for_each(take)
}

/// Copies a binary to where it is looked for.
fn take(name: &str) -> Outcome {
    let (from, to) = (format!("target/{TARGET}/release/{name}"), format!("target/release/{name}"));
    // A binary that runs cannot be written over, but its name can be given to another.
    let temporary = format!("{to}.new");
    std::fs::copy(&from, &temporary).and_then(|_| std::fs::rename(&temporary, &to)).map_err(|e| format!("{to}: {e}"))?;
    verify(Path::new(&to))
}

/// An ELF executable of type EXEC without an interpreter.
fn verify(binary: &Path) -> Outcome {
    let bytes = std::fs::read(binary).map_err(|e| format!("{}: {e}", binary.display()))?;
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let word = |at: usize| bytes[at..at + 8].iter().rev().fold(0usize, |n, b| n << 8 | usize::from(*b));
    if bytes.len() < 64 || !bytes.starts_with(b"\x7fELF") || half(16) != 2 {
        return Err(format!("{} is not a static, non-PIE executable", binary.display()));
    }
    let (table, size, count) = (word(32), usize::from(half(54)), usize::from(half(56)));
    let interpreted = (0..count).any(|i| bytes[table + i * size..][..4] == 3u32.to_le_bytes());
    if interpreted {
        return Err(format!("{} asks for a dynamic loader", binary.display()));
    }
    eprintln!("{}: {:.1} MB, static", binary.display(), bytes.len() as f64 / 1e6);
    Ok(())
}
