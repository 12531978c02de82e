//! What is measured on, and what the kernel says of processes.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::{Result, failed};

/// The first line of a file that starts with a word, without it.
fn field(path: impl AsRef<Path>, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|l| l.strip_prefix(name)).map(|rest| rest.trim_start_matches([':', '\t', ' ']).to_owned())
}

fn first_word_of(path: &str) -> f64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split(' ').next().and_then(|w| w.trim().parse().ok()).unwrap_or(0.0)
}

fn said(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned()).unwrap_or_default()
}

/// The load average of the last minute.
pub(crate) fn load_average() -> f64 {
    first_word_of("/proc/loadavg")
}

/// Machine and commit, as every result names them.
pub(crate) fn describe() -> Value {
    let is_changed = !said("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty();
    let commit = format!("{}{}", said("git", &["rev-parse", "--short", "HEAD"]), if is_changed { " with changes" } else { "" });
    let memory = field("/proc/meminfo", "MemTotal").and_then(|m| m.split(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0);
    json!({
        "commit": commit,
        "kernel": said("uname", &["-r"]),
        "processor": field("/proc/cpuinfo", "model name").unwrap_or_default(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "memoryGb": (memory / 1e5).round() / 10.0,
        "loadBefore": load_average(),
    })
}

/// Lets this process and its children have as many files open as the machine allows: a thousand watchers are a thousand sockets.
pub(crate) fn raise_file_limit() -> Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only read or write the struct they are given, which lives throughout.
    let raised = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
        }
    };
    if raised { Ok(()) } else { Err(std::io::Error::last_os_error()).map_err(failed("raising the limit of open files")) }
}

/// Lets a command's process end with this one, however this one ends.
pub(crate) fn ends_with_us(command: &mut Command) -> &mut Command {
    let bind = || {
        // SAFETY: a system call without memory of ours, after the fork and before the exec.
        if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(bind) }
}

/// CPU seconds that a process has used, in user and kernel together. A process that is gone has used none.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the name in parentheses, which may hold anything.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // SAFETY: asks for a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    (ticks(11) + ticks(12)) / per_second
}

/// Kilobytes of one kind of a process's memory, as smaps_rollup names them.
pub(crate) fn memory_kb(pid: u32, kind: &str) -> f64 {
    let text = field(format!("/proc/{pid}/smaps_rollup"), kind).unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0.0)
}

/// Megabytes of memory of several processes, shared pages counted once among them.
pub(crate) fn pss_mb(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| memory_kb(*pid, "Pss:")).sum::<f64>() * 1024.0 / 1e6
}
