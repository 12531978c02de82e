//! The part of an object's metadata that every controller looks at.

use std::collections::BTreeMap;

use gantry_object::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

/// An object's metadata without annotations, which can be large; a projection that needs some reads them itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// The name.
    pub name: String,
    /// The namespace, empty for cluster-wide objects.
    pub namespace: String,
    /// The uid.
    pub uid: String,
    /// Counts changes of the spec.
    pub generation: i64,
    /// When it was created.
    #[serde(deserialize_with = "time")]
    pub creation_timestamp: Option<Timestamp>,
    /// When it may be removed by force; set once it is being deleted.
    #[serde(deserialize_with = "time")]
    pub deletion_timestamp: Option<Timestamp>,
    /// The grace it was deleted with, in seconds.
    pub deletion_grace_period_seconds: Option<i64>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The owners.
    pub owner_references: Vec<Owner>,
    /// What must be done before it can go.
    pub finalizers: Vec<String>,
}

/// An owner reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Owner {
    /// Group and version.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The name, in the dependent's namespace or cluster-wide.
    pub name: String,
    /// The uid.
    pub uid: String,
    /// Whether this owner is the one that manages the object.
    pub controller: bool,
    /// Whether a foreground deletion of the owner waits for the object.
    pub block_owner_deletion: bool,
}

impl Owner {
    /// The group of the owner's kind.
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl Meta {
    /// The owner that manages the object.
    pub fn controller(&self) -> Option<&Owner> {
        self.owner_references.iter().find(|o| o.controller)
    }

    /// Whether the object is being deleted.
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    /// Whether it has a finalizer.
    pub fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|f| f == name)
    }

    /// An owner reference, as JSON, to the object of this metadata as the managing controller.
    pub fn as_controller(&self, api_version: &str, kind: &str) -> Value {
        json!({"apiVersion": api_version, "kind": kind, "name": self.name, "uid": self.uid, "controller": true, "blockOwnerDeletion": true})
    }
}

/// Reads an API time; anything that isn't one counts as absent.
///
/// # Errors
/// When the value is neither text nor null.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    let text: Option<std::borrow::Cow<'de, str>> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|t| Timestamp::parse(&t)))
}
