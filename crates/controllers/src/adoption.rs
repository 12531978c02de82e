//! Taking in and letting go of objects by selector.

use gantry_object::Value;
use gantry_reconcile::{Action, Kind, Meta, Object, PatchType, View};
use serde_json::json;

use crate::kinds::LabelSelector;

/// Objects of a kind as one controlling object sees them.
pub(crate) struct Claimed<K> {
    /// Those it manages and selects.
    pub(crate) kept: Vec<Object<K>>,
    /// Adoptions and releases to be done first.
    pub(crate) actions: Vec<Action>,
}

/// Finds what an object manages, what it should adopt (selected, unmanaged), and what it should release (managed, no longer selected).
/// An object that is being deleted adopts nothing.
pub(crate) fn claim<K: Kind>(
    view: &View,
    owner: &Meta,
    owner_kind: (&str, &str),
    selector: &LabelSelector,
    adoptable: impl Fn(&Object<K>) -> bool,
) -> Claimed<K> {
    let mut claimed = Claimed { kept: Vec::new(), actions: Vec::new() };
    for object in view.owned_by::<K>(&owner.uid) {
        let meta = object.meta();
        if meta.namespace != owner.namespace || meta.controller().is_none_or(|c| c.uid != owner.uid) {
            continue;
        }
        if selector.selects(&meta.labels) {
            claimed.kept.push(object);
        } else if !owner.is_deleting() && !meta.is_deleting() {
            claimed.actions.push(release(&object, owner));
        }
    }
    if !owner.is_deleting() {
        let orphans = view.unmanaged::<K>(&owner.namespace).filter(|o| !o.meta().is_deleting());
        for object in orphans.filter(|o| selector.selects(&o.meta().labels) && adoptable(o)) {
            claimed.actions.push(adopt(&object, owner.as_controller(owner_kind.0, owner_kind.1)));
        }
    }
    claimed.kept.sort_by(|a, b| a.name().cmp(b.name()));
    claimed
}

/// Both patches hold the uid, so that they cannot hit another object of the name.
fn adopt<K: Kind>(object: &Object<K>, owner: Value) -> Action {
    patch(object, json!({"metadata": {"uid": object.meta().uid, "ownerReferences": [owner]}}))
}

fn release<K: Kind>(object: &Object<K>, owner: &Meta) -> Action {
    let reference = json!({"$patch": "delete", "uid": owner.uid});
    patch(object, json!({"metadata": {"uid": object.meta().uid, "ownerReferences": [reference]}}))
}

fn patch<K: Kind>(object: &Object<K>, patch: Value) -> Action {
    Action::Patch { resource: K::RESOURCE, name: object.name().clone(), subresource: None, kind: PatchType::Strategic, patch }
}
