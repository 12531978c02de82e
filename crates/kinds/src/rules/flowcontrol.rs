//! Flow schemas and priority levels.

use crate::rules::{Generation, PLAIN, Rules};

pub(crate) const FLOW_SCHEMA: Rules = Rules { resets_status: true, generation: Generation::Spec, ..PLAIN };

pub(crate) const PRIORITY_LEVEL: Rules = FLOW_SCHEMA;
