//! The shim as a program of its own, for this crate's tests; the product's binary holds it as an internal subcommand.

fn main() -> std::process::ExitCode {
    gantry_containers::shim::main(std::env::args_os().skip(1))
}
