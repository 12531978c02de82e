//! `gantry image`: the cluster's images.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use gantry_containers::{LocalConfig, LocalRuntime};
use gantry_images::{BuildOptions, Builder, Reference, Registries, Runner, Store};
use serde_json::json;

use crate::cli::{ClusterArgs, Failure};
use crate::server::World;

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Build an image from a Dockerfile.
    #[command(after_help = "Example:\n  gantry image build -t hello:1 examples/hello")]
    Build(BuildArgs),
    /// Take in an OCI archive, a Docker archive or a root file system (tar, tar.gz, tar.zst).
    #[command(after_help = "Examples:\n  gantry image import nginx.tar\n  gantry image import --name base:1 rootfs.tar.gz")]
    Import(ImportArgs),
    /// Fetch an image from its registry.
    Pull(NameArgs),
    /// Write an image as an OCI archive.
    Export(ExportArgs),
    /// List images.
    Ls(ListArgs),
    /// Remove a name; the image goes when nothing else needs it.
    Rm(NameArgs),
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The image's name; may be given several times.
    #[arg(short = 't', long = "tag", required = true)]
    tags: Vec<String>,
    /// The Dockerfile [default: DIR/Dockerfile].
    #[arg(short, long)]
    file: Option<PathBuf>,
    /// A build argument, as NAME=VALUE.
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// Stop after this stage.
    #[arg(long)]
    target: Option<String>,
    /// Run every step again.
    #[arg(long)]
    no_cache: bool,
    /// The directory that COPY and ADD read from.
    dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The name to give, as it is [default: those in the archive].
    #[arg(long)]
    name: Option<String>,
    /// The archive.
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The image's name.
    name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// The image's name.
    name: String,
    /// Where to write it.
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// `json` for programs.
    #[arg(short, long, value_parser = ["text", "json"], default_value = "text")]
    output: String,
}

fn failed(act: impl Into<String>) -> impl FnOnce(gantry_images::Error) -> Failure {
    let act = act.into();
    move |e| Failure::act(act, e)
}

fn open(cluster: &ClusterArgs) -> Result<Arc<Store>, Failure> {
    let path = cluster.open().images();
    Store::open(&path).map(Arc::new).map_err(failed(format!("opening the images in {}", path.display())))
}

fn reference(name: &str) -> Result<Reference, Failure> {
    Reference::parse(name).map_err(|e| Failure::usage(gantry_object::chain(&e)))
}

/// Does what the command says.
pub(crate) fn run(command: ImageCommand) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| Failure::act("starting the runtime", e))?;
    runtime.block_on(async {
        match command {
            ImageCommand::Build(args) => build(&args).await,
            ImageCommand::Import(args) => import(&args),
            ImageCommand::Pull(args) => pull(&args).await,
            ImageCommand::Export(args) => {
                open(&args.cluster)?.export(&args.name, &args.file).map_err(failed(format!("exporting {}", args.name)))
            }
            ImageCommand::Ls(args) => list(&args),
            ImageCommand::Rm(args) => open(&args.cluster)?.remove(&args.name).map_err(failed(format!("removing {}", args.name))),
        }
    })
}

fn registries(world: &World) -> Registries {
    Registries {
        sockets: world.sockets.clone(),
        tasks: world.tasks.clone(),
        clock: world.clock.clone(),
        random: world.random.clone(),
        plain_http: Default::default(),
        authorities: None,
    }
}

async fn build(args: &BuildArgs) -> Result<(), Failure> {
    let world = World::real(tokio::runtime::Handle::current())?;
    let store = open(&args.cluster)?;
    // Each build has a runtime of its own, so that several may go on at once and none meets a node's.
    let name = format!("build-{}", world.random.name_suffix(8));
    let directory = args.cluster.open().root().join("builds").join(&name);
    let group = format!("/gantry-{name}");
    let program = std::env::current_exe().map_err(|e| Failure::act("finding this program", e))?;
    let config = LocalConfig {
        state_dir: directory.clone(),
        cgroup_parent: group.clone(),
        shim_program: program,
        shim_args: vec![crate::SHIM.into()],
    };
    let runtime = LocalRuntime::open(config, world.clock.clone()).await.map_err(|e| Failure::act("opening the container runtime", e))?;
    let names: Result<Vec<Reference>, Failure> = args.tags.iter().map(|t| reference(t)).collect();
    let pair = |a: &String| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
    let options = BuildOptions {
        context: args.dir.clone(),
        dockerfile: args.file.clone(),
        build_args: args.build_arg.iter().filter_map(pair).collect(),
        target: args.target.clone(),
        names: names?,
        no_cache: args.no_cache,
    };
    let registries = registries(&world);
    let builder = Builder {
        store: &store,
        runner: Some(Runner::new(&runtime, &name, &format!("{group}/run"))),
        registries: Some(&registries),
        progress: &|line: &str| eprintln!("{line}"),
    };
    let built = builder.build(&options).await;
    let _ = std::fs::remove_dir_all(&directory);
    let image = built.map_err(failed(format!("building {}", args.dir.display())))?;
    crate::say!("{}", image.id);
    Ok(())
}

fn import(args: &ImportArgs) -> Result<(), Failure> {
    let name = args.name.as_deref().map(reference).transpose()?;
    let names = open(&args.cluster)?.import(&args.file, name.as_ref()).map_err(failed(format!("importing {}", args.file.display())))?;
    names.iter().for_each(|n| crate::say!("{n}"));
    Ok(())
}

async fn pull(args: &NameArgs) -> Result<(), Failure> {
    let world = World::real(tokio::runtime::Handle::current())?;
    let store = open(&args.cluster)?;
    let image = registries(&world).pull(&store, &reference(&args.name)?, None).await.map_err(failed(format!("pulling {}", args.name)))?;
    crate::say!("{}", image.id);
    Ok(())
}

fn list(args: &ListArgs) -> Result<(), Failure> {
    let images = open(&args.cluster)?.list().map_err(failed("listing images"))?;
    if args.output == "json" {
        let all: Vec<_> = images
            .iter()
            .map(|i| json!({"id": i.id.to_string(), "names": i.names.iter().map(ToString::to_string).collect::<Vec<_>>(), "size": i.size}))
            .collect();
        crate::say!("{:#}", json!(all));
        return Ok(());
    }
    crate::say!("{:<56} {:<20} SIZE", "NAME", "ID");
    for image in images {
        let id: String = image.id.to_string().trim_start_matches("sha256:").chars().take(12).collect();
        for name in &image.names {
            crate::say!("{:<56} {id:<20} {:.1} MB", name.to_string(), image.size as f64 / 1e6);
        }
    }
    Ok(())
}
