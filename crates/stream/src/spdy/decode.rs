//! Bytes to frames.

use bytes::{Buf, Bytes, BytesMut};

use super::frame::{CONTROL_LIMIT, Error, Frame, NUMBER, Setting, VERSION, flag, kind};
use super::headers::Inflater;

/// Both frames' head: type and number, flags and length.
const HEAD: usize = 8;

/// Turns what the other end sends into frames.
///
/// It keeps no bytes itself: what isn't a whole control frame yet stays in the caller's buffer, which therefore never needs to hold more
/// than 64 KiB and a head. Data is handed out as it comes, in several frames where need be, only the last of which says `fin`.
pub struct Decoder {
    inflater: Inflater,
    data: Option<Rest>,
}

/// What is still to come of a data frame.
struct Rest {
    stream: u32,
    fin: bool,
    left: usize,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self { inflater: Inflater::new(), data: None }
    }
}

impl Decoder {
    /// Takes the next frame off the buffer's front; `None` when more bytes are needed. Control frames of unknown types are passed over.
    ///
    /// # Errors
    /// When the other end breaks the protocol: the connection must end, for nothing that follows can be understood.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Error> {
        loop {
            if let Some(rest) = &mut self.data {
                if buffer.is_empty() && rest.left > 0 {
                    return Ok(None);
                }
                let bytes = buffer.split_to(rest.left.min(buffer.len())).freeze();
                rest.left -= bytes.len();
                let (stream, done) = (rest.stream, rest.left == 0);
                let fin = rest.fin && done;
                if done {
                    self.data = None;
                }
                return Ok(Some(Frame::Data { stream, fin, bytes }));
            }
            let Some(head) = buffer.first_chunk::<HEAD>() else { return Ok(None) };
            let word = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let flags = head[4];
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            if word & !NUMBER == 0 {
                buffer.advance(HEAD);
                self.data = Some(Rest { stream: word, fin: flags & flag::FIN != 0, left: length });
                continue;
            }
            let (version, kind) = (((word & NUMBER) >> 16) as u16, word as u16);
            if version != VERSION {
                return Err(Error::Version(version));
            }
            if length > CONTROL_LIMIT {
                return Err(Error::Length { kind, length });
            }
            if buffer.len() < HEAD + length {
                return Ok(None);
            }
            buffer.advance(HEAD);
            let payload = buffer.split_to(length).freeze();
            if let Some(frame) = self.control(kind, flags, payload)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, mut p: Bytes) -> Result<Option<Frame>, Error> {
        let length = p.len();
        let demand = |right: bool| if right { Ok(()) } else { Err(Error::Length { kind, length }) };
        let stream_of = |p: &mut Bytes| match p.get_u32() & NUMBER {
            0 => Err(Error::NoStream(kind)),
            stream => Ok(stream),
        };
        let fin = flags & flag::FIN != 0;
        Ok(Some(match kind {
            kind::SYN_STREAM => {
                demand(length >= 10)?;
                let stream = stream_of(&mut p)?;
                let associated = p.get_u32() & NUMBER;
                let priority = p.get_u8() >> 5;
                // The credential slot, which nobody uses.
                p.advance(1);
                let unidirectional = flags & flag::UNIDIRECTIONAL != 0;
                Frame::SynStream { stream, associated, priority, fin, unidirectional, headers: self.inflater.headers(&p)? }
            }
            kind::SYN_REPLY => {
                demand(length >= 4)?;
                Frame::SynReply { stream: stream_of(&mut p)?, fin, headers: self.inflater.headers(&p)? }
            }
            kind::HEADERS => {
                demand(length >= 4)?;
                Frame::Headers { stream: stream_of(&mut p)?, fin, headers: self.inflater.headers(&p)? }
            }
            kind::RST_STREAM => {
                demand(length == 8)?;
                Frame::RstStream { stream: stream_of(&mut p)?, status: p.get_u32() }
            }
            kind::SETTINGS => {
                demand(length >= 4)?;
                let count = p.get_u32() as usize;
                demand(p.len() == count.saturating_mul(8))?;
                let one = |p: &mut Bytes| Setting { flags: p.get_u8(), id: p.get_uint(3) as u32, value: p.get_u32() };
                Frame::Settings { clear: flags & flag::CLEAR_SETTINGS != 0, values: (0..count).map(|_| one(&mut p)).collect() }
            }
            kind::PING => {
                demand(length == 4)?;
                Frame::Ping { id: p.get_u32() }
            }
            kind::GOAWAY => {
                demand(length == 8)?;
                Frame::GoAway { last_good: p.get_u32() & NUMBER, status: p.get_u32() }
            }
            kind::WINDOW_UPDATE => {
                demand(length == 8)?;
                Frame::WindowUpdate { stream: p.get_u32() & NUMBER, delta: p.get_u32() & NUMBER }
            }
            _ => return Ok(None),
        }))
    }
}
