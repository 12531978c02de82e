//! Probes and hooks: asking a container how it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gantry_containers::ContainerId;
use gantry_ports::RealSockets;
use gantry_transport::{Body, ClientTls, HttpsClient, Target};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use crate::shared::Shared;

/// Which probe of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }

    pub(crate) fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
        }
    }
}

/// Counts what a probe finds until the count reaches a threshold. Pure.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counter {
    last: Option<bool>,
    run: i32,
}

impl Counter {
    /// Takes in a result; says the verdict when a threshold is reached.
    pub(crate) fn take(&mut self, passed: bool, probe: &Probe) -> Option<bool> {
        self.run = if self.last == Some(passed) { self.run + 1 } else { 1 };
        self.last = Some(passed);
        let threshold = if passed { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        (self.run >= threshold.max(1)).then_some(passed)
    }
}

/// Asks once. The error says what is wrong.
pub(crate) async fn ask(shared: &Shared, pod_ips: &[String], container: &Container, id: &ContainerId, probe: &Probe) -> Result<(), String> {
    let patience = Duration::from_secs(probe.timeout_seconds.unwrap_or(1).max(1).unsigned_abs().into());
    let asked = async {
        if let Some(exec) = &probe.exec {
            run_exec(shared, id, exec, Some(patience)).await
        } else if let Some(get) = &probe.http_get {
            http_get(shared, pod_ips, container, get).await
        } else if let Some(tcp) = &probe.tcp_socket {
            let address = address(pod_ips, container, tcp.host.as_deref(), &tcp.port)?;
            TcpStream::connect(address).await.map(drop).map_err(|e| format!("dial tcp {address}: {e}"))
        } else {
            Err("this kind of probe is not supported yet".into())
        }
    };
    gantry_ports::select! {
        result = asked => result,
        () = shared.clock.sleep(patience) => Err(format!("probe timed out after {patience:?}")),
    }
}

/// Runs a hook; `limit` bounds its time.
pub(crate) async fn run_hook(
    shared: &Arc<Shared>,
    pod_ips: &[String],
    container: &Container,
    id: &ContainerId,
    hook: &LifecycleHandler,
    limit: Option<Duration>,
) -> Result<(), String> {
    let act = async {
        if let Some(exec) = &hook.exec {
            return run_exec(shared, id, exec, limit).await;
        }
        if let Some(get) = &hook.http_get {
            return http_get(shared, pod_ips, container, get).await;
        }
        if let Some(sleep) = &hook.sleep {
            shared.clock.sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs())).await;
        }
        Ok(())
    };
    match limit {
        None => act.await,
        Some(limit) => gantry_ports::select! {
            result = act => result,
            () = shared.clock.sleep(limit) => Err(format!("not done after {limit:?}")),
        },
    }
}

async fn run_exec(shared: &Shared, id: &ContainerId, exec: &ExecAction, limit: Option<Duration>) -> Result<(), String> {
    let command = exec.command.clone().unwrap_or_default();
    match shared.runtime.exec_sync(id, &command, limit).await {
        Ok(result) if result.exit_code == 0 => Ok(()),
        Ok(result) => {
            let mut text = result.stdout;
            text.extend(result.stderr);
            let shown = String::from_utf8_lossy(&text[..text.len().min(1024)]).trim().to_owned();
            Err(if shown.is_empty() { format!("command exited with {}", result.exit_code) } else { shown })
        }
        Err(error) => Err(gantry_object::chain(&error)),
    }
}

fn port_number(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name.as_str()));
            named.map(|p| p.container_port).or_else(|| name.parse().ok())
        }
    };
    number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0).ok_or_else(|| format!("invalid port {port:?}"))
}

fn address(pod_ips: &[String], container: &Container, host: Option<&str>, port: &IntOrString) -> Result<SocketAddr, String> {
    let host = host.filter(|h| !h.is_empty()).map(str::to_owned).or_else(|| pod_ips.first().cloned()).unwrap_or_default();
    let ip = host.parse().map_err(|_| format!("host {host:?} is not an address"))?;
    Ok(SocketAddr::new(ip, port_number(container, port)?))
}

/// A GET that succeeds with any status from 200 to 399. Certificates of HTTPS are not looked at, as upstream has it.
async fn http_get(shared: &Shared, pod_ips: &[String], container: &Container, get: &HTTPGetAction) -> Result<(), String> {
    let address = address(pod_ips, container, get.host.as_deref(), &get.port)?;
    let path = get.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let slash = if path.starts_with('/') { "" } else { "/" };
    let own = get.http_headers.iter().flatten();
    let host = own.clone().find(|h| h.name.eq_ignore_ascii_case("host")).map_or_else(|| address.to_string(), |h| h.value.clone());
    let mut request = http::Request::get(format!("{slash}{path}")).header("host", host);
    for (name, value) in [("user-agent", "kube-probe/1.36"), ("accept", "*/*"), ("connection", "close")] {
        request = request.header(name, value);
    }
    for header in own.filter(|h| !h.name.eq_ignore_ascii_case("host")) {
        request = request.header(&header.name, &header.value);
    }
    let request = request.body(gantry_transport::full("")).map_err(|e| e.to_string())?;
    let code = if get.scheme.as_deref() == Some("HTTPS") {
        over_tls(shared, address, request).await?
    } else {
        plain(shared, address, request).await?
    };
    if (200..400).contains(&code) { Ok(()) } else { Err(format!("HTTP probe failed with statuscode: {code}")) }
}

async fn plain(shared: &Shared, address: SocketAddr, request: http::Request<Body>) -> Result<u16, String> {
    let stream = TcpStream::connect(address).await.map_err(|e| format!("dial tcp {address}: {e}"))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| gantry_object::chain(&e))?;
    // The connection ends with the probe, which reads no more than the answer's head.
    let carrying = shared.tasks.spawn(async move { drop(connection.await) });
    let answer = sender.send_request(request).await.map_err(|e| gantry_object::chain(&e));
    carrying.abort();
    Ok(answer?.status().as_u16())
}

async fn over_tls(shared: &Shared, address: SocketAddr, request: http::Request<Body>) -> Result<u16, String> {
    let tls = ClientTls::unverified().map_err(|e| gantry_object::chain(&e))?;
    let target = Target { address, name: address.ip().to_string() };
    let client = HttpsClient::new(target, tls, Arc::new(RealSockets), shared.tasks.clone());
    client.send_alone(request).await.map(|r| r.status().as_u16()).map_err(|e| gantry_object::chain(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_wait_for_their_thresholds() {
        let probe = Probe { failure_threshold: Some(2), success_threshold: Some(1), ..Probe::default() };
        let mut counter = Counter::default();
        let verdicts: Vec<Option<bool>> = [true, false, true, false, false, true].iter().map(|p| counter.take(*p, &probe)).collect();
        assert_eq!(verdicts, [Some(true), None, Some(true), None, Some(false), Some(true)]);
    }
}
