//! Whether one set of rules holds everything that another would grant.

use std::collections::BTreeMap;

use super::Rule;

/// What of `wanted` is not covered by `held`, in as few rules as it takes.
pub(crate) fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let lacking = wanted.iter().flat_map(atoms).filter(|atom| !held.iter().any(|rule| covers(rule, atom)));
    // Atoms that differ in nothing but their verb are told as one.
    let mut merged: BTreeMap<Rule, Vec<String>> = BTreeMap::new();
    for mut atom in lacking {
        let verbs = std::mem::take(&mut atom.verbs);
        let known = merged.entry(atom).or_default();
        known.extend(verbs.into_iter().filter(|v| !known.contains(v)).collect::<Vec<_>>());
    }
    merged.into_iter().map(|(rule, verbs)| Rule { verbs, ..rule }).collect()
}

/// A rule as rules of one group, resource, name and verb each.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let mut all = Vec::new();
    let one = |text: &String| vec![text.clone()];
    for verb in &rule.verbs {
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let atom = Rule { verbs: one(verb), api_groups: one(group), resources: one(resource), ..Rule::default() };
                match rule.resource_names.as_slice() {
                    [] => all.push(atom),
                    names => all.extend(names.iter().map(|n| Rule { resource_names: one(n), ..atom.clone() })),
                }
            }
        }
        all.extend(rule.non_resource_urls.iter().map(|url| Rule { verbs: one(verb), non_resource_urls: one(url), ..Rule::default() }));
    }
    all
}

/// Whether a rule covers an atom. A wildcard in the atom is covered by a wildcard alone.
fn covers(rule: &Rule, atom: &Rule) -> bool {
    let has = |list: &[String], wanted: &[String]| wanted.iter().all(|w| list.iter().any(|l| l == "*" || l == w));
    let has_resource = |wanted: &String| {
        let of_any = wanted.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
        rule.resources.iter().any(|r| r == "*" || r == wanted || Some(r) == of_any.as_ref())
    };
    let has_url = |wanted: &String| {
        rule.non_resource_urls.iter().any(|url| url == wanted || url.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix)))
    };
    let names = rule.resource_names.is_empty() || (!atom.resource_names.is_empty() && has_names(rule, atom));
    has(&rule.verbs, &atom.verbs)
        && has(&rule.api_groups, &atom.api_groups)
        && atom.resources.iter().all(has_resource)
        && names
        && atom.non_resource_urls.iter().all(has_url)
}

fn has_names(rule: &Rule, atom: &Rule) -> bool {
    atom.resource_names.iter().all(|name| rule.resource_names.contains(name))
}

/// A rule as refusals show it.
pub(crate) fn describe(rule: &Rule) -> String {
    let quoted = |list: &[String]| list.iter().map(|t| format!("{t:?}")).collect::<Vec<_>>().join(" ");
    let members = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let shown = members.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| format!("{name}:[{}]", quoted(list)));
    format!("{{{}}}", shown.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &str, groups: &str, resources: &str, names: &str) -> Rule {
        let list = |text: &str| -> Vec<String> { text.split(' ').filter(|t| !t.is_empty()).map(|t| t.replace("core", "")).collect() };
        Rule { verbs: list(verbs), api_groups: list(groups), resources: list(resources), resource_names: list(names), ..Rule::default() }
    }

    #[test]
    fn what_is_not_held_is_missing() {
        let held = [rule("get list", "core", "pods */status", ""), rule("*", "apps", "*", "x")];
        let cases = [
            (rule("get", "core", "pods", ""), ""),
            (rule("get", "core", "pods", "one"), ""),
            (rule("get", "core", "services/status", ""), ""),
            (rule("delete", "apps", "deployments", "x"), ""),
            (rule("*", "apps", "*", "x"), ""),
            (rule("delete", "apps", "deployments", ""), r#"{APIGroups:["apps"], Resources:["deployments"], Verbs:["delete"]}"#),
            (rule("get delete *", "core", "pods", ""), r#"{APIGroups:[""], Resources:["pods"], Verbs:["delete" "*"]}"#),
            (rule("get", "*", "pods", ""), r#"{APIGroups:["*"], Resources:["pods"], Verbs:["get"]}"#),
            (rule("get", "core", "secrets", "a"), r#"{APIGroups:[""], Resources:["secrets"], ResourceNames:["a"], Verbs:["get"]}"#),
        ];
        for (wanted, expected) in cases {
            let found: Vec<String> = missing(&held, std::slice::from_ref(&wanted)).iter().map(describe).collect();
            assert_eq!(found.join("\n"), expected, "{wanted:?}");
        }
    }

    #[test]
    fn urls_are_covered_by_their_prefixes() {
        let urls = |url: &str| Rule { verbs: vec!["get".into()], non_resource_urls: vec![url.into()], ..Rule::default() };
        assert!(missing(&[urls("/a/*")], &[urls("/a/b"), urls("/a/*")]).is_empty());
        assert_eq!(missing(&[urls("/a")], &[urls("/a/b")]).len(), 1);
        assert_eq!(missing(&[urls("/a/*")], &[urls("*")]).len(), 1);
    }
}
