//! Pods and pod templates.

use gantry_object::Value;
use gantry_object::field::{ErrorList, Path};

pub(crate) fn pod(_pod: &Value, _errors: &mut ErrorList) {}
pub(crate) fn template(_template: &Value, _path: &Path, _errors: &mut ErrorList) {}
pub(crate) fn update(_new: &Value, _old: &Value, _subresource: Option<&str>, _errors: &mut ErrorList) {}
