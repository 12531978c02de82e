//! Nobody grants what they do not hold, unless they are allowed to say so.

use gantry_object::{GroupResource, Status, Value, meta};

use super::{Operation, Review};
use crate::authorize::escalation::{describe, missing};
use crate::authorize::{Attributes, Rule};
use crate::user::MASTERS;

const GROUP: &str = "rbac.authorization.k8s.io";

pub(super) fn check(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let call = review.call;
    if call.kind.group != GROUP || call.user.is_in(MASTERS) || only_lets_go(review, object) {
        return Ok(());
    }
    let namespace = call.object.namespace.as_str();
    let name = meta::name(object);
    let grants = match call.kind.plural.as_str() {
        "roles" | "clusterroles" => {
            if may(review, "escalate", &call.kind.plural, &call.object.name) {
                return Ok(());
            }
            if object.get("aggregationRule").is_some_and(|r| !r.is_null()) && !missing(&held(review), &everything()).is_empty() {
                return Err(review.forbidden(name, "must have cluster-admin privileges to use the aggregationRule"));
            }
            serde_json::from_value(object["rules"].clone()).unwrap_or_default()
        }
        _ => {
            let text = |member: &str| object["roleRef"][member].as_str().unwrap_or("");
            let plural = if text("kind") == "ClusterRole" { "clusterroles" } else { "roles" };
            if may(review, "bind", plural, text("name")) {
                return Ok(());
            }
            let rules = review.server.authorizer().rules_of_role(review.server.store(), text("kind"), namespace, text("name"));
            rules.ok_or_else(|| Status::not_found(&GroupResource::new(GROUP, plural), text("name")))?
        }
    };
    let lacking = missing(&held(review), &grants);
    if lacking.is_empty() {
        return Ok(());
    }
    let mut lines: Vec<String> = lacking.iter().map(describe).collect();
    lines.sort();
    let (user, groups) = (&call.user.name, call.user.groups.iter().map(|g| format!("{g:?}")).collect::<Vec<_>>().join(" "));
    let why =
        format!("user {user:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{}", lines.join("\n"));
    Err(review.forbidden(name, &why))
}

/// Updates that change owners and finalizers alone are the garbage collector's.
fn only_lets_go(review: &Review<'_>, object: &Value) -> bool {
    let rest = |object: &Value| {
        let mut rest = object.clone();
        for member in ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"] {
            meta::metadata_mut(&mut rest).remove(member);
        }
        rest
    };
    review.operation == Operation::Update && rest(object) == rest(review.old)
}

fn may(review: &Review<'_>, verb: &str, resource: &str, name: &str) -> bool {
    let (verb, group, resource, name) = (verb.into(), GROUP.into(), resource.into(), name.into());
    let what = Attributes { verb, group, resource, name, namespace: review.call.object.namespace.clone(), ..Attributes::default() };
    review.server.authorizer().decide(review.server.store(), &review.call.user, &what).is_ok()
}

fn held(review: &Review<'_>) -> Vec<Rule> {
    review.server.authorizer().rules(review.server.store(), &review.call.user, &review.call.object.namespace)
}

fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    let resources = Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() };
    [resources, Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() }]
}
