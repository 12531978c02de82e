//! One run of a seed, and what it comes to.

use std::fmt;

use crate::trace::{Counts, Trace};
use crate::world::World;

/// A run that went well.
#[derive(Debug)]
pub struct Report {
    /// A hash of the trace.
    pub hash: u64,
    /// How often what happened.
    pub counts: Counts,
    /// What happened, in lines.
    pub trace: String,
}

/// A run in which something happened that may not.
#[derive(Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What happened.
    pub what: String,
    /// What led to it, in lines.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}\nrepeat it: cargo xtask sim --seed {}", self.seed, self.what, self.seed)
    }
}

/// Runs a seed from an empty cluster to convergence.
///
/// # Errors
/// What went wrong, with the trace.
///
/// # Panics
/// When the machine cannot make a single-threaded runtime.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without I/O needs nothing");
    let trace = Trace::default();
    let result = runtime.block_on(async {
        let mut world = World::new(seed, &trace).await?;
        play(&mut world).await
    });
    let (hash, text, counts) = trace.finish();
    match result {
        Ok(()) => Ok(Report { hash, counts, trace: text }),
        Err(what) => Err(Box::new(Failure { seed, what, trace: text })),
    }
}

async fn play(world: &mut World) -> Result<(), String> {
    // It begins at rest, so that there is something to be kept.
    world.settle().await?;
    for _ in 0..world.draw.steps {
        world.step().await?;
    }
    world.heal().await?;
    world.settle().await?;
    let process = world.net.process().ok_or("the server is down")?;
    world.ledger.check(&process.store)
}

/// Runs a seed twice: what happens must be the same both times.
///
/// # Errors
/// What went wrong in either run, or where they differ.
pub fn run_twice(seed: u64) -> Result<Report, Box<Failure>> {
    let (first, second) = (run(seed)?, run(seed)?);
    if first.hash == second.hash {
        return Ok(first);
    }
    let differs = first.trace.lines().zip(second.trace.lines()).position(|(a, b)| a != b);
    let at = differs.unwrap_or_default();
    let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
    let what = format!("two runs differ at line {at}: {:?} and {:?}", line(&first.trace), line(&second.trace));
    Err(Box::new(Failure { seed, what, trace: first.trace }))
}
