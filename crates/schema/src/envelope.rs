//! The envelope around protobuf bodies: four magic bytes and a message that says which kind lies inside.

use crate::conform::DecodeError;
use crate::protobuf::{Reader, Reversed};

/// What every protobuf body begins with.
pub const PROTOBUF_MAGIC: &[u8; 4] = b"k8s\0";

/// An opened envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The `apiVersion` of what lies inside.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// The bytes inside.
    pub raw: Vec<u8>,
    /// How those are encoded, when not compressed.
    pub content_encoding: String,
    /// What they are: empty for protobuf.
    pub content_type: String,
}

impl Envelope {
    /// Puts a message into an envelope: a whole body.
    pub fn seal(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let mut out = Reversed::default();
        out.bytes(4, b"");
        out.bytes(3, b"");
        out.bytes(2, raw);
        out.message(1, |out| {
            out.bytes(2, kind.as_bytes());
            out.bytes(1, api_version.as_bytes());
        });
        let mut body = PROTOBUF_MAGIC.to_vec();
        body.extend(out.into_bytes());
        body
    }

    /// Opens a body.
    ///
    /// # Errors
    /// When it does not begin with the magic bytes or is not an envelope.
    pub fn open(body: &[u8]) -> Result<Self, DecodeError> {
        let Some(message) = body.strip_prefix(PROTOBUF_MAGIC) else {
            return Err(DecodeError("provided data does not appear to be a protobuf message, expected prefix 6b387300".into()));
        };
        let mut envelope = Self::default();
        let mut reader = Reader(message);
        while let Some((number, raw)) = reader.next()? {
            match number {
                1 => {
                    let mut meta = Reader(raw.bytes()?);
                    while let Some((number, raw)) = meta.next()? {
                        match number {
                            1 => envelope.api_version = raw.text()?.into(),
                            2 => envelope.kind = raw.text()?.into(),
                            _ => {}
                        }
                    }
                }
                2 => envelope.raw = raw.bytes()?.into(),
                3 => envelope.content_encoding = raw.text()?.into(),
                4 => envelope.content_type = raw.text()?.into(),
                _ => {}
            }
        }
        Ok(envelope)
    }
}
