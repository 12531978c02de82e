//! The `gantry` binary: reads the command line, checks the whole configuration, builds, runs, drains.

mod cli;
mod data_dir;
mod kubeconfig;
mod server;
mod signing;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
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
