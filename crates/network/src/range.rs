use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::Error;

/// An IPv4 range in CIDR notation; host bits of the address given are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range {
    first: Ipv4Addr,
    prefix: u8,
}

impl Range {
    /// The range of `prefix` leading bits (at most 32) that holds `address`.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self { first: Ipv4Addr::from_bits(address.to_bits() & Self::bits_of(prefix)), prefix }
    }

    fn bits_of(prefix: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
    }

    /// The lowest address, which names the network.
    pub fn address(&self) -> Ipv4Addr {
        self.first
    }

    /// How many leading bits all addresses share.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The netmask, such as `255.255.255.0`.
    pub fn mask(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(Self::bits_of(self.prefix))
    }

    /// How many addresses there are, the network's own and the broadcast address included.
    pub fn size(&self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    /// Whether an address lies in the range.
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & Self::bits_of(self.prefix) == self.first.to_bits()
    }

    /// The address `index` places after the lowest, if the range reaches that far.
    pub fn nth(&self, index: u32) -> Option<Ipv4Addr> {
        (u64::from(index) < self.size()).then(|| Ipv4Addr::from_bits(self.first.to_bits() + index))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Range {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Range(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let prefix = prefix.parse().ok().filter(|&prefix: &u8| prefix <= 32).ok_or_else(wrong)?;
        Ok(Self::new(address.parse().map_err(|_| wrong())?, prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_drop_host_bits_and_know_their_members() {
        let range: Range = "10.244.3.77/24".parse().unwrap();
        assert_eq!(range.to_string(), "10.244.3.0/24");
        assert!(range.contains("10.244.3.255".parse().unwrap()) && !range.contains("10.244.4.0".parse().unwrap()));
        assert_eq!((range.nth(1), range.nth(256)), (Some("10.244.3.1".parse().unwrap()), None));
        let all: Range = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()) && all.size() == 1 << 32);
        for wrong in ["", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "a/8"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }
}
