//! What frames say.

use bytes::Bytes;

/// The version that every control frame names.
pub(super) const VERSION: u16 = 3;
/// The most that a control frame may carry, compressed, and its headers, uncompressed: in bytes.
pub(super) const CONTROL_LIMIT: usize = 64 << 10;
/// The most that one data frame can carry, in bytes.
pub(super) const DATA_LIMIT: usize = (1 << 24) - 1;
/// The low 31 bits: a stream's number.
pub(super) const NUMBER: u32 = 0x7fff_ffff;

/// Control frames' types on the wire.
pub(super) mod kind {
    pub(crate) const SYN_STREAM: u16 = 1;
    pub(crate) const SYN_REPLY: u16 = 2;
    pub(crate) const RST_STREAM: u16 = 3;
    pub(crate) const SETTINGS: u16 = 4;
    pub(crate) const PING: u16 = 6;
    pub(crate) const GOAWAY: u16 = 7;
    pub(crate) const HEADERS: u16 = 8;
    pub(crate) const WINDOW_UPDATE: u16 = 9;
}

/// Flags on the wire.
pub(super) mod flag {
    pub(crate) const FIN: u8 = 1;
    pub(crate) const UNIDIRECTIONAL: u8 = 2;
    pub(crate) const CLEAR_SETTINGS: u8 = 1;
}

/// Why a stream is reset (SPDY/3 draft, section 2.6.3).
pub mod reset {
    /// A generic fault of the other end.
    pub const PROTOCOL_ERROR: u32 = 1;
    /// A frame for a stream that isn't there.
    pub const INVALID_STREAM: u32 = 2;
    /// The stream was refused before anything was done for it.
    pub const REFUSED_STREAM: u32 = 3;
    /// Whoever opened the stream no longer needs it.
    pub const CANCEL: u32 = 5;
    /// This end failed.
    pub const INTERNAL_ERROR: u32 = 6;
    /// A stream of that number is open already.
    pub const STREAM_IN_USE: u32 = 8;
}

/// The headers of a stream, in order; several values of one name are joined by NUL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// Headers from pairs; names are lowered, as the wire demands.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect())
    }

    /// The first value of a name, which is compared without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        value.split('\0').next()
    }
}

/// One entry of a SETTINGS frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Whether it is to be persisted (1) or was (2).
    pub flags: u8,
    /// Which setting: 24 bits.
    pub id: u32,
    /// Its value.
    pub value: u32,
}

/// One frame. Streams are numbered with 31 bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Opens a stream.
    SynStream {
        /// Its number: odd when the client opens it.
        stream: u32,
        /// The stream it belongs to, or 0.
        associated: u32,
        /// 0 is the most urgent, 7 the least.
        priority: u8,
        /// The sender sends nothing more on it.
        fin: bool,
        /// The receiver sends nothing on it.
        unidirectional: bool,
        /// What it is for.
        headers: Headers,
    },
    /// Accepts a stream.
    SynReply {
        /// Its number.
        stream: u32,
        /// The sender sends nothing more on it.
        fin: bool,
        /// What there is to say about it.
        headers: Headers,
    },
    /// Ends a stream both ways at once.
    RstStream {
        /// Its number.
        stream: u32,
        /// Why: one of [`reset`].
        status: u32,
    },
    /// Tells the other end how this one would have the connection.
    Settings {
        /// What was persisted before is void.
        clear: bool,
        /// The entries.
        values: Vec<Setting>,
    },
    /// Asks for the same frame back; or is it.
    Ping {
        /// Odd when the client asks.
        id: u32,
    },
    /// No more streams are accepted.
    GoAway {
        /// The last stream that was accepted.
        last_good: u32,
        /// 0 when nothing is wrong.
        status: u32,
    },
    /// More headers of a stream.
    Headers {
        /// Its number.
        stream: u32,
        /// The sender sends nothing more on it.
        fin: bool,
        /// The headers.
        headers: Headers,
    },
    /// Grants a window.
    WindowUpdate {
        /// The stream, or 0 for the whole connection.
        stream: u32,
        /// How many more bytes may be sent.
        delta: u32,
    },
    /// Bytes of a stream.
    Data {
        /// Its number.
        stream: u32,
        /// The sender sends nothing more on it.
        fin: bool,
        /// The bytes.
        bytes: Bytes,
    },
}

/// Why a connection can't go on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A control frame of another version than 3.
    #[error("SPDY version {0} is not spoken here")]
    Version(u16),
    /// A frame whose length is not what its type demands, or beyond all bounds.
    #[error("a control frame of type {kind} with {length} bytes")]
    Length {
        /// Its type on the wire.
        kind: u16,
        /// Its length in bytes.
        length: usize,
    },
    /// A frame for stream 0, which is none.
    #[error("a control frame of type {0} for no stream")]
    NoStream(u16),
    /// Headers that can't be decompressed or make no sense.
    #[error("malformed headers: {0}")]
    Headers(&'static str),
    /// zlib failed on our own headers.
    #[error("compressing headers")]
    Compress(#[source] CompressError),
}

/// zlib's own words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CompressError(pub(super) String);
