//! Node selector terms and tolerations.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Conditions on a node, all of which must hold.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Term {
    match_expressions: Vec<Expression>,
    match_fields: Vec<Expression>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Expression {
    key: String,
    operator: String,
    values: Vec<String>,
}

impl Term {
    /// Whether a node meets the term. One without any condition is met by no node.
    pub(crate) fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        let fields = |e: &Expression| e.matches(Some(name).filter(|_| e.key == "metadata.name"));
        let empty = self.match_expressions.is_empty() && self.match_fields.is_empty();
        !empty
            && self.match_expressions.iter().all(|e| e.matches(labels.get(&e.key).map(String::as_str)))
            && self.match_fields.iter().all(fields)
    }
}

impl Expression {
    fn matches(&self, value: Option<&str>) -> bool {
        let among = |v: &str| self.values.iter().any(|w| w == v);
        let compare = |holds: fn(i64, i64) -> bool| {
            let bound = self.values.first().and_then(|b| b.parse().ok());
            value.and_then(|v| v.parse().ok()).zip(bound).is_some_and(|(v, b)| holds(v, b))
        };
        match self.operator.as_str() {
            "In" => value.is_some_and(among),
            "NotIn" => !value.is_some_and(among),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compare(|v, b| v > b),
            "Lt" => compare(|v, b| v < b),
            _ => false,
        }
    }
}

/// A taint of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) effect: String,
}

/// A toleration of a pod.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Toleration {
    key: String,
    operator: String,
    value: String,
    effect: String,
}

impl Toleration {
    /// Whether it makes up for a taint.
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        self.covers(&taint.key, &taint.value, &taint.effect)
    }

    /// Whether it makes up for a taint of this key, value and effect.
    pub(crate) fn covers(&self, key: &str, value: &str, effect: &str) -> bool {
        let applies = (self.effect.is_empty() || self.effect == effect) && (self.key.is_empty() || self.key == key);
        applies && (self.operator == "Exists" || (!self.key.is_empty() && self.value == value))
    }
}
