//! Schema documents of what is served: the index, a document for each group and version, and the one document of version 2.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gantry_object::{GroupVersion, GroupVersionKind, Map, Value};
use gantry_schema::TypeId;
use gantry_schema::openapi::Version;
use serde_json::json;

use crate::registry::{Kind, Registry, Subresource};

/// Media types a patch may have.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Media types a patch of a custom resource may have.
const CUSTOM_PATCHES: [&str; 3] = ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];

/// Meta kinds that every group serves as its own.
const SHARED: [&str; 2] = ["DeleteOptions", "WatchEvent"];

/// The index at `/openapi/v3`. Each group and version has a text that names the state of its document, for caches.
pub fn openapi_v3_index(served: impl IntoIterator<Item = (String, GroupVersion)>) -> Value {
    let mut paths = Map::new();
    for (hash, gv) in served {
        let path = root(&gv);
        let path = path.trim_start_matches('/');
        paths.insert(path.into(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")}));
    }
    json!({"paths": paths})
}

/// The name of a custom resource's definition: its group back to front, version and kind.
fn model_name(kind: &Kind, name: &str) -> String {
    let group: Vec<&str> = kind.group.split('.').rev().collect();
    format!("{}.{}.{name}", group.join("."), kind.version)
}

fn list_document(kind: &Kind, item: &str, version: Version) -> Value {
    let refer = |name: &str| match version {
        Version::V2 => version.reference(name),
        Version::V3 => json!({"allOf": [version.reference(name)]}),
    };
    json!({
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": refer("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"),
            "items": {"type": "array", "items": refer(item)},
        },
        "x-kubernetes-group-version-kind": [{"group": kind.group, "version": kind.version, "kind": kind.list_kind}],
    })
}

impl Registry {
    /// The version 3 document of a group and version, from all that is served; `None` when nothing of it is.
    pub fn openapi_v3(&self, gv: &GroupVersion, served: &[Arc<Kind>]) -> Option<Value> {
        let kinds: Vec<&Kind> =
            served.iter().map(AsRef::as_ref).filter(|k: &&Kind| k.group == gv.group && k.version == gv.version).collect();
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

    /// The version 2 document of everything that is served.
    pub fn openapi_v2(&self, served: &[Arc<Kind>]) -> Value {
        let kinds: Vec<&Kind> = served.iter().map(AsRef::as_ref).collect();
        json!({
            "swagger": "2.0",
            "info": {"title": "Kubernetes", "version": "v1.36.0"},
            "paths": self.paths(&kinds, Version::V2),
            "definitions": self.definitions(&kinds, Version::V2),
        })
    }

    fn definitions(&self, kinds: &[&Kind], version: Version) -> Map {
        let mut roots: Vec<TypeId> = Vec::new();
        let mut shared: BTreeMap<TypeId, BTreeSet<GroupVersionKind>> = BTreeMap::new();
        let mut custom = Map::new();
        for kind in kinds {
            match kind.custom_document(version) {
                Some(document) => {
                    custom.insert(self.list_name(kind), list_document(kind, &self.own_name(kind), version));
                    custom.insert(self.own_name(kind), document);
                    roots.extend(["meta_v1.ObjectMeta", "meta_v1.ListMeta"].iter().filter_map(|name| self.schema().lookup(name)));
                }
                None => {
                    roots.push(kind.ty);
                    roots.extend(self.list_type(kind));
                }
            }
            let own = |s: &&Subresource| !(kind.is_custom() && s.gvk.kind == kind.kind);
            roots.extend(kind.subresources.iter().filter(own).filter_map(|s| self.type_of(&s.gvk)));
            for name in SHARED {
                let Some(ty) = self.schema().lookup(&format!("meta_v1.{name}")) else { continue };
                shared.entry(ty).or_default().insert(GroupVersionKind::new(&kind.group, &kind.version, name));
            }
        }
        let mut shared: BTreeMap<TypeId, Vec<GroupVersionKind>> =
            shared.into_iter().map(|(ty, all)| (ty, all.into_iter().collect())).collect();
        roots.extend(shared.keys().copied());
        if let Some(status) = self.schema().lookup("meta_v1.Status") {
            roots.push(status);
            shared.insert(status, vec![GroupVersionKind::new("", "v1", "Status")]);
        }
        let mut all = self.schema().openapi_definitions(roots, version, &shared);
        all.extend(custom);
        all
    }

    fn own_name(&self, kind: &Kind) -> String {
        if kind.is_custom() { model_name(kind, &kind.kind) } else { self.name_of(Some(kind.ty)) }
    }

    fn list_name(&self, kind: &Kind) -> String {
        if kind.is_custom() { model_name(kind, &kind.list_kind) } else { self.name_of(self.list_type(kind)) }
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
            let (own, list) = (self.own_name(kind), self.list_name(kind));
            let patches: &[&str] = if kind.is_custom() { &CUSTOM_PATCHES } else { &PATCHES };
            let gvk = kind.gvk();
            let has = |verb: &&(&str, &str)| kind.verbs.iter().any(|v| v == verb.1);
            let ops = |pairs: &[(&'static str, &'static str)], answer: &str| -> Vec<Op<'_>> {
                pairs
                    .iter()
                    .filter(has)
                    .map(|(method, verb)| Op { method, verb, body: own.clone(), answer: answer.into(), patches })
                    .collect()
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
                let is_own = kind.is_custom() && sub.gvk.kind == kind.kind;
                let name = if is_own { own.clone() } else { self.name_of(self.type_of(&sub.gvk)) };
                let methods = [("get", "get"), ("post", "create"), ("put", "update"), ("patch", "patch"), ("delete", "delete")];
                let ops: Vec<Op<'_>> = methods
                    .into_iter()
                    .filter(|(_, verb)| sub.verbs.iter().any(|v| v == verb))
                    .map(|(method, verb)| Op { method, verb, body: name.clone(), answer: name.clone(), patches })
                    .collect();
                paths.insert(format!("{collection}/{{name}}/{}", sub.name), item(&ops, &sub.gvk, &with_name, version));
            }
        }
        paths
    }
}

/// One operation on a path.
struct Op<'p> {
    method: &'static str,
    verb: &'static str,
    /// The definition of what is sent.
    body: String,
    /// The definition of what comes back.
    answer: String,
    /// The media types of its patches.
    patches: &'p [&'p str],
}

/// Where a group and version are served.
fn root(gv: &GroupVersion) -> String {
    if gv.group.is_empty() { format!("/api/{}", gv.version) } else { format!("/apis/{}/{}", gv.group, gv.version) }
}

fn item(ops: &[Op<'_>], gvk: &GroupVersionKind, parameters: &[&str], version: Version) -> Value {
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

fn operation(op: &Op<'_>, gvk: &GroupVersionKind, version: Version) -> Value {
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
            operation["consumes"] = if op.verb == "patch" { json!(op.patches) } else { json!(["*/*"]) };
        }
        Version::V3 => {
            operation["responses"] = json!({"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}});
            if let Some(schema) = body {
                let types: &[&str] = if op.verb == "patch" { op.patches } else { &["*/*"] };
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
