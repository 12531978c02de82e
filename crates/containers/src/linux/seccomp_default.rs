//! The default profile: every call this machine's table knows, but for those that reach past a container's walls.
//!
//! In effect what Docker and containerd load by default: a call that belongs to a capability is allowed to its holders.

use std::collections::BTreeMap;

use super::seccomp::{Action, Comparison, Condition, Profile, Rule};

/// Refused to all: they reach kernel-wide keyrings, hand the kernel rich attack surface, or are long dead.
const NEVER: &[&str] = &[
    "_sysctl",
    "add_key",
    "afs_syscall",
    "create_module",
    "get_kernel_syms",
    "getpmsg",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "keyctl",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "putpmsg",
    "query_module",
    "request_key",
    "security",
    "sysfs",
    "tuxcall",
    "uselib",
    "userfaultfd",
    "ustat",
    "vserver",
    "epoll_ctl_old",
    "epoll_wait_old",
];

/// Allowed to those who hold any of the capabilities. What is repeated is allowed by either row.
const WITH_CAPABILITY: &[(&[&str], &[&str])] = &[
    (
        &["CAP_SYS_ADMIN"],
        &[
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "swapoff",
            "swapon",
            "umount2",
            "unshare",
            "listmount",
            "statmount",
            "pivot_root",
        ],
    ),
    (&["CAP_SYS_ADMIN", "CAP_BPF"], &["bpf"]),
    (&["CAP_SYS_ADMIN", "CAP_PERFMON"], &["perf_event_open"]),
    (&["CAP_SYS_ADMIN", "CAP_SYSLOG"], &["syslog"]),
    (&["CAP_DAC_READ_SEARCH"], &["open_by_handle_at"]),
    (&["CAP_SYS_BOOT"], &["reboot", "kexec_load", "kexec_file_load"]),
    (&["CAP_SYS_CHROOT"], &["chroot"]),
    (&["CAP_SYS_MODULE"], &["delete_module", "init_module", "finit_module"]),
    (&["CAP_SYS_PACCT"], &["acct"]),
    (&["CAP_SYS_PTRACE"], &["kcmp", "pidfd_getfd", "process_madvise"]),
    (&["CAP_SYS_RAWIO"], &["iopl", "ioperm"]),
    (&["CAP_SYS_TIME"], &["settimeofday", "clock_settime"]),
    (&["CAP_SYS_TTY_CONFIG"], &["vhangup"]),
    (&["CAP_SYS_NICE"], &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
];

/// CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET: a new namespace is a way to capabilities.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// Execution domains that only change what `uname` and layouts look like, and the question which one it is.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Makes the profile for holders of these capabilities.
pub(crate) fn profile(table: &BTreeMap<&'static str, u32>, holds: &dyn Fn(&str) -> bool) -> Profile {
    let number = |name: &&str| table.get(*name).copied();
    let mut refused: Vec<&str> = NEVER.to_vec();
    for (capabilities, calls) in WITH_CAPABILITY {
        if !capabilities.iter().any(|c| holds(c)) {
            refused.extend(calls.iter());
        }
    }
    let conditional = ["clone", "personality", "socket", "clone3"];
    let plain = table.iter().filter(|(name, _)| !refused.contains(name) && !conditional.contains(name)).map(|(_, n)| *n).collect();
    let mut rules = vec![Rule { calls: plain, conditions: vec![], action: Action::Allow }];
    let mut on = |name: &str, conditions: Vec<Condition>, action| {
        rules.push(Rule { calls: number(&name).into_iter().collect(), conditions, action })
    };

    let administrator = holds("CAP_SYS_ADMIN");
    let no_namespace = Condition { index: 0, comparison: Comparison::MaskedEqual(NAMESPACE_FLAGS), value: 0 };
    on("clone", if administrator { vec![] } else { vec![no_namespace] }, Action::Allow);
    // Its flags lie behind a pointer, which a filter can't follow; libraries fall back to clone on ENOSYS.
    on("clone3", vec![], if administrator { Action::Allow } else { Action::Errno(libc::ENOSYS as u16) });
    for persona in PERSONALITIES {
        on("personality", vec![Condition { index: 0, comparison: Comparison::Equal, value: persona }], Action::Allow);
    }
    // vsock leads to the hypervisor's other guests, which no network namespace keeps apart.
    on("socket", vec![Condition { index: 0, comparison: Comparison::NotEqual, value: libc::AF_VSOCK as u64 }], Action::Allow);
    Profile { default: Action::Errno(libc::EPERM as u16), rules }
}
