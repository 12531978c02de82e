//! A netlink socket, and attributes as they lie on the wire (netlink(7)).

use std::io;
use std::os::fd::AsRawFd;

use netlink_sys::Socket;

pub(crate) const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
pub(crate) const ACK: u16 = libc::NLM_F_ACK as u16;
pub(crate) const CREATE: u16 = libc::NLM_F_CREATE as u16;
pub(crate) const REPLACE: u16 = libc::NLM_F_REPLACE as u16;
pub(crate) const EXCL: u16 = libc::NLM_F_EXCL as u16;
pub(crate) const DUMP: u16 = libc::NLM_F_DUMP as u16;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// How much room the kernel gets for its answers, and we for one batch of requests, until a batch is larger.
const BUFFER: i32 = 4 << 20;

/// Netlink messages, one after the other, ready to be sent as one.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    count: u32,
    /// Where the last message begins.
    last: usize,
}

impl Messages {
    /// How many messages there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Appends a message whose body `fill` writes. Sequence numbers count from zero; the socket shifts them when sending.
    pub(crate) fn push(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.last = start;
        self.bytes.extend_from_slice(&[0; HEADER]);
        fill(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - start).expect("a message is far below 4 GB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[start + 4..start + 6].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[start + 6..start + 8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes[start + 8..start + 12].copy_from_slice(&self.count.to_ne_bytes());
        self.bytes.resize(start + align(self.bytes.len() - start), 0);
        self.count += 1;
    }

    /// Adds flags to the last message, which must exist.
    pub(crate) fn add_flags(&mut self, flags: u16) {
        let at = self.last + 6;
        let flags = flags | u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }

    fn shift(&mut self, by: u32) {
        let mut at = 0;
        while at < self.bytes.len() {
            let number = u32_at(&self.bytes, at + 8).wrapping_add(by);
            self.bytes[at + 8..at + 12].copy_from_slice(&number.to_ne_bytes());
            at += align(u32_at(&self.bytes, at) as usize);
        }
    }
}

/// What the kernel answered: an acknowledgement (0) or errno for a message, or data.
pub(crate) enum Answer<'a> {
    Code(i32),
    Data(u16, &'a [u8]),
    End,
}

/// A netlink socket in the network namespace of the thread that opened it.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    room: i32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Netlink")
    }
}

impl Netlink {
    /// Opens a socket to a part of the kernel, such as `NETLINK_ROUTE`.
    pub(crate) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.set_cap_ack(true)?;
        set_room(&socket, libc::SO_RCVBUFFORCE, BUFFER)?;
        set_room(&socket, libc::SO_SNDBUFFORCE, BUFFER)?;
        Ok(Self { socket, sequence: 1, room: BUFFER, buffer: vec![0; 1 << 16] })
    }

    /// Sends messages as one, and hands each answer, with the index of its message, to `take` until that says `true`.
    pub(crate) fn exchange(&mut self, mut messages: Messages, mut take: impl FnMut(u32, Answer<'_>) -> io::Result<bool>) -> io::Result<()> {
        let first = self.sequence;
        self.sequence = self.sequence.wrapping_add(messages.count);
        messages.shift(first);
        let needed = i32::try_from(messages.bytes.len().saturating_mul(2)).unwrap_or(i32::MAX);
        if needed > self.room {
            set_room(&self.socket, libc::SO_SNDBUFFORCE, needed)?;
            self.room = needed;
        }
        self.socket.send(&messages.bytes, 0)?;
        drop(messages.bytes);
        loop {
            let length = self.socket.recv(&mut &mut self.buffer[..], 0)?;
            let mut at = 0;
            while at + HEADER <= length {
                let size = u32_at(&self.buffer, at) as usize;
                let body = &self.buffer[at + HEADER..(at + size.max(HEADER)).min(length)];
                let kind = u16::from_ne_bytes([self.buffer[at + 4], self.buffer[at + 5]]);
                let index = u32_at(&self.buffer, at + 8).wrapping_sub(first);
                at += align(size.max(HEADER));
                if index >= messages.count {
                    continue; // a late answer to an earlier batch
                }
                if take(index, answer(kind, body))? {
                    return Ok(());
                }
            }
        }
    }

    /// Sends messages that are acknowledged one by one, and waits for all.
    ///
    /// # Errors
    /// The index and error of the first that was refused; the others have been carried out all the same.
    pub(crate) fn run(&mut self, messages: Messages) -> Result<(), (u32, io::Error)> {
        let last = messages.count.saturating_sub(1);
        let mut refused = None;
        let exchanged = self.exchange(messages, |index, answer| {
            let Answer::Code(code) = answer else { return Ok(false) };
            if code != 0 && refused.is_none() {
                refused = Some((index, io::Error::from_raw_os_error(code)));
            }
            Ok(index == last)
        });
        exchanged.map_err(|source| (0, source))?;
        refused.map_or(Ok(()), Err)
    }

    /// Sends one request, and hands over each piece of data of the answer, until the dump ends or the acknowledgement comes.
    pub(crate) fn ask(&mut self, request: Messages, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.exchange(request, |_, answer| match answer {
            Answer::Code(0) | Answer::End => Ok(true),
            Answer::Code(code) => Err(io::Error::from_raw_os_error(code)),
            Answer::Data(kind, body) => {
                each(kind, body);
                Ok(false)
            }
        })
    }
}

fn answer(kind: u16, body: &[u8]) -> Answer<'_> {
    match i32::from(kind) {
        libc::NLMSG_ERROR if body.len() >= 4 => Answer::Code(-i32::from_ne_bytes([body[0], body[1], body[2], body[3]])),
        libc::NLMSG_DONE => Answer::End,
        _ => Answer::Data(kind, body),
    }
}

fn set_room(socket: &Socket, option: i32, bytes: i32) -> io::Result<()> {
    // SAFETY: the option takes an int, whose address and size are given; the socket is open.
    let done = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const bytes).cast(), size_of::<i32>() as libc::socklen_t)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn align(length: usize) -> usize {
    (length + 3) & !3
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes one attribute.
pub(crate) fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).expect("attributes are kept below 64 KB");
    out.extend_from_slice(&length.to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(value);
    out.resize(align(out.len()), 0);
}

/// Writes a text attribute, with the NUL that the kernel wants.
pub(crate) fn put_text(out: &mut Vec<u8>, kind: u16, text: &str) {
    put(out, kind, &[text.as_bytes(), &[0]].concat());
}

/// Writes a number in network order, as nf_tables wants them.
pub(crate) fn put_u32(out: &mut Vec<u8>, kind: u16, value: u32) {
    put(out, kind, &value.to_be_bytes());
}

/// Writes an attribute made of attributes.
pub(crate) fn nest(out: &mut Vec<u8>, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put(out, kind | libc::NLA_F_NESTED as u16, &[]);
    fill(out);
    let length = u16::try_from(out.len() - start).expect("attributes are kept below 64 KB");
    out[start..start + 2].copy_from_slice(&length.to_ne_bytes());
}

/// The attributes in a message body or nest: kind without flags, and value.
pub(crate) fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = rest.get(4..length)?;
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        rest = rest.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of one attribute.
pub(crate) fn attribute(body: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(body).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A text attribute without its NUL.
pub(crate) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back_as_written_and_torn_ones_end_the_list() {
        let mut bytes = Vec::new();
        nest(&mut bytes, 1, |out| put_text(out, 2, "abcde"));
        put_u32(&mut bytes, 3, 7);
        let inner = attribute(&bytes, 1).unwrap();
        assert_eq!(text(attribute(inner, 2).unwrap()), "abcde");
        assert_eq!(attribute(&bytes, 3), Some(&7u32.to_be_bytes()[..]));
        for cut in 0..bytes.len() {
            assert!(attributes(&bytes[..cut]).count() < 2);
        }
    }
}
