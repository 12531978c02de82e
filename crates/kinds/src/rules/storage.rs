//! Storage classes, and what drivers of storage say about themselves.

use crate::rules::{Generation, PLAIN, Rules};

pub(crate) const STORAGE_CLASS: Rules = PLAIN;

pub(crate) const DRIVER: Rules = Rules { generation: Generation::SpecAfterCreation, needs_version: true, ..PLAIN };

pub(crate) const NODE: Rules = Rules { needs_version: true, ..PLAIN };

pub(crate) const CAPACITY: Rules = Rules { needs_version: true, ..PLAIN };

pub(crate) const ATTACHMENT: Rules = Rules { resets_status: true, needs_version: true, ..PLAIN };

pub(crate) const ATTRIBUTES_CLASS: Rules = PLAIN;
