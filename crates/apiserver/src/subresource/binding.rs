//! Binding a pod to a node, and evicting it.

use gantry_client::DeleteOptions;
use gantry_object::status::Details;
use gantry_object::{Status, Value, meta};
use serde_json::json;

use crate::admission::{self, Operation, Review};
use crate::call::{Answer, Call};
use crate::server::Server;

impl Server {
    /// Binds a pod to the node that the body names.
    pub(super) async fn bind(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let mut call = call.clone();
        let mut binding =
            if call.subresource.is_empty() { self.decode(&call, warnings)? } else { self.decode_subresource(&call, warnings)? };
        if call.subresource.is_empty() {
            // POST …/bindings names the pod in the body.
            call.object.name = meta::name(&binding).into();
            call.kind = self.kind("", "v1", "pods").ok_or_else(Status::no_such_path)?;
            call.subresource = "binding".into();
        }
        let review = Review { server: self, call: &call, operation: Operation::Create, old: &Value::Null, options: None };
        admission::mutate(&review, &mut binding).await?;
        admission::validate(&review, &binding).await?;
        let target = &binding["target"];
        let node = target["name"].as_str().unwrap_or("").to_owned();
        if node.is_empty() || !matches!(target["kind"].as_str(), None | Some("" | "Node")) {
            return Err(Status::bad_request("a binding's target must be a Node with a name"));
        }
        let annotations = meta::metadata(&binding).and_then(|m| m.get("annotations")).cloned();
        let uid = meta::uid(&binding).to_owned();
        let conflict = |why: String| Status::conflict(&call.resource(), &call.object.name, &why);
        self.change_stored(&call, |pod| {
            if !uid.is_empty() && uid != meta::uid(pod) {
                return Err(conflict(format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", meta::uid(pod))));
            }
            if meta::is_deleting(pod) {
                return Err(conflict(format!("pod {} is being deleted, cannot be assigned to a host", call.object.name)));
            }
            if let Some(bound) = pod["spec"]["nodeName"].as_str().filter(|n| !n.is_empty()) {
                return Err(conflict(format!("pod {} is already assigned to node {bound:?}", call.object.name)));
            }
            if pod["spec"]["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()) {
                return Err(conflict(format!("pod {} has non-empty .spec.schedulingGates", call.object.name)));
            }
            pod["spec"]["nodeName"] = json!(node);
            for (key, value) in annotations.iter().filter_map(|a| a.as_object()).flatten() {
                pod["metadata"]["annotations"][key] = value.clone();
            }
            scheduled(pod, &self.clock().now().rfc3339());
            Ok(())
        })
        .await?;
        Ok(Answer::Status(Box::new(done())))
    }

    /// Deletes a pod the gentle way.
    pub(super) async fn evict(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let mut eviction = self.decode_subresource(call, warnings)?;
        let named = meta::name(&eviction);
        if !named.is_empty() && named != call.object.name {
            return Err(Status::bad_request(format!(
                "name in URL does not match name in Eviction object: {:?} != {named:?}",
                call.object.name
            )));
        }
        if self.store().staged(&call.key()).is_none() {
            return Err(call.not_found());
        }
        let review = Review { server: self, call, operation: Operation::Create, old: &Value::Null, options: None };
        admission::mutate(&review, &mut eviction).await?;
        admission::validate(&review, &eviction).await?;
        let mut options: DeleteOptions = match eviction.get("deleteOptions") {
            Some(options) => serde_json::from_value(options.clone()).map_err(|e| Status::bad_request(e.to_string()))?,
            None => DeleteOptions::default(),
        };
        if call.is_dry_run() {
            options.dry_run = vec!["All".into()];
        }
        self.delete_object(&Call { subresource: String::new(), ..call.clone() }, &options).await?;
        Ok(Answer::Status(Box::new(done())))
    }
}

/// What binding and eviction answer.
fn done() -> Status {
    let mut status = Status::success(Details::default());
    status.code = 201;
    status
}

/// Notes that a pod has its node.
fn scheduled(pod: &mut gantry_object::Value, now: &str) {
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let list = conditions.as_array_mut().expect("just made a list");
    list.retain(|c| c["type"] != "PodScheduled");
    list.push(json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now}));
}
