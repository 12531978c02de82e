//! Schema documents of what is served: the index, a document for each group and version, and the one document of version 2.

use std::collections::BTreeMap;

use gantry_object::{GroupVersion, GroupVersionKind, Map, Value};
use gantry_schema::TypeId;
use gantry_schema::openapi::Version;
use serde_json::json;

use crate::registry::{Kind, Registry};

/// Media types a patch may have.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Meta kinds that every group serves as its own.
const SHARED: [&str; 2] = ["DeleteOptions", "WatchEvent"];

impl Registry {
    /// The groups and versions served, each once, in order.
    pub fn group_versions(&self) -> Vec<GroupVersion> {
        let mut all: Vec<GroupVersion> = Vec::new();
        for kind in self.kinds() {
            let gv = GroupVersion::new(&kind.group, &kind.version);
            if !all.contains(&gv) {
                all.push(gv);
            }
        }
        all
    }

    /// The index at `/openapi/v3`. `hash` names the state of all documents, for caches.
    pub fn openapi_v3_index(&self, hash: &str) -> Value {
        let mut paths = Map::new();
        for gv in self.group_versions() {
            let path = root(&gv);
            let path = path.trim_start_matches('/');
            paths.insert(path.into(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
        }
        json!({"paths": paths})
    }

    /// The version 3 document of a group and version; `None` when it is not served.
    pub fn openapi_v3(&self, gv: &GroupVersion) -> Option<Value> {
        let kinds: Vec<&Kind> = self.kinds().iter().filter(|k| k.group == gv.group && k.version == gv.version).collect();
        if kinds.is_empty() {
            return None;
        }
        let schemas = self.definitions(&kinds, Version::V3);
        Some(json!({
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "v1.36.0"},
            "paths": self.paths(&kinds, Version::V3),
            "components": {"schemas": schemas},
        }))
    }

    /// The version 2 document of everything.
    pub fn openapi_v2(&self) -> Value {
        let kinds: Vec<&Kind> = self.kinds().iter().collect();
        json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1.36.0"},
            "paths": self.paths(&kinds, Version::V2),
            "definitions": self.definitions(&kinds, Version::V2),
        })
    }

    fn definitions(&self, kinds: &[&Kind], version: Version) -> Map {
        let mut roots: Vec<TypeId> = Vec::new();
        let mut shared: BTreeMap<TypeId, Vec<GroupVersionKind>> = BTreeMap::new();
        for kind in kinds {
            roots.push(kind.ty);
            roots.extend(self.list_type(kind));
            roots.extend(kind.subresources.iter().filter_map(|s| self.type_of(&s.gvk)));
            for name in SHARED {
                let Some(ty) = self.schema().lookup(&format!("meta_v1.{name}")) else { continue };
                let gvk = GroupVersionKind::new(&kind.group, &kind.version, name);
                let gvks = shared.entry(ty).or_default();
                if !gvks.contains(&gvk) {
                    gvks.push(gvk);
                }
            }
        }
        roots.extend(shared.keys().copied());
        if let Some(status) = self.schema().lookup("meta_v1.Status") {
            roots.push(status);
            shared.insert(status, vec![GroupVersionKind::new("", "v1", "Status")]);
        }
        self.schema().openapi_definitions(roots, version, &shared)
    }

    fn list_type(&self, kind: &Kind) -> Option<TypeId> {
        self.schema().kind(&GroupVersionKind::new(&kind.group, &kind.version, &kind.list_kind))
    }

    fn name_of(&self, ty: Option<TypeId>) -> String {
        ty.and_then(|t| self.schema().openapi_name(t)).unwrap_or("io.k8s.apimachinery.pkg.apis.meta.v1.Status").into()
    }

    fn paths(&self, kinds: &[&Kind], version: Version) -> Map {
        let mut paths = Map::new();
        for kind in kinds {
            let base = root(&GroupVersion::new(&kind.group, &kind.version));
            let plural = &kind.plural;
            let collection = if kind.namespaced { format!("{base}/namespaces/{{namespace}}/{plural}") } else { format!("{base}/{plural}") };
            let (own, list) = (self.name_of(Some(kind.ty)), self.name_of(self.list_type(kind)));
            let gvk = kind.gvk();
            let has = |verb: &&(&str, &str)| kind.verbs.iter().any(|v| v == verb.1);
            let ops = |pairs: &[(&'static str, &'static str)], answer: &str| -> Vec<Op> {
                pairs.iter().filter(has).map(|(method, verb)| Op { method, verb, body: own.clone(), answer: answer.into() }).collect()
            };
            let mut at_collection = ops(&[("get", "list")], &list);
            at_collection.extend(ops(&[("post", "create")], &own));
            at_collection.extend(ops(&[("delete", "deletecollection")], "io.k8s.apimachinery.pkg.apis.meta.v1.Status"));
            if kind.namespaced && kind.verbs.iter().any(|v| v == "list") {
                paths.insert(format!("{base}/{plural}"), item(&ops(&[("get", "list")], &list), &gvk, &[], version));
            }
            let in_namespace: &[&str] = if kind.namespaced { &["namespace"] } else { &[] };
            paths.insert(collection.clone(), item(&at_collection, &gvk, in_namespace, version));
            let mut at_item = ops(&[("get", "get"), ("put", "update"), ("patch", "patch")], &own);
            at_item.extend(ops(&[("delete", "delete")], "io.k8s.apimachinery.pkg.apis.meta.v1.Status"));
            let with_name: Vec<&str> = std::iter::once("name").chain(in_namespace.iter().copied()).collect();
            if !at_item.is_empty() {
                paths.insert(format!("{collection}/{{name}}"), item(&at_item, &gvk, &with_name, version));
            }
            for sub in &kind.subresources {
                let name = self.name_of(self.type_of(&sub.gvk));
                let methods = [("get", "get"), ("post", "create"), ("put", "update"), ("patch", "patch"), ("delete", "delete")];
                let ops: Vec<Op> = methods
                    .into_iter()
                    .filter(|(_, verb)| sub.verbs.iter().any(|v| v == verb))
                    .map(|(method, verb)| Op { method, verb, body: name.clone(), answer: name.clone() })
                    .collect();
                paths.insert(format!("{collection}/{{name}}/{}", sub.name), item(&ops, &sub.gvk, &with_name, version));
            }
        }
        paths
    }
}

/// One operation on a path.
struct Op {
    method: &'static str,
    verb: &'static str,
    /// The definition of what is sent.
    body: String,
    /// The definition of what comes back.
    answer: String,
}

/// Where a group and version are served.
fn root(gv: &GroupVersion) -> String {
    if gv.group.is_empty() { format!("/api/{}", gv.version) } else { format!("/apis/{}/{}", gv.group, gv.version) }
}

fn item(ops: &[Op], gvk: &GroupVersionKind, parameters: &[&str], version: Version) -> Value {
    let mut members = Map::new();
    for op in ops {
        members.insert(op.method.into(), operation(op, gvk, version));
    }
    let parameters: Vec<Value> = parameters.iter().map(|name| parameter(name, "path", "string", version)).collect();
    if !parameters.is_empty() {
        members.insert("parameters".into(), parameters.into());
    }
    members.into()
}

fn parameter(name: &str, place: &str, kind: &str, version: Version) -> Value {
    let mut parameter = match version {
        Version::V2 => json!({"name": name, "in": place, "type": kind, "uniqueItems": true}),
        Version::V3 => json!({"name": name, "in": place, "schema": {"type": kind, "uniqueItems": true}}),
    };
    if place == "path" {
        parameter["required"] = true.into();
    }
    parameter
}

/// The query parameters of a verb.
fn query(verb: &str) -> &'static [(&'static str, &'static str)] {
    match verb {
        "list" => &[
            ("allowWatchBookmarks", "boolean"),
            ("continue", "string"),
            ("fieldSelector", "string"),
            ("labelSelector", "string"),
            ("limit", "integer"),
            ("resourceVersion", "string"),
            ("resourceVersionMatch", "string"),
            ("sendInitialEvents", "boolean"),
            ("timeoutSeconds", "integer"),
            ("watch", "boolean"),
        ],
        "create" | "update" => &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")],
        "patch" => &[("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string"), ("force", "boolean")],
        "delete" | "deletecollection" => {
            &[("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("orphanDependents", "boolean"), ("propagationPolicy", "string")]
        }
        _ => &[],
    }
}

fn operation(op: &Op, gvk: &GroupVersionKind, version: Version) -> Value {
    let action = if op.verb == "create" {
        "post"
    } else if op.verb == "update" {
        "put"
    } else {
        op.verb
    };
    let body = match op.verb {
        "create" | "update" => Some(op.body.as_str()),
        "patch" => Some("io.k8s.apimachinery.pkg.apis.meta.v1.Patch"),
        "delete" | "deletecollection" => Some("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"),
        _ => None,
    };
    let body = body.map(|name| if op.verb == "patch" { json!({"type": "object"}) } else { version.reference(name) });
    let mut parameters: Vec<Value> = query(op.verb).iter().map(|(name, kind)| parameter(name, "query", kind, version)).collect();
    let answer = version.reference(&op.answer);
    let mut operation = json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": {"group": gvk.group, "version": gvk.version, "kind": gvk.kind},
    });
    match version {
        Version::V2 => {
            parameters.extend(body.map(|schema| json!({"name": "body", "in": "body", "required": op.verb != "delete", "schema": schema})));
            operation["responses"] = json!({"200": {"description": "OK", "schema": answer}});
            operation["consumes"] = if op.verb == "patch" { json!(PATCHES) } else { json!(["*/*"]) };
        }
        Version::V3 => {
            operation["responses"] = json!({"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}});
            if let Some(schema) = body {
                let types: &[&str] = if op.verb == "patch" { &PATCHES } else { &["*/*"] };
                let content: Map = types.iter().map(|t| ((*t).to_owned(), json!({"schema": schema}))).collect();
                operation["requestBody"] = json!({"content": content});
            }
        }
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}
