//! Get and list.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use gantry_client::Verb;
use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::status::{Cause, CauseReason};
use gantry_object::{Encoded, Revision, Status, Value};
use gantry_store::{Key, Snapshot};
use serde::{Deserialize, Serialize};

use crate::call::{Answer, Call, Collection, store_resource};
use crate::options::invalid_options;
use crate::server::Server;
use crate::verbs::filter::Filter;

/// How long a reader waits for a revision that is not there yet.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a continue token holds, as upstream's do.
#[derive(Serialize, Deserialize)]
struct Continue {
    v: String,
    /// -1 goes on in whatever is there now.
    rv: i64,
    start: String,
}

impl Continue {
    fn new(rv: i64, start: &str) -> Self {
        Self { v: "meta.k8s.io/v1".into(), rv, start: start.into() }
    }

    fn encode(&self) -> String {
        B64.encode(serde_json::to_vec(self).expect("a token has only text keys"))
    }

    fn decode(text: &str) -> Result<Self, Status> {
        let malformed = || Status::bad_request("continue key is not valid: the continue token is malformed");
        let bytes = B64.decode(text).map_err(|_| malformed())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| malformed())?;
        if token.v == "meta.k8s.io/v1" && (token.rv > 0 || token.rv == -1) && !token.start.is_empty() {
            Ok(token)
        } else {
            Err(malformed())
        }
    }
}

impl Server {
    pub(super) async fn get(&self, call: &Call) -> Result<Answer, Status> {
        self.wait_for(&call.params.resource_version).await?;
        let object = self.store().get(&call.key()).ok_or_else(|| call.not_found())?;
        Ok(Answer::Object { object: self.shown(&call.kind, object).await?, created: false })
    }

    pub(crate) async fn list(&self, call: &Call) -> Result<Collection, Status> {
        let filter = Filter::of(call)?;
        let (snapshot, after) = self.list_from(call).await?;
        let resource = store_resource(&call.kind);
        let namespace = Some(call.object.namespace.as_str()).filter(|n| !n.is_empty());
        let limit = if call.params.limit == 0 { usize::MAX } else { call.params.limit };
        let mut collection = Collection { revision: snapshot.revision(), ..Collection::default() };
        if let Some(name) = filter.fields.required_value("metadata.name")
            && (namespace.is_some() || !call.kind.namespaced)
        {
            let one: Vec<Encoded> = snapshot.get(&call.key_of(&call.object.namespace, name)).into_iter().cloned().collect();
            let one = self.all_shown(&call.kind, one).await?;
            collection.items.extend(one.into_iter().filter(|o| filter.matches(&call.kind, o)));
            return Ok(collection);
        }
        // One conversion is for all that this page may need.
        let most = if filter.is_empty() { limit } else { usize::MAX };
        let mut shown = match call.kind.converts_by_webhook() {
            true => {
                let all = snapshot.list(&resource, namespace, after.as_deref()).take(most).map(|item| item.object.clone()).collect();
                Some(self.all_shown(&call.kind, all).await?.into_iter())
            }
            false => None,
        };
        let mut last = None;
        for item in snapshot.list(&resource, namespace, after.as_deref()) {
            if collection.items.len() == limit {
                // There is more, and the next page starts after what was last taken.
                let start = last.unwrap_or_default();
                collection.remaining = filter.is_empty().then(|| snapshot.count(&resource, namespace, Some(start)));
                collection.continue_token = Some(Continue::new(snapshot.revision().0 as i64, start).encode());
                self.store().retain(&snapshot, self.clock().now());
                break;
            }
            let shown = shown.as_mut().and_then(Iterator::next);
            let object = shown.as_ref().unwrap_or(item.object);
            if filter.matches(&call.kind, object) {
                collection.items.push(object.clone());
                last = Some(item.path);
            }
        }
        Ok(collection)
    }

    /// The snapshot a list is made from, and the path after which it starts.
    async fn list_from(&self, call: &Call) -> Result<(Snapshot, Option<String>), Status> {
        let params = &call.params;
        check_version_parameters(&params.resource_version, &params.resource_version_match, !params.continue_token.is_empty())?;
        let now = self.clock().now();
        let resource = store_resource(&call.kind);
        if !params.continue_token.is_empty() {
            let token = Continue::decode(&params.continue_token)?;
            if token.rv == -1 {
                return Ok((self.store().snapshot(), Some(token.start)));
            }
            let snapshot = self.store().snapshot_at(&resource, Revision(token.rv.unsigned_abs()), now);
            return snapshot.map(|s| (s, Some(token.start.clone()))).map_err(|_| {
                let status = Status::expired("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.");
                status.with_continue(Continue::new(-1, &token.start).encode())
            });
        }
        if params.resource_version_match == "Exact" {
            let revision = self.wait_for(&params.resource_version).await?;
            let snapshot = self.store().snapshot_at(&resource, revision, now);
            return snapshot
                .map(|s| (s, None))
                .map_err(|_| Status::expired(format!("The resourceVersion for the provided list is too old: {revision}")));
        }
        self.wait_for(&params.resource_version).await?;
        Ok((self.store().snapshot(), None))
    }

    /// Waits until a revision that the reader knows of is there. Empty and 0 ask for nothing.
    pub(crate) async fn wait_for(&self, resource_version: &str) -> Result<Revision, Status> {
        let revision = parse_resource_version(resource_version)?;
        if revision <= self.store().durable_revision() {
            return Ok(revision);
        }
        gantry_ports::select! {
            () = self.store().at_least(revision) => Ok(revision),
            () = self.clock().sleep(PATIENCE) => {
                let current = self.store().durable_revision();
                let message = format!("Too large resource version: {revision}, current: {current}");
                let reason = CauseReason::ResourceVersionTooLarge;
                let cause = Cause { reason, message: "Too large resource version".into(), field: String::new() };
                Err(Status::timeout(message, 1).with_causes(vec![cause]))
            }
        }
    }

    /// The durable object of a key, as a tree with its resourceVersion.
    pub(crate) fn stored_tree(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        self.store().staged(&Key::new(resource, namespace, name)).map(|o| super::tree(&o))
    }
}

/// Reads a resourceVersion; empty is 0.
pub(crate) fn parse_resource_version(text: &str) -> Result<Revision, Status> {
    if text.is_empty() {
        return Ok(Revision(0));
    }
    let wrong = |_| Status::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"));
    text.parse().map(Revision).map_err(wrong)
}

fn check_version_parameters(version: &str, how: &str, continues: bool) -> Result<(), Status> {
    if how.is_empty() {
        let both = continues && !matches!(version, "" | "0");
        return if both { Err(Status::bad_request("specifying resource version is not allowed when using continue")) } else { Ok(()) };
    }
    let path = Path::new("resourceVersionMatch");
    let mut errors = ErrorList::new();
    if version.is_empty() {
        errors.push(Error::forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided"));
    }
    if continues {
        errors.push(Error::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
    }
    if !matches!(how, "Exact" | "NotOlderThan") {
        errors.push(Error::not_supported(&path, how, &["Exact", "NotOlderThan", ""]));
    }
    if how == "Exact" && version == "0" {
        errors.push(Error::forbidden(&path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid_options(Verb::List, &errors)) }
}
