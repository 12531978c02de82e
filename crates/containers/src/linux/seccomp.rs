//! System call filters: profiles and the classic BPF programs they become.
//!
//! The programs are assembled here, not by `seccompiler`, since a profile may answer different calls with different
//! errors, which a single match action can't say. See seccomp(2) and the OCI runtime specification's `linux.seccomp`.

use std::collections::BTreeMap;
use std::io;

use serde::Deserialize;

use super::seccomp_default;

/// `AUDIT_ARCH_*` of linux/audit.h.
#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

#[cfg(target_arch = "x86_64")]
const TABLE: &str = include_str!("syscalls.x86_64");
#[cfg(target_arch = "aarch64")]
const TABLE: &str = include_str!("syscalls.aarch64");

/// Calls at or above this are the x32 ABI's, on x86_64 only.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Allow,
    Log,
    Errno(u16),
    Trap,
    KillThread,
    KillProcess,
}

impl Action {
    fn code(self) -> u32 {
        match self {
            Self::Allow => RET_ALLOW,
            Self::Log => RET_LOG,
            Self::Errno(number) => RET_ERRNO | u32::from(number),
            Self::Trap => RET_TRAP,
            Self::KillThread => RET_KILL_THREAD,
            Self::KillProcess => RET_KILL_PROCESS,
        }
    }
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// Equal after masking with this.
    MaskedEqual(u64),
}

/// A condition on one argument, compared in all of its 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) index: u8,
    pub(crate) comparison: Comparison,
    pub(crate) value: u64,
}

/// What becomes of some calls if all conditions hold.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) calls: Vec<u32>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) action: Action,
}

/// Rules and what becomes of everything else.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) default: Action,
    pub(crate) rules: Vec<Rule>,
}

/// Names and numbers of this machine's system calls.
pub(crate) fn table() -> BTreeMap<&'static str, u32> {
    TABLE
        .split([',', '\n'])
        .filter_map(|entry| entry.trim().split_once(' '))
        .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
        .collect()
}

/// Our default profile for a process with these capabilities.
pub(crate) fn default_profile(holds: &dyn Fn(&str) -> bool) -> Profile {
    seccomp_default::profile(&table(), holds)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<DocumentRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentRule {
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    name: Option<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<DocumentCondition>>,
    #[serde(default)]
    includes: Option<Filter>,
    #[serde(default)]
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DocumentCondition {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
}

/// Reads a profile in the OCI (Docker) JSON form. Calls that this machine doesn't know are passed over.
pub(crate) fn parse(json: &str, holds: &dyn Fn(&str) -> bool) -> Result<Profile, String> {
    let document: Document = serde_json::from_str(json).map_err(|e| format!("seccomp profile: {e}"))?;
    let table = table();
    let mut rules = Vec::new();
    for rule in &document.syscalls {
        if !applies(rule, holds) {
            continue;
        }
        let names = rule.names.iter().chain(rule.name.as_ref());
        rules.push(Rule {
            calls: names.filter_map(|name| table.get(name.as_str()).copied()).collect(),
            conditions: rule.args.iter().flatten().map(condition).collect::<Result<_, _>>()?,
            action: action(&rule.action, rule.errno_ret)?,
        });
    }
    Ok(Profile { default: action(&document.default_action, document.default_errno_ret)?, rules })
}

fn applies(rule: &DocumentRule, holds: &dyn Fn(&str) -> bool) -> bool {
    let arch = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let included = rule
        .includes
        .as_ref()
        .is_none_or(|f| f.caps.iter().all(|cap| holds(cap)) && (f.arches.is_empty() || f.arches.iter().any(|a| a == arch)));
    let excluded = rule.excludes.as_ref().is_some_and(|f| f.caps.iter().any(|cap| holds(cap)) || f.arches.iter().any(|a| a == arch));
    included && !excluded
}

fn action(name: &str, errno: Option<u16>) -> Result<Action, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(errno.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        other => return Err(format!("seccomp profile: action {other} isn't supported")),
    })
}

fn condition(c: &DocumentCondition) -> Result<Condition, String> {
    if c.index > 5 {
        return Err(format!("seccomp profile: there is no argument {}", c.index));
    }
    let (comparison, value) = match c.op.as_str() {
        "SCMP_CMP_NE" => (Comparison::NotEqual, c.value),
        "SCMP_CMP_LT" => (Comparison::Less, c.value),
        "SCMP_CMP_LE" => (Comparison::LessOrEqual, c.value),
        "SCMP_CMP_EQ" => (Comparison::Equal, c.value),
        "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, c.value),
        "SCMP_CMP_GT" => (Comparison::Greater, c.value),
        "SCMP_CMP_MASKED_EQ" => (Comparison::MaskedEqual(c.value), c.value_two),
        other => return Err(format!("seccomp profile: comparison {other} isn't known")),
    };
    Ok(Condition { index: c.index, comparison, value })
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_GREATER_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

const fn op(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Offsets in `struct seccomp_data`, little-endian machines.
const NUMBER_AT: u32 = 0;
const ARCH_AT: u32 = 4;
const fn low_at(argument: u8) -> u32 {
    16 + 8 * argument as u32
}

/// Assembles a profile. Calls of another architecture end the process; calls newer than our table are `ENOSYS` where
/// the default refuses, so that programs fall back instead of giving up.
pub(crate) fn assemble(profile: &Profile) -> Vec<libc::sock_filter> {
    let mut program =
        vec![op(LOAD, ARCH_AT, 0, 0), op(JUMP_EQUAL, ARCH, 1, 0), op(RETURN, RET_KILL_PROCESS, 0, 0), op(LOAD, NUMBER_AT, 0, 0)];
    let enosys = RET_ERRNO | libc::ENOSYS as u32;
    #[cfg(target_arch = "x86_64")]
    program.extend([op(JUMP_GREATER_EQUAL, X32, 0, 1), op(RETURN, enosys, 0, 0)]);
    if let Action::Errno(_) = profile.default {
        let newest = table().values().copied().max().unwrap_or(0);
        program.extend([op(JUMP_GREATER, newest, 0, 1), op(RETURN, enosys, 0, 0)]);
    }
    let mut by_call: BTreeMap<u32, Vec<(&[Condition], Action)>> = BTreeMap::new();
    for rule in &profile.rules {
        for call in &rule.calls {
            by_call.entry(*call).or_default().push((&rule.conditions, rule.action));
        }
    }
    for (call, cases) in by_call {
        let block = call_block(&cases, profile.default);
        // A jump forward over 255 instructions can't be said; split into a short jump and a long one.
        program.extend([op(JUMP_EQUAL, call, 1, 0), op(0x05, block.len() as u32, 0, 0)]);
        program.extend(block);
    }
    program.push(op(RETURN, profile.default.code(), 0, 0));
    program
}

/// What is done about one call: each case in turn, and always a return at the end. Cases without conditions come last.
fn call_block(cases: &[(&[Condition], Action)], default: Action) -> Vec<libc::sock_filter> {
    let mut block = Vec::new();
    for (conditions, action) in cases.iter().filter(|(c, _)| !c.is_empty()) {
        block.extend(case(conditions, *action));
    }
    let last = cases.iter().find(|(c, _)| c.is_empty()).map_or(default, |(_, action)| *action);
    block.push(op(RETURN, last.code(), 0, 0));
    block
}

/// Returns the action if all conditions hold and falls through otherwise.
fn case(conditions: &[Condition], action: Action) -> Vec<libc::sock_filter> {
    let mut code = vec![op(RETURN, action.code(), 0, 0)];
    for c in conditions.iter().rev() {
        let mut test = compare(c, code.len() as u8);
        test.append(&mut code);
        code = test;
    }
    code
}

/// Falls through if the condition holds; else jumps `rest` instructions past its end.
fn compare(c: &Condition, rest: u8) -> Vec<libc::sock_filter> {
    let (high, low) = ((c.value >> 32) as u32, c.value as u32);
    let (low_at, high_at) = (low_at(c.index), low_at(c.index) + 4);
    // In each: load high, test, load low, test. `t` and `f` say how far past the end of this test a jump goes.
    let ordered = |jump: u16, holds_if_true: bool| {
        // High greater decides at once, high less too; equal goes on to the low half.
        let (greater, less) = if holds_if_true { (3, rest + 2) } else { (rest + 3, 2) };
        let (t, f) = if holds_if_true { (0, rest) } else { (rest, 0) };
        vec![
            op(LOAD, high_at, 0, 0),
            op(JUMP_GREATER, high, greater, 0),
            op(JUMP_EQUAL, high, 0, less),
            op(LOAD, low_at, 0, 0),
            op(jump, low, t, f),
        ]
    };
    match c.comparison {
        Comparison::Equal => {
            vec![op(LOAD, high_at, 0, 0), op(JUMP_EQUAL, high, 0, rest + 2), op(LOAD, low_at, 0, 0), op(JUMP_EQUAL, low, 0, rest)]
        }
        Comparison::NotEqual => {
            vec![op(LOAD, high_at, 0, 0), op(JUMP_EQUAL, high, 0, 2), op(LOAD, low_at, 0, 0), op(JUMP_EQUAL, low, rest, 0)]
        }
        Comparison::MaskedEqual(mask) => vec![
            op(LOAD, high_at, 0, 0),
            op(AND, (mask >> 32) as u32, 0, 0),
            op(JUMP_EQUAL, high, 0, rest + 3),
            op(LOAD, low_at, 0, 0),
            op(AND, mask as u32, 0, 0),
            op(JUMP_EQUAL, low, 0, rest),
        ],
        Comparison::Greater => ordered(JUMP_GREATER, true),
        Comparison::GreaterOrEqual => ordered(JUMP_GREATER_EQUAL, true),
        Comparison::LessOrEqual => ordered(JUMP_GREATER, false),
        Comparison::Less => ordered(JUMP_GREATER_EQUAL, false),
    }
}

/// Loads a program for the calling thread and all it will start. Needs CAP_SYS_ADMIN or `no_new_privs`.
pub(crate) fn load(program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let fprog = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: `fprog` points to `length` initialised instructions, which outlive the call; the kernel only reads them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const fprog) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
#[path = "seccomp_tests.rs"]
mod tests;
