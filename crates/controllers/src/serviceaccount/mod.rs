//! Gives every namespace its `default` service account.

use gantry_object::{ObjectName, Timestamp};
use gantry_reconcile::{Action, Controller, Decision, Entry, Item, Key, Kind, Read, View, itself};
use serde_json::json;

use crate::kinds::{Namespace, ServiceAccount};

/// The service account controller.
pub struct ServiceAccounts;

impl Controller for ServiceAccounts {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }

    fn reads(&self) -> Vec<Read> {
        vec![Read::of::<Namespace>(itself), Read::of::<ServiceAccount>(its_namespace)]
    }

    fn owns(&self) -> &'static [&'static str] {
        &["serviceaccounts default"]
    }

    fn decide(&self, key: &Key, view: &View, _now: Timestamp) -> Decision {
        let name = &key.name.name;
        let live = view.get::<Namespace>("", name).is_some_and(|n| !n.meta().is_deleting());
        if !live || view.get::<ServiceAccount>(name, "default").is_some() {
            return Decision::none();
        }
        let object = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
        let name = ObjectName::new(name, "default");
        let create = Action::Create { resource: ServiceAccount::RESOURCE, name, subresource: None, object };
        Decision { actions: vec![create], ..Decision::default() }
    }
}

/// The namespace an object is in.
pub(crate) fn its_namespace(_: &View, _: &Key, item: &Item<Entry>, keys: &mut Vec<Key>) {
    keys.push(Key::of::<Namespace>(ObjectName::cluster(&item.name.namespace)));
}
