//! Webhooks and policies of admission.

use crate::rules::{Generation, PLAIN, Rules};

pub(crate) const VALIDATING_WEBHOOKS: Rules = Rules { generation: Generation::Content, needs_version: true, ..PLAIN };

pub(crate) const MUTATING_WEBHOOKS: Rules = VALIDATING_WEBHOOKS;

pub(crate) const VALIDATING_POLICY: Rules = Rules { resets_status: true, generation: Generation::Spec, needs_version: true, ..PLAIN };

pub(crate) const VALIDATING_BINDING: Rules = Rules { generation: Generation::Spec, needs_version: true, ..PLAIN };

pub(crate) const MUTATING_POLICY: Rules = VALIDATING_BINDING;

pub(crate) const MUTATING_BINDING: Rules = VALIDATING_BINDING;
