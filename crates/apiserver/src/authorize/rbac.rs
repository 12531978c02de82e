//! Role-based access control: roles, bindings, and who gets which rule from them.

use std::collections::BTreeMap;

use gantry_object::Encoded;
use serde::{Deserialize, Serialize};

use super::{Attributes, Follow};
use crate::user::{MASTERS, User};

/// One rule of a role. Members as in `rbac.authorization.k8s.io/v1 PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) non_resource_urls: Vec<String>,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    fn allows(&self, what: &Attributes) -> bool {
        if !has(&self.verbs, &what.verb) {
            return false;
        }
        if !what.path.is_empty() {
            return self.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
                Some(prefix) => what.path.starts_with(prefix),
                None => *url == what.path,
            });
        }
        has(&self.api_groups, &what.group)
            && self.allows_resource(what)
            && (self.resource_names.is_empty() || self.resource_names.contains(&what.name))
    }

    fn allows_resource(&self, what: &Attributes) -> bool {
        let whole = what.resource_with_sub();
        self.resources.iter().any(|resource| match resource.strip_prefix("*/") {
            _ if resource == "*" || *resource == whole => true,
            Some(subresource) => subresource == what.subresource,
            None => false,
        })
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    subjects: Vec<Subject>,
    role_ref: RoleRef,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Role {
    rules: Option<Vec<Rule>>,
}

impl Subject {
    fn is(&self, user: &User, namespace: &str) -> bool {
        match self.kind.as_str() {
            "User" => self.name == user.name,
            "Group" => user.is_in(&self.name),
            "ServiceAccount" => {
                let namespace = if self.namespace.is_empty() { namespace } else { &self.namespace };
                let account = user.name.strip_prefix("system:serviceaccount:");
                account.and_then(|a| a.split_once(':')) == Some((namespace, &self.name))
            }
            _ => false,
        }
    }
}

/// All roles and bindings.
#[derive(Default)]
pub(crate) struct Rbac {
    /// By namespace and name as one path; cluster roles by name alone.
    roles: BTreeMap<String, Vec<Rule>>,
    cluster_bindings: BTreeMap<String, Binding>,
    /// By namespace, then name.
    bindings: BTreeMap<String, BTreeMap<String, Binding>>,
}

const ROLES: &str = "roles.rbac.authorization.k8s.io";
const CLUSTER_ROLES: &str = "clusterroles.rbac.authorization.k8s.io";
const BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
const CLUSTER_BINDINGS: &str = "clusterrolebindings.rbac.authorization.k8s.io";

fn put<T>(map: &mut BTreeMap<String, T>, key: &str, value: Option<T>) {
    match value {
        Some(value) => drop(map.insert(key.into(), value)),
        None => drop(map.remove(key)),
    }
}

impl Follow for Rbac {
    const RESOURCES: &'static [&'static str] = &[ROLES, CLUSTER_ROLES, BINDINGS, CLUSTER_BINDINGS];

    fn apply(&mut self, resource: &str, path: &str, object: Option<&Encoded>) {
        // What was admitted decodes; what does not would grant nothing.
        let binding = || object.map(|o| o.decode::<Binding>().unwrap_or_default());
        match resource {
            ROLES | CLUSTER_ROLES => {
                let rules = object.map(|o| o.decode::<Role>().ok().and_then(|r| r.rules).unwrap_or_default());
                put(&mut self.roles, path, rules);
            }
            CLUSTER_BINDINGS => put(&mut self.cluster_bindings, path, binding()),
            _ => {
                let (namespace, name) = path.split_once('/').unwrap_or(("", path));
                put(self.bindings.entry(namespace.into()).or_default(), name, binding());
            }
        }
    }
}

impl Rbac {
    /// The rules that hold for a user: everywhere, then those of a namespace.
    fn rules_for<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = &'a Rule> {
        let everywhere = self.cluster_bindings.values().map(|b| (b, ""));
        let here = self.bindings.get(namespace).into_iter().flat_map(BTreeMap::values).map(move |b| (b, namespace));
        everywhere
            .chain(here)
            .filter(move |(binding, namespace)| binding.subjects.iter().any(|s| s.is(user, namespace)))
            .filter_map(|(binding, namespace)| match binding.role_ref.kind.as_str() {
                "ClusterRole" => self.roles.get(&binding.role_ref.name),
                _ => self.roles.get(&format!("{namespace}/{}", binding.role_ref.name)),
            })
            .flatten()
    }

    pub(super) fn allows(&self, user: &User, what: &Attributes) -> bool {
        self.rules_for(user, &what.namespace).any(|rule| rule.allows(what))
    }

    /// Whether a cluster role allows something, to whoever has it.
    pub(super) fn role_allows(&self, role: &str, what: &Attributes) -> bool {
        self.roles.get(role).into_iter().flatten().any(|rule| rule.allows(what))
    }

    pub(super) fn rules_of_role(&self, kind: &str, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        match kind {
            "ClusterRole" => self.roles.get(name).cloned(),
            _ => self.roles.get(&format!("{namespace}/{name}")).cloned(),
        }
    }

    pub(super) fn rules(&self, user: &User, namespace: &str) -> Vec<Rule> {
        if user.is_in(MASTERS) {
            let all = || vec!["*".to_owned()];
            let resources = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
            return vec![resources, Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() }];
        }
        self.rules_for(user, namespace).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use gantry_object::Revision;
    use serde_json::json;

    use super::*;

    fn world() -> Rbac {
        let mut rbac = Rbac::default();
        let mut put = |resource: &str, path: &str, mut object: serde_json::Value| {
            object["metadata"] = json!({"name": path});
            rbac.apply(resource, path, Some(&Encoded::from_value(object, Revision(1))));
        };
        put(
            CLUSTER_ROLES,
            "view",
            json!({"rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/status"]}]}),
        );
        put(ROLES, "a/one", json!({"rules": [{"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "resourceNames": ["x"]}]}));
        put(CLUSTER_ROLES, "health", json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/open/*"]}]}));
        let bind =
            |kind: &str, role: &str, subject: serde_json::Value| json!({"roleRef": {"kind": kind, "name": role}, "subjects": [subject]});
        put(CLUSTER_BINDINGS, "v", bind("ClusterRole", "view", json!({"kind": "Group", "name": "readers"})));
        put(CLUSTER_BINDINGS, "h", bind("ClusterRole", "health", json!({"kind": "User", "name": "ann"})));
        put(BINDINGS, "a/o", bind("Role", "one", json!({"kind": "ServiceAccount", "name": "bot", "namespace": "a"})));
        put(BINDINGS, "b/v", bind("ClusterRole", "view", json!({"kind": "User", "name": "bob"})));
        rbac
    }

    fn may(rbac: &Rbac, user: &User, what: &str) -> bool {
        let parts: Vec<&str> = what.split(' ').collect();
        let text = |i: usize| parts.get(i).copied().unwrap_or_default().to_owned();
        let (resource, subresource) = parts[2].split_once('/').unwrap_or((parts[2], ""));
        let what = Attributes {
            verb: text(0),
            group: text(1).replace("core", ""),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: text(3),
            name: text(4),
            path: String::new(),
        };
        rbac.allows(user, &what)
    }

    #[test]
    fn rules_hold_for_whom_and_where_they_are_bound() {
        let rbac = world();
        let reader = User::authenticated("r", &["readers"]);
        let bob = User::authenticated("bob", &[]);
        let bot = User::service_account("a", "bot");
        let cases = [
            (&reader, "get core pods b p", true),
            (&reader, "list core pods", true),
            (&reader, "delete core pods b p", false),
            (&reader, "get core pods/log b p", true),
            (&reader, "get core services/status b s", true),
            (&reader, "get core services b s", false),
            (&reader, "get apps pods b p", false),
            (&bob, "get core pods b p", true),
            (&bob, "get core pods a p", false),
            (&bob, "list core pods", false),
            (&bot, "delete apps deployments a x", true),
            (&bot, "delete apps deployments a y", false),
            (&bot, "delete apps deployments b x", false),
            (&bot, "list apps deployments a", false),
        ];
        for (user, what, expected) in cases {
            assert_eq!(may(&rbac, user, what), expected, "{} {what}", user.name);
        }
        let ann = User::authenticated("ann", &[]);
        for (path, expected) in [("/healthz", true), ("/healthz/x", false), ("/open/a", true), ("/metrics", false)] {
            assert_eq!(rbac.allows(&ann, &Attributes::path("get", path)), expected, "{path}");
        }
    }

    #[test]
    fn a_deleted_binding_grants_nothing() {
        let mut rbac = world();
        rbac.apply(BINDINGS, "b/v", None);
        assert!(!may(&rbac, &User::authenticated("bob", &[]), "get core pods b p"));
    }
}
