//! Blocks of headers: one zlib stream per direction for the whole connection, flushed after each block.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use super::dictionary::dictionary;
use super::frame::{CONTROL_LIMIT, CompressError, Error, Headers};

/// How much is compressed or decompressed at a time.
const PIECE: usize = 4 << 10;

/// Decompresses blocks.
pub(super) struct Inflater(Decompress);

impl Inflater {
    pub(super) fn new() -> Self {
        Self(Decompress::new(true))
    }

    /// The headers in a block. After an error the connection's compression has no known state: it must end.
    pub(super) fn headers(&mut self, block: &[u8]) -> Result<Headers, Error> {
        parse(&self.inflate(block)?)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, Error> {
        let broken = Error::Headers("they can't be decompressed");
        let mut out = Vec::new();
        let mut piece = [0; PIECE];
        loop {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let outcome = self.0.decompress(block, &mut piece, FlushDecompress::Sync);
            block = &block[(self.0.total_in() - read) as usize..];
            let produced = (self.0.total_out() - written) as usize;
            out.extend_from_slice(&piece[..produced]);
            match outcome {
                Err(e) if e.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&dictionary()).map_err(|_| Error::Headers("they need another dictionary"))?;
                    continue;
                }
                Err(_) | Ok(flate2::Status::StreamEnd) => return Err(broken),
                Ok(_) => {}
            }
            if out.len() > CONTROL_LIMIT {
                return Err(Error::Headers("they are too long"));
            }
            if produced < PIECE {
                return if block.is_empty() { Ok(out) } else { Err(broken) };
            }
        }
    }
}

fn parse(mut block: &[u8]) -> Result<Headers, Error> {
    let short = Error::Headers("they end too early");
    let count = take_length(&mut block).ok_or(short)?;
    let mut headers: Vec<(String, String)> = Vec::new();
    for _ in 0..count {
        let name = take_text(&mut block)?;
        let value = take_text(&mut block)?;
        if name.is_empty() || headers.iter().any(|(n, _)| *n == name) {
            return Err(Error::Headers("a name is empty or twice there"));
        }
        headers.push((name, value));
    }
    if block.is_empty() { Ok(Headers(headers)) } else { Err(Error::Headers("something follows them")) }
}

fn take_length(block: &mut &[u8]) -> Option<usize> {
    let (length, rest) = block.split_first_chunk::<4>()?;
    *block = rest;
    usize::try_from(u32::from_be_bytes(*length)).ok()
}

fn take_text(block: &mut &[u8]) -> Result<String, Error> {
    let short = Error::Headers("they end too early");
    let length = take_length(block).ok_or(short)?;
    let (text, rest) = block.split_at_checked(length).ok_or(Error::Headers("they end too early"))?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| Error::Headers("they are not text"))
}

/// Compresses blocks.
pub(super) struct Deflater(Compress);

impl Deflater {
    pub(super) fn new() -> Self {
        let mut compress = Compress::new(Compression::default(), true);
        compress.set_dictionary(&dictionary()).expect("a new zlib stream takes a dictionary");
        Self(compress)
    }

    pub(super) fn block(&mut self, headers: &Headers) -> Result<Vec<u8>, Error> {
        let mut plain = Vec::new();
        plain.extend_from_slice(&(headers.0.len() as u32).to_be_bytes());
        for text in headers.0.iter().flat_map(|(name, value)| [name, value]) {
            plain.extend_from_slice(&(text.len() as u32).to_be_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        if plain.len() > CONTROL_LIMIT {
            return Err(Error::Headers("they are too long"));
        }
        let (mut rest, mut out, mut piece) = (&plain[..], Vec::new(), [0; PIECE]);
        loop {
            let (read, written) = (self.0.total_in(), self.0.total_out());
            let outcome = self.0.compress(rest, &mut piece, FlushCompress::Sync);
            outcome.map_err(|e| Error::Compress(CompressError(e.to_string())))?;
            rest = &rest[(self.0.total_in() - read) as usize..];
            let produced = (self.0.total_out() - written) as usize;
            out.extend_from_slice(&piece[..produced]);
            if rest.is_empty() && produced < PIECE {
                return Ok(out);
            }
        }
    }
}
