//! Who is asking.

use std::collections::BTreeMap;

use serde_json::{Value, json};

pub(crate) const MASTERS: &str = "system:masters";
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";
pub(crate) const NODES: &str = "system:nodes";
pub(crate) const BOOTSTRAPPERS: &str = "system:bootstrappers";
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
const NODE: &str = "system:node:";

/// Who is asking, as authentication found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// The user's name.
    pub name: String,
    /// The user's uid, empty when unknown.
    pub uid: String,
    /// The user's groups.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user who has proved to be who they are.
    pub fn authenticated(name: &str, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&[AUTHENTICATED]).map(|g| (*g).to_owned()).collect();
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// Somebody who has not tried to prove anything.
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// The administrator that comes with a cluster.
    pub fn admin() -> Self {
        Self::authenticated("kubernetes-admin", &[MASTERS])
    }

    /// A service account.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self::authenticated(
            &format!("{SERVICE_ACCOUNT}{namespace}:{name}"),
            &["system:serviceaccounts", &format!("system:serviceaccounts:{namespace}")],
        )
    }

    /// A node's agent.
    pub fn node(name: &str) -> Self {
        Self::authenticated(&format!("{NODE}{name}"), &[NODES])
    }

    /// Whether the user is in a group.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// The node whose agent this is.
    pub(crate) fn node_name(&self) -> Option<&str> {
        self.name.strip_prefix(NODE).filter(|n| !n.is_empty() && self.is_in(NODES))
    }

    /// The `authentication.k8s.io UserInfo` form.
    pub(crate) fn to_value(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}
