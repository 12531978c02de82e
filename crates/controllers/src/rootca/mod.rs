//! Puts the certificate by which pods know the API server into every namespace.

use gantry_object::{ObjectName, Timestamp};
use gantry_reconcile::{Action, Controller, Decision, Entry, Item, Key, Kind, Read, View, itself, merge_diff};
use serde_json::json;

use crate::kinds::{ConfigMap, Namespace};

const NAME: &str = "kube-root-ca.crt";

/// The root CA publisher.
pub struct RootCa {
    pem: String,
}

impl RootCa {
    /// Publishes a bundle of certificates in PEM.
    pub fn new(pem: impl Into<String>) -> Self {
        Self { pem: pem.into() }
    }
}

impl Controller for RootCa {
    fn name(&self) -> &'static str {
        "root-ca-cert-publisher"
    }

    fn reads(&self) -> Vec<Read> {
        vec![Read::of::<Namespace>(itself), Read::of::<ConfigMap>(namespace_of_ours)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["configmaps kube-root-ca.crt"]
    }

    fn decide(&self, key: &Key, view: &View, _now: Timestamp) -> Decision {
        let namespace = &key.name.name;
        if view.get::<Namespace>("", namespace).is_none_or(|n| n.meta().is_deleting()) {
            return Decision::none();
        }
        let data = json!({"ca.crt": self.pem});
        let action = match view.get::<ConfigMap>(namespace, NAME) {
            None => {
                let object =
                    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME, "namespace": namespace}, "data": data});
                let name = ObjectName::new(namespace, NAME);
                Some(Action::Create { resource: ConfigMap::RESOURCE, name, subresource: None, object })
            }
            Some(map) => merge_diff(&map.value()["data"], &data).map(|change| {
                let change = json!({"data": change});
                Action::Update { resource: ConfigMap::RESOURCE, subresource: None, base: map.encoded().clone(), change }
            }),
        };
        Decision { actions: action.into_iter().collect(), ..Decision::default() }
    }
}

fn namespace_of_ours(_: &View, _: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    if item.name.name == NAME {
        keys.push(Key::of::<Namespace>(ObjectName::cluster(&item.name.namespace)));
    }
}
