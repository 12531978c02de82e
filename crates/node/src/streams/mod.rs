//! Streams of containers: exec and attach, over whatever carries them.
//!
//! What carries a session turns its own frames into [`Incoming`] and takes [`Outgoing`]; the session itself knows nothing of frames.

mod session;
mod websocket;

use gantry_containers::{ContainerId, ExecConfig};
use gantry_transport::{Request, Response};
use http::StatusCode;
use http::header::UPGRADE;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::http_api::{Refusal, parameters};

/// How many frames may wait either way.
const BUFFER: usize = 32;

/// What the client sends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    Stdin(bytes::Bytes),
    /// Nothing more comes on its standard input.
    StdinEnds,
    /// The size of its terminal: columns and rows.
    Resize(u16, u16),
}

/// What the client is sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing {
    Stdout(bytes::Bytes),
    Stderr(bytes::Bytes),
    /// How it ended, as a `v1 Status`: the last thing said.
    End(String),
}

/// Runs a command in a container, or joins its first process, on a connection that switches protocols.
pub(crate) async fn exec(agent: &Agent, request: Request, id: &ContainerId, runs_command: bool) -> Result<Response, Refusal> {
    let query = parameters(request.uri().query().unwrap_or(""));
    let yes = |key: &str| query.iter().any(|(k, v)| k == key && matches!(v.as_str(), "true" | "1"));
    let command: Vec<String> = query.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.clone()).collect();
    if runs_command && command.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "you must specify at least 1 command for the container".into()));
    }
    let config = ExecConfig { args: command, env: Vec::new(), tty: yes("tty"), stdin: yes("stdin") };
    let failed = |e: gantry_containers::Error| (StatusCode::INTERNAL_SERVER_ERROR, crate::steps::chain(&e));
    let switch = websocket::accept(request)?;
    let session = match runs_command {
        true => agent.shared.runtime.exec(id, &config).await,
        false => agent.shared.runtime.attach(id).await,
    };
    let session = session.map_err(failed)?;
    let (incoming, hears) = mpsc::channel(BUFFER);
    let (says, outgoing) = mpsc::channel(BUFFER);
    let response = switch.start(&agent.shared.tasks, incoming, outgoing);
    let tasks = agent.shared.tasks.clone();
    let wants = (yes("stdout"), yes("stderr"));
    agent.shared.tasks.spawn(async move { session::run(session, hears, says, wants, &tasks).await });
    Ok(response)
}

/// Leads a client to ports of a pod.
pub(crate) async fn port_forward(_agent: &Agent, request: Request, _pod: &Pod) -> Result<Response, Refusal> {
    let asked = request.headers().get(UPGRADE).and_then(|v| v.to_str().ok()).unwrap_or("nothing").to_owned();
    Err((StatusCode::NOT_IMPLEMENTED, format!("port-forward is not built yet (asked for {asked})")))
}
