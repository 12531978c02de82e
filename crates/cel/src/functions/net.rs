//! Addresses of the Internet and ranges of them.

use std::net::IpAddr;

use super::Function;
use super::special::Special;
use super::text::text;
use crate::eval::Context;
use crate::value::{Fault, Outcome, Val};

pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "ip" => ip,
        "isIP" => |_, args| Ok(Val::Bool(parse(text(args, 0)?).is_ok())),
        "ip.isCanonical" => |_, args| {
            let given = text(args, 0)?;
            Ok(Val::Bool(show(&parse(given)?) == given))
        },
        "family" => |_, args| address(args).map(|ip| Val::Int(if ip.is_ipv4() { 4 } else { 6 })),
        "isUnspecified" => |_, args| holds(args, |ip| ip.is_unspecified()),
        "isLoopback" => |_, args| holds(args, |ip| ip.is_loopback()),
        "isLinkLocalMulticast" => |_, args| holds(args, is_local_multicast),
        "isLinkLocalUnicast" => |_, args| holds(args, is_local_unicast),
        "isGlobalUnicast" => |_, args| holds(args, is_global),
        "cidr" => |_, args| parse_range(text(args, 0)?).map(|(ip, bits)| Special::Cidr(ip, bits).into()),
        "isCIDR" => |_, args| Ok(Val::Bool(parse_range(text(args, 0)?).is_ok())),
        "containsIP" => contains_ip,
        "containsCIDR" => contains_range,
        "prefixLength" => |_, args| range(args).map(|(_, bits)| Val::Int(bits.into())),
        "masked" => |_, args| range(args).map(|(ip, bits)| Special::Cidr(masked(ip, bits), bits).into()),
        _ => return None,
    })
}

/// An address as it is written.
pub(super) fn show(ip: &IpAddr) -> String {
    ip.to_string()
}

fn is_mapped(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn parse(text: &str) -> Result<IpAddr, Fault> {
    let parsed: Result<IpAddr, _> = text.parse();
    match parsed {
        Ok(ip) if is_mapped(&ip) => Err(Fault::new(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))),
        Ok(ip) => Ok(ip),
        Err(_) => {
            let message = format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP");
            Err(Fault::new(message))
        }
    }
}

fn parse_range(text: &str) -> Result<(IpAddr, u8), Fault> {
    let refused =
        |why: &str| Fault::new(format!("network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}"));
    let (ip, bits) = text.rsplit_once('/').ok_or_else(|| refused("no '/'"))?;
    let ip: IpAddr = ip.parse().map_err(|_| refused(&format!("ParseAddr({ip:?}): unable to parse IP")))?;
    if is_mapped(&ip) {
        return Err(Fault::new(format!("IPv4-mapped IPv6 address {text:?} is not allowed")));
    }
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && (bits == "0" || !bits.starts_with('0'));
    let length = bits.parse::<u8>().ok().filter(|_| plain).ok_or_else(|| refused(&format!("bad bits after slash: {bits:?}")))?;
    if length > if ip.is_ipv4() { 32 } else { 128 } {
        return Err(refused("prefix length out of range"));
    }
    Ok((ip, length))
}

fn ip<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    match &args[0] {
        Val::String(text) => Ok(Special::Ip(parse(text)?).into()),
        _ => range(args).map(|(ip, _)| Special::Ip(ip).into()),
    }
}

fn address(args: &[Val<'_>]) -> Result<IpAddr, Fault> {
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::Ip(ip) => Ok(*ip),
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

fn holds<'a>(args: &[Val<'a>], is: fn(&IpAddr) -> bool) -> Outcome<'a> {
    address(args).map(|ip| Val::Bool(is(&ip)))
}

fn is_local_multicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_local_unicast(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn is_global(ip: &IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !(broadcast || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || is_local_unicast(ip))
}

fn range(args: &[Val<'_>]) -> Result<(IpAddr, u8), Fault> {
    match &args[0] {
        Val::Special(special) => match &**special {
            Special::Cidr(ip, bits) => Ok((*ip, *bits)),
            _ => Err(Fault::NoOverload),
        },
        _ => Err(Fault::NoOverload),
    }
}

/// The first address of a range.
fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)).into()),
    }
}

fn within(range: (IpAddr, u8), ip: IpAddr) -> bool {
    range.0.is_ipv4() == ip.is_ipv4() && masked(range.0, range.1) == masked(ip, range.1)
}

fn contains_ip<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let inner = match &args[1] {
        Val::String(text) => parse(text)?,
        _ => address(&args[1..])?,
    };
    Ok(Val::Bool(within(range(args)?, inner)))
}

fn contains_range<'a>(_: &mut Context<'a>, args: &[Val<'a>]) -> Outcome<'a> {
    let inner = match &args[1] {
        Val::String(text) => parse_range(text)?,
        _ => range(&args[1..])?,
    };
    let outer = range(args)?;
    Ok(Val::Bool(outer.1 <= inner.1 && within(outer, inner.0)))
}
