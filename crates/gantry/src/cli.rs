//! The command line.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::data_dir::DataDir;
use crate::server;

/// Runs containers on one machine or many, and speaks the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "gantry", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane alone, in the foreground.
    #[command(
        after_help = "Example:\n  gantry server --data-dir /tmp/c1 --port 7443\n  KUBECONFIG=/tmp/c1/kubeconfig kubectl get namespaces"
    )]
    Server(ServerArgs),
    /// Print the version.
    Version,
}

/// Which cluster is meant.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClusterArgs {
    /// Where the cluster keeps everything.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/gantry")]
    pub(crate) data_dir: PathBuf,
}

/// How the control plane runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// The port of the API; kept from the first start on [default: 6443].
    #[arg(long)]
    pub(crate) port: Option<u16>,
    /// The address that the API tells others to reach it at; kept from the first start on [default: this host's own].
    #[arg(long, value_name = "IP")]
    pub(crate) advertise_address: Option<Ipv4Addr>,
    /// The addresses of Services, as network/length; kept from the first start on [default: a free range].
    #[arg(long, value_name = "CIDR")]
    pub(crate) service_cidr: Option<String>,
    /// The addresses of pods, as network/length; kept from the first start on [default: a free range].
    #[arg(long, value_name = "CIDR")]
    pub(crate) pod_cidr: Option<String>,
}

/// Why a command failed: what to say, and how to exit.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    code: u8,
}

impl Failure {
    /// The user can do something about it: the message says what.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None, code: 2 }
    }

    /// An act failed.
    pub(crate) fn act(message: impl Into<String>, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { message: message.into(), source: Some(source.into()), code: 1 }
    }

    /// How the process ends: 2 when the user should change the command, 1 otherwise.
    pub(crate) fn exit_code(&self) -> u8 {
        self.code
    }

    /// The message with all its causes.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.message.clone();
        let mut source: Option<&dyn std::error::Error> = self.source.as_deref().map(|s| s as _);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Does what the command line says.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Server(args) => server::run(&args),
        Command::Version => {
            println!("gantry {} (Kubernetes v1.36)", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

impl ClusterArgs {
    pub(crate) fn open(&self) -> DataDir {
        DataDir::new(&self.data_dir)
    }
}
