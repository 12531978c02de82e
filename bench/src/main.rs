//! Measures the binary beside its peers and the machine's own limits: `cargo xtask bench [NAME]`.
//!
//! Subject and baseline take turns within one run, so that what else the machine does falls on both. Durable rates stand beside a bare
//! append and fdatasync, network rates beside a constant answer over the same TLS and HTTP stack, both with the same loader. Nothing
//! here passes or fails: a row says its figure, its bar, and what was measured beside it.

mod api;
mod cluster;
mod constant;
mod disk;
mod etcd;
mod figures;
mod load;
mod machine;
mod report;
mod rows;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gantry_ports::{RealClock, Tasks};
use tokio::signal::unix::{SignalKind, signal};

/// What a step came to, or what went wrong in words for a person.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// Words for an error: what was being done, and the error's own.
pub(crate) fn failed<E: std::fmt::Display>(act: impl std::fmt::Display) -> impl FnOnce(E) -> String {
    move |error| format!("{act}: {error}")
}

/// What is measured and how.
#[derive(Clone, Debug, Parser)]
pub(crate) struct Options {
    /// What to measure: names of rows; none is all of them.
    pub(crate) names: Vec<String>,
    /// The binary to measure.
    #[arg(long, default_value = "target/release/gantry")]
    pub(crate) gantry: PathBuf,
    /// Where clusters and files lie while they are measured: a directory on the disk that matters.
    #[arg(long, default_value = "/var/tmp")]
    pub(crate) directory: PathBuf,
    /// Where each row's JSON goes.
    #[arg(long, default_value = "target/bench")]
    pub(crate) results: PathBuf,
    /// A third of the time and a tenth of the objects: to see that it works, not for figures to quote.
    #[arg(long)]
    pub(crate) quick: bool,
    /// How many minutes of churn the row `memory` lasts.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) minutes: f64,
    /// How many objects the rows `memory` and `restart` make, instead of 100,000 and 50,000.
    #[arg(long)]
    pub(crate) objects: Option<usize>,
    /// `json` prints the JSON instead of the table.
    #[arg(short, long, value_parser = ["table", "json"], default_value = "table")]
    pub(crate) output: String,
    /// Serve constant answers: what the loader compares with.
    #[arg(long, hide = true)]
    pub(crate) serve_constant: bool,
}

/// What every row gets.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) clock: RealClock,
    pub(crate) tasks: Tasks,
}

impl Bench {
    /// One of two numbers: the second when there is little time.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.options.quick { quick } else { full }
    }

    /// A directory on the disk that matters, gone when dropped.
    pub(crate) fn directory(&self) -> Result<tempfile::TempDir> {
        let at = &self.options.directory;
        tempfile::Builder::new().prefix("gantry-bench-").tempdir_in(at).map_err(failed(format!("making a directory in {}", at.display())))
    }
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("gantry-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for SIGINT or SIGTERM.
async fn stopped() -> Result<()> {
    let listen = |kind| signal(kind).map_err(failed("listening for signals"));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    gantry_ports::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Err("stopped".into())
}

fn run(options: Options) -> Result<()> {
    machine::raise_file_limit()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().map_err(failed("a runtime"))?;
    runtime.block_on(async {
        let tasks = Tasks::on(tokio::runtime::Handle::current());
        if options.serve_constant {
            return constant::serve_until_told(&tasks).await;
        }
        let bench = Bench { options, clock: RealClock::new(), tasks };
        // Whoever stops us gets the machine back as it was: what a row has started is ended when the row is dropped.
        gantry_ports::select! {
            done = rows::run(&bench) => done,
            stopped = stopped() => stopped,
        }
    })
}
