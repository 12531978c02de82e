//! Fills cluster roles that gather the rules of others: those their `aggregationRule` selects by label.

use gantry_object::labels::Selector;
use gantry_object::{Timestamp, Value};
use gantry_reconcile::{Action, Controller, Decision, Entry, Item, Key, Kind, Object, Read, View};
use serde_json::json;

use crate::kinds::ClusterRole;

/// The controller of cluster roles that gather rules.
pub struct RoleAggregation;

impl Controller for RoleAggregation {
    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    fn reads(&self) -> Vec<Read> {
        vec![Read::of::<ClusterRole>(gathering)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["rules of clusterroles that gather others'"]
    }

    fn decide(&self, key: &Key, view: &View, _now: Timestamp) -> Decision {
        let mut decision = Decision::none();
        let role = view.get::<ClusterRole>("", &key.name.name).filter(|r| r.aggregation_rule.is_some());
        if let Some(role) = role {
            decision.actions.extend(gather(&role, view));
        }
        decision
    }
}

/// Any role may be part of any that gathers.
fn gathering(view: &View, this: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    keys.push(this.clone());
    let labels = &item.projection.meta.labels;
    let wholes = view.all::<ClusterRole>().filter(|role| role.selects(labels));
    keys.extend(wholes.map(|role| Key::of::<ClusterRole>(role.name().clone())));
}

fn gather(role: &Object<ClusterRole>, view: &View) -> Option<Action> {
    let rules_of = |role: &Object<ClusterRole>| role.value()["rules"].as_array().cloned().unwrap_or_default();
    let mut rules: Vec<Value> = Vec::new();
    for selector in role.aggregation_rule.iter().flat_map(|rule| &rule.cluster_role_selectors) {
        let Ok(Some(selector)) = Selector::from_label_selector(selector) else { continue };
        let parts = view.all::<ClusterRole>().filter(|part| part.name() != role.name() && selector.matches(&part.meta().labels));
        for rule in parts.flat_map(|part| rules_of(&part)) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    let change = json!({"rules": rules});
    (rules_of(role) != rules).then(|| Action::Update {
        resource: ClusterRole::RESOURCE,
        subresource: None,
        base: role.encoded().clone(),
        change,
    })
}

#[cfg(test)]
mod tests;
