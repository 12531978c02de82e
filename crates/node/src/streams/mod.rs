//! Streams of containers: exec and attach, over whatever carries them.
//!
//! What carries a session turns its own frames into [`Incoming`] and takes [`Outgoing`]; the session itself knows nothing of frames.

mod port_forward;
mod session;
mod spdy;
mod spdy_exec;
mod switch;
mod websocket;

use std::sync::Arc;

use gantry_containers::{ContainerId, ExecConfig};
use gantry_transport::{Request, Response};
use http::StatusCode;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::http_api::{Refusal, parameters};
use switch::{Wire, accept, plain, tunnelled};

/// How many frames may wait either way.
const BUFFER: usize = 32;
/// Exec's and attach's protocols over WebSocket; without a name it is the first one.
const EXEC_WEBSOCKET: [&str; 4] = ["v5.channel.k8s.io", "v4.channel.k8s.io", "channel.k8s.io", ""];
/// The same over SPDY.
const EXEC_SPDY: [&str; 5] = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io", ""];
const FORWARD_WEBSOCKET: &str = "SPDY/3.1+portforward.k8s.io";
const FORWARD_SPDY: [&str; 2] = ["portforward.k8s.io", ""];
/// Logs over WebSocket.
const LOG_WEBSOCKET: [&str; 2] = ["binary.k8s.io", ""];

/// The version of the protocol that a client and we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V1,
    /// Clients can end standard input.
    V2,
    /// Terminals have sizes.
    V3,
    /// How it ended is told as a `v1 Status`.
    V4,
    /// Over WebSocket too, clients can end standard input.
    V5,
}

impl Version {
    fn of(protocol: &str) -> Self {
        match protocol {
            "v5.channel.k8s.io" => Self::V5,
            "v4.channel.k8s.io" => Self::V4,
            "v3.channel.k8s.io" => Self::V3,
            "v2.channel.k8s.io" => Self::V2,
            _ => Self::V1,
        }
    }
}

/// Which streams a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wants {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

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
    /// How it ended: the last thing said.
    End(Ended),
}

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With the process's exit code.
    Exit(i32),
    /// It failed, for a reason in words.
    Failed(String),
}

impl Ended {
    /// What the client is told; nothing, in versions before 4, when all went well.
    fn said(self, version: Version) -> String {
        let message = match &self {
            Self::Exit(0) => String::new(),
            Self::Exit(code) => format!("command terminated with non-zero exit code: exit status {code}"),
            Self::Failed(why) => why.clone(),
        };
        if version < Version::V4 {
            return message;
        }
        let status = match self {
            Self::Exit(0) => json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}),
            Self::Exit(code) => json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "reason": "NonZeroExitCode", "message": message,
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}}),
            Self::Failed(_) => json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "reason": "InternalError", "message": message, "code": 500}),
        };
        status.to_string()
    }
}

/// Runs a command in a container, or joins its first process, on a connection that switches protocols.
pub(crate) async fn exec(agent: &Agent, request: Request, id: &ContainerId, runs_command: bool) -> Result<Response, Refusal> {
    let query = parameters(request.uri().query().unwrap_or(""));
    let yes = |key: &str| query.iter().any(|(k, v)| k == key && matches!(v.as_str(), "true" | "1"));
    let command: Vec<String> = query.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.clone()).collect();
    if runs_command && command.is_empty() {
        return Err((StatusCode::BAD_REQUEST, "you must specify at least 1 command for the container".into()));
    }
    let wants = Wants { stdin: yes("stdin"), stdout: yes("stdout"), stderr: yes("stderr"), tty: yes("tty") };
    if !(wants.stdin || wants.stdout || wants.stderr) {
        return Err((StatusCode::BAD_REQUEST, "you must specify at least 1 of stdin, stdout, stderr".into()));
    }
    let config = ExecConfig { args: command, env: Vec::new(), tty: wants.tty, stdin: wants.stdin };
    let failed = |e: gantry_containers::Error| (StatusCode::INTERNAL_SERVER_ERROR, gantry_object::chain(&e));
    let switch = accept(request, &EXEC_WEBSOCKET, &EXEC_SPDY)?;
    let session = match runs_command {
        true => agent.shared.runtime.exec(id, &config).await,
        false => agent.shared.runtime.attach(id).await,
    };
    let session = session.map_err(failed)?;
    let (incoming, hears) = mpsc::channel(BUFFER);
    let (says, outgoing) = mpsc::channel(BUFFER);
    let (tasks, clock) = (agent.shared.tasks.clone(), agent.shared.clock.clone());
    let (wire, version) = (switch.wire, Version::of(switch.protocol));
    let response = switch.start(&agent.shared.tasks, async move |connection| match wire {
        Wire::WebSocket => websocket::carry(switch::websocket(connection).await, incoming, outgoing, (wants, version), &*clock).await,
        Wire::Spdy => {
            let opened = spdy::serve(&tasks, plain(&tasks, clock.clone(), connection));
            spdy_exec::carry(opened, incoming, outgoing, (wants, version), clock).await;
        }
    });
    let tasks = agent.shared.tasks.clone();
    agent.shared.tasks.spawn(async move { session::run(session, hears, says, wants, runs_command, &tasks).await });
    Ok(response)
}

/// Leads a client to ports of a pod, over SPDY, plain or inside a WebSocket.
pub(crate) async fn port_forward(agent: &Agent, request: Request, pod: &Pod) -> Result<Response, Refusal> {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let uid = text(&pod.metadata.uid);
    let namespace = match pod.spec.as_ref().and_then(|s| s.host_network) {
        Some(true) => None,
        _ => {
            let (network, uid) = (agent.shared.network.clone(), uid.clone());
            let link = agent.shared.tasks.blocking(move || network.attached().contains(&uid).then(|| network.attach(&uid))).await;
            let link = link.ok_or_else(|| (StatusCode::BAD_REQUEST, "the pod has no network yet".to_owned()))?;
            Some(link.map_err(|why| (StatusCode::INTERNAL_SERVER_ERROR, why))?.namespace)
        }
    };
    let name = format!("{}_{}", text(&pod.metadata.name), text(&pod.metadata.namespace));
    let (tasks, clock) = (agent.shared.tasks.clone(), agent.shared.clock.clone());
    let target = Arc::new(port_forward::Target { namespace, pod: name, uid, tasks: tasks.clone() });
    let switch = accept(request, &[FORWARD_WEBSOCKET], &FORWARD_SPDY)?;
    let wire = switch.wire;
    Ok(switch.start(&agent.shared.tasks, async move |connection| {
        let carrier = match wire {
            Wire::WebSocket => tunnelled(&tasks, clock.clone(), switch::websocket(connection).await),
            Wire::Spdy => plain(&tasks, clock.clone(), connection),
        };
        port_forward::run(spdy::serve(&tasks, carrier), target, clock).await;
    }))
}

/// Sends a log's pieces over a WebSocket.
pub(crate) fn log(agent: &Agent, request: Request, pieces: mpsc::Receiver<bytes::Bytes>) -> Result<Response, Refusal> {
    let clock = agent.shared.clock.clone();
    let switch = accept(request, &LOG_WEBSOCKET, &[])?;
    Ok(switch.start(&agent.shared.tasks, async move |connection| {
        websocket::pour(switch::websocket(connection).await, pieces, &*clock).await;
    }))
}
