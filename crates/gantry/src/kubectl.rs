//! `gantry kubectl`: the machine's kubectl with this cluster's kubeconfig.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::cli::{Failure, KubectlArgs};

/// Becomes kubectl; comes back only when that fails.
pub(crate) fn run(args: &KubectlArgs) -> Result<(), Failure> {
    let kubeconfig = args.cluster.open().kubeconfig();
    if !kubeconfig.exists() {
        return Err(Failure::usage(format!("{} is not there: start the cluster with `gantry up`", kubeconfig.display())));
    }
    let error = Command::new("kubectl").env("KUBECONFIG", kubeconfig).args(&args.args).exec();
    Err(match error.kind() {
        std::io::ErrorKind::NotFound => Failure::usage("kubectl is not installed on this machine"),
        _ => Failure::act("starting kubectl", error),
    })
}
