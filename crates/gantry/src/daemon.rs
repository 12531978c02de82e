//! One process runs a cluster: the lock that says so, and the background.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::FlockOperation;

use crate::cli::Failure;
use crate::data_dir::DataDir;

/// SIGKILL in a set of signals as `/proc/PID/status` shows it.
const KILL: u64 = 1 << 8;

/// Held for as long as this process runs the cluster.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "held for its Drop")] File);

impl Lock {
    /// Takes the cluster for this process.
    pub(crate) fn take(dir: &DataDir) -> Result<Self, Failure> {
        Self::take_file(&dir.lock_file())?.ok_or_else(|| already_running(dir))
    }

    /// Takes a lock file; `None` when another process has it.
    pub(crate) fn take_file(path: &Path) -> Result<Option<Self>, Failure> {
        let failed = |e: std::io::Error| Failure::act(format!("locking {}", path.display()), e);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(None);
        }
        file.set_len(0).and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes())).map_err(failed)?;
        Ok(Some(Self(file)))
    }
}

fn already_running(dir: &DataDir) -> Failure {
    let who = running(dir).map_or(String::new(), |pid| format!(" (process {pid})"));
    Failure::usage(format!(
        "the cluster in {} is running already{who}; see `gantry status --data-dir {0}`, or stop it with `gantry down --data-dir {0}`",
        dir.root().display()
    ))
}

/// The process that runs the cluster, if one does.
pub(crate) fn running(dir: &DataDir) -> Option<i32> {
    holder(&dir.lock_file())
}

/// The process that holds a lock file, if one does.
pub(crate) fn holder(path: &Path) -> Option<i32> {
    let mut file = OpenOptions::new().read(true).open(path).ok()?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Waits until a process that was killed, but has not quite ended, gives up a lock file; whether it is free then.
fn is_free_soon(path: &Path) -> bool {
    let dying = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or("").trim().to_owned();
        let killed = |set: String| u64::from_str_radix(&set, 16).is_ok_and(|set| set & KILL != 0);
        status.is_empty() || field("State:").starts_with(['Z', 'X']) || killed(field("ShdPnd:")) || killed(field("SigPnd:"))
    };
    loop {
        match holder(path) {
            None => return true,
            Some(pid) if !dying(&pid) => return false,
            Some(_) => std::thread::yield_now(),
        }
    }
}

/// Starts this binary again in the background, and waits until it says on its standard output that it is ready.
pub(crate) fn start_in_background(dir: &DataDir, args: &[String]) -> Result<String, Failure> {
    if !is_free_soon(&dir.lock_file()) {
        return Err(already_running(dir));
    }
    let path = dir.log_file();
    let failed = |e: std::io::Error| Failure::act(format!("opening {}", path.display()), e);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    let log = OpenOptions::new().create(true).append(true).open(&path).map_err(failed)?;
    let begins = log.metadata().map_err(failed)?.len();
    let program = std::env::current_exe().map_err(|e| Failure::act("finding this program", e))?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).current_dir("/").process_group(0);
    let mut child = command.spawn().map_err(|e| Failure::act("starting in the background", e))?;
    let mut line = Vec::new();
    if let Some(mut output) = child.stdout.take() {
        let mut byte = [0];
        while output.read(&mut byte).is_ok_and(|n| n == 1) && byte[0] != b'\n' {
            line.push(byte[0]);
        }
    }
    if !line.is_empty() {
        return Ok(String::from_utf8_lossy(&line).into_owned());
    }
    let code = child.wait().map_err(|e| Failure::act("waiting for the cluster", e))?;
    let text = std::fs::read(&path).unwrap_or_default();
    let said = String::from_utf8_lossy(text.get(begins as usize..).unwrap_or_default()).into_owned();
    let why = said.lines().rev().find_map(|l| l.strip_prefix("gantry: "));
    // Its last words have no room on a full disk either.
    let why = why.unwrap_or_else(|| {
        if is_full(dir.root()) { "the disk is full: make room there and start again" } else { "it ended without a word" }
    });
    Err(Failure::ended(format!("{why} (log: {})", path.display()), code.code().unwrap_or(1) as u8))
}

/// Whether the file system of a directory has no room for another block.
fn is_full(directory: &Path) -> bool {
    rustix::fs::statvfs(directory).is_ok_and(|fs| fs.f_bavail == 0)
}
