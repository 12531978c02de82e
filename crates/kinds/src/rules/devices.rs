//! Devices, classes of them, and claims on them.

use gantry_object::{Timestamp, Value};

use crate::rules::{Generation, PLAIN, Rules};
use crate::tree;

pub(crate) const CLAIM: Rules = Rules { defaults: |claim| default_requests(claim, "/spec/devices/requests"), resets_status: true, ..PLAIN };

pub(crate) const CLAIM_TEMPLATE: Rules = Rules { defaults: |template| default_requests(template, "/spec/spec/devices/requests"), ..PLAIN };

pub(crate) const SLICE: Rules = Rules { stamp: stamp_taints, generation: Generation::Spec, ..PLAIN };

pub(crate) const CLASS: Rules = Rules { generation: Generation::Spec, ..PLAIN };

/// One device is asked for, unless a number of them or all are.
fn default_requests(object: &mut Value, requests: &str) {
    for request in tree::items_mut(object, requests) {
        if let Some(exactly) = request.get_mut("exactly").filter(|e| e.is_object()) {
            default_count(exactly);
        }
        tree::items_mut(request, "/firstAvailable").iter_mut().for_each(default_count);
    }
}

fn default_count(request: &mut Value) {
    if request["allocationMode"] == "ExactCount" && request.get("count").is_none_or(|c| c.is_null() || c == 0) {
        tree::set(request, "count", 1);
    }
}

fn stamp_taints(new: &mut Value, _: &Value, now: Timestamp) {
    for device in tree::items_mut(new, "/spec/devices") {
        tree::items_mut(device, "/taints").iter_mut().for_each(|taint| tree::set_if_empty(taint, "timeAdded", now.rfc3339()));
    }
}
