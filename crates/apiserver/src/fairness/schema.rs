//! Which flow a request belongs to: flow schemas, and the order in which they are asked.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Deserializer};

use crate::authorize::Attributes;
use crate::user::User;

/// A flow schema as it is stored, as far as it matters here. Members as in `flowcontrol.apiserver.k8s.io/v1`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FlowSchema {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    #[serde(deserialize_with = "shared")]
    pub(super) name: Arc<str>,
    pub(super) uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) priority_level_configuration: Named,
    pub(super) matching_precedence: i32,
    distinguisher_method: Option<Method>,
    rules: Vec<Policy>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    #[serde(deserialize_with = "shared")]
    pub(super) name: Arc<str>,
}

fn shared<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<str>, D::Error> {
    String::deserialize(from).map(Into::into)
}

#[derive(Clone, Debug, Deserialize)]
struct Method {
    #[serde(rename = "type")]
    kind: Distinguisher,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Distinguisher {
    ByUser,
    ByNamespace,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Policy {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Named,
    group: Named,
    service_account: Account,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => matches!(&*self.user.name, "*") || *self.user.name == *user.name,
            "Group" => &*self.group.name == "*" || user.is_in(&self.group.name),
            "ServiceAccount" => {
                let account = user.name.strip_prefix("system:serviceaccount:").and_then(|a| a.split_once(':'));
                let Account { namespace, name } = &self.service_account;
                account.is_some_and(|(theirs, called)| theirs == namespace && (name == "*" || called == name))
            }
            _ => false,
        }
    }
}

impl ResourceRule {
    fn covers(&self, what: &Attributes) -> bool {
        let is_resource = |given: &String| match given.split_once('/') {
            _ if given == "*" => true,
            Some((resource, subresource)) => resource == what.resource && subresource == what.subresource,
            None => what.subresource.is_empty() && *given == what.resource,
        };
        let placed = if what.namespace.is_empty() { self.cluster_scope } else { has(&self.namespaces, &what.namespace) };
        placed && has(&self.verbs, &what.verb) && has(&self.api_groups, &what.group) && self.resources.iter().any(is_resource)
    }
}

impl PathRule {
    fn covers(&self, what: &Attributes) -> bool {
        let is_path = |url: &String| {
            let prefix = url.trim_end_matches('*').trim_end_matches('/');
            url == "*" || *url == what.path || what.path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        has(&self.verbs, &what.verb) && self.urls.iter().any(is_path)
    }
}

impl FlowSchema {
    /// Whether the schema takes a request in.
    pub(super) fn matches(&self, user: &User, what: &Attributes) -> bool {
        let covers = |policy: &Policy| match what.path.is_empty() {
            true => policy.resource_rules.iter().any(|r| r.covers(what)),
            false => policy.non_resource_rules.iter().any(|r| r.covers(what)),
        };
        self.spec.rules.iter().any(|policy| policy.subjects.iter().any(|s| s.is(user)) && covers(policy))
    }

    /// What tells the flow of a request from the others of its level.
    pub(super) fn flow(&self, user: &User, what: &Attributes) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.metadata.name.hash(&mut hasher);
        match self.spec.distinguisher_method.as_ref().map(|m| m.kind) {
            Some(Distinguisher::ByUser) => user.name.hash(&mut hasher),
            Some(Distinguisher::ByNamespace) => what.namespace.hash(&mut hasher),
            None => {}
        }
        hasher.finish()
    }

    /// Where the schema stands among others: the first that matches is the one.
    pub(super) fn order(&self) -> (i32, Arc<str>) {
        (self.spec.matching_precedence, self.metadata.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn schema(subject: Value, resources: Value, paths: Value) -> FlowSchema {
        let rules = json!([{"subjects": [subject], "resourceRules": resources, "nonResourceRules": paths}]);
        serde_json::from_value(json!({"metadata": {"name": "s", "uid": "u"}, "spec": {"rules": rules}})).unwrap()
    }

    fn what(text: &str) -> Attributes {
        let words: Vec<&str> = text.split(' ').collect();
        if words[1].starts_with('/') {
            return Attributes::path(words[0], words[1]);
        }
        let (resource, subresource) = words[2].split_once('/').unwrap_or((words[2], ""));
        Attributes {
            verb: words[0].into(),
            group: words[1].replace("core", ""),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: words.get(3).copied().unwrap_or_default().into(),
            ..Attributes::default()
        }
    }

    #[test]
    fn subjects_are_users_groups_and_accounts() {
        let ann = User::authenticated("ann", &["staff"]);
        let bot = User::service_account("a", "bot");
        let all = json!([{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]}]);
        let cases = [
            (json!({"kind": "User", "user": {"name": "ann"}}), true, false),
            (json!({"kind": "User", "user": {"name": "*"}}), true, true),
            (json!({"kind": "Group", "group": {"name": "staff"}}), true, false),
            (json!({"kind": "Group", "group": {"name": "system:serviceaccounts:a"}}), false, true),
            (json!({"kind": "Group", "group": {"name": "*"}}), true, true),
            (json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "bot"}}), false, true),
            (json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "*"}}), false, true),
            (json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "b", "name": "*"}}), false, false),
            (json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "a", "name": "bo"}}), false, false),
        ];
        for (subject, is_ann, is_bot) in cases {
            let schema = schema(subject.clone(), all.clone(), json!([]));
            let pods = what("get core pods a");
            assert_eq!((schema.matches(&ann, &pods), schema.matches(&bot, &pods)), (is_ann, is_bot), "{subject}");
            assert!(!schema.matches(&ann, &what("get /healthz")), "paths need rules of their own");
        }
    }

    #[test]
    fn rules_are_verbs_resources_and_places() {
        let ann = User::authenticated("ann", &[]);
        let anybody = json!({"kind": "Group", "group": {"name": "*"}});
        let rules = json!([
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "nodes/status"], "clusterScope": true, "namespaces": ["a"]},
            {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "namespaces": ["*"]}]);
        let schema = schema(anybody, rules, json!([{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/openapi/*"]}]));
        for (text, expected) in [
            ("get core pods a", true),
            ("get core pods b", false),
            ("list core pods", true),
            ("delete core pods a", false),
            ("get core pods/log a", false),
            ("get core nodes/status", true),
            ("get core nodes", false),
            ("delete apps deployments/scale b", true),
            ("list apps deployments", false),
            ("get /healthz", true),
            ("get /healthz/ping", true),
            ("get /healthzz", false),
            ("get /openapi/v3", true),
            ("post /openapi/v3", false),
        ] {
            assert_eq!(schema.matches(&ann, &what(text)), expected, "{text}");
        }
    }

    #[test]
    fn flows_differ_by_what_distinguishes_them() {
        let (ann, bob) = (User::authenticated("ann", &[]), User::authenticated("bob", &[]));
        let (a, b) = (what("get core pods a"), what("get core pods b"));
        let by = |method: Value| -> FlowSchema {
            serde_json::from_value(json!({"metadata": {"name": "s"}, "spec": {"distinguisherMethod": method}})).unwrap()
        };
        let flows = |s: &FlowSchema| {
            let one = s.flow(&ann, &a);
            (one == s.flow(&bob, &a), one == s.flow(&ann, &b))
        };
        assert_eq!(flows(&by(json!({"type": "ByUser"}))), (false, true));
        assert_eq!(flows(&by(json!({"type": "ByNamespace"}))), (true, false));
        assert_eq!(flows(&by(Value::Null)), (true, true));
    }
}
