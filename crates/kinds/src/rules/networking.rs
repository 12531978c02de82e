//! Network policies, ingresses, and the address ranges of services.

use gantry_object::Value;
use serde_json::json;

use crate::rules::{Generation, PLAIN, Rules};
use crate::tree;

pub(crate) const POLICY: Rules = Rules {
    defaults: |policy| {
        if tree::items(policy, "/spec/policyTypes").is_empty()
            && let Some(spec) = policy.get_mut("spec").filter(|s| s.is_object())
        {
            let types = if tree::items(spec, "/egress").is_empty() { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
            tree::set(spec, "policyTypes", types);
        }
    },
    generation: Generation::Spec,
    ..PLAIN
};

pub(crate) const INGRESS: Rules = Rules { resets_status: true, generation: Generation::Spec, warnings: warn_of_annotation, ..PLAIN };

pub(crate) const INGRESS_CLASS: Rules = Rules { generation: Generation::Spec, ..PLAIN };

pub(crate) const IP_ADDRESS: Rules = PLAIN;

pub(crate) const SERVICE_CIDR: Rules = PLAIN;

fn warn_of_annotation(new: &Value, old: &Value) -> Vec<String> {
    let annotation = "kubernetes.io/ingress.class";
    let is_set = tree::at(new, "/metadata/annotations").get(annotation).is_some();
    if old.is_null() && is_set && tree::at(new, "/spec/ingressClassName").is_null() {
        return vec![format!("annotation {annotation:?} is deprecated, please use 'spec.ingressClassName' instead")];
    }
    Vec::new()
}
