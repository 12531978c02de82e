//! A server of constant answers over the same TLS and HTTP stack, in a process of its own: what the stack alone gives.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use gantry_pki::{Authority, Issued, Profile};
use gantry_ports::{BoxFuture, Clock, RealClock, RealRandom, RealSockets, Sockets, Tasks};
use gantry_transport::{Handler, Peer, Request, Response, ServerTls, ServingCertificate, full, serve};
use http_body_util::BodyExt;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

use crate::load::Endpoint;
use crate::{Result, cluster, failed, machine};

/// Answers `/N` with N bytes, after reading what was sent.
#[derive(Default)]
struct Constant(Mutex<BTreeMap<usize, Bytes>>);

impl Handler for Constant {
    fn handle(self: Arc<Self>, request: Request, _: Peer) -> BoxFuture<'static, Response> {
        Box::pin(async move {
            let size = request.uri().path().trim_start_matches('/').parse().unwrap_or(0);
            // A client that breaks off gets no answer anyway.
            let _ = request.into_body().collect().await;
            let body = {
                let mut answers = self.0.lock().expect("nothing panics while it holds this lock");
                answers.entry(size).or_insert_with(|| vec![b'x'; size].into()).clone()
            };
            let mut response = Response::new(full(body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
            response
        })
    }
}

/// A certificate for a server on this host, and the authority (PEM) that it is to be trusted by.
pub(crate) fn issue() -> Result<(String, Issued)> {
    let (clock, random) = (RealClock::new(), RealRandom::new().map_err(failed("random numbers"))?);
    let authority = Authority::generate("bench", clock.now(), &random).map_err(failed("an authority"))?;
    let profile = Profile { common_name: "bench".into(), dns_names: vec!["localhost".into()], server: true, ..Profile::default() };
    let issued = authority.issue(&profile, Duration::from_secs(86400), clock.now(), &random).map_err(failed("a certificate"))?;
    Ok((authority.certificate_pem().to_owned(), issued))
}

/// Serves until standard input ends; says its port and its authority on standard output.
pub(crate) async fn serve_until_told(tasks: &Tasks) -> Result<()> {
    let (authority, issued) = issue()?;
    let certificate = ServingCertificate::new(&issued).map_err(failed("a certificate"))?;
    let tls = ServerTls::new(certificate, &authority).map_err(failed("TLS"))?;
    let listener = RealSockets.bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.map_err(failed("listening"))?;
    let address = listener.local_addr().map_err(failed("listening"))?;
    serve(listener, tls, tasks, Arc::new(Constant::default()));
    println!("{}", serde_json::json!({"address": address, "authority": authority}));
    let wait = || std::io::stdin().lock().read_line(&mut String::new());
    tasks.blocking(wait).await.map(drop).map_err(failed("waiting"))
}

/// The server of constant answers as a child process, ended when dropped.
pub(crate) struct ConstantServer {
    child: Child,
    pub(crate) endpoint: Endpoint,
}

impl ConstantServer {
    pub(crate) fn start() -> Result<Self> {
        let program = std::env::current_exe().map_err(failed("finding this program"))?;
        let mut command = Command::new(program);
        command.arg("--serve-constant").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(failed("starting the constant server"))?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("the constant server has no output")?;
        BufReader::new(output).read_line(&mut line).map_err(failed("the constant server"))?;
        let said: serde_json::Value = serde_json::from_str(&line).map_err(failed("the constant server"))?;
        let address = said["address"].as_str().and_then(|a| a.parse().ok()).ok_or("the constant server says no address")?;
        let tls = cluster::client_tls(said["authority"].as_str().unwrap_or(""), None)?;
        Ok(Self { child, endpoint: Endpoint { address, tls } })
    }

    pub(crate) fn cpu_seconds(&self) -> f64 {
        machine::cpu_seconds(self.child.id())
    }
}

impl Drop for ConstantServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
