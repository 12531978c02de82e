//! What other servers say they serve, and the documents in which that stands beside what this one serves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use gantry_object::{GroupVersion, Value};
use http::header::ACCEPT;
use http_body_util::{BodyExt, Limited};
use serde_json::json;

use super::{Remote, identify};
use crate::outside::explain;
use crate::server::Server;
use crate::user::{MASTERS, User};

/// The most that is read of a document, in bytes.
const LARGEST: usize = 32 << 20;

/// What one server said when it was last asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// The resources of its version, as aggregated discovery lists them.
    resources: Vec<Value>,
    /// Whether it answered the last time.
    fresh: bool,
    /// Where its schema document of this version is, with what tells its state; empty if it has none.
    openapi_v3: String,
    openapi_v2: Option<Arc<Value>>,
}

/// What all of them said.
#[derive(Default)]
pub(crate) struct Remembered(Mutex<BTreeMap<GroupVersion, Said>>);

impl Remembered {
    fn get(&self, gv: &GroupVersion) -> Said {
        self.0.lock().expect("nothing panics while it holds this lock").get(gv).cloned().unwrap_or_default()
    }

    pub(super) fn put(&self, gv: &GroupVersion, said: Said) {
        self.0.lock().expect("nothing panics while it holds this lock").insert(gv.clone(), said);
    }

    /// What it said before goes on to stand, marked as old.
    pub(super) fn lost(&self, gv: &GroupVersion) {
        self.0.lock().expect("nothing panics while it holds this lock").entry(gv.clone()).or_default().fresh = false;
    }

    pub(super) fn retain(&self, known: &[Arc<Remote>]) {
        self.0.lock().expect("nothing panics while it holds this lock").retain(|gv, _| known.iter().any(|r| r.gv == *gv));
    }
}

/// The entry of a resource in aggregated discovery, of those of the older kind.
fn resources_of(list: &Value, gv: &GroupVersion) -> Vec<Value> {
    let entries: Vec<&Value> = list["resources"].as_array().into_iter().flatten().collect();
    let text = |entry: &Value, member: &str, default: &str| entry[member].as_str().filter(|t| !t.is_empty()).unwrap_or(default).to_owned();
    let gvk = |entry: &Value| json!({"group": text(entry, "group", &gv.group), "version": text(entry, "version", &gv.version), "kind": text(entry, "kind", "")});
    let own = entries.iter().filter(|e| !text(e, "name", "/").contains('/'));
    own.map(|entry| {
        let name = text(entry, "name", "");
        let scope = if entry["namespaced"] == true { "Namespaced" } else { "Cluster" };
        let mut resource = json!({"resource": name, "responseKind": gvk(entry), "scope": scope,
            "singularResource": text(entry, "singularName", ""), "verbs": entry["verbs"]});
        for member in ["shortNames", "categories"] {
            if entry[member].is_array() {
                resource[member] = entry[member].clone();
            }
        }
        let parts = entries.iter().filter_map(|e| Some((e["name"].as_str()?.strip_prefix(&format!("{name}/"))?, e)));
        let parts: Vec<Value> = parts.map(|(sub, e)| json!({"subresource": sub, "responseKind": gvk(e), "verbs": e["verbs"]})).collect();
        if !parts.is_empty() {
            resource["subresources"] = json!(parts);
        }
        resource
    })
    .collect()
}

impl Server {
    /// Asks another server for a document, as one who may see everything. Errors are for people.
    pub(super) async fn fetch(&self, remote: &Remote, path: &str, accept: &str) -> Result<Bytes, String> {
        let front_proxy = self.front_proxy().map_err(|s| s.message)?;
        let callee = remote.callee(&front_proxy.issued);
        let (address, name) = self.find(&callee.place).await.map_err(|e| e.0)?;
        let url = format!("https://{address}{path}");
        let failed = |why: String| format!("failing or missing response from {url}: Get {url:?}: {why}");
        let origin = self.origin(address, &name, &callee).map_err(|e| failed(e.0))?;
        let request = http::Request::get(path).header(ACCEPT, accept).header(http::header::HOST, callee.place.authority());
        let mut request = request.body(gantry_transport::full("")).map_err(|e| failed(e.to_string()))?;
        identify(request.headers_mut(), &User { name: "system:kube-aggregator".into(), groups: vec![MASTERS.into()], ..User::default() });
        let asked = async {
            let response = origin.send(request).await.map_err(|e| failed(explain(&e)))?;
            let status = response.status();
            if !status.is_success() {
                return Err(format!("failing or missing response from {url}: bad status from {url}: {}", status.as_u16()));
            }
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(|_| failed("unexpected EOF".into()))
        };
        let end = self.clock().sleep(super::PATIENCE);
        gantry_ports::select! {
            answer = asked => answer,
            () = end => Err(failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into())),
        }
    }

    /// Asks another server what it serves, given its older discovery document.
    pub(super) async fn ask_what_is_served(&self, remote: &Remote, list: &Value) {
        let gv = &remote.gv;
        let mut said = Said { resources: resources_of(list, gv), fresh: true, ..Said::default() };
        let index = self.fetch(remote, "/openapi/v3", "application/json").await.ok();
        let index: Value = index.and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
        let own = format!("apis/{gv}");
        said.openapi_v3 = index["paths"][own.as_str()]["serverRelativeURL"].as_str().unwrap_or_default().into();
        let v2 = self.fetch(remote, "/openapi/v2", "application/json").await.ok();
        said.openapi_v2 = v2.and_then(|b| serde_json::from_slice(&b).ok()).map(Arc::new);
        self.aggregation().remembered.put(gv, said);
    }

    /// The groups of other servers with their versions, those of the highest priority first.
    fn remote_groups(&self) -> Vec<(String, Vec<Arc<Remote>>)> {
        let mut groups: Vec<(String, Vec<Arc<Remote>>)> = Vec::new();
        for remote in self.remotes().into_iter().filter(|r| !r.gv.group.is_empty()) {
            match groups.iter_mut().find(|(g, _)| *g == remote.gv.group) {
                Some((_, versions)) => versions.push(remote),
                None => groups.push((remote.gv.group.clone(), vec![remote])),
            }
        }
        for (_, versions) in &mut groups {
            let rank = |r: &Remote| (std::cmp::Reverse(r.version_priority), std::cmp::Reverse(gantry_kinds::precedence(&r.gv.version)));
            versions.sort_by_key(|r| rank(r));
        }
        groups.sort_by_key(|(name, versions)| {
            (std::cmp::Reverse(versions.iter().map(|r| r.group_priority).max().unwrap_or_default()), name.clone())
        });
        groups
    }

    /// Adds the groups of other servers to aggregated discovery.
    pub(crate) fn with_remote_groups(&self, own: Bytes) -> Bytes {
        let groups = self.remote_groups();
        if groups.is_empty() {
            return own;
        }
        let Ok(mut document) = serde_json::from_slice::<Value>(&own) else { return own };
        for (name, remotes) in groups {
            let versions = remotes.iter().map(|remote| {
                let said = self.aggregation().remembered.get(&remote.gv);
                let freshness = if said.fresh && remote.available { "Current" } else { "Stale" };
                json!({"version": remote.gv.version, "resources": said.resources, "freshness": freshness})
            });
            let versions: Vec<Value> = versions.collect();
            let Some(items) = document["items"].as_array_mut() else { break };
            match items.iter_mut().find(|g| g["metadata"]["name"] == name.as_str()) {
                Some(group) => group["versions"].as_array_mut().into_iter().for_each(|all| all.extend(versions.clone())),
                None => items.push(json!({"metadata": {"name": name}, "versions": versions})),
            }
        }
        document.to_string().into()
    }

    /// Adds them to the older documents at `/apis` and `/apis/GROUP`.
    pub(crate) fn with_older_remote_groups(&self, path: &str, own: Option<Value>) -> Option<Value> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let group = |name: &str, remotes: &[Arc<Remote>], own: Option<&Value>| {
            let of = |r: &Arc<Remote>| json!({"groupVersion": r.gv.to_string(), "version": r.gv.version});
            let mut versions = own.and_then(|o| o["versions"].as_array().cloned()).unwrap_or_default();
            versions.extend(remotes.iter().map(of));
            json!({"name": name, "versions": versions, "preferredVersion": versions[0]})
        };
        match segments[..] {
            ["apis"] => {
                let mut list = own?;
                for (name, remotes) in self.remote_groups() {
                    let groups = list["groups"].as_array_mut()?;
                    match groups.iter_mut().find(|g| g["name"] == name.as_str()) {
                        Some(known) => *known = group(&name, &remotes, Some(&known.clone())),
                        None => groups.push(group(&name, &remotes, None)),
                    }
                }
                Some(list)
            }
            ["apis", name] => {
                let Some((_, remotes)) = self.remote_groups().into_iter().find(|(g, _)| g == name) else { return own };
                let mut found = group(name, &remotes, own.as_ref());
                found["kind"] = json!("APIGroup");
                found["apiVersion"] = json!("v1");
                Some(found)
            }
            _ => own,
        }
    }

    /// Adds the schemas of other servers to the index of version 3 and to the document of version 2.
    pub(crate) fn with_remote_schemas(&self, path: &str, own: Option<Bytes>) -> Option<Bytes> {
        let remotes = self.remotes();
        let path = path.trim_matches('/');
        if remotes.is_empty() || !matches!(path, "openapi/v2" | "openapi/v3") {
            return own;
        }
        let mut document: Value = serde_json::from_slice(&own?).ok()?;
        for remote in remotes {
            let said = self.aggregation().remembered.get(&remote.gv);
            if path == "openapi/v3" && !said.openapi_v3.is_empty() {
                document["paths"][format!("apis/{}", remote.gv)] = json!({"serverRelativeURL": said.openapi_v3});
            }
            if let Some(theirs) = said.openapi_v2.filter(|_| path == "openapi/v2") {
                let prefix = format!("/apis/{}/", remote.gv);
                for (path, item) in theirs["paths"].as_object().into_iter().flatten().filter(|(p, _)| p.starts_with(&prefix)) {
                    document["paths"][path] = item.clone();
                }
                for (name, definition) in theirs["definitions"].as_object().into_iter().flatten() {
                    // Names that both have mean the same: those of the metadata.
                    if document["definitions"].get(name).is_none() {
                        document["definitions"][name] = definition.clone();
                    }
                }
            }
        }
        Some(document.to_string().into())
    }
}
