//! Our own backend: one append-only log, flushed once per batch of concurrent writers, with checkpoints.
//!
//! Files: `log-N` is a segment, preallocated, whose first frame has number N; `checkpoint-N` holds the state after frame N. Opening reads
//! the newest checkpoint and the frames after it. A torn tail is wiped, since nothing in it was acknowledged; damage is an error that
//! names file and offset. The checkpoint before the newest is kept with the log since, so that one damaged checkpoint costs nothing; with
//! `Options::salvage` a damaged log is given up from the damage on.

mod backend;
mod checkpoint;
mod frame;
mod record;
mod recover;
mod salvage;
mod sector;
mod segment;
#[cfg(test)]
mod tests;

pub use backend::{LogStore, Options, open};
