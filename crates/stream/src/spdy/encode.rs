//! Frames to bytes.

use bytes::{BufMut, Bytes, BytesMut};

use super::frame::{DATA_LIMIT, Error, Frame, NUMBER, VERSION, flag, kind};
use super::headers::Deflater;

/// Turns frames into what the other end is sent. Frames must be sent in the order they were encoded in.
pub struct Encoder {
    deflater: Deflater,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Encoder")
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self { deflater: Deflater::new() }
    }
}

impl Encoder {
    /// Appends a frame's bytes. Data beyond what one frame can carry (16 MiB) becomes several.
    ///
    /// # Errors
    /// When its headers are longer than 64 KiB.
    pub fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), Error> {
        let fin_flag = |fin: bool| if fin { flag::FIN } else { 0 };
        match frame {
            Frame::SynStream { stream, associated, priority, fin, unidirectional, headers } => {
                let block = self.deflater.block(headers)?;
                let flags = fin_flag(*fin) | if *unidirectional { flag::UNIDIRECTIONAL } else { 0 };
                head(out, kind::SYN_STREAM, flags, 10 + block.len());
                out.put_u32(stream & NUMBER);
                out.put_u32(associated & NUMBER);
                out.put_u8(priority << 5);
                out.put_u8(0);
                out.put_slice(&block);
            }
            Frame::SynReply { stream, fin, headers } | Frame::Headers { stream, fin, headers } => {
                let block = self.deflater.block(headers)?;
                let kind = if matches!(frame, Frame::SynReply { .. }) { kind::SYN_REPLY } else { kind::HEADERS };
                head(out, kind, fin_flag(*fin), 4 + block.len());
                out.put_u32(stream & NUMBER);
                out.put_slice(&block);
            }
            Frame::RstStream { stream, status } => pair(out, kind::RST_STREAM, stream & NUMBER, *status),
            Frame::GoAway { last_good, status } => pair(out, kind::GOAWAY, last_good & NUMBER, *status),
            Frame::WindowUpdate { stream, delta } => pair(out, kind::WINDOW_UPDATE, stream & NUMBER, delta & NUMBER),
            Frame::Settings { clear, values } => {
                head(out, kind::SETTINGS, if *clear { flag::CLEAR_SETTINGS } else { 0 }, 4 + values.len() * 8);
                out.put_u32(values.len() as u32);
                for setting in values {
                    out.put_u8(setting.flags);
                    out.put_uint(u64::from(setting.id) & 0xff_ffff, 3);
                    out.put_u32(setting.value);
                }
            }
            Frame::Ping { id } => {
                head(out, kind::PING, 0, 4);
                out.put_u32(*id);
            }
            Frame::Data { stream, fin, bytes } => data(out, stream & NUMBER, *fin, bytes),
        }
        Ok(())
    }
}

fn head(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    out.put_u32(u32::from(flags) << 24 | length as u32);
}

fn pair(out: &mut BytesMut, kind: u16, first: u32, second: u32) {
    head(out, kind, 0, 8);
    out.put_u32(first);
    out.put_u32(second);
}

fn data(out: &mut BytesMut, stream: u32, fin: bool, bytes: &Bytes) {
    let mut rest = &bytes[..];
    loop {
        let (piece, after) = rest.split_at(rest.len().min(DATA_LIMIT));
        let last = after.is_empty();
        out.put_u32(stream);
        out.put_u32(u32::from(if fin && last { flag::FIN } else { 0 }) << 24 | piece.len() as u32);
        out.put_slice(piece);
        if last {
            return;
        }
        rest = after;
    }
}
