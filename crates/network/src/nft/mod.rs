//! nf_tables over netlink: batches that the kernel carries out whole or not at all.

pub(crate) mod expr;

use std::borrow::Cow;
use std::io;

use crate::Error;
use crate::netlink::{ACK, CREATE, DUMP, Messages, Netlink, attribute, nest, put, put_text, put_u32, text};
use expr::{Rule, Verdict};

const SUBSYSTEM: u16 = libc::NFNL_SUBSYS_NFTABLES as u16;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// `NFT_DATA_VERDICT`: the data of a map are verdicts.
const VERDICTS: u32 = 0xffff_ff00;
/// Elements of one message are kept well below the 64 KB that an attribute can hold.
const CHUNK: usize = 48 << 10;

/// Types of set keys and data, by nft's numbers, so that `nft list` can print them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Type {
    Address,
    Protocol,
    Port,
    Mark,
}

impl Type {
    fn number(self) -> u32 {
        match self {
            Self::Address => 7,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
        }
    }
}

/// What a set holds for each key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holds {
    /// Nothing: it is a set.
    Nothing,
    /// A verdict.
    Verdicts,
    /// Data that the caller gives.
    Data(&'static [Type]),
    /// Data that rules themselves remember for a while.
    Memory(&'static [Type]),
}

/// A set or map.
#[derive(Clone, Debug)]
pub(crate) struct SetSpec {
    pub(crate) name: Cow<'static, str>,
    pub(crate) key: &'static [Type],
    pub(crate) holds: Holds,
}

/// The value of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Nothing,
    Verdict(Verdict),
    Data(Vec<u8>),
}

/// Where a base chain hangs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: i32,
    pub(crate) priority: i32,
}

/// Changes to one table that take effect together.
#[derive(Debug)]
pub(crate) struct Batch {
    table: String,
    messages: Messages,
}

impl Batch {
    pub(crate) fn new(table: &str) -> Self {
        let mut messages = Messages::default();
        messages.push(BATCH_BEGIN, 0, |out| out.extend_from_slice(&generic(0, SUBSYSTEM)));
        Self { table: table.to_owned(), messages }
    }

    fn is_empty(&self) -> bool {
        self.messages.count() == 1
    }

    fn push(&mut self, kind: i32, flags: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let table = &self.table;
        self.messages.push(SUBSYSTEM << 8 | kind as u16, flags, |out| {
            out.extend_from_slice(&generic(libc::NFPROTO_IPV4 as u8, 0));
            put_text(out, 1, table);
            fill(out);
        });
    }

    /// Makes the table; no harm if it is there.
    pub(crate) fn add_table(&mut self) {
        self.push(libc::NFT_MSG_NEWTABLE, CREATE, |_| {});
    }

    /// Removes the table with all in it.
    pub(crate) fn delete_table(&mut self) {
        self.push(libc::NFT_MSG_DELTABLE, 0, |_| {});
    }

    /// Makes a chain; no harm if it is there.
    pub(crate) fn add_chain(&mut self, name: &str, hook: Option<Hook>) {
        self.push(libc::NFT_MSG_NEWCHAIN, CREATE, |out| {
            put_text(out, 3, name);
            if let Some(hook) = hook {
                nest(out, 4, |out| {
                    put(out, 1, &hook.number.to_be_bytes());
                    put(out, 2, &hook.priority.to_be_bytes());
                });
                put_text(out, 7, hook.kind);
            }
        });
    }

    /// Removes a chain that nothing leads to.
    pub(crate) fn delete_chain(&mut self, name: &str) {
        self.push(libc::NFT_MSG_DELCHAIN, 0, |out| put_text(out, 3, name));
    }

    /// Removes all rules of a chain.
    pub(crate) fn flush_chain(&mut self, name: &str) {
        self.push(libc::NFT_MSG_DELRULE, 0, |out| put_text(out, 2, name));
    }

    /// Appends a rule to a chain.
    pub(crate) fn add_rule(&mut self, chain: &str, rule: &Rule) {
        let append = libc::NLM_F_APPEND as u16;
        self.push(libc::NFT_MSG_NEWRULE, CREATE | append, |out| {
            put_text(out, 2, chain);
            nest(out, 4, |out| out.extend_from_slice(&rule.expressions));
        });
    }

    /// Makes a set; no harm if it is there.
    pub(crate) fn add_set(&mut self, set: &SetSpec) {
        let id = self.messages.count();
        self.push(libc::NFT_MSG_NEWSET, CREATE, |out| {
            put_text(out, 2, &set.name);
            let flags = match set.holds {
                Holds::Nothing => 0,
                Holds::Verdicts | Holds::Data(_) => libc::NFT_SET_MAP,
                Holds::Memory(_) => libc::NFT_SET_MAP | libc::NFT_SET_EVAL | libc::NFT_SET_TIMEOUT,
            };
            put(out, 3, &flags.to_be_bytes());
            put_types(out, 4, set.key);
            match set.holds {
                Holds::Nothing => {}
                Holds::Verdicts => put_u32(out, 6, VERDICTS),
                Holds::Data(types) | Holds::Memory(types) => put_types(out, 6, types),
            }
            put_u32(out, 10, id);
        });
    }

    /// Removes all elements of a set.
    pub(crate) fn flush_set(&mut self, set: &str) {
        self.push(libc::NFT_MSG_DELSETELEM, 0, |out| put_text(out, 2, set));
    }

    /// Adds elements, in as many messages as it takes.
    pub(crate) fn add_elements<'a>(&mut self, set: &str, elements: impl Iterator<Item = (&'a [u8], &'a Value)>) {
        self.elements(libc::NFT_MSG_NEWSETELEM, CREATE, set, elements);
    }

    /// Removes elements, in as many messages as it takes.
    pub(crate) fn delete_elements<'a>(&mut self, set: &str, keys: impl Iterator<Item = &'a [u8]>) {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, set, keys.map(|key| (key, &Value::Nothing)));
    }

    fn elements<'a>(&mut self, kind: i32, flags: u16, set: &str, elements: impl Iterator<Item = (&'a [u8], &'a Value)>) {
        let mut elements = elements.peekable();
        while elements.peek().is_some() {
            self.push(kind, flags, |out| {
                put_text(out, 2, set);
                nest(out, 3, |out| {
                    let start = out.len();
                    while out.len() - start < CHUNK {
                        let Some((key, value)) = elements.next() else { break };
                        nest(out, 1, |out| put_element(out, key, value));
                    }
                });
            });
        }
    }
}

fn put_element(out: &mut Vec<u8>, key: &[u8], value: &Value) {
    nest(out, 1, |out| put(out, 1, key));
    match value {
        Value::Nothing => {}
        Value::Verdict(verdict) => nest(out, 2, |out| verdict.put(out)),
        Value::Data(data) => nest(out, 2, |out| put(out, 1, data)),
    }
}

/// Writes the type and, in the attribute that follows, the length of a key or value.
fn put_types(out: &mut Vec<u8>, kind: u16, types: &[Type]) {
    put_u32(out, kind, types.iter().fold(0, |number, each| number << 6 | each.number()));
    put_u32(out, kind + 1, 4 * types.len() as u32);
}

/// `struct nfgenmsg`.
fn generic(family: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// The kernel's nf_tables in one network namespace.
#[derive(Debug)]
pub(crate) struct Nft {
    netlink: Netlink,
}

impl Nft {
    /// Opens it in the namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, Error> {
        let netlink = Netlink::open(libc::NETLINK_NETFILTER as isize).map_err(Error::kernel("open a netfilter netlink socket"))?;
        Ok(Self { netlink })
    }

    /// Carries out a batch, whole or not at all.
    pub(crate) fn commit(&mut self, mut batch: Batch) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let last = batch.messages.count() - 1;
        batch.messages.add_flags(ACK);
        batch.messages.push(BATCH_END, 0, |out| out.extend_from_slice(&generic(0, SUBSYSTEM)));
        let mut refused = None;
        self.netlink.exchange(batch.messages, |index, answer| {
            let crate::netlink::Answer::Code(code) = answer else { return Ok(false) };
            if code != 0 && refused.is_none() {
                refused = Some(io::Error::from_raw_os_error(code));
            }
            Ok(index == last || index == 0)
        })?;
        refused.map_or(Ok(()), Err)
    }

    /// The names of all chains of a table.
    pub(crate) fn chains(&mut self, table: &str) -> Result<Vec<String>, Error> {
        let mut request = Messages::default();
        request
            .push(SUBSYSTEM << 8 | libc::NFT_MSG_GETCHAIN as u16, DUMP, |out| out.extend_from_slice(&generic(libc::NFPROTO_IPV4 as u8, 0)));
        let mut found = Vec::new();
        let asked = self.netlink.ask(request, |_, body| {
            let body = body.get(4..).unwrap_or_default();
            if attribute(body, 1).map(text).as_deref() == Some(table) {
                found.extend(attribute(body, 3).map(text));
            }
        });
        asked.map_err(Error::kernel("list the chains of nf_tables"))?;
        Ok(found)
    }
}
