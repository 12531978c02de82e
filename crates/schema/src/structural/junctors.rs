//! allOf, anyOf, oneOf and not.

use gantry_object::Value;
use gantry_object::field::{Error, Path};

use super::check::Findings;
use super::{Checks, Structural};

/// An error that names no field of its own.
fn whole(message: &str) -> Error {
    Error::invalid(&Path::default(), "", message)
}

fn try_one(schema: &Structural, value: &Value, path: &str) -> Findings {
    let mut found = Findings::default();
    schema.check(value, None, path, &mut found);
    found
}

/// The first of those that were looked at most.
fn furthest(failed: Vec<Findings>) -> Option<Findings> {
    failed.into_iter().reduce(|best, next| if next.visited > best.visited { next } else { best })
}

impl Checks {
    pub(super) fn check_junctors(&self, value: &Value, path: &str, found: &mut Findings) {
        if !self.any_of.is_empty() {
            let tried: Vec<Findings> = self.any_of.iter().map(|s| try_one(s, value, path)).collect();
            if tried.iter().all(|t| !t.errors.is_empty()) {
                found.errors.push(whole(&format!("{path:?} must validate at least one schema (anyOf)")));
                furthest(tried).into_iter().for_each(|best| found.merge(best));
            }
        }
        if !self.one_of.is_empty() {
            let tried: Vec<Findings> = self.one_of.iter().map(|s| try_one(s, value, path)).collect();
            let valid = tried.iter().filter(|t| t.errors.is_empty()).count();
            if valid != 1 {
                let why = if valid == 0 { "Found none valid".to_owned() } else { format!("Found {valid} valid alternatives") };
                found.errors.push(whole(&format!("{path:?} must validate one and only one schema (oneOf). {why}")));
            }
            if valid == 0 {
                furthest(tried).into_iter().for_each(|best| found.merge(best));
            }
        }
        if !self.all_of.is_empty() {
            let mut valid = 0;
            for schema in &self.all_of {
                let tried = try_one(schema, value, path);
                valid += usize::from(tried.errors.is_empty());
                found.merge(tried);
            }
            if valid != self.all_of.len() {
                let why = if valid == 0 { ". None validated" } else { "" };
                found.errors.push(whole(&format!("{path:?} must validate all the schemas (allOf){why}")));
            }
        }
        if let Some(not) = &self.not
            && try_one(not, value, path).errors.is_empty()
        {
            found.errors.push(whole(&format!("{path:?} must not validate the schema (not)")));
        }
    }
}
