//! Whether a definition's names are free, and what its status says of that.

use std::collections::BTreeSet;

use gantry_kinds::{APPROVED_ANNOTATION, approval, is_established, is_protected, set_condition};
use gantry_object::{Timestamp, Value, meta};

/// The names a definition holds in its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
    categories: Vec<String>,
}

fn texts(names: &Value, member: &str) -> Vec<String> {
    match &names[member] {
        Value::String(text) if !text.is_empty() => vec![text.clone()],
        Value::Array(items) => items.iter().filter_map(|v| v.as_str().map(String::from)).collect(),
        _ => Vec::new(),
    }
}

impl Names {
    /// Those that were accepted.
    pub(crate) fn accepted(crd: &Value) -> Self {
        let names = &crd["status"]["acceptedNames"];
        let all = |members: &[&str]| members.iter().flat_map(|m| texts(names, m)).collect();
        Self {
            resources: all(&["plural", "singular", "shortNames"]),
            kinds: all(&["kind", "listKind"]),
            categories: texts(names, "categories"),
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.resources.extend(other.resources.iter().cloned());
        self.kinds.extend(other.kinds.iter().cloned());
    }
}

/// Whether all the names a definition asks for were accepted.
pub(crate) fn are_accepted(crd: &Value) -> bool {
    crd["spec"]["names"] == crd["status"]["acceptedNames"] && has(crd, "NamesAccepted")
}

fn has(crd: &Value, condition: &str) -> bool {
    let conditions = crd["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == condition && c["status"] == "True")
}

/// Says in a definition's status which names are accepted, given those that others hold, and whether it is established.
pub(crate) fn decide(crd: &mut Value, taken: &Names, now: Timestamp) {
    let wanted = crd["spec"]["names"].clone();
    let mut accepted = crd["status"]["acceptedNames"].clone();
    if !accepted.is_object() {
        accepted = serde_json::json!({});
    }
    let mut conflict: Option<(&str, String)> = None;
    for (member, reason) in [
        ("plural", "PluralConflict"),
        ("singular", "SingularConflict"),
        ("shortNames", "ShortNamesConflict"),
        ("kind", "KindConflict"),
        ("listKind", "ListKindConflict"),
    ] {
        let held = texts(&accepted, member);
        let others = if member.ends_with("ind") { &taken.kinds } else { &taken.resources };
        let in_use: Vec<String> = texts(&wanted, member)
            .iter()
            .filter(|n| !held.contains(n) && others.contains(*n))
            .map(|n| format!("{n:?} is already in use"))
            .collect();
        if in_use.is_empty() {
            copy(&mut accepted, &wanted, member);
        } else {
            let message = if in_use.len() == 1 { in_use.concat() } else { format!("[{}]", in_use.join(", ")) };
            conflict = Some((reason, message));
        }
    }
    copy(&mut accepted, &wanted, "categories");
    if !crd["status"].is_object() {
        crd["status"] = serde_json::json!({});
    }
    crd["status"]["acceptedNames"] = accepted;
    match &conflict {
        Some((reason, message)) => set_condition(crd, "NamesAccepted", "False", reason, message, now),
        None => set_condition(crd, "NamesAccepted", "True", "NoConflicts", "no conflicts found", now),
    };
    match conflict {
        _ if is_established(crd) => false,
        None => set_condition(crd, "Established", "True", "InitialNamesAccepted", "the initial names have been accepted", now),
        Some(_) => set_condition(crd, "Established", "False", "NotAccepted", "not all names are accepted", now),
    };
    if is_protected(crd["spec"]["group"].as_str().unwrap_or_default()) {
        approve(crd, now);
    }
}

fn copy(to: &mut Value, from: &Value, member: &str) {
    let Some(members) = to.as_object_mut() else { return };
    match from.get(member) {
        Some(value) => drop(members.insert(member.into(), value.clone())),
        None => drop(members.remove(member)),
    }
}

/// What an API of a group that belongs to the community says of its approval.
fn approve(crd: &mut Value, now: Timestamp) {
    const CONDITION: &str = "KubernetesAPIApprovalPolicyConformant";
    let said = meta::annotation(crd, APPROVED_ANNOTATION).unwrap_or_default().to_owned();
    match approval(crd) {
        Some(true) => set_condition(crd, CONDITION, "True", "ApprovedAnnotation", &format!("approved in {said}"), now),
        Some(false) => set_condition(crd, CONDITION, "False", "UnapprovedAnnotation", &format!("not approved: {said:?}"), now),
        None if said.is_empty() => {
            let message = format!("protected groups must have approval annotation {APPROVED_ANNOTATION:?}");
            set_condition(crd, CONDITION, "False", "MissingAnnotation", &message, now)
        }
        None => {
            let message = format!(
                "protected groups must have approval annotation {APPROVED_ANNOTATION:?} with either a URL or a reason starting with \"unapproved\""
            );
            set_condition(crd, CONDITION, "False", "InvalidAnnotation", &message, now)
        }
    };
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn definition(kind: &str, short: &[&str]) -> Value {
        let lower = kind.to_lowercase();
        json!({"spec": {"group": "g.io", "names": {"plural": format!("{lower}s"), "singular": lower, "kind": kind, "listKind": format!("{kind}List"), "shortNames": short}}})
    }

    #[test]
    fn names_that_others_hold_are_not_accepted() {
        let now = Timestamp::from_seconds(0);
        let mut first = definition("Foo", &["f"]);
        decide(&mut first, &Names::default(), now);
        assert!(are_accepted(&first) && is_established(&first));
        let mut taken = Names::default();
        taken.add(&Names::accepted(&first));
        let mut second = definition("Fool", &["f"]);
        decide(&mut second, &taken, now);
        assert!(!are_accepted(&second) && !is_established(&second));
        assert_eq!(second["status"]["conditions"][0]["message"], "\"f\" is already in use");
        assert_eq!(second["status"]["acceptedNames"]["kind"], "Fool");
        decide(&mut second, &Names::default(), now);
        assert!(are_accepted(&second) && is_established(&second));
    }
}
