//! Connection tracking (nfnetlink_conntrack.h): forgets what would keep traffic flowing to endpoints that are gone.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::Error;
use crate::netlink::{ACK, DUMP, Messages, Netlink, attribute, nest, put};
use crate::service::Protocol;

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_CTNETLINK as u16;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;

/// `struct nfgenmsg` for IPv4.
const GENERIC: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];

/// The kernel's connection tracking in one network namespace.
#[derive(Debug)]
pub(crate) struct Conntrack {
    netlink: Netlink,
}

impl Conntrack {
    /// Opens it in the namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, Error> {
        let netlink = Netlink::open(libc::NETLINK_NETFILTER as isize).map_err(Error::kernel("open a conntrack netlink socket"))?;
        Ok(Self { netlink })
    }

    /// Forgets UDP flows that were translated to these endpoints. TCP needs no such thing: its connections end by themselves.
    pub(crate) fn forget_udp(&mut self, gone: &BTreeSet<(Ipv4Addr, u16)>) -> Result<(), Error> {
        let mut request = Messages::default();
        request.push(GET, DUMP, |out| out.extend_from_slice(&GENERIC));
        let mut doomed = Messages::default();
        let listed = self.netlink.ask(request, |_, body| {
            let body = body.get(4..).unwrap_or_default();
            let answers_from = attribute(body, TUPLE_REPLY).and_then(udp_source);
            let meant_for = attribute(body, TUPLE_ORIGINAL).and_then(udp_destination);
            if answers_from.is_some_and(|from| gone.contains(&from)) && answers_from != meant_for {
                doomed.push(DELETE, ACK, |out| {
                    out.extend_from_slice(&GENERIC);
                    attribute(body, TUPLE_ORIGINAL)
                        .into_iter()
                        .for_each(|tuple| nest(out, TUPLE_ORIGINAL, |out| out.extend_from_slice(tuple)));
                    attribute(body, ID).into_iter().for_each(|id| put(out, ID, id));
                });
            }
        });
        listed.map_err(Error::kernel("list tracked connections"))?;
        if doomed.count() == 0 {
            return Ok(());
        }
        match self.netlink.run(doomed) {
            Err((_, error)) if error.raw_os_error() != Some(libc::ENOENT) => Err(Error::kernel("forget tracked connections")(error)),
            _ => Ok(()),
        }
    }
}

fn udp_source(tuple: &[u8]) -> Option<(Ipv4Addr, u16)> {
    udp_end(tuple, 1, 2)
}

fn udp_destination(tuple: &[u8]) -> Option<(Ipv4Addr, u16)> {
    udp_end(tuple, 2, 3)
}

/// Address and port of one end of a tuple, if it is UDP over IPv4.
fn udp_end(tuple: &[u8], address: u16, port: u16) -> Option<(Ipv4Addr, u16)> {
    let (ip, protocol) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
    let udp = attribute(protocol, 1)? == [Protocol::Udp.number()];
    let address: [u8; 4] = attribute(ip, address)?.try_into().ok()?;
    let port: [u8; 2] = attribute(protocol, port)?.try_into().ok()?;
    udp.then(|| (Ipv4Addr::from(address), u16::from_be_bytes(port)))
}
