//! The task that looks after APIServices: those of groups served here are made, those of others are tried and their state is said.

use std::sync::Arc;
use std::time::Duration;

use gantry_client::{Api, Request};
use gantry_object::{GroupVersion, ObjectName, Resource, Value};
use gantry_store::Key;
use serde_json::json;

use super::{API_SERVICES, Remote};
use crate::custom::{DEFINITIONS, own_call};
use crate::server::Server;
use crate::user::{MASTERS, User};

/// How often everything is looked at though nothing has changed.
const EVERY: Duration = Duration::from_secs(30);
/// How long after a failure a server is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// How often a server is asked before it counts as away.
const ATTEMPTS: usize = 3;
const KIND: Resource = Resource::cluster("apiregistration.k8s.io", "v1", "apiservices", "APIService");
const AUTO: &str = "kube-aggregator.kubernetes.io/automanaged";

/// What the condition `Available` says.
#[derive(Debug, PartialEq, Eq)]
struct Condition {
    status: &'static str,
    reason: &'static str,
    message: String,
}

impl Condition {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: "False", reason, message }
    }
}

impl Server {
    /// Starts looking after APIServices, where they are served.
    pub(crate) fn keep_api_services(&self) {
        if self.kind(KIND.group, KIND.version, KIND.plural).is_none() {
            return;
        }
        let server = self.clone();
        self.tasks().spawn(async move {
            loop {
                server.follow_api_services().await;
            }
        });
    }

    async fn follow_api_services(&self) {
        let from = self.store().snapshot().revision();
        let watch = |resource| self.store().watch(resource, None, from);
        let watchers = (watch(API_SERVICES), watch("services"), watch("endpointslices.discovery.k8s.io"), watch(DEFINITIONS));
        let (Ok(mut own), Ok(mut services), Ok(mut slices), Ok(mut definitions)) = watchers else {
            return self.clock().sleep(AGAIN).await;
        };
        loop {
            self.register_local().await;
            let all_well = self.look_at_api_services().await;
            let mut pause = self.clock().sleep(if all_well { EVERY } else { AGAIN });
            // What happens in other namespaces is nothing to those who serve.
            let namespaces: Vec<String> = self.remotes().iter().map(|r| r.namespace.clone()).collect();
            loop {
                let event = gantry_ports::select! {
                    event = own.next() => event,
                    event = definitions.next() => event,
                    event = services.next(), if !namespaces.is_empty() => event,
                    event = slices.next(), if !namespaces.is_empty() => event,
                    () = &mut pause => break,
                };
                match event {
                    Ok(event) if event.key.namespace().is_empty() || namespaces.iter().any(|n| n == event.key.namespace()) => break,
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
            // What came together is looked at once.
            for watcher in [&mut own, &mut services, &mut slices, &mut definitions] {
                while let Ok(Some(_)) = watcher.try_next() {}
            }
        }
    }

    /// Makes an APIService for every group and version that is served here, and removes those that were made for what no longer is.
    async fn register_local(&self) {
        let client = self.client(User::authenticated("system:apiserver", &[MASTERS]));
        let builtin: Vec<GroupVersion> = self.kinds().iter().map(|k| GroupVersion::new(&k.group, &k.version)).collect();
        let served = self.discovery().versions();
        let client = &client;
        let mut missing: Vec<gantry_ports::BoxFuture<'_, ()>> = Vec::new();
        for gv in &served {
            let name = format!("{}.{}", gv.version, gv.group);
            if self.store().get(&Key::new(API_SERVICES, "", &name)).is_some() {
                continue;
            }
            let managed = if builtin.contains(gv) { "onstart" } else { "true" };
            let object = api_service(&name, gv, managed);
            missing.push(Box::pin(async move {
                if let Err(status) = client.call(Request::create(KIND, "", &object)).await
                    && !status.is_already_exists()
                {
                    tracing::warn!(name, status.message, "an APIService could not be made");
                }
            }));
        }
        // Side by side, so that they share flushes.
        gantry_ports::join_all(missing).await;
        let snapshot = self.store().snapshot();
        for item in snapshot.list(API_SERVICES, None, None) {
            let Ok(object) = item.object.decode::<Value>() else { continue };
            let gv = GroupVersion::new(
                object["spec"]["group"].as_str().unwrap_or_default(),
                object["spec"]["version"].as_str().unwrap_or_default(),
            );
            let stray = object["metadata"]["labels"][AUTO] == "true" && object["spec"]["service"].is_null() && !served.contains(&gv);
            if stray && let Err(status) = client.call(Request::new(gantry_client::Verb::Delete, KIND, "", item.path)).await {
                tracing::debug!(name = item.path, status.message, "an APIService could not be removed");
            }
        }
    }

    /// Says of every APIService whether it is available. Whether all are.
    async fn look_at_api_services(&self) -> bool {
        let snapshot = self.store().snapshot();
        let mut all_well = true;
        let local = Condition { status: "True", reason: "Local", message: "Local APIServices are always available".into() };
        let mut said: Vec<gantry_ports::BoxFuture<'_, ()>> = Vec::new();
        for item in snapshot.list(API_SERVICES, None, None) {
            let Ok(object) = item.object.decode::<Value>() else { continue };
            if object["spec"]["service"].is_null() {
                let local = &local;
                said.push(Box::pin(async move { self.say(item.path, &object, local).await }));
            }
        }
        gantry_ports::join_all(said).await;
        let remotes = self.remotes();
        self.aggregation().remembered.retain(&remotes);
        // Side by side: one that hangs keeps nobody waiting.
        let tried = remotes.iter().map(|remote| {
            let tried: gantry_ports::BoxFuture<'_, (Arc<Remote>, Condition)> =
                Box::pin(async { (remote.clone(), self.try_out(remote).await) });
            tried
        });
        for (remote, condition) in gantry_ports::join_all(tried.collect()).await {
            all_well &= condition.status == "True";
            let object = self.stored_tree(API_SERVICES, "", &remote.name).unwrap_or_default();
            self.say(&remote.name, &object, &condition).await;
        }
        all_well
    }

    /// Whether another server can be reached and says what it serves.
    async fn try_out(&self, remote: &Remote) -> Condition {
        let (name, namespace, port) = (&remote.service, &remote.namespace, remote.port);
        let Some(service) = self.stored_tree("services", namespace, name) else {
            return Condition::no("ServiceNotFound", format!("service/{name} in {namespace:?} is not present"));
        };
        if service["spec"]["type"].as_str().is_none_or(|t| t == "ClusterIP") {
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let Some(port_name) = ports.into_iter().find(|p| p["port"] == port).map(|p| p["name"].as_str().unwrap_or_default().to_owned())
            else {
                return Condition::no("ServicePortError", format!("service/{name} in {namespace:?} is not listening on port {port}"));
            };
            match self.backend(namespace, name, port) {
                Ok(_) => {}
                Err(_) if !self.has_slices(namespace, name) => {
                    return Condition::no("EndpointsNotFound", format!("cannot find endpointslices for service/{name} in {namespace:?}"));
                }
                Err(_) => {
                    let message =
                        format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}");
                    return Condition::no("MissingEndpoints", message);
                }
            }
        }
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            match self.fetch(remote, &remote.discovery_path(), "application/json").await {
                Ok(body) => {
                    let list: Value = serde_json::from_slice(&body).unwrap_or_default();
                    self.ask_what_is_served(remote, &list).await;
                    return Condition { status: "True", reason: "Passed", message: "all checks passed".into() };
                }
                Err(e) => why = e,
            }
        }
        self.aggregation().remembered.lost(&remote.gv);
        Condition::no("FailedDiscoveryCheck", why)
    }

    /// Writes a condition, if it says anything new.
    async fn say(&self, name: &str, object: &Value, condition: &Condition) {
        let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
        let before = conditions.into_iter().find(|c| c["type"] == "Available").cloned().unwrap_or_default();
        if (&before["status"], &before["reason"], &before["message"])
            == (&json!(condition.status), &json!(condition.reason), &json!(condition.message))
        {
            return;
        }
        let Some(kind) = self.kind(KIND.group, KIND.version, KIND.plural) else { return };
        let since = match before["status"] == condition.status {
            true => before["lastTransitionTime"].clone(),
            false => json!(self.clock().now().rfc3339()),
        };
        let said = json!({"type": "Available", "status": condition.status, "lastTransitionTime": since, "reason": condition.reason, "message": condition.message});
        let call = own_call(kind, ObjectName::cluster(name));
        let outcome = self.change_stored(&call, |object| {
            let mut all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            all.retain(|c| c["type"] != "Available");
            all.push(said.clone());
            object["status"] = json!({"conditions": all});
            Ok(())
        });
        if let Err(status) = outcome.await
            && !status.is_not_found()
        {
            tracing::warn!(name, status.message, "the availability of an APIService could not be noted");
        }
    }
}

fn api_service(name: &str, gv: &GroupVersion, managed: &str) -> Value {
    // The core first, then what is built in, then what definitions describe, as upstream ranks them.
    let (group, version) = match (gv.group.as_str(), managed) {
        ("", _) => (18000, 1),
        (_, "onstart") => (17000, 15),
        _ => (1000, 100),
    };
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name, "labels": {AUTO: managed}},
        "spec": {"group": gv.group, "version": gv.version, "groupPriorityMinimum": group, "versionPriority": version}})
}
