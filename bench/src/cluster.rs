//! The subject: a control plane alone, or a whole cluster, with a directory and a port of its own.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use gantry_ports::Clock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;

use crate::load::{Client, Endpoint, request};
use crate::{Bench, Result, failed, machine};

/// How long a server may take to answer before the row is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a server that is starting is asked.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// A client's side of TLS: trusts an authority (PEM), and shows a certificate with its key if given.
pub(crate) fn client_tls(authority: &str, certificate: Option<(&str, &str)>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(authority.as_bytes()).map_err(|e| format!("the authority: {e:?}"))?;
    roots.add(authority).map_err(failed("the authority"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed("TLS"))?;
    let builder = builder.with_root_certificates(roots);
    let config = match certificate {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).filter_map(std::result::Result::ok).collect();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|e| format!("the key: {e:?}"))?;
            builder.with_client_auth_cert(chain, key).map_err(failed("the certificate"))?
        }
    };
    Ok(Arc::new(config))
}

/// A free port of this host.
pub(crate) fn free_port() -> Result<u16> {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map(|a| a.port()).map_err(failed("a free port"))
}

/// A cluster's directory and port; nothing need run there.
pub(crate) struct Cluster<'a> {
    bench: &'a Bench,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) port: u16,
}

impl<'a> Cluster<'a> {
    pub(crate) fn new(bench: &'a Bench) -> Result<Self> {
        Ok(Self { bench, directory: bench.directory()?, port: free_port()? })
    }

    /// This cluster's `gantry` with a command and more arguments.
    pub(crate) fn gantry(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.bench.options.gantry);
        command.args(args).arg("--data-dir").arg(self.directory.path()).env("GANTRY_LOG", "warn").stdin(Stdio::null());
        command
    }

    /// Runs a command to its end; what it says.
    pub(crate) fn run(&self, args: &[&str]) -> Result<String> {
        let output = self.gantry(args).output().map_err(failed(format!("gantry {}", args.join(" "))))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(format!("gantry {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// Starts the control plane alone and waits until it answers.
    pub(crate) async fn serve(&self, more: &[&str]) -> Result<Server> {
        let port = self.port.to_string();
        let mut args = vec!["server", "--port", &port];
        args.extend(more);
        let log = std::fs::File::create(self.directory.path().join("bench.log")).map_err(failed("the server's log"))?;
        let begun = self.bench.clock.monotonic();
        let child = machine::ends_with_us(self.gantry(&args).stderr(log)).spawn().map_err(failed("starting the server"))?;
        let mut server = Server { child, endpoint: None, started_in: Duration::ZERO };
        server.endpoint = Some(self.until_ready(begun).await?);
        server.started_in = self.bench.clock.monotonic() - begun;
        Ok(server)
    }

    /// Waits until the API says it is ready.
    pub(crate) async fn until_ready(&self, begun: Duration) -> Result<Endpoint> {
        loop {
            if let Ok(endpoint) = self.endpoint()
                && let Ok(mut client) = Client::connect(&endpoint).await
                && client.succeed(&request("GET", "/readyz", "", b"")).await.is_ok()
            {
                return Ok(endpoint);
            }
            if self.bench.clock.monotonic() - begun > PATIENCE {
                return Err(format!("after {PATIENCE:?} the API in {} is not ready", self.directory.path().display()));
            }
            self.bench.clock.sleep(LOOK_EVERY).await;
        }
    }

    /// How the API is reached as administrator: as the kubeconfig says.
    pub(crate) fn endpoint(&self) -> Result<Endpoint> {
        let path = self.directory.path().join("kubeconfig");
        let text = std::fs::read(&path).map_err(failed(path.display()))?;
        let config: Value = serde_json::from_slice(&text).map_err(failed(path.display()))?;
        let decode = |at: &str| -> Result<String> {
            let encoded = config.pointer(at).and_then(Value::as_str).unwrap_or("");
            let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(failed(at))?;
            String::from_utf8(bytes).map_err(failed(at))
        };
        let certificate = (decode("/users/0/user/client-certificate-data")?, decode("/users/0/user/client-key-data")?);
        let tls = client_tls(&decode("/clusters/0/cluster/certificate-authority-data")?, Some((&certificate.0, &certificate.1)))?;
        Ok(Endpoint { address: SocketAddr::from(([127, 0, 0, 1], self.port)), tls })
    }

    /// The processes of a running cluster: all of them, or those of one role.
    pub(crate) fn pids(&self, role: Option<&str>) -> Result<Vec<u32>> {
        let status: Value = serde_json::from_str(&self.run(&["status", "-o", "json"])?).map_err(failed("gantry status"))?;
        let processes = status["processes"].as_array().into_iter().flatten();
        let wanted = processes.filter(|p| role.is_none_or(|role| p["role"] == role));
        Ok(wanted.filter_map(|p| u32::try_from(p["pid"].as_u64()?).ok()).collect())
    }
}

/// A control plane that runs as a child of this process; killed when dropped.
pub(crate) struct Server {
    child: Child,
    endpoint: Option<Endpoint>,
    /// From starting the process until the API was ready.
    pub(crate) started_in: Duration,
}

impl Server {
    pub(crate) fn endpoint(&self) -> &Endpoint {
        self.endpoint.as_ref().expect("a server is handed out when its endpoint is known")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        machine::cpu_seconds(self.pid())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A whole cluster in the background, taken down and purged when dropped.
pub(crate) struct Up<'a>(pub(crate) Cluster<'a>);

impl<'a> Up<'a> {
    /// `gantry up`, until it says that the cluster is ready.
    pub(crate) fn start(bench: &'a Bench, more: &[&str]) -> Result<Self> {
        let up = Self(Cluster::new(bench)?);
        let port = up.0.port.to_string();
        up.0.run(&[&["up", "--port", &port], more].concat())?;
        Ok(up)
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        if let Err(why) = self.0.run(&["down", "--purge"]) {
            eprintln!("gantry-bench: {why}");
        }
    }
}
