//! The images that the tests run.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::harness::{Cluster, succeed};

/// Where images are kept that take long to make: once for each checkout.
pub(crate) fn cache() -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp has a parent").join("test-images");
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// The workspace's folder.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The example's static binary, built if need be.
pub(crate) fn hello() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        // Its own target directory: cargo holds a lock on the one that these tests were built in.
        let (target, triple) = (cache().join("hello"), format!("{}-unknown-linux-gnu", std::env::consts::ARCH));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "hello", "--bin", "hello", "--target", &triple, "--target-dir"]).arg(&target);
        cargo.current_dir(workspace()).env("RUSTFLAGS", "-C target-feature=+crt-static -C relocation-model=static");
        succeed(&mut cargo);
        target.join(triple).join("debug/hello")
    })
}

impl Cluster {
    /// Builds `box`: a shell and its tools, statically linked. Its name needs no registry.
    pub(crate) fn with_box(self) -> Self {
        let context = tempfile::tempdir().expect("a directory");
        let bin = context.path().join("bin");
        fs::create_dir_all(&bin).and_then(|()| fs::create_dir(context.path().join("tmp"))).expect("directories");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for tool in succeed(Command::new("/bin/busybox").arg("--list")).lines().filter(|t| *t != "busybox") {
            symlink("busybox", bin.join(tool)).expect("a link");
        }
        let dockerfile = "FROM scratch\nCOPY bin /bin\nCOPY tmp /tmp\nENV PATH=/bin\nCMD [\"/bin/sh\"]\n";
        fs::write(context.path().join("Dockerfile"), dockerfile).expect("a file");
        self.build("box:1", context.path(), &[]);
        self
    }

    /// Builds `hello:VERSION` from the example's Dockerfile.
    pub(crate) fn with_hello(self, version: &str) -> Self {
        let context = tempfile::tempdir().expect("a directory");
        fs::copy(hello(), context.path().join("hello")).expect("the binary");
        fs::copy(workspace().join("examples/hello/Dockerfile"), context.path().join("Dockerfile")).expect("the Dockerfile");
        self.build(&format!("hello:{version}"), context.path(), &["--build-arg", &format!("VERSION={version}")]);
        self
    }
}

/// The example's objects.
pub(crate) fn hello_app() -> String {
    fs::read_to_string(workspace().join("examples/hello/app.yaml")).expect("the example")
}
