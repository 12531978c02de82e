//! Component statuses: an old kind that is made when it is asked for. Of the components, this server knows its store.

use gantry_client::Verb;
use gantry_object::{Encoded, Revision, Status};
use serde_json::json;

use crate::call::{Answer, Call, Collection};
use crate::server::Server;

/// What clients know the store as.
const STORE: &str = "etcd-0";

impl Server {
    pub(super) fn component_statuses(&self, call: &Call) -> Result<Answer, Status> {
        // A request that came this far was authorized from the store: it answers.
        let status = json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": STORE},
            "conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]});
        match call.verb {
            Verb::List => {
                let items = vec![Encoded::from_value(status, Revision(0))];
                Ok(Answer::List(Collection { items, ..Collection::default() }))
            }
            _ if call.object.name == STORE => Ok(Answer::Transient { value: status, created: false }),
            _ => Err(call.not_found()),
        }
    }
}
