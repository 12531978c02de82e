//! SPDY/3.1: frames, their header compression, and one end's view of a connection.
//!
//! **Flow control is not enforced.** Frames of it are understood, but the streams that Kubernetes carries over SPDY never grant a window,
//! so an end that waited for one would wait forever: back-pressure is the connection's own.

mod decode;
mod dictionary;
mod encode;
mod frame;
mod headers;
mod session;

pub use decode::Decoder;
pub use encode::Encoder;
pub use frame::{CompressError, Error, Frame, Headers, Setting, reset};
pub use session::{Event, Role, Session};

#[cfg(test)]
mod tests;
