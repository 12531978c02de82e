//! Steps that run a command: in a container of ours, on the stage's layers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use gantry_containers::{
    ContainerConfig, ContainerState, Event, Mount, MountKind, NetworkNamespace, Propagation, Rootfs, Runtime, SandboxConfig,
    SecurityContext,
};

use crate::image::resolve_user;
use crate::{Error, Result};

/// Where build steps run.
pub struct Runner<'a> {
    /// The runtime.
    pub runtime: &'a dyn Runtime,
    /// The sandbox's id: no other build of this runtime may have it at the same time.
    pub sandbox: String,
    /// The sandbox's cgroup, below the runtime's parent.
    pub cgroup: String,
    /// The network steps see; the host's is what other builders give.
    pub network: NetworkNamespace,
    steps: AtomicU32,
}

/// One command.
pub(super) struct Step<'a> {
    pub(super) args: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) workdir: &'a str,
    pub(super) user: &'a str,
    pub(super) lower: Vec<PathBuf>,
    /// Holds `upper`, `work` and the log.
    pub(super) directory: &'a Path,
}

/// Files of the host's that a step sees in place of the image's.
pub(super) const BORROWED: [&str; 2] = ["etc/resolv.conf", "etc/hosts"];

impl<'a> Runner<'a> {
    /// Runs steps with the host's network.
    pub fn new(runtime: &'a dyn Runtime, sandbox: &str, cgroup: &str) -> Self {
        Self { runtime, sandbox: sandbox.to_owned(), cgroup: cgroup.to_owned(), network: NetworkNamespace::Host, steps: AtomicU32::new(0) }
    }

    /// Removes the sandbox. To be called once a build is over, however it ended.
    pub(super) async fn close(&self) -> Result<()> {
        if self.steps.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        self.runtime.remove_sandbox(&self.sandbox).await.map_err(|source| Error::Container { act: "remove the build's sandbox", source })
    }

    /// Runs a step to its end. Returns its exit code and what it said.
    pub(super) async fn run(&self, step: Step<'_>) -> Result<(i32, String)> {
        let failed = |act| move |source| Error::Container { act, source };
        let number = self.steps.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            let config = SandboxConfig {
                id: self.sandbox.clone(),
                pod_name: "build".to_owned(),
                hostname: "build".to_owned(),
                network: self.network.clone(),
                cgroup_parent: self.cgroup.clone(),
                ..SandboxConfig::default()
            };
            self.runtime.run_sandbox(&config).await.map_err(failed("start the build's sandbox"))?;
        }
        let user = resolve_user(&step.lower, step.user)?;
        let log = step.directory.join("log");
        let borrowed = BORROWED.iter().map(|path| Path::new("/").join(path)).filter(|path| path.exists());
        let config = ContainerConfig {
            name: format!("step-{number}"),
            rootfs: Rootfs::Overlay { lower: step.lower, upper: Some((step.directory.join("upper"), step.directory.join("work"))) },
            args: step.args,
            env: step.env,
            cwd: step.workdir.to_owned(),
            security: SecurityContext { uid: user.uid, gid: user.gid, supplemental_groups: user.groups, ..SecurityContext::default() },
            mounts: borrowed.map(borrow).collect(),
            log_path: Some(log.clone()),
            ..ContainerConfig::default()
        };
        let id = self.runtime.create_container(&self.sandbox, &config).await.map_err(failed("make the step's container"))?;
        let mut events = self.runtime.events().map_err(failed("listen to the step"))?;
        let started = self.runtime.start_container(&id).await.map_err(failed("run the step"));
        let outcome = match started {
            Ok(()) => loop {
                match events.next().await.map_err(failed("wait for the step"))? {
                    Event::Container(s) if s.id == id && s.state == ContainerState::Exited => break Ok(s.exit_code.unwrap_or(255)),
                    Event::SandboxLost { sandbox } if sandbox == self.sandbox => break Ok(255),
                    _ => {}
                }
            },
            Err(e) => Err(e),
        };
        self.runtime.remove_container(&id).await.map_err(failed("remove the step's container"))?;
        let text = std::fs::read(&log).unwrap_or_default();
        Ok((outcome?, said(&String::from_utf8_lossy(&text))))
    }
}

fn borrow(path: PathBuf) -> Mount {
    Mount {
        target: path.clone(),
        kind: MountKind::Bind { source: path, recursive: false },
        read_only: true,
        propagation: Propagation::Private,
    }
}

/// A log's text without times, streams and tags.
fn said(log: &str) -> String {
    let mut out = String::new();
    for line in log.lines() {
        let mut fields = line.splitn(4, ' ').skip(2);
        let (tag, text) = (fields.next().unwrap_or("F"), fields.next().unwrap_or(""));
        out.push_str(text);
        if tag != "P" {
            out.push('\n');
        }
    }
    out
}
