//! Webhooks and policies of admission.

use gantry_object::Value;

use crate::rules::{Generation, PLAIN, Rules};

pub(crate) const VALIDATING_WEBHOOKS: Rules = Rules { generation: Generation::Content, needs_version: true, ..PLAIN };

pub(crate) const MUTATING_WEBHOOKS: Rules = VALIDATING_WEBHOOKS;

pub(crate) const VALIDATING_POLICY: Rules =
    Rules { resets_status: true, generation: Generation::Spec, needs_version: true, warnings: not_evaluated, ..PLAIN };

pub(crate) const VALIDATING_BINDING: Rules = Rules { generation: Generation::Spec, needs_version: true, ..PLAIN };

pub(crate) const MUTATING_POLICY: Rules = Rules { warnings: not_evaluated, ..VALIDATING_BINDING };

pub(crate) const MUTATING_BINDING: Rules = VALIDATING_BINDING;

/// Nobody may rest on a policy that does nothing.
fn not_evaluated(_: &Value, _: &Value) -> Vec<String> {
    vec!["this server stores admission policies and does not evaluate them yet".into()]
}
