//! Disruption budgets, priority classes and runtime classes.

use gantry_object::field::{Error, ErrorList, Path};
use gantry_object::{Value, meta};

use crate::rules::{Generation, PLAIN, Rules};
use crate::{tree, validate};

/// The highest priority that users may give.
const HIGHEST_PRIORITY: i64 = 1_000_000_000;
/// The classes that the system's own pods have.
const SYSTEM_CLASSES: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

pub(crate) const BUDGET: Rules = Rules {
    validate: validate_budget,
    validate_update: |new, _, subresource, errors| {
        if subresource == Some("status") {
            for member in ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"] {
                validate::not_negative(new, &["status", member], errors);
            }
        }
    },
    resets_status: true,
    generation: Generation::Spec,
    needs_version: true,
    ..PLAIN
};

pub(crate) const PRIORITY_CLASS: Rules = Rules {
    validate: validate_priority_class,
    validate_update: |new, old, _, errors| {
        if new["value"] != old["value"] {
            errors.push(Error::forbidden(&Path::new("value"), "may not be changed in an update."));
        }
    },
    generation: Generation::Once,
    ..PLAIN
};

fn validate_budget(budget: &Value, errors: &mut ErrorList) {
    let (spec, path) = (&budget["spec"], Path::new("spec"));
    let bounds = ["minAvailable", "maxUnavailable"];
    if bounds.iter().all(|member| !spec[*member].is_null()) {
        errors.push(Error::invalid(&path, spec.clone(), "minAvailable and maxUnavailable cannot be both set"));
    }
    for member in bounds {
        validate::int_or_percent(&spec[member], &path.child(member), errors);
        if validate::percent(&spec[member]).is_some_and(|p| p > 100) {
            errors.push(Error::invalid(&path.child(member), spec[member].clone(), "must not be greater than 100%"));
        }
    }
    validate::label_selector(&spec["selector"], &path.child("selector"), errors);
}

fn validate_priority_class(class: &Value, errors: &mut ErrorList) {
    let (name, value) = (meta::name(class), tree::at(class, "/value").as_i64().unwrap_or_default());
    if name.starts_with("system-") {
        let why = match SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) {
            None => format!("{name} is not a known system priority class"),
            Some((_, known)) if *known != value => format!("value of {name} PriorityClass must be {known}"),
            Some(_) if class["globalDefault"] == true => format!("globalDefault of {name} PriorityClass must be false"),
            Some(_) => return,
        };
        let detail = format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}");
        errors.push(Error::forbidden(&Path::new("metadata").child("name"), &detail));
    } else if value > HIGHEST_PRIORITY {
        let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}");
        errors.push(Error::forbidden(&Path::new("value"), &detail));
    }
}

pub(crate) const RUNTIME_CLASS: Rules = Rules { creates_on_update: true, needs_version: true, ..PLAIN };
