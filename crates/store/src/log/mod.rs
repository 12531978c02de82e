//! Our own backend: one append-only log, flushed once per batch of concurrent writers, with checkpoints.
//!
//! Files: `log-N` is a segment, preallocated, whose first frame has number N; `checkpoint-N` holds the state after frame N. Opening reads
//! the newest checkpoint and the frames after it. A torn tail is cut, since nothing in it was acknowledged; damage anywhere else is an
//! error that names file and offset.

mod backend;
mod checkpoint;
mod frame;
mod record;
mod recover;
mod segment;
#[cfg(test)]
mod tests;

pub use backend::{LogStore, Options, open};
