//! Which resources definitions describe.

use std::collections::{BTreeMap, BTreeSet};

use gantry_object::Resource;
use serde::Deserialize;

use crate::Kind;

pub(crate) const DEFINITIONS: Resource =
    Resource::cluster("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition");

/// A change of what is to be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Following {
    /// A resource is served from now on.
    Begins(Resource),
    /// A resource is served no more.
    Ends(Resource),
}

/// As much of a definition as says what it serves.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Definition {
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Spec {
    group: String,
    scope: String,
    versions: Vec<Version>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Version {
    name: String,
    served: bool,
    storage: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Status {
    accepted_names: Names,
    conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Names {
    plural: String,
    kind: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Kind for Definition {
    const RESOURCE: Resource = DEFINITIONS;
}

/// What is followed, by definition.
#[derive(Default)]
pub(crate) struct Customs {
    by_definition: BTreeMap<String, Resource>,
    /// Everything that was ever followed.
    followed: BTreeSet<Resource>,
    news: Vec<Following>,
    /// Components name resources by static texts, which therefore stay for ever; each is made once.
    texts: BTreeSet<&'static str>,
}

impl Customs {
    /// Brings what is followed into step with a definition, which may be gone, and says what changes.
    pub(crate) fn look_at(&mut self, name: &str, definition: Option<&Definition>) -> Vec<Following> {
        let wanted = definition.and_then(|d| self.resource_of(d));
        let was = self.by_definition.get(name).copied();
        if was == wanted {
            return Vec::new();
        }
        match wanted {
            Some(resource) => self.by_definition.insert(name.to_owned(), resource),
            None => self.by_definition.remove(name),
        };
        self.followed.extend(wanted);
        let changes: Vec<Following> = was.map(Following::Ends).into_iter().chain(wanted.map(Following::Begins)).collect();
        self.news.extend(&changes);
        changes
    }

    /// Whether a resource is one that a definition describes, or did.
    pub(crate) fn follows(&self, resource: &Resource) -> bool {
        self.followed.contains(resource)
    }

    pub(crate) fn take_news(&mut self) -> Vec<Following> {
        std::mem::take(&mut self.news)
    }

    /// The resource in the version it is stored in, or else the first that is served.
    fn resource_of(&mut self, definition: &Definition) -> Option<Resource> {
        let established = definition.status.conditions.iter().any(|c| c.kind == "Established" && c.status == "True");
        let mut served = definition.spec.versions.iter().filter(|v| v.served);
        let version = served.clone().find(|v| v.storage).or_else(|| served.next()).filter(|_| established)?;
        let names = &definition.status.accepted_names;
        Some(Resource {
            group: self.text(&definition.spec.group),
            version: self.text(&version.name),
            plural: self.text(&names.plural),
            kind: self.text(&names.kind),
            namespaced: definition.spec.scope == "Namespaced",
        })
    }

    fn text(&mut self, text: &str) -> &'static str {
        if let Some(known) = self.texts.get(text) {
            return known;
        }
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        self.texts.insert(text);
        text
    }
}
