//! The `gantry` binary: reads the command line, checks the whole configuration, builds, runs, drains.

/// Says a line to whoever reads our standard output; a reader that has gone is no failure.
macro_rules! say {
    ($($arg:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($arg)*);
    }};
}
pub(crate) use say;

mod admin;
mod agent;
mod api;
mod cli;
mod daemon;
mod data_dir;
mod down;
mod image;
mod kubeconfig;
mod kubectl;
mod local_node;
mod nodes;
mod pinned;
mod server;
mod signing;
mod status;
mod token;
mod up;

use std::process::ExitCode;

use clap::Parser;

/// The word by which this binary is started again as a pod's shim.
const SHIM: &str = "internal-shim";

fn main() -> ExitCode {
    // A shim has one thread and no runtime: it branches off before anything else begins.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == SHIM) {
        return gantry_containers::shim::main(args);
    }
    let cli = cli::Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("GANTRY_LOG").unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry: {}", error.chain());
            ExitCode::from(error.exit_code())
        }
    }
}
