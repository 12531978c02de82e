//! Which pod has which address: a small file per pod, so that it survives the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::{Error, Range};

/// The addresses of one node's range. Given out in turn, so that one that became free rests for as long as it can.
#[derive(Debug)]
pub(crate) struct Ipam {
    dir: PathBuf,
    range: Range,
    pods: BTreeMap<String, Ipv4Addr>,
    used: BTreeSet<Ipv4Addr>,
    next: u32,
}

impl Ipam {
    /// Reads what was recorded in a directory, which is made if need be. Records that make no sense are removed.
    pub(crate) fn open(dir: &Path, range: Range) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        let mut ipam = Self { dir: dir.to_owned(), range, pods: BTreeMap::new(), used: BTreeSet::new(), next: 2 };
        for entry in fs::read_dir(dir).map_err(Error::file("read", dir))? {
            let path = entry.map_err(Error::file("read", dir))?.path();
            let address = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<Ipv4Addr>().ok());
            let uid = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
            match (uid, address) {
                (Some(uid), Some(address)) if range.contains(address) && ipam.used.insert(address) => {
                    ipam.next = ipam.next.max(address.to_bits() - range.address().to_bits() + 1);
                    ipam.pods.insert(uid.to_owned(), address);
                }
                _ => remove(&path)?,
            }
        }
        Ok(ipam)
    }

    /// The address a pod was recorded with.
    pub(crate) fn get(&self, uid: &str) -> Option<Ipv4Addr> {
        self.pods.get(uid).copied()
    }

    /// All recorded pods.
    pub(crate) fn pods(&self) -> &BTreeMap<String, Ipv4Addr> {
        &self.pods
    }

    /// An address that no pod has. It is nobody's until recorded.
    pub(crate) fn free(&mut self) -> Result<Ipv4Addr, Error> {
        // The network's address, the gateway's and the broadcast address are not for pods.
        let (lowest, end) = (2, (self.range.size() - 1) as u32);
        for _ in lowest..end {
            let index = if self.next < lowest || self.next >= end { lowest } else { self.next };
            self.next = index + 1;
            if let Some(address) = self.range.nth(index).filter(|address| !self.used.contains(address)) {
                return Ok(address);
            }
        }
        Err(Error::Exhausted(self.range))
    }

    /// Records a pod's address, whole or not at all.
    pub(crate) fn record(&mut self, uid: &str, address: Ipv4Addr) -> Result<(), Error> {
        let (path, draft) = (self.dir.join(uid), self.dir.join(format!(".{uid}")));
        fs::write(&draft, address.to_string()).map_err(Error::file("write", &draft))?;
        fs::rename(&draft, &path).map_err(Error::file("write", &path))?;
        self.used.insert(address);
        self.pods.insert(uid.to_owned(), address);
        Ok(())
    }

    /// Forgets a pod.
    pub(crate) fn release(&mut self, uid: &str) -> Result<(), Error> {
        remove(&self.dir.join(uid))?;
        if let Some(address) = self.pods.remove(uid) {
            self.used.remove(&address);
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::file("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn addresses_are_given_once_and_rest_before_they_come_again() {
        let dir = dir();
        let mut ipam = Ipam::open(dir.path(), "10.1.2.0/29".parse().unwrap()).unwrap();
        let mut given = Vec::new();
        for uid in ["a", "b", "c", "d", "e"] {
            let address = ipam.free().unwrap();
            ipam.record(uid, address).unwrap();
            given.push(address.octets()[3]);
        }
        assert_eq!(given, [2, 3, 4, 5, 6]);
        assert!(matches!(ipam.free(), Err(Error::Exhausted(_))));
        ipam.release("d").unwrap();
        ipam.release("b").unwrap();
        assert_eq!(ipam.free().unwrap().octets()[3], 3);
        assert_eq!(ipam.free().unwrap().octets()[3], 5);
    }

    #[test]
    fn records_survive_and_torn_or_foreign_ones_do_not() {
        let dir = dir();
        let range = "10.1.2.0/24".parse().unwrap();
        let mut ipam = Ipam::open(dir.path(), range).unwrap();
        ipam.record("pod", "10.1.2.9".parse().unwrap()).unwrap();
        for (name, content) in [("torn", "10.1"), (".draft", "10.1.2.7"), ("foreign", "10.9.9.9")] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let mut again = Ipam::open(dir.path(), range).unwrap();
        assert_eq!(again.pods().iter().map(|(uid, address)| format!("{uid} {address}")).collect::<Vec<_>>(), ["pod 10.1.2.9"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(again.free().unwrap().octets()[3], 10);
    }
}
