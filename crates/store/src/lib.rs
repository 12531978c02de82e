//! Revisions, conditional commits, snapshots and watch.
