//! Containers on the real kernel, looked at from inside. Needs root and Debian's `busybox-static`.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected fails")]

mod harness;
mod isolation;
mod life;
mod limits;
mod streams;
mod version2;
