//! What of an object each (sub)resource writes, and so who can come to own it through which.

use std::sync::Arc;

use gantry_object::Value;
use gantry_schema::ownership::{Path, Scope, Version};
use gantry_schema::{Schema, TypeId};
use serde_json::json;

use crate::registry::{Kind, Registry};

const NOTHING: Scope = Scope::Except(&[]);
const ALL_BUT_STATUS: Scope = Scope::Except(&[&["status"]]);
const ALL_BUT_SPEC: Scope = Scope::Except(&[&["spec"]]);
/// All of the metadata, and everything that is not the status, are left alone.
const CUSTOM_STATUS: Scope = Scope::Only(&[&["status"]]);
const STATUS: Scope = Scope::Except(&[&["spec"], &["metadata"]]);

impl Kind {
    /// What writes through a subresource, or through the object itself when it is empty, may write.
    pub fn scope(&self, subresource: &str) -> Scope {
        if self.is_custom() {
            return match subresource {
                "" if self.subresource("status").is_some() => ALL_BUT_STATUS,
                "status" => CUSTOM_STATUS,
                _ => NOTHING,
            };
        }
        match (self.kind.as_str(), subresource) {
            ("CertificateSigningRequest", "") => Scope::Except(&[&["spec"], &["status"]]),
            ("CertificateSigningRequest", "status") => Scope::Except(&[&["spec"], &["status", "conditions"]]),
            ("CertificateSigningRequest", "approval") => Scope::Except(&[&["spec"], &["status", "certificate"]]),
            ("Deployment", "status") => Scope::Except(&[&["spec"], &["metadata", "labels"]]),
            ("Pod", "status") => Scope::Except(&[&["spec"], &["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]]),
            ("Pod", "ephemeralcontainers") => Scope::Only(&[&["spec", "ephemeralContainers"]]),
            ("Pod", "resize") => Scope::Only(RESIZED),
            ("Namespace", "finalize") => ALL_BUT_STATUS,
            (_, "") if self.subresource("status").is_some() => ALL_BUT_STATUS,
            (_, "status") if self.keeps_metadata_from_status() => STATUS,
            (_, "status") => ALL_BUT_SPEC,
            _ => NOTHING,
        }
    }

    /// Whether writes of the status leave all of the metadata alone: those of custom resources, and of the younger built-in kinds.
    pub(crate) fn keeps_metadata_from_status(&self) -> bool {
        if self.is_custom() {
            return true;
        }
        match self.group.as_str() {
            "" | "apps" | "autoscaling" | "batch" | "policy" | "apiextensions.k8s.io" | "certificates.k8s.io" => false,
            "networking.k8s.io" => self.kind == "ServiceCIDR",
            _ => true,
        }
    }

    /// Its type, as ownership sees it.
    pub fn ownership_version(&self) -> Version {
        match &self.custom {
            Some(custom) => Version { schema: Arc::clone(&self.schema), ty: metadata_type(&self.schema), open: Some(custom.open()) },
            None => Version { schema: Arc::clone(&self.schema), ty: self.ty, open: None },
        }
    }

    /// An object of the kind in which nothing is set: what a creation starts from.
    pub fn blank(&self) -> Value {
        if self.is_custom() {
            return json!({"apiVersion": self.api_version(), "kind": self.kind, "metadata": {}});
        }
        self.schema.conform(self.ty, Value::Null).map(|decoded| decoded.value).unwrap_or_default()
    }

    /// Where its objects keep the replicas that the scale subresource sets.
    pub fn replicas_path(&self) -> Vec<&str> {
        self.lookout().map_or_else(|| vec!["spec", "replicas"], |lookout| lookout.spec.split('/').skip(1).collect())
    }
}

/// The type of metadata.
fn metadata_type(schema: &Schema) -> TypeId {
    schema.lookup("meta_v1.ObjectMeta").expect("the built-in tables have metadata")
}

impl Registry {
    /// A type of the built-in schema, as ownership sees it.
    pub fn ownership_version(&self, ty: TypeId) -> Version {
        Version { schema: Arc::clone(&self.schema), ty, open: None }
    }
}

/// What a resize writes.
const RESIZED: &[Path] = &[
    &["spec", "containers", "*", "resources"],
    &["spec", "containers", "*", "resizePolicy"],
    &["spec", "initContainers", "*", "resources"],
    &["spec", "initContainers", "*", "resizePolicy"],
];
