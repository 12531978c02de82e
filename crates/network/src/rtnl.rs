//! Links, addresses, routes and neighbours (rtnetlink(7)): what we ask of the kernel, as messages.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::NetlinkSerializable;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::{self, ACK, CREATE, DUMP, EXCL, Messages, Netlink, REPLACE};
use crate::{Error, Range};

/// Marks routes as ours, whatever they lead to: the number is in nobody's list (rt_protos.d).
pub(crate) const PROTOCOL: u8 = 0x67;
/// Index of the loopback device, the same in every namespace.
pub(crate) const LOOPBACK: u32 = 1;

/// `NETNSA_NSID` and `NETNSA_PID` (linux/net_namespace.h).
const NAMESPACE_NUMBER: u16 = 1;
const NAMESPACE_OF_PROCESS: u16 = 2;

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// One end of a veth pair to be made.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
    /// The bridge it hangs on, by index.
    pub(crate) bridge: Option<u32>,
}

/// A route to be made, replaced or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    pub(crate) to: Range,
    pub(crate) via: Option<Ipv4Addr>,
    /// Index of the device; none for a route that ends in "unreachable", or whose gateway says it.
    pub(crate) device: Option<u32>,
    pub(crate) source: Option<Ipv4Addr>,
    pub(crate) metric: u32,
}

/// Requests that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    messages: Messages,
    acts: Vec<String>,
}

impl Requests {
    fn push(&mut self, act: String, flags: u16, message: &RouteNetlinkMessage) {
        self.acts.push(act);
        self.messages.push(message.message_type(), flags | ACK, |out| {
            let start = out.len();
            out.resize(start + message.buffer_len(), 0);
            message.serialize(&mut out[start..]);
        });
    }

    /// A veth pair, the far end in another namespace and not up yet.
    pub(crate) fn add_veth(&mut self, near: &End<'_>, far: &End<'_>, far_namespace: BorrowedFd<'_>) {
        let mut peer = end(far);
        // The kernel makes the far end first, and an end alone cannot be up.
        peer.header.flags = LinkFlags::empty();
        peer.attributes.push(LinkAttribute::NetNsFd(far_namespace.as_raw_fd()));
        let mut link = end(near);
        link.attributes
            .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth), LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)))]));
        self.push(format!("make the link {}", near.name), CREATE | EXCL, &RouteNetlinkMessage::NewLink(link));
    }

    /// A bridge that is up.
    pub(crate) fn add_bridge(&mut self, name: &str, mac: Mac) {
        let mut link = end(&End { name, mac, bridge: None });
        link.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge)]));
        self.push(format!("make the bridge {name}"), CREATE | EXCL, &RouteNetlinkMessage::NewLink(link));
    }

    /// Brings a link up.
    pub(crate) fn set_up(&mut self, index: u32) {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.push(format!("bring up link {index}"), 0, &RouteNetlinkMessage::SetLink(link));
    }

    /// Removes a link, and with it a veth's other end and all routes over it.
    pub(crate) fn delete_link(&mut self, name: &str) {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.push(format!("remove the link {name}"), 0, &RouteNetlinkMessage::DelLink(link));
    }

    /// Gives a link an address; no harm if it has it.
    pub(crate) fn add_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8, label: Option<&str>) {
        let message = address_message(index, address, prefix, label);
        self.push(format!("add the address {address}/{prefix}"), CREATE | REPLACE, &RouteNetlinkMessage::NewAddress(message));
    }

    /// Takes an address from a link.
    pub(crate) fn delete_address(&mut self, index: u32, address: Ipv4Addr, prefix: u8) {
        let message = address_message(index, address, prefix, None);
        self.push(format!("remove the address {address}/{prefix}"), 0, &RouteNetlinkMessage::DelAddress(message));
    }

    /// Makes a route, in place of one to the same destination with the same metric.
    pub(crate) fn set_route(&mut self, route: &Route) {
        let via = route.via.map(|gateway| format!(" by way of {gateway}")).unwrap_or_default();
        self.push(format!("set the route to {}{via}", route.to), CREATE | REPLACE, &RouteNetlinkMessage::NewRoute(route_message(route)));
    }

    /// Removes a route.
    pub(crate) fn delete_route(&mut self, to: Range, metric: u32) {
        let mut message = route_message(&Route { to, via: None, device: None, source: None, metric });
        message.header.kind = RouteType::Unspec;
        message.header.scope = RouteScope::NoWhere;
        self.push(format!("remove the route to {to}"), 0, &RouteNetlinkMessage::DelRoute(message));
    }

    /// Says for good which hardware address an address has, so that nobody needs to ask.
    pub(crate) fn set_neighbour(&mut self, index: u32, address: Ipv4Addr, mac: Mac) {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        message.header.kind = RouteType::Unicast;
        message.attributes =
            vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(address)), NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        self.push(format!("set the neighbour {address}"), CREATE | REPLACE, &RouteNetlinkMessage::NewNeighbour(message));
    }
}

fn end(end: &End<'_>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link.attributes = vec![LinkAttribute::IfName(end.name.to_owned()), LinkAttribute::Address(end.mac.to_vec())];
    link.attributes.extend(end.bridge.map(LinkAttribute::Controller));
    link
}

fn address_message(index: u32, address: Ipv4Addr, prefix: u8, label: Option<&str>) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.attributes = vec![AddressAttribute::Local(IpAddr::V4(address)), AddressAttribute::Address(IpAddr::V4(address))];
    message.attributes.extend(label.map(|label| AddressAttribute::Label(label.to_owned())));
    message
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = route.to.prefix();
    message.header.table = libc::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.scope = if route.via.is_some() || route.device.is_none() { RouteScope::Universe } else { RouteScope::Link };
    message.header.kind = if route.via.is_some() || route.device.is_some() { RouteType::Unicast } else { RouteType::Unreachable };
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(route.to.address())));
    message.attributes.extend(route.via.map(|via| RouteAttribute::Gateway(RouteAddress::Inet(via))));
    message.attributes.extend(route.device.map(RouteAttribute::Oif));
    message.attributes.extend(route.source.map(|source| RouteAttribute::PrefSource(RouteAddress::Inet(source))));
    if route.metric != 0 {
        message.attributes.push(RouteAttribute::Priority(route.metric));
    }
    message
}

/// A link as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
}

/// An address as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) address: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) label: String,
}

/// The kernel's routing side in one network namespace.
#[derive(Debug)]
pub(crate) struct Rtnl {
    netlink: Netlink,
}

impl Rtnl {
    /// Opens it in the namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, Error> {
        let netlink = Netlink::open(libc::NETLINK_ROUTE as isize).map_err(Error::kernel("open a route netlink socket"))?;
        Ok(Self { netlink })
    }

    /// Sends requests together; the first one refused is the error, later ones are carried out nevertheless.
    pub(crate) fn run(&mut self, requests: Requests) -> Result<(), Error> {
        if requests.acts.is_empty() {
            return Ok(());
        }
        self.netlink.run(requests.messages).map_err(|(index, source)| Error::Kernel { act: requests.acts[index as usize].clone(), source })
    }

    /// Finds a link by name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<u32>, Error> {
        let mut request = Messages::default();
        request.push(libc::RTM_GETLINK, ACK, |out| {
            out.extend_from_slice(&[0; 16]);
            netlink::put_text(out, libc::IFLA_IFNAME, name);
        });
        let mut found = None;
        match self.netlink.ask(request, |_, body| found = parse_link(body).map(|link| link.index)) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(Error::kernel(format!("look for the link {name}"))(error)),
            Ok(()) => Ok(found),
        }
    }

    /// The index of a link that must be there.
    pub(crate) fn index_of(&mut self, name: &str) -> Result<u32, Error> {
        let gone = || Error::kernel(format!("find the link {name} again"))(io::ErrorKind::NotFound.into());
        self.link(name)?.ok_or_else(gone)
    }

    /// By which number the kernel knows the namespace in which a link's other end is.
    pub(crate) fn far_namespace(&mut self, link: &str) -> Result<Option<i32>, Error> {
        let mut request = Messages::default();
        request.push(libc::RTM_GETLINK, ACK, |out| {
            out.extend_from_slice(&[0; 16]);
            netlink::put_text(out, libc::IFLA_IFNAME, link);
        });
        let mut found = None;
        let asked = self.netlink.ask(request, |_, body| found = body.get(16..).and_then(|rest| number(rest, libc::IFLA_LINK_NETNSID)));
        tolerate_gone(asked.map_err(Error::kernel(format!("look for the link {link}")))).map(|()| found)
    }

    /// By which number the kernel knows the network namespace of a process; none for a process that is gone.
    pub(crate) fn namespace_of(&mut self, process: u32) -> Option<i32> {
        let mut request = Messages::default();
        request.push(libc::RTM_GETNSID, ACK, |out| {
            out.extend_from_slice(&[0; 4]);
            netlink::put(out, NAMESPACE_OF_PROCESS, &process.to_ne_bytes());
        });
        let mut found = None;
        self.netlink.ask(request, |_, body| found = body.get(4..).and_then(|rest| number(rest, NAMESPACE_NUMBER))).ok()?;
        found.filter(|number| *number >= 0)
    }

    /// All links whose name begins with a prefix.
    pub(crate) fn links(&mut self, prefix: &str) -> Result<Vec<Link>, Error> {
        let mut found = Vec::new();
        self.dump(libc::RTM_GETLINK, 16, |body| found.extend(parse_link(body).filter(|link| link.name.starts_with(prefix))))?;
        Ok(found)
    }

    /// All addresses that carry a label.
    pub(crate) fn addresses(&mut self, label: &str) -> Result<Vec<Address>, Error> {
        let mut found = Vec::new();
        self.dump(libc::RTM_GETADDR, 8, |body| found.extend(parse_address(body).filter(|address| address.label == label)))?;
        Ok(found)
    }

    /// The destinations of all routes of ours with a metric.
    pub(crate) fn routes(&mut self, metric: u32) -> Result<Vec<Range>, Error> {
        let mut found = Vec::new();
        self.dump(libc::RTM_GETROUTE, 12, |body| found.extend(parse_route(body, metric)))?;
        Ok(found)
    }

    fn dump(&mut self, kind: u16, header: usize, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut request = Messages::default();
        request.push(kind, DUMP, |out| {
            out.resize(out.len() + header, 0);
            let family = out.len() - header;
            out[family] = if kind == libc::RTM_GETLINK { 0 } else { libc::AF_INET as u8 };
        });
        self.netlink.ask(request, |_, body| each(body)).map_err(Error::kernel("list links, addresses or routes"))
    }
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let index = body.get(4..8)?;
    let name = netlink::attribute(body.get(16..)?, libc::IFLA_IFNAME)?;
    Some(Link { index: u32::from_ne_bytes(index.try_into().ok()?), name: netlink::text(name) })
}

fn parse_address(body: &[u8]) -> Option<Address> {
    let index = u32::from_ne_bytes(body.get(4..8)?.try_into().ok()?);
    let rest = body.get(8..)?;
    let address = ipv4(netlink::attribute(rest, libc::IFA_LOCAL)?)?;
    let label = netlink::attribute(rest, libc::IFA_LABEL).map(netlink::text).unwrap_or_default();
    Some(Address { index, address, prefix: body[1], label })
}

fn parse_route(body: &[u8], metric: u32) -> Option<Range> {
    let rest = body.get(12..)?;
    let ours = body[5] == PROTOCOL && body[4] == libc::RT_TABLE_MAIN;
    let found = netlink::attribute(rest, libc::RTA_PRIORITY)?;
    let to = ipv4(netlink::attribute(rest, libc::RTA_DST)?)?;
    (ours && found == metric.to_ne_bytes()).then(|| Range::new(to, body[1]))
}

fn number(attributes: &[u8], kind: u16) -> Option<i32> {
    Some(i32::from_ne_bytes(netlink::attribute(attributes, kind)?.try_into().ok()?))
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
}

/// Takes it well that what was to be removed is not there.
pub(crate) fn tolerate_gone(removed: Result<(), Error>) -> Result<(), Error> {
    match removed {
        Err(Error::Kernel { source, .. }) if is_gone(&source) => Ok(()),
        other => other,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENOENT))
}
