//! Sandboxes and containers on Linux behind a trait shaped like CRI.
