//! Storage classes, and what drivers of storage say about themselves.

use gantry_object::field::{Error, Path};
use gantry_object::names;

use crate::rules::{Generation, PLAIN, Rules};
use crate::tree;

pub(crate) const STORAGE_CLASS: Rules = Rules {
    validate: |class, errors| {
        let provisioner = tree::text(class, "/provisioner");
        let path = Path::new("provisioner");
        if !provisioner.is_empty() {
            let lower = provisioner.to_ascii_lowercase();
            errors.extend(names::qualified_name(&lower).iter().map(|m| Error::invalid(&path, provisioner, m)));
        }
        let policy = tree::text(class, "/reclaimPolicy");
        if !matches!(policy, "" | "Delete" | "Retain") {
            errors.push(Error::not_supported(&Path::new("reclaimPolicy"), policy, &["Delete", "Retain"]));
        }
    },
    ..PLAIN
};

pub(crate) const DRIVER: Rules = Rules { generation: Generation::SpecAfterCreation, needs_version: true, ..PLAIN };

pub(crate) const NODE: Rules = Rules { needs_version: true, ..PLAIN };

pub(crate) const CAPACITY: Rules = Rules { needs_version: true, ..PLAIN };

pub(crate) const ATTACHMENT: Rules = Rules { resets_status: true, needs_version: true, ..PLAIN };

pub(crate) const ATTRIBUTES_CLASS: Rules = Rules {
    validate: |class, errors| {
        if tree::entries(class, "/parameters").next().is_none() {
            errors.push(Error::required(&Path::new("parameters"), "must contain at least one key/value pair"));
        }
    },
    validate_update: |new, old, _, errors| {
        for member in ["driverName", "parameters"].into_iter().filter(|m| new.get(*m) != old.get(*m)) {
            errors.push(Error::forbidden(&Path::new(member), &format!("updates to {member} are forbidden.")));
        }
    },
    ..PLAIN
};
