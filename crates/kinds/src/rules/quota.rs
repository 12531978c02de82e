//! Limit ranges and resource quotas.

use gantry_object::Value;

use crate::rules::{PLAIN, Rules, pod};
use crate::tree;

pub(crate) const LIMIT_RANGE: Rules = Rules {
    defaults: |range| tree::items_mut(range, "/spec/limits").iter_mut().for_each(default_limits),
    creates_on_update: true,
    ..PLAIN
};

pub(crate) const QUOTA: Rules = Rules {
    defaults: |quota| {
        for list in ["/spec/hard", "/status/hard", "/status/used"] {
            if let Some(amounts) = quota.pointer_mut(list) {
                pod::round_amounts(amounts);
            }
        }
    },
    resets_status: true,
    ..PLAIN
};

/// Containers' limits that are not given are the highest allowed; requests that are not given are the limits, or the lowest allowed.
fn default_limits(item: &mut Value) {
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        if let Some(amounts) = item.get_mut(list) {
            pod::round_amounts(amounts);
        }
    }
    if item["type"] != "Container" {
        return;
    }
    for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let from = item.get(from).and_then(Value::as_object).cloned().unwrap_or_default();
        let to = tree::object_mut(item, to);
        for (name, amount) in from {
            to.entry(name).or_insert(amount);
        }
    }
}
