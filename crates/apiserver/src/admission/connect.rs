//! Streams and proxies: requests that connect to something and send no object. Their options stand for one.

use gantry_object::{Status, Value};
use serde_json::json;

use super::{Operation, Review, mutate, validate};
use crate::call::Call;
use crate::path::Query;
use crate::server::Server;

/// Puts a request to connect before admission.
pub(crate) async fn connect(server: &Server, call: &Call, query: &Query) -> Result<(), Status> {
    let review = Review { server, call, operation: Operation::Connect, old: &Value::Null, options: None };
    let mut object = options(call, query);
    mutate(&review, &mut object).await?;
    validate(&review, &object).await
}

/// The options in a query, as the kind that the subresource takes.
fn options(call: &Call, query: &Query) -> Value {
    let Some(subresource) = call.kind.subresource(&call.subresource) else { return Value::Null };
    let mut options = json!({"kind": subresource.gvk.kind, "apiVersion": subresource.gvk.group_version().to_string()});
    for flag in ["stdin", "stdout", "stderr", "tty"].into_iter().filter(|flag| query.is_true(flag)) {
        options[flag] = json!(true);
    }
    if call.subresource == "proxy" {
        return options;
    }
    for text in ["container", "path"].into_iter().filter(|text| !query.get(text).is_empty()) {
        options[text] = json!(query.get(text));
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() {
        options["command"] = json!(command);
    }
    let ports: Vec<i64> = query.all("ports").flat_map(|p| p.split(',')).filter_map(|p| p.parse().ok()).collect();
    if !ports.is_empty() {
        options["ports"] = json!(ports);
    }
    options
}
