//! Decoders fed with what nobody would send. A target takes any bytes and panics when the decoder does, or when what it says of them
//! contradicts itself. `corpus/TARGET` holds inputs worth keeping: seeds, and whatever once failed.

mod applies;
mod archives;
mod bodies;
mod log;
mod patches;
mod spdy;
mod words;

/// Something that takes any bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Panics when something is wrong.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 9] = [
    Target { name: "json", run: bodies::json },
    Target { name: "yaml", run: bodies::yaml },
    Target { name: "protobuf", run: bodies::protobuf },
    Target { name: "patch", run: patches::patch },
    Target { name: "apply", run: applies::apply },
    Target { name: "log", run: log::log },
    Target { name: "archive", run: archives::archive },
    Target { name: "spdy", run: spdy::spdy },
    Target { name: "words", run: words::words },
];
