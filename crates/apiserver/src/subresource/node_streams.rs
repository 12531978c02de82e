//! Logs and streams of containers: found by the pod, fetched from its node.

use std::net::SocketAddr;

use gantry_client::Verb;
use gantry_object::{GroupResource, Reason, Status, Value, meta};
use gantry_transport::{HttpsClient, Request, Response, Target, relay};
use http_body_util::BodyExt;

use crate::admission;
use crate::call::Call;
use crate::path::Query;
use crate::server::Server;

/// What of a container a subresource leads to.
const STREAMS: [&str; 4] = ["log", "exec", "attach", "portforward"];

/// Whether a call is answered by the pod's node.
pub(crate) fn is_stream(call: &Call) -> bool {
    call.kind.kind == "Pod" && STREAMS.contains(&call.subresource.as_str())
}

impl Server {
    /// Passes an authorized call on to the pod's node, upgrades included.
    pub(crate) async fn stream(&self, call: &Call, request: Request, query: &Query) -> Result<Response, Status> {
        let right = if call.subresource == "log" { call.verb == Verb::Get } else { matches!(call.verb, Verb::Get | Verb::Create) };
        if !right {
            return Err(Status::method_not_supported(&call.resource(), call.verb_name()));
        }
        let pod = self.stored_tree("pods", &call.object.namespace, &call.object.name).ok_or_else(|| call.not_found())?;
        if call.subresource != "log" {
            admission::connect(self, call, query).await?;
        }
        let (namespace, name) = (&call.object.namespace, &call.object.name);
        let raw = request.uri().query().unwrap_or("").to_owned();
        let path = match call.subresource.as_str() {
            "portforward" => format!("/portForward/{namespace}/{name}?{raw}"),
            "log" => format!("/containerLogs/{namespace}/{name}/{}?{raw}", container(&pod, query)?),
            other => format!("/{other}/{namespace}/{name}/{}?{raw}", container(&pod, query)?),
        };
        if call.subresource == "log" {
            must_have_begun(&pod, &container(&pod, query)?)?;
        }
        let client = self.node_of(&pod)?;
        let uri = path.parse().map_err(|_| Status::bad_request("the request's query is malformed"))?;
        let answer = relay(&client, request, uri, self.tasks()).await.map_err(|e| {
            let mut message = e.to_string();
            let mut source = std::error::Error::source(&e);
            while let Some(cause) = source {
                message = format!("{message}: {cause}");
                source = cause.source();
            }
            Status::internal(message)
        })?;
        if answer.status().is_client_error() || answer.status().is_server_error() {
            let code = answer.status().as_u16();
            let body = answer.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
            let reason = match code {
                404 => Reason::NotFound,
                400 => Reason::BadRequest,
                _ => Reason::InternalError,
            };
            return Err(Status::failure(code, reason, String::from_utf8_lossy(&body)));
        }
        Ok(answer)
    }

    /// A client for the node that a pod runs on.
    fn node_of(&self, pod: &Value) -> Result<HttpsClient, Status> {
        let name = pod["spec"]["nodeName"].as_str().unwrap_or("");
        if name.is_empty() {
            return Err(Status::bad_request(format!("pod {} does not have a host assigned", meta::name(pod))));
        }
        let target = self.node_target(name)?;
        self.dial_node(target).ok_or_else(|| Status::unavailable("this server has no way to nodes' own APIs"))
    }

    /// Where a node says that its own API is.
    pub(crate) fn node_target(&self, name: &str) -> Result<Target, Status> {
        let node = self.stored_tree("nodes", "", name).ok_or_else(|| Status::not_found(&GroupResource::new("", "nodes"), name))?;
        let addresses = node["status"]["addresses"].as_array().into_iter().flatten();
        let internal = addresses.filter(|a| a["type"] == "InternalIP").find_map(|a| a["address"].as_str()?.parse().ok());
        let port = node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64().and_then(|p| u16::try_from(p).ok());
        let (Some(ip), Some(port)): (Option<std::net::IpAddr>, _) = (internal, port) else {
            return Err(Status::unavailable(format!("node {name} has not said where its own API listens")));
        };
        Ok(Target { address: SocketAddr::new(ip, port), name: ip.to_string() })
    }
}

/// The container that a call means: the one it names, the only one, or the one the pod marks as its default.
fn container(pod: &Value, query: &Query) -> Result<String, Status> {
    let names = |list: &str| -> Vec<String> {
        let items = pod["spec"][list].as_array().into_iter().flatten();
        items.filter_map(|c| c["name"].as_str()).map(str::to_owned).collect()
    };
    let (apps, inits) = (names("containers"), names("initContainers"));
    let all: Vec<&String> = apps.iter().chain(&inits).collect();
    let asked = query.get("container");
    let pod_name = meta::name(pod);
    if !asked.is_empty() {
        let known = all.iter().any(|n| *n == asked);
        return if known {
            Ok(asked.into())
        } else {
            Err(Status::bad_request(format!("container {asked} is not valid for pod {pod_name}")))
        };
    }
    if let Some(default) = meta::annotation(pod, "kubectl.kubernetes.io/default-container").filter(|d| apps.iter().any(|a| a == d)) {
        return Ok(default.into());
    }
    match &apps[..] {
        [only] => Ok(only.clone()),
        _ => {
            let inits = if inits.is_empty() { String::new() } else { format!(" or one of the init containers: [{}]", inits.join(" ")) };
            let choice = format!("choose one of: [{}]{inits}", apps.join(" "));
            Err(Status::bad_request(format!("a container name must be specified for pod {pod_name}, {choice}")))
        }
    }
}

/// A container that waits to be started has no log: the answer says what it waits for.
fn must_have_begun(pod: &Value, container: &str) -> Result<(), Status> {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let statuses = lists.iter().flat_map(|l| pod["status"][*l].as_array().into_iter().flatten());
    let status = statuses.into_iter().find(|s| s["name"] == container);
    let never = status.is_none_or(|s| s["state"].get("waiting").is_some() && s["lastState"].get("terminated").is_none());
    if !never {
        return Ok(());
    }
    let waiting = status.map_or(&Value::Null, |s| &s["state"]["waiting"]);
    let why = match (waiting["reason"].as_str(), waiting["message"].as_str().filter(|m| !m.is_empty())) {
        (_, Some(message)) if waiting["reason"] != "ContainerCreating" => message.to_owned(),
        (Some(reason), _) => reason.to_owned(),
        (None, _) => "waiting".into(),
    };
    Err(Status::bad_request(format!("container {container:?} in pod {:?} is waiting to start: {why}", meta::name(pod))))
}
