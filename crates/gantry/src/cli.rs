//! The command line.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::data_dir::DataDir;
use crate::{agent, api, down, image, kubectl, server, status, token, up};

/// Runs containers on one machine or many, and speaks the Kubernetes API.
#[derive(Debug, Parser)]
#[command(name = "gantry", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a cluster in the background and wait until it is ready.
    #[command(
        after_help = "Examples:\n  gantry up\n  gantry up --data-dir /tmp/c1 --port 7443\n  KUBECONFIG=/tmp/c1/kubeconfig kubectl get nodes"
    )]
    Up(UpArgs),
    /// Stop a cluster and take away everything it has on this host.
    #[command(after_help = "Examples:\n  gantry down\n  gantry down --purge --data-dir /tmp/c1")]
    Down(DownArgs),
    /// Show a cluster's nodes and processes.
    #[command(after_help = "Examples:\n  gantry status\n  gantry status -o json --data-dir /tmp/c1")]
    Status(StatusArgs),
    /// Run the control plane alone, in the foreground.
    #[command(
        after_help = "Example:\n  gantry server --data-dir /tmp/c1 --port 7443\n  KUBECONFIG=/tmp/c1/kubeconfig kubectl get namespaces"
    )]
    Server(ServerArgs),
    /// Run a node's agent, in the foreground: on a machine that joins a cluster, or for a node of this host.
    #[command(
        after_help = "Example, with a token from `gantry token create` on the server's machine:\n  gantry agent --server https://10.0.0.5:6443 --token TOKEN"
    )]
    Agent(AgentArgs),
    /// Make tokens that nodes join with.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Build, import, pull, export, list and remove images.
    #[command(subcommand)]
    Image(image::ImageCommand),
    /// Run kubectl against a cluster.
    #[command(disable_help_flag = true, after_help = "Example:\n  gantry kubectl get pods -A")]
    Kubectl(KubectlArgs),
    /// Send one request to the API as the cluster's administrator, and print the answer.
    #[command(
        after_help = "Examples:\n  gantry api GET /api/v1/nodes\n  gantry api GET /apis/apps/v1/namespaces/default/deployments/hello --pick /status/readyReplicas\n  gantry api POST /api/v1/namespaces/default/configmaps cm.yaml\n  echo '{\"spec\":{\"replicas\":5}}' | gantry api PATCH /apis/apps/v1/namespaces/default/deployments/hello -\n  gantry api GET '/api/v1/namespaces/default/pods/web/log?follow=true'"
    )]
    Api(ApiArgs),
    /// Print the version.
    Version,
}

/// How a cluster is started.
#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// How many nodes the cluster has on this host; kept from the first start on [default: 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=14))]
    pub(crate) nodes: Option<u16>,
    /// Stay in the foreground.
    #[arg(long)]
    pub(crate) foreground: bool,
}

/// How an agent runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct AgentArgs {
    /// Where the node keeps everything.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/gantry")]
    pub(crate) data_dir: PathBuf,
    /// The API, as https://ADDRESS:PORT; kept from the first start on.
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The token to join with; not needed again once the node has its certificate.
    #[arg(long)]
    pub(crate) token: Option<String>,
    /// The node's name [default: this host's].
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// The node's own address [default: the one it reaches the API from].
    #[arg(long, value_name = "IP")]
    pub(crate) node_ip: Option<Ipv4Addr>,
    /// How often the node says that it is alive, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    pub(crate) heartbeat: u64,
    /// Settings of a node that shares its host with others of its cluster, as JSON.
    #[arg(long, hide = true)]
    pub(crate) place: Option<String>,
}

/// What to do with tokens.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token that is good for a day, and print it.
    #[command(after_help = "Example:\n  gantry token create")]
    Create(ClusterArgs),
}

/// How a cluster is stopped.
#[derive(Clone, Debug, Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Remove the cluster's data too.
    #[arg(long)]
    pub(crate) purge: bool,
}

/// How a cluster is shown.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// `json` for programs.
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    pub(crate) output: String,
}

/// What is handed to kubectl.
#[derive(Clone, Debug, Args)]
pub(crate) struct KubectlArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// kubectl's own arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) args: Vec<String>,
}

/// A request to the API.
#[derive(Clone, Debug, Args)]
pub(crate) struct ApiArgs {
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Print only what lies at this JSON pointer; may be given several times.
    #[arg(long, value_name = "POINTER")]
    pub(crate) pick: Vec<String>,
    /// What kind of patch a PATCH is.
    #[arg(long, value_parser = ["merge", "json", "strategic-merge"], default_value = "merge")]
    pub(crate) patch: String,
    /// GET, POST, PUT, PATCH or DELETE.
    pub(crate) method: String,
    /// Path and query, such as /api/v1/nodes.
    pub(crate) path: String,
    /// The body, as JSON or YAML; `-` is standard input.
    pub(crate) file: Option<PathBuf>,
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
    /// After how many seconds a silent node counts as gone. Nodes started by `up` report five times as often.
    #[arg(long, value_name = "SECONDS", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) node_grace: u64,
    /// If the store is damaged, go on with what is sound before the damage: later changes are lost, the damaged files are put aside.
    #[arg(long)]
    pub(crate) salvage: bool,
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

    /// A process that was started for the user ended; its own words and exit code.
    pub(crate) fn ended(message: impl Into<String>, code: u8) -> Self {
        Self { message: message.into(), source: None, code }
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
            if cause.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == std::io::ErrorKind::StorageFull) {
                text.push_str("; the disk is full: make room there and start again");
            }
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
        Command::Up(args) => up::run(&args),
        Command::Down(args) => down::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Server(args) => server::run(&args),
        Command::Agent(args) => agent::run(&args),
        Command::Token(TokenCommand::Create(cluster)) => token::create(&cluster),
        Command::Image(command) => image::run(command),
        Command::Kubectl(args) => kubectl::run(&args),
        Command::Api(args) => api::run(&args),
        Command::Version => {
            crate::say!("gantry {} (Kubernetes v1.36)", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}

impl ClusterArgs {
    pub(crate) fn open(&self) -> DataDir {
        DataDir::new(&self.data_dir)
    }
}
