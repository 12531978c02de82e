//! What requests a rule of a webhook (or of a policy) is about.

use gantry_object::Value;

/// A rule, as configurations write it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// `resource` or `resource/subresource`.
    resources: Vec<(String, String)>,
    scope: String,
}

/// What a rule sees of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) operation: &'a str,
    pub(crate) group: &'a str,
    pub(crate) version: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    /// For namespaces themselves, their own name.
    pub(crate) namespace: &'a str,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Rule {
    pub(crate) fn read(rule: &Value) -> Self {
        let texts = |member: &str| -> Vec<String> {
            rule[member].as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let split = |text: String| match text.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), subresource.to_owned()),
            None => (text, String::new()),
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources").into_iter().map(split).collect(),
            scope: rule["scope"].as_str().unwrap_or("*").into(),
        }
    }

    pub(crate) fn matches(&self, seen: &Seen<'_>) -> bool {
        // A namespace is no object in a namespace, though its own name counts as one elsewhere.
        let is_namespace = (seen.group, seen.version, seen.resource) == ("", "v1", "namespaces");
        let in_cluster = is_namespace || seen.namespace.is_empty();
        let scope = match self.scope.as_str() {
            "Namespaced" => !in_cluster,
            "Cluster" => in_cluster,
            other => other == "*" || other.is_empty(),
        };
        let fits =
            |(resource, sub): &(String, String)| (resource == "*" || resource == seen.resource) && (sub == "*" || sub == seen.subresource);
        scope
            && has(&self.operations, seen.operation)
            && has(&self.groups, seen.group)
            && has(&self.versions, seen.version)
            && self.resources.iter().any(fits)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// `operation group/version/resource[/sub] namespace`
    fn matches(rule: &Value, request: &str) -> bool {
        let words: Vec<&str> = request.split(' ').collect();
        let path: Vec<&str> = words[1].split('/').collect();
        let seen = Seen {
            operation: words[0],
            group: path[0],
            version: path[1],
            resource: path[2],
            subresource: path.get(3).copied().unwrap_or_default(),
            namespace: words.get(2).copied().unwrap_or_default(),
        };
        Rule::read(rule).matches(&seen)
    }

    #[test]
    fn rules_match_by_every_part() {
        let pods =
            json!({"operations": ["CREATE", "UPDATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods", "pods/status"]});
        let any = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
        let parts = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]});
        let scale = json!({"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*/scale"]});
        let attach = json!({"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["pods/attach"]});
        for (rule, request, expected) in [
            (&pods, "CREATE /v1/pods a", true),
            (&pods, "UPDATE /v1/pods/status a", true),
            (&pods, "UPDATE /v1/pods/resize a", false),
            (&pods, "DELETE /v1/pods a", false),
            (&pods, "CREATE /v2/pods a", false),
            (&pods, "CREATE x/v1/pods a", false),
            (&any, "DELETE apps/v1/deployments a", true),
            (&any, "UPDATE apps/v1/deployments/status a", false),
            (&parts, "UPDATE apps/v1/deployments/status a", true),
            (&parts, "UPDATE apps/v1/deployments a", true),
            (&scale, "UPDATE apps/v1/deployments/scale a", true),
            (&scale, "UPDATE apps/v1/deployments a", false),
            (&attach, "CONNECT /v1/pods/attach a", true),
            (&attach, "CONNECT /v1/pods/exec a", false),
        ] {
            assert_eq!(matches(rule, request), expected, "{request}");
        }
    }

    #[test]
    fn a_scope_tells_the_cluster_from_namespaces() {
        let scoped =
            |scope: &str| json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": scope});
        for (request, namespaced, cluster) in
            [("CREATE /v1/pods a", true, false), ("CREATE /v1/nodes", false, true), ("CREATE /v1/namespaces a", false, true)]
        {
            assert_eq!(matches(&scoped("Namespaced"), request), namespaced, "{request}");
            assert_eq!(matches(&scoped("Cluster"), request), cluster, "{request}");
            assert!(matches(&scoped("*"), request), "{request}");
        }
    }
}
