//! Disruption budgets, priority classes and runtime classes.

use crate::rules::{Generation, PLAIN, Rules};

pub(crate) const BUDGET: Rules = Rules { resets_status: true, generation: Generation::Spec, needs_version: true, ..PLAIN };

pub(crate) const PRIORITY_CLASS: Rules = Rules { generation: Generation::Once, ..PLAIN };

pub(crate) const RUNTIME_CLASS: Rules = Rules { creates_on_update: true, needs_version: true, ..PLAIN };
