//! The containers' shim as a program of its own, for this crate's tests.

fn main() -> std::process::ExitCode {
    gantry_containers::shim::main(std::env::args_os().skip(1))
}
