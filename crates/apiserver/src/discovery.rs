//! What this server serves: the documents clients read first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use gantry_kinds::{Kind, precedence};
use gantry_object::{GroupVersion, Value};
use serde_json::{Map, json};

use crate::server::Server;

pub(crate) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// The version this server speaks and reports.
pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": concat!("v1.36.2+gantry", env!("CARGO_PKG_VERSION")), "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc", "platform": concat!("linux/", "amd64"),
    })
}

/// Discovery documents of one state of what is served, each made when it is first asked for.
pub(crate) struct Discovery {
    kinds: Vec<Arc<Kind>>,
    groups: Vec<(String, Vec<String>)>,
    /// What the definitions of each group and version come to.
    digests: BTreeMap<GroupVersion, u64>,
    aggregated: [OnceLock<Bytes>; 2],
    openapi_v2: OnceLock<Bytes>,
    openapi_v3: Mutex<BTreeMap<String, Bytes>>,
}

impl Discovery {
    /// `custom` are the kinds that definitions describe, each with its definition's digest.
    pub(crate) fn new(builtin: &[Arc<Kind>], mut custom: Vec<(Arc<Kind>, u64)>) -> Self {
        custom.sort_by(|(a, _), (b, _)| {
            let versions = precedence(&b.version).cmp(&precedence(&a.version)).then_with(|| a.version.cmp(&b.version));
            a.group.cmp(&b.group).then(versions).then_with(|| a.plural.cmp(&b.plural))
        });
        let mut digests: BTreeMap<GroupVersion, u64> = BTreeMap::new();
        for (kind, digest) in &custom {
            let sum = digests.entry(GroupVersion::new(&kind.group, &kind.version)).or_default();
            *sum = sum.wrapping_add(*digest);
        }
        let kinds: Vec<Arc<Kind>> = builtin.iter().cloned().chain(custom.into_iter().map(|(kind, _)| kind)).collect();
        let mut groups: Vec<(String, Vec<String>)> = Vec::new();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for kind in &kinds {
            let place = *places.entry(&kind.group).or_insert(groups.len());
            if place == groups.len() {
                groups.push((kind.group.clone(), Vec::new()));
            }
            let versions = &mut groups[place].1;
            if !versions.contains(&kind.version) {
                versions.push(kind.version.clone());
            }
        }
        drop(places);
        Self { kinds, groups, digests, aggregated: Default::default(), openapi_v2: OnceLock::new(), openapi_v3: Mutex::default() }
    }

    /// The aggregated document at `/api` or `/apis`.
    pub(crate) fn aggregated(&self, core: bool) -> Bytes {
        let make = || {
            let mut by_group: BTreeMap<&str, Vec<&Kind>> = BTreeMap::new();
            for kind in &self.kinds {
                by_group.entry(&kind.group).or_default().push(kind);
            }
            let wanted = self.groups.iter().filter(|(g, _)| g.is_empty() == core);
            let of = |group: &str| by_group.get(group).map_or(&[][..], Vec::as_slice);
            let items: Vec<Value> = wanted.map(|(group, versions)| aggregated_group(of(group), group, versions)).collect();
            let list = json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items});
            Bytes::from(list.to_string())
        };
        self.aggregated[usize::from(core)].get_or_init(make).clone()
    }

    /// What names the state of a group and version's document, for caches.
    fn hash(&self, gv: &GroupVersion) -> String {
        let digest = self.digests.get(gv).copied().unwrap_or_default();
        format!("{}-{digest:x}", env!("CARGO_PKG_VERSION"))
    }

    /// Every group and version that is served.
    pub(crate) fn versions(&self) -> Vec<GroupVersion> {
        self.groups.iter().flat_map(|(g, versions)| versions.iter().map(|v| GroupVersion::new(g, v))).collect()
    }

    fn group(&self, name: &str) -> Option<Value> {
        let (group, versions) = self.groups.iter().find(|(g, _)| g == name && !g.is_empty())?;
        let of = |v: &String| json!({"groupVersion": GroupVersion::new(group, v).to_string(), "version": v});
        let versions: Vec<Value> = versions.iter().map(of).collect();
        Some(json!({"name": group, "versions": versions, "preferredVersion": versions[0]}))
    }
}

fn verbs(kind: &Kind) -> Value {
    json!(kind.verbs)
}

fn aggregated_group(kinds: &[&Kind], group: &str, versions: &[String]) -> Value {
    let resources = |version: &String| -> Vec<Value> {
        let ours = kinds.iter().filter(|k| k.group == group && k.version == *version);
        ours.map(|kind| {
            let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
            let gvk = |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
            let subresources: Vec<Value> = kind
                .subresources
                .iter()
                .map(|s| json!({"subresource": s.name, "responseKind": gvk(&s.gvk.group, &s.gvk.version, &s.gvk.kind), "verbs": s.verbs}))
                .collect();
            let mut resource = json!({"resource": kind.plural, "responseKind": gvk(&kind.group, &kind.version, &kind.kind), "scope": scope,
                "singularResource": kind.singular, "verbs": verbs(kind)});
            for (member, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
                if !list.is_empty() {
                    resource[member] = json!(list);
                }
            }
            if !subresources.is_empty() {
                resource["subresources"] = json!(subresources);
            }
            resource
        })
        .collect()
    };
    let versions: Vec<Value> = versions.iter().map(|v| json!({"version": v, "resources": resources(v), "freshness": "Current"})).collect();
    let metadata = if group.is_empty() { json!({}) } else { json!({"name": group}) };
    json!({"metadata": metadata, "versions": versions})
}

fn resource_list(kinds: &[Arc<Kind>], group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for kind in kinds.iter().filter(|k| k.group == group && k.version == version) {
        let mut entry = json!({"name": kind.plural, "singularName": kind.singular, "namespaced": kind.namespaced, "kind": kind.kind, "verbs": verbs(kind)});
        for (member, list) in [("shortNames", &kind.short_names), ("categories", &kind.categories)] {
            if !list.is_empty() {
                entry[member] = json!(list);
            }
        }
        resources.push(entry);
        for sub in &kind.subresources {
            let name = format!("{}/{}", kind.plural, sub.name);
            let mut entry =
                json!({"name": name, "singularName": "", "namespaced": kind.namespaced, "kind": sub.gvk.kind, "verbs": sub.verbs});
            if sub.gvk.group != kind.group || sub.gvk.version != kind.version {
                entry["group"] = json!(sub.gvk.group);
                entry["version"] = json!(sub.gvk.version);
            }
            resources.push(entry);
        }
    }
    let gv = GroupVersion::new(group, version).to_string();
    (!resources.is_empty()).then(|| json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": gv, "resources": resources}))
}

impl Server {
    /// The old discovery document at a path.
    pub(crate) fn discover(&self, path: &str) -> Option<Value> {
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match segments[..] {
            ["api"] => {
                let address = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": self.config().advertised.to_string()}]);
                Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": address}))
            }
            ["api", version] => resource_list(&self.discovery().kinds, "", version),
            ["apis"] => {
                let discovery = self.discovery();
                let groups: Vec<Value> = discovery.groups.iter().filter_map(|(g, _)| discovery.group(g)).collect();
                Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
            }
            ["apis", group] => {
                let mut found: Map<String, Value> = self.discovery().group(group)?.as_object()?.clone();
                found.insert("kind".into(), json!("APIGroup"));
                found.insert("apiVersion".into(), json!("v1"));
                Some(Value::Object(found))
            }
            ["apis", group, version] => resource_list(&self.discovery().kinds, group, version),
            _ => None,
        }
    }

    /// The OpenAPI document at a path.
    pub(crate) fn openapi(&self, path: &str) -> Option<Bytes> {
        let discovery = self.discovery();
        let render = |value: Value| Bytes::from(value.to_string());
        match path.trim_matches('/') {
            "openapi/v2" => Some(discovery.openapi_v2.get_or_init(|| render(self.registry().openapi_v2(&discovery.kinds))).clone()),
            "openapi/v3" => {
                let all = discovery.groups.iter().flat_map(|(g, versions)| versions.iter().map(|v| GroupVersion::new(g, v)));
                let index: Vec<_> = all.map(|gv| (discovery.hash(&gv), gv)).collect();
                Some(render(gantry_kinds::openapi_v3_index(index)))
            }
            path => {
                let path = path.strip_prefix("openapi/v3/")?;
                let mut documents = discovery.openapi_v3.lock().expect("nothing panics while it holds this lock");
                if let Some(document) = documents.get(path) {
                    return Some(document.clone());
                }
                let gv = match path.split('/').collect::<Vec<_>>()[..] {
                    ["api", version] => GroupVersion::new("", version),
                    ["apis", group, version] => GroupVersion::new(group, version),
                    _ => return None,
                };
                let document = render(self.registry().openapi_v3(&gv, &discovery.kinds)?);
                documents.insert(path.into(), document.clone());
                Some(document)
            }
        }
    }
}
