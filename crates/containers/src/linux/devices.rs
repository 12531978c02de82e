//! Which device nodes a container may use and make: lines for cgroup v1, a small eBPF program for v2.
//!
//! Stricter than upstream in one thing: nodes may be *made* only of devices that may be used.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A character device that every container has, or may open.
pub(crate) struct Device {
    /// Its name below `/dev`, if a node is made for it.
    pub(crate) name: Option<&'static str>,
    pub(crate) major: u32,
    /// `None`: all of the major number.
    pub(crate) minor: Option<u32>,
}

const fn device(name: Option<&'static str>, major: u32, minor: Option<u32>) -> Device {
    Device { name, major, minor }
}

/// The devices of every container; numbers as in the kernel's devices.txt.
pub(crate) const ALLOWED: [Device; 9] = [
    device(Some("null"), 1, Some(3)),
    device(Some("zero"), 1, Some(5)),
    device(Some("full"), 1, Some(7)),
    device(Some("random"), 1, Some(8)),
    device(Some("urandom"), 1, Some(9)),
    device(Some("tty"), 5, Some(0)),
    device(None, 5, Some(1)),
    device(None, 5, Some(2)),
    device(None, 136, None),
];

/// One line for cgroup v1's `devices.allow`.
pub(crate) fn v1_line(d: &Device) -> String {
    let minor = d.minor.map_or("*".to_owned(), |m| m.to_string());
    format!("c {}:{minor} rwm", d.major)
}

/// One eBPF instruction; see the kernel's instruction-set document.
#[repr(C)]
#[derive(Clone, Copy)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn ins(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const AND32: u8 = 0x54;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;
const DEVICE_CHAR: i32 = 2;

/// Answers 1 for what is in the list and 0 otherwise. The context (r1) holds access and type, major, minor.
fn program() -> Vec<Instruction> {
    let mut code = vec![
        ins(LOAD_WORD, 0x12, 0, 0), // r2 = type in the low 16 bits
        ins(AND32, 0x02, 0, 0xffff),
        ins(LOAD_WORD, 0x13, 4, 0), // r3 = major
        ins(LOAD_WORD, 0x14, 8, 0), // r4 = minor
        ins(JUMP_NOT_EQUAL, 0x02, 0, DEVICE_CHAR),
    ];
    for d in &ALLOWED {
        let minor = d.minor.map(|m| ins(JUMP_NOT_EQUAL, 0x04, 2, m.cast_signed()));
        code.push(ins(JUMP_NOT_EQUAL, 0x03, 2 + i16::from(minor.is_some()), d.major.cast_signed()));
        code.extend(minor);
        code.extend([ins(MOVE, 0x00, 0, 1), ins(EXIT, 0, 0, 0)]);
    }
    let end = code.len() as i16;
    code[4].offset = end - 5;
    code.extend([ins(MOVE, 0x00, 0, 0), ins(EXIT, 0, 0, 0)]);
    code
}

const BPF_PROG_LOAD: i64 = 5;
const BPF_PROG_ATTACH: i64 = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The head of `union bpf_attr` for loading.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The head of `union bpf_attr` for attaching.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: i64, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is a repr(C) head of `union bpf_attr` of the size given, whose pointers stay valid for the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Loads the program and ties it to a cgroup of version 2, for as long as that exists.
pub(crate) fn attach_v2(cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let code = program();
    let license = c"Apache-2.0";
    let load = LoadAttr {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..LoadAttr::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &load)?;
    // SAFETY: the kernel just made this descriptor for us, and nobody else knows it.
    let program = unsafe { OwnedFd::from_raw_fd(fd) };
    let attach = AttachAttr {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(BPF_PROG_ATTACH, &attach).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::path::PathBuf;
    use std::process::Command;

    use super::*;

    /// Version 2's tree, which is there, if only without controllers, on every machine since Linux 4.15 or so.
    fn unified() -> PathBuf {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = mounts.lines().find(|l| l.contains(" - cgroup2 ")).expect("cgroup2 is mounted");
        PathBuf::from(line.split(' ').nth(4).unwrap())
    }

    #[test]
    fn the_program_lets_through_what_is_listed_and_nothing_else() {
        let group = unified().join(format!("gantry-test-devices-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        attach_v2(std::fs::File::open(&group).unwrap().as_fd()).unwrap();
        let script = "echo $$ > $1/cgroup.procs; echo x > /dev/null && echo null; (: < /dev/urandom) && echo random
            (: < /dev/kmsg) && echo messages; d=$(mktemp -d); mknod $d/disk b 254 0 && echo made; mknod $d/null c 1 3 && echo made null; rm -r $d";
        let output = Command::new("sh").args(["-c", script, "sh"]).arg(&group).output().unwrap();
        std::fs::remove_dir(&group).unwrap();
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(out, "null\nrandom\nmade null\n", "{err}");
        assert_eq!(err.matches("not permitted").count(), 2, "{err}");
    }
}
