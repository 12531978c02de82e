//! Which capabilities a process has, by name and number (capabilities(7)).

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::SecurityContext;

/// In the order of their numbers.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container gets that asks for nothing.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities, a bit each.
pub(crate) type Bits = u64;

const ALL: Bits = (1 << NAMES.len()) - 1;

fn bare(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").map_or_else(|| upper.clone(), str::to_owned)
}

/// The bit of a name with or without `CAP_`.
pub(crate) fn bit(name: &str) -> Option<Bits> {
    let name = bare(name);
    NAMES.iter().position(|n| *n == name).map(|number| 1 << number)
}

/// What this context asks for. Unknown names are an error, as a typing mistake in `drop` would leave a door open.
pub(crate) fn wanted(security: &SecurityContext) -> Result<Bits, String> {
    if security.privileged {
        return Ok(ALL);
    }
    let named = |list: &[String]| -> Result<Bits, String> {
        list.iter()
            .filter(|n| bare(n) != "ALL")
            .try_fold(0, |bits, n| Ok(bits | bit(n).ok_or_else(|| format!("unknown capability {n:?}"))?))
    };
    let all = |list: &[String]| list.iter().any(|n| bare(n) == "ALL");
    let default = DEFAULT.iter().filter_map(|n| bit(n)).sum::<Bits>();
    let base = match (all(&security.add_capabilities), all(&security.drop_capabilities)) {
        (true, _) => ALL,
        (false, true) => 0,
        (false, false) => default,
    };
    let (added, dropped) = (named(&security.add_capabilities)?, named(&security.drop_capabilities)?);
    Ok(if all(&security.drop_capabilities) { base | added } else { (base | added) & !dropped })
}

/// Those that this process could hand on.
pub(crate) fn bounding() -> Bits {
    (0..NAMES.len() as u32)
        .filter(|n| rustix::thread::capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << n)).unwrap_or(false))
        .map(|n| 1 << n)
        .sum()
}

/// Takes all but these out of the bounding set.
pub(crate) fn limit_bounding(bits: Bits) -> rustix::io::Result<()> {
    for n in 0..NAMES.len() as u32 {
        let one = CapabilitySet::from_bits_retain(1 << n);
        if bits & (1 << n) == 0 && rustix::thread::capability_is_in_bounding_set(one).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(one)?;
        }
    }
    Ok(())
}

/// Sets what the calling thread may do and could do; nothing is inherited.
pub(crate) fn set(bits: Bits) -> rustix::io::Result<()> {
    let set = CapabilitySet::from_bits_retain(bits);
    rustix::thread::set_capabilities(None, CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], has: &[&str], lacks: &[&str]) {
        let owned = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        let bits = wanted(&SecurityContext { add_capabilities: owned(add), drop_capabilities: owned(drop), ..SecurityContext::default() })
            .unwrap();
        for c in has {
            assert!(bits & bit(c).unwrap() != 0, "has {c}");
        }
        for c in lacks {
            assert!(bits & bit(c).unwrap() == 0, "lacks {c}");
        }
    }

    #[test]
    fn additions_and_drops_combine_as_in_cri() {
        check(&[], &[], &["CHOWN", "CAP_KILL"], &["SYS_ADMIN"]);
        check(&["NET_ADMIN"], &["cap_chown"], &["NET_ADMIN"], &["CHOWN"]);
        check(&["NET_BIND_SERVICE"], &["ALL"], &["NET_BIND_SERVICE"], &["CHOWN", "KILL"]);
        check(&["ALL"], &["SYS_ADMIN"], &["BPF"], &["SYS_ADMIN"]);
        let unknown = SecurityContext { drop_capabilities: vec!["CHWON".into()], ..SecurityContext::default() };
        assert!(wanted(&unknown).unwrap_err().contains("CHWON"));
    }
}
