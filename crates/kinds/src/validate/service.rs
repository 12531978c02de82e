//! Services and endpoints.

use gantry_object::Value;
use gantry_object::field::ErrorList;

pub(crate) fn service(_service: &Value, _errors: &mut ErrorList) {}
pub(crate) fn update(_new: &Value, _old: &Value, _subresource: Option<&str>, _errors: &mut ErrorList) {}
pub(crate) fn endpoints(_endpoints: &Value, _errors: &mut ErrorList) {}
pub(crate) fn endpoint_slice(_slice: &Value, _errors: &mut ErrorList) {}
