//! One target, named by `FUZZ_TARGET`, driven by libFuzzer. `cargo xtask fuzz` and `cargo xtask soak` run it.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<gantry_fuzz::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    gantry_fuzz::TARGETS.iter().find(|t| t.name == name).copied().unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} is no target"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.run)(data));
