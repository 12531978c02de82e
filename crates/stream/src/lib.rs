//! SPDY/3.1 as a codec without I/O: what kubectl's streams speak, plain or inside WebSocket messages.
//!
//! [`spdy::Decoder`] and [`spdy::Encoder`] turn bytes into frames and back; [`spdy::Session`] keeps what one end knows of its streams.
//! WebSocket framing itself is tungstenite's.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod spdy;
