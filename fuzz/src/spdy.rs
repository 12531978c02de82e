//! SPDY/3.1 from the other end: the first byte says which end we are and how the rest is cut into pieces.

use bytes::BytesMut;
use gantry_stream::spdy::{Role, Session};

pub(crate) fn spdy(data: &[u8]) {
    let Some((first, rest)) = data.split_first() else { return };
    let role = if first & 1 == 0 { Role::Client } else { Role::Server };
    let mut session = Session::new(role, 8);
    session.open();
    let mut buffer = BytesMut::new();
    for piece in rest.chunks(usize::from(first >> 1) + 1) {
        buffer.extend_from_slice(piece);
        loop {
            match session.receive(&mut buffer) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}
