//! The API as its administrator sees it from outside the server's process, by the kubeconfig.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine;
use gantry_client::HttpsApi;
use gantry_pki::Issued;
use gantry_transport::{ClientTls, HttpsClient, Target};
use serde_json::Value;

use crate::cli::Failure;
use crate::data_dir::DataDir;
use crate::server::World;

/// The API, with the administrator's certificate.
pub(crate) fn connect(world: &World, dir: &DataDir) -> Result<HttpsApi, Failure> {
    Ok(HttpsApi::new(https(world, dir)?, None, world.tasks.clone()))
}

/// Plain HTTPS, with the administrator's certificate.
pub(crate) fn https(world: &World, dir: &DataDir) -> Result<HttpsClient, Failure> {
    let path = dir.kubeconfig();
    let bytes = std::fs::read(&path).map_err(|e| Failure::act(format!("reading {}; is the cluster up?", path.display()), e))?;
    let damaged = || Failure::usage(format!("{} is damaged; `gantry up` writes it anew", path.display()));
    let config: Value = serde_json::from_slice(&bytes).map_err(|_| damaged())?;
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).ok_or_else(damaged);
    let pem = |pointer: &str| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text(pointer)?).map_err(|_| damaged())?;
        String::from_utf8(bytes).map_err(|_| damaged())
    };
    let issued = Issued { certificate_pem: pem("/users/0/user/client-certificate-data")?, key_pem: pem("/users/0/user/client-key-data")? };
    let tls = ClientTls::new(&pem("/clusters/0/cluster/certificate-authority-data")?, Some(&issued));
    let tls = tls.map_err(|e| Failure::act("setting up TLS", e))?;
    let target = parse_url(text("/clusters/0/cluster/server")?)?;
    Ok(HttpsClient::new(target, tls, Arc::clone(&world.sockets), world.tasks.clone()))
}

/// Where `https://ADDRESS:PORT` leads.
pub(crate) fn parse_url(url: &str) -> Result<Target, Failure> {
    let wrong = || Failure::usage(format!("{url:?} is not https://ADDRESS:PORT with an IP address"));
    let rest = url.strip_prefix("https://").ok_or_else(wrong)?.trim_end_matches('/');
    let address: SocketAddr = if rest.contains(':') { rest.parse() } else { format!("{rest}:6443").parse() }.map_err(|_| wrong())?;
    Ok(Target { address, name: address.ip().to_string() })
}
