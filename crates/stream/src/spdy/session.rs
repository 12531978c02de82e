//! What one end knows of its connection's streams.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::decode::Decoder;
use super::frame::{Error, Frame, Headers, NUMBER, reset};

/// Which end of a connection this is: clients' streams have odd numbers, servers' even ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It asked for the connection.
    Client,
    /// It was asked.
    Server,
}

/// What the other end did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It opened a stream, which is to be answered with a reply or a reset.
    Opened {
        /// Its number.
        stream: u32,
        /// What it is for.
        headers: Headers,
        /// The other end sends nothing on it.
        fin: bool,
    },
    /// It accepted one of ours.
    Replied {
        /// Its number.
        stream: u32,
        /// It sends nothing on it.
        fin: bool,
    },
    /// It sent something on a stream.
    Data {
        /// Its number.
        stream: u32,
        /// It sends nothing more on it.
        fin: bool,
        /// What it sent.
        bytes: Bytes,
    },
    /// It ended a stream at once, both ways.
    Reset {
        /// Its number.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// It takes no more streams.
    GoAway,
    /// It wants this sent back.
    Answer(Frame),
}

/// One end's state: which streams the other end may still send on. Frames for other streams are dropped, as late ones are no fault.
#[derive(Debug)]
pub struct Session {
    decoder: Decoder,
    role: Role,
    limit: usize,
    heard_from: BTreeSet<u32>,
    last_opened: u32,
    next: u32,
}

impl Session {
    /// A new connection, on which the other end may send on so many streams at once.
    pub fn new(role: Role, limit: usize) -> Self {
        let next = if role == Role::Client { 1 } else { 2 };
        Self { decoder: Decoder::default(), role, limit, heard_from: BTreeSet::new(), last_opened: 0, next }
    }

    /// Takes a number for a new stream of ours; `None` when they are used up.
    pub fn open(&mut self) -> Option<u32> {
        let stream = self.next;
        if stream > NUMBER {
            return None;
        }
        self.next += 2;
        self.heard_from.insert(stream);
        Some(stream)
    }

    /// Nothing more is wanted of a stream: what still comes for it is dropped.
    pub fn forget(&mut self, stream: u32) {
        self.heard_from.remove(&stream);
    }

    /// Takes the next thing that happened off the buffer's front; `None` when more bytes are needed.
    ///
    /// # Errors
    /// As [`Decoder::decode`]: the connection must end.
    pub fn receive(&mut self, buffer: &mut BytesMut) -> Result<Option<Event>, Error> {
        while let Some(frame) = self.decoder.decode(buffer)? {
            if let Some(event) = self.judge(frame) {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    fn judge(&mut self, frame: Frame) -> Option<Event> {
        match frame {
            Frame::SynStream { stream, fin, headers, .. } => Some(self.opened(stream, fin, headers)),
            Frame::SynReply { stream, fin, .. } => {
                let ours = self.is_ours(stream) && self.heard_from.contains(&stream);
                self.ends(stream, fin);
                ours.then_some(Event::Replied { stream, fin })
            }
            Frame::Data { stream, fin, bytes } => {
                let known = self.heard_from.contains(&stream);
                self.ends(stream, fin);
                known.then_some(Event::Data { stream, fin, bytes })
            }
            Frame::Headers { stream, fin, .. } => {
                let ends = fin && self.heard_from.remove(&stream);
                ends.then_some(Event::Data { stream, fin, bytes: Bytes::new() })
            }
            // Also for a stream it has finished sending on: it no longer wants to hear of it.
            Frame::RstStream { stream, status } => {
                self.forget(stream);
                Some(Event::Reset { stream, status })
            }
            Frame::Ping { id } => (!self.is_ours(id)).then_some(Event::Answer(Frame::Ping { id })),
            Frame::GoAway { .. } => Some(Event::GoAway),
            Frame::Settings { .. } | Frame::WindowUpdate { .. } => None,
        }
    }

    fn opened(&mut self, stream: u32, fin: bool, headers: Headers) -> Event {
        let refuse = |status| Event::Answer(Frame::RstStream { stream, status });
        if self.is_ours(stream) || stream <= self.last_opened {
            return refuse(reset::PROTOCOL_ERROR);
        }
        self.last_opened = stream;
        if self.heard_from.len() >= self.limit {
            return refuse(reset::REFUSED_STREAM);
        }
        if !fin {
            self.heard_from.insert(stream);
        }
        Event::Opened { stream, headers, fin }
    }

    fn ends(&mut self, stream: u32, fin: bool) {
        if fin {
            self.forget(stream);
        }
    }

    fn is_ours(&self, number: u32) -> bool {
        (number % 2 == 1) == (self.role == Role::Client)
    }
}
