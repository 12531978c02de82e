//! What is asked of the kernel: cgroups, capabilities, filters, devices, mounts and new processes.

pub(crate) mod capabilities;
pub(crate) mod cgroup;
pub(crate) mod devices;
pub(crate) mod files;
pub(crate) mod init;
pub(crate) mod mounts;
pub(crate) mod passing;
pub(crate) mod rootfs;
pub(crate) mod seccomp;
mod seccomp_default;
pub(crate) mod spawn;
