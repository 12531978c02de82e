//! Values of types that libraries bring.

use std::net::IpAddr;
use std::rc::Rc;

use gantry_object::{Quantity, Value};

use super::address::Url;
use super::authorize::{Authority, Question, Verdict};
use super::named::Format;
use super::quantity::Semver;

/// A value of a library's type.
#[derive(Clone)]
pub enum Special<'a> {
    /// An amount.
    Quantity(Quantity),
    /// An address of the Internet.
    Ip(IpAddr),
    /// A range of them.
    Cidr(IpAddr, u8),
    /// An address of the web.
    Url(Url),
    /// A version.
    Semver(Semver),
    /// A named format.
    Format(&'static Format),
    /// Who tells what the user may do.
    Authorizer(Rc<dyn Authority + 'a>, Question),
    /// A question about a path, being put together.
    PathCheck(Rc<dyn Authority + 'a>, Question),
    /// The same about a group.
    GroupCheck(Rc<dyn Authority + 'a>, Question),
    /// The same about a resource.
    ResourceCheck(Rc<dyn Authority + 'a>, Question),
    /// An answer.
    Decision(Verdict),
}

impl Special<'_> {
    /// The name of its type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Ip(_) => "net.IP",
            Self::Cidr(..) => "net.CIDR",
            Self::Url(_) => "kubernetes.URL",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(..) => "kubernetes.authorization.Authorizer",
            Self::PathCheck(..) => "kubernetes.authorization.PathCheck",
            Self::GroupCheck(..) => "kubernetes.authorization.GroupCheck",
            Self::ResourceCheck(..) => "kubernetes.authorization.ResourceCheck",
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Its size for costs: bytes for addresses, 1 for others.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Ip(IpAddr::V4(_)) => 4,
            Self::Ip(IpAddr::V6(_)) => 16,
            Self::Cidr(_, bits) => u64::from(*bits).div_ceil(8),
            _ => 1,
        }
    }

    /// How long a format's pattern is at most.
    pub(crate) fn pattern_size(&self) -> u64 {
        match self {
            Self::Format(format) => format.pattern,
            _ => 0,
        }
    }

    /// Its form in JSON, if it has one.
    pub(crate) fn to_json(&self) -> Option<Value> {
        Some(match self {
            Self::Quantity(q) => q.to_string().into(),
            Self::Ip(ip) => super::net::show(ip).into(),
            Self::Cidr(address, bits) => format!("{}/{bits}", super::net::show(address)).into(),
            _ => return None,
        })
    }
}

impl PartialEq for Special<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a, m), Self::Cidr(b, n)) => a == b && m == n,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a.compare(b).is_eq(),
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            (Self::Authorizer(_, a), Self::Authorizer(_, b))
            | (Self::PathCheck(_, a), Self::PathCheck(_, b))
            | (Self::GroupCheck(_, a), Self::GroupCheck(_, b))
            | (Self::ResourceCheck(_, a), Self::ResourceCheck(_, b)) => a == b,
            (Self::Decision(a), Self::Decision(b)) => a == b,
            _ => false,
        }
    }
}
