//! The rows: what is measured.

mod create;
mod idle;
mod memory;
mod oci;
mod pods;
mod reads;
mod scheduler;
mod service;
mod start;
mod watch;

use gantry_ports::BoxFuture;

use crate::report::{Row, document, table};
use crate::{Bench, Result, failed, machine};

/// What a row measured, and what is to be said about it.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<String>,
}

impl From<Vec<Row>> for Measured {
    fn from(rows: Vec<Row>) -> Self {
        Self { rows, notes: Vec::new() }
    }
}

type Run = for<'a> fn(&'a Bench) -> BoxFuture<'a, Result<Measured>>;

/// The names, in the order they are measured in.
const ROWS: [(&str, Run); 12] = [
    ("start", |b| Box::pin(start::start(b))),
    ("restart", |b| Box::pin(start::restart(b))),
    ("idle", |b| Box::pin(idle::run(b))),
    ("pods", |b| Box::pin(pods::run(b))),
    ("container", |b| Box::pin(oci::run(b))),
    ("create", |b| Box::pin(create::run(b))),
    ("get", |b| Box::pin(reads::get(b))),
    ("list", |b| Box::pin(reads::list(b))),
    ("watch", |b| Box::pin(watch::run(b))),
    ("memory", |b| Box::pin(memory::run(b))),
    ("scheduler", |b| Box::pin(scheduler::run(b))),
    ("service", |b| Box::pin(service::run(b))),
];

/// Measures what was asked for, prints it, and leaves each row's JSON in a file of its own.
pub(crate) async fn run(bench: &Bench) -> Result<()> {
    let asked = &bench.options.names;
    if let Some(unknown) = asked.iter().find(|n| ROWS.iter().all(|(name, _)| name != n)) {
        let names: Vec<&str> = ROWS.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no row {unknown:?}; there are {}", names.join(", ")));
    }
    let results = &bench.options.results;
    std::fs::create_dir_all(results).map_err(failed(results.display()))?;
    let mut went_wrong = Vec::new();
    for (name, row) in ROWS.iter().filter(|(name, _)| asked.is_empty() || asked.iter().any(|n| n == name)) {
        let mut machine = machine::describe();
        let measured = match row(bench).await {
            Ok(measured) => measured,
            // The others can still be measured.
            Err(why) => {
                eprintln!("{name}: {why}");
                went_wrong.push(*name);
                continue;
            }
        };
        machine["loadAfter"] = machine::load_average().into();
        let document = document(name, &machine, &measured.notes, &measured.rows);
        let path = results.join(format!("{name}.json"));
        std::fs::write(&path, format!("{document:#}\n")).map_err(failed(path.display()))?;
        if bench.options.output == "json" {
            println!("{document:#}");
            continue;
        }
        println!(
            "\n{name} ({}, load {} → {})\n{}",
            machine["commit"].as_str().unwrap_or(""),
            machine["loadBefore"],
            machine["loadAfter"],
            table(&measured.rows)
        );
        measured.notes.iter().for_each(|note| println!("{note}"));
    }
    if went_wrong.is_empty() { Ok(()) } else { Err(format!("not measured: {}", went_wrong.join(", "))) }
}
