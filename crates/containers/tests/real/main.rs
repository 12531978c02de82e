//! Containers on the real kernel, looked at from inside. Needs root and Debian's `busybox-static`.

mod harness;
mod isolation;
mod limits;
mod life;
mod streams;
