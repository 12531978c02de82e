//! Tokens for service accounts, bound to what they are for.

use std::time::Duration;

use gantry_object::{GroupResource, Status, Value, meta};
use gantry_pki::Claims;
use serde_json::json;

use crate::admission::{self, Operation, Review};
use crate::call::{Answer, Call};
use crate::server::Server;

const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;

impl Server {
    pub(super) async fn create_token(&self, call: &Call, warnings: &mut Vec<String>) -> Result<Answer, Status> {
        let mut request = self.decode_subresource(call, warnings)?;
        let account = self.store().get(&call.key()).ok_or_else(|| call.not_found())?;
        let account = crate::verbs::tree(&account);
        let spec = &mut request["spec"];
        let seconds = spec["expirationSeconds"].as_i64().unwrap_or(3600);
        check_lifetime(call, seconds)?;
        spec["expirationSeconds"] = json!(seconds);
        if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
            spec["audiences"] = json!([self.config().issuer]);
        }
        let review = Review { server: self, call, operation: Operation::Create, old: &Value::Null, options: None };
        admission::mutate(&review, &mut request).await?;
        admission::validate(&review, &request).await?;
        let now = self.clock().now();
        let expires = now.plus(Duration::from_secs(seconds.unsigned_abs()));
        let namespace = &call.object.namespace;
        let mut bound = json!({"namespace": namespace, "serviceaccount": {"name": call.object.name, "uid": meta::uid(&account)}});
        self.bind_token(call, &request["spec"]["boundObjectRef"], &mut bound)?;
        let audiences = request["spec"]["audiences"].as_array().into_iter().flatten();
        let claims = Claims {
            aud: audiences.filter_map(Value::as_str).map(str::to_owned).collect(),
            exp: expires.seconds(),
            iat: now.seconds(),
            iss: self.config().issuer.clone(),
            jti: self.random().uuid(),
            bound,
            nbf: now.seconds(),
            sub: format!("system:serviceaccount:{namespace}:{}", call.object.name),
        };
        let token = self.token_key().sign(&claims).map_err(Status::internal)?;
        request["metadata"] = json!({"name": call.object.name, "namespace": namespace, "creationTimestamp": now.rfc3339()});
        request["status"] = json!({"token": token, "expirationTimestamp": expires.rfc3339()});
        Ok(Answer::Transient { value: request, created: true })
    }

    /// Notes in a token what it is bound to, which must be there.
    fn bind_token(&self, call: &Call, reference: &Value, bound: &mut Value) -> Result<(), Status> {
        let Some(kind) = reference["kind"].as_str() else { return Ok(()) };
        let name = reference["name"].as_str().unwrap_or("");
        let (member, plural, namespace) = match kind {
            "Pod" => ("pod", "pods", call.object.namespace.as_str()),
            "Secret" => ("secret", "secrets", call.object.namespace.as_str()),
            "Node" => ("node", "nodes", ""),
            other => {
                return Err(Status::bad_request(format!("cannot bind token for serviceaccount {:?} to type {other:?}", call.object.name)));
            }
        };
        let object = self.stored_tree(plural, namespace, name);
        let object = object.ok_or_else(|| Status::not_found(&GroupResource::new("", plural), name))?;
        if let Some(uid) = reference["uid"].as_str().filter(|u| !u.is_empty() && *u != meta::uid(&object)) {
            let why = format!("the UID in the bound object reference ({uid}) does not match the UID in record ({})", meta::uid(&object));
            return Err(Status::conflict(&GroupResource::new("", plural), name, &why));
        }
        if kind == "Pod" && object["spec"]["serviceAccountName"] != call.object.name.as_str() {
            let account = object["spec"]["serviceAccountName"].as_str().unwrap_or("");
            let why = format!(
                "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name {account:?}",
                call.object.name
            );
            return Err(Status::bad_request(why));
        }
        bound[member] = json!({"name": name, "uid": meta::uid(&object)});
        if let Some(node) = object["spec"]["nodeName"].as_str().filter(|_| kind == "Pod")
            && let Some(node_object) = self.stored_tree("nodes", "", node)
        {
            bound["node"] = json!({"name": node, "uid": meta::uid(&node_object)});
        }
        Ok(())
    }
}

fn check_lifetime(call: &Call, seconds: i64) -> Result<(), Status> {
    let why = match seconds {
        s if s < SHORTEST => "may not specify a duration less than 10 minutes",
        s if s > LONGEST => "may not specify a duration larger than 2^32 seconds",
        _ => return Ok(()),
    };
    let path = gantry_object::field::Path::new("spec").child("expirationSeconds");
    let error = gantry_object::field::Error::invalid(&path, seconds, why);
    let gvk = gantry_object::GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    Err(Status::invalid(&gvk, &call.object.name, &vec![error]))
}
