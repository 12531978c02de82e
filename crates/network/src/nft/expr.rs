//! A rule as the kernel takes it: a list of small steps on registers (linux/netfilter/nf_tables.h).
//!
//! Registers are the sixteen of four bytes each; what is wider, or several values side by side, fills those that follow.

use std::net::Ipv4Addr;

use crate::Range;
use crate::netlink::{nest, put, put_text, put_u32};
use crate::service::Protocol;

/// `NFT_REG32_00`: the first register; `Reg(1)` is the next.
const FIRST: u32 = 8;
const LIST_ELEM: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const FIB_ADDRTYPE: u32 = 3;
const STATUS_DST_NAT: u32 = 1 << 5;
const STATE_NEW: u32 = 1 << 3;

/// A register of four bytes.
#[derive(Clone, Copy)]
pub(crate) struct Reg(pub(crate) u32);

impl Reg {
    fn number(self) -> u32 {
        FIRST + self.0
    }
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Drop,
    Accept,
    Jump(String),
    Goto(String),
}

impl Verdict {
    /// Writes it as the content of a `NFTA_*_DATA` attribute.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        let (code, chain) = match self {
            Self::Drop => (libc::NF_DROP, None),
            Self::Accept => (libc::NF_ACCEPT, None),
            Self::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
            Self::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
        };
        nest(out, DATA_VERDICT, |out| {
            put(out, 1, &code.to_be_bytes());
            if let Some(chain) = chain {
                put_text(out, 2, chain);
            }
        });
    }
}

/// Which address of a packet.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// A rule under construction; each method adds steps and hands it on.
#[derive(Debug, Default)]
pub(crate) struct Rule {
    pub(crate) expressions: Vec<u8>,
}

impl Rule {
    fn step(mut self, name: &str, fill: impl FnOnce(&mut Vec<u8>)) -> Self {
        nest(&mut self.expressions, LIST_ELEM, |out| {
            put_text(out, 1, name);
            nest(out, 2, fill);
        });
        self
    }

    fn payload(self, base: u32, offset: u32, length: u32, to: Reg) -> Self {
        self.step("payload", |out| {
            put_u32(out, 1, to.number());
            put_u32(out, 2, base);
            put_u32(out, 3, offset);
            put_u32(out, 4, length);
        })
    }

    /// Loads an address from the IP header.
    pub(crate) fn address(self, side: Side, to: Reg) -> Self {
        self.payload(1, if side == Side::Source { 12 } else { 16 }, 4, to)
    }

    /// Loads protocol and destination port into two registers.
    pub(crate) fn protocol_port(self, to: Reg) -> Self {
        let loaded = self.step("meta", |out| {
            put_u32(out, 1, to.number());
            put_u32(out, 2, libc::NFT_META_L4PROTO as u32);
        });
        loaded.payload(2, 2, 2, Reg(to.0 + 1))
    }

    /// Loads destination address, protocol and destination port into three registers.
    pub(crate) fn destination(self, to: Reg) -> Self {
        self.address(Side::Destination, to).protocol_port(Reg(to.0 + 1))
    }

    /// Loads a constant.
    pub(crate) fn constant(self, value: u32, to: Reg) -> Self {
        self.immediate_bytes(&value.to_ne_bytes(), to)
    }

    fn immediate_bytes(self, value: &[u8], to: Reg) -> Self {
        self.step("immediate", |out| {
            put_u32(out, 1, to.number());
            nest(out, 2, |out| put(out, DATA_VALUE, value));
        })
    }

    fn compare(self, equal: bool, value: &[u8], at: Reg) -> Self {
        self.step("cmp", |out| {
            put_u32(out, 1, at.number());
            put_u32(out, 2, if equal { libc::NFT_CMP_EQ } else { libc::NFT_CMP_NEQ } as u32);
            nest(out, 3, |out| put(out, DATA_VALUE, value));
        })
    }

    fn mask(self, mask: [u8; 4], at: Reg) -> Self {
        self.step("bitwise", |out| {
            put_u32(out, 1, at.number());
            put_u32(out, 2, at.number());
            put_u32(out, 3, 4);
            nest(out, 4, |out| put(out, DATA_VALUE, &mask));
            nest(out, 5, |out| put(out, DATA_VALUE, &[0; 4]));
        })
    }

    fn in_range(self, range: Range, inside: bool, at: Reg) -> Self {
        self.mask(range.mask().octets(), at).compare(inside, &range.address().octets(), at)
    }

    /// Goes on only if an address is in a range, or outside of it.
    pub(crate) fn when(self, side: Side, inside: bool, range: Range) -> Self {
        self.address(side, Reg(0)).in_range(range, inside, Reg(0))
    }

    /// Goes on only if the address that the sender meant, before it was translated, is in a range.
    pub(crate) fn when_meant_for(self, range: Range) -> Self {
        let loaded = self.step("ct", |out| {
            put_u32(out, 1, Reg(0).number());
            put_u32(out, 2, libc::NFT_CT_DST_IP as u32);
            put(out, 3, &[0]);
        });
        loaded.in_range(range, true, Reg(0))
    }

    /// Goes on only if an address is, or is not, one of this machine's.
    pub(crate) fn when_local(self, side: Side, local: bool) -> Self {
        let loaded = self.step("fib", |out| {
            put_u32(out, 1, Reg(0).number());
            put_u32(out, 2, FIB_ADDRTYPE);
            put_u32(out, 3, if side == Side::Source { FIB_SADDR } else { FIB_DADDR });
        });
        loaded.compare(local, &u32::from(libc::RTN_LOCAL).to_ne_bytes(), Reg(0))
    }

    fn when_connection(self, key: i32, bit: u32) -> Self {
        let loaded = self.step("ct", |out| {
            put_u32(out, 1, Reg(0).number());
            put_u32(out, 2, key as u32);
        });
        loaded.mask(bit.to_ne_bytes(), Reg(0)).compare(false, &[0; 4], Reg(0))
    }

    /// Goes on only if the connection's destination was translated.
    pub(crate) fn when_translated(self) -> Self {
        self.when_connection(libc::NFT_CT_STATUS, STATUS_DST_NAT)
    }

    /// Goes on only with the first packets of a connection.
    pub(crate) fn when_new(self) -> Self {
        self.when_connection(libc::NFT_CT_STATE, STATE_NEW)
    }

    /// Goes on only if the packet leaves over another link than the one named.
    pub(crate) fn when_not_over(self, link: &str) -> Self {
        let mut name = [0; libc::IFNAMSIZ];
        name[..link.len()].copy_from_slice(link.as_bytes());
        let loaded = self.step("meta", |out| {
            put_u32(out, 1, Reg(0).number());
            put_u32(out, 2, libc::NFT_META_OIFNAME as u32);
        });
        loaded.compare(false, &name, Reg(0))
    }

    /// Goes on only if a set holds the key in these registers.
    pub(crate) fn when_in(self, set: &str, key: Reg) -> Self {
        self.step("lookup", |out| {
            put_text(out, 1, set);
            put_u32(out, 2, key.number());
        })
    }

    /// Loads what a map holds for a key, and goes on only if it holds something.
    pub(crate) fn map(self, map: &str, key: Reg, to: Reg) -> Self {
        self.step("lookup", |out| {
            put_text(out, 1, map);
            put_u32(out, 2, key.number());
            put_u32(out, 3, to.number());
        })
    }

    /// Ends with the verdict that a map holds for a key, if it holds one.
    pub(crate) fn verdict_map(self, map: &str, key: Reg) -> Self {
        self.step("lookup", |out| {
            put_text(out, 1, map);
            put_u32(out, 2, key.number());
            put_u32(out, 3, 0);
        })
    }

    /// Loads a random number below `count`.
    pub(crate) fn random(self, count: u32, to: Reg) -> Self {
        self.step("numgen", |out| {
            put_u32(out, 1, to.number());
            put_u32(out, 2, count);
            put_u32(out, 3, 1);
        })
    }

    /// Writes a key and value into a map of the kernel's own; a key that is there keeps its value, but lives longer.
    pub(crate) fn remember(self, map: &str, key: Reg, value: Reg, seconds: u32) -> Self {
        self.step("dynset", |out| {
            put_text(out, 1, map);
            put_u32(out, 3, 1);
            put_u32(out, 4, key.number());
            put_u32(out, 5, value.number());
            put(out, 6, &(u64::from(seconds) * 1000).to_be_bytes());
        })
    }

    /// Takes a key out of such a map. The kernel wants to be shown a value, and does not look at it.
    pub(crate) fn forget(self, map: &str, key: Reg, value: Reg) -> Self {
        self.step("dynset", |out| {
            put_text(out, 1, map);
            put_u32(out, 3, 2);
            put_u32(out, 4, key.number());
            put_u32(out, 5, value.number());
        })
    }

    fn nat(self, kind: i32, address: Reg, port: Option<Reg>) -> Self {
        self.step("nat", |out| {
            put_u32(out, 1, kind as u32);
            put_u32(out, 2, libc::NFPROTO_IPV4 as u32);
            put_u32(out, 3, address.number());
            if let Some(port) = port {
                put_u32(out, 5, port.number());
            }
        })
    }

    /// Sends the connection to the address and port in two registers.
    pub(crate) fn send_to(self, at: Reg) -> Self {
        self.nat(libc::NFT_NAT_DNAT, at, Some(Reg(at.0 + 1)))
    }

    /// Gives the connection another source.
    pub(crate) fn source_as(self, source: Ipv4Addr) -> Self {
        self.immediate_bytes(&source.octets(), Reg(0)).nat(libc::NFT_NAT_SNAT, Reg(0), None)
    }

    /// Gives the connection the address of the link it leaves by as source.
    pub(crate) fn masquerade(self) -> Self {
        self.step("masq", |_| {})
    }

    /// Refuses a TCP connection by resetting it.
    pub(crate) fn reset(self) -> Self {
        let tcp = self.step("meta", |out| {
            put_u32(out, 1, Reg(0).number());
            put_u32(out, 2, libc::NFT_META_L4PROTO as u32);
        });
        tcp.compare(true, &[Protocol::Tcp.number()], Reg(0)).step("reject", |out| {
            put_u32(out, 1, libc::NFT_REJECT_TCP_RST as u32);
            put(out, 2, &[0]);
        })
    }

    /// Refuses with an ICMP message that the port is unreachable.
    pub(crate) fn reject(self) -> Self {
        self.step("reject", |out| {
            put_u32(out, 1, libc::NFT_REJECT_ICMP_UNREACH as u32);
            put(out, 2, &[3]);
        })
    }

    /// Ends the rule with a verdict.
    pub(crate) fn verdict(self, verdict: &Verdict) -> Self {
        self.step("immediate", |out| {
            put_u32(out, 1, 0);
            nest(out, 2, |out| verdict.put(out));
        })
    }
}
