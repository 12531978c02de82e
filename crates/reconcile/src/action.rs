//! What a controller wants done, as data.

use std::time::Duration;

use gantry_client::{DeleteOptions, PatchType};
use gantry_object::{Encoded, ObjectName, Resource};
use serde_json::{Map, Value};

/// What `decide` answers.
#[derive(Clone, Debug, Default)]
pub struct Decision {
    /// What to do, in this order; neighbouring creations of one resource, and neighbouring deletions, go side by side. The first failure
    /// ends it, and the key is decided on again.
    pub actions: Vec<Action>,
    /// What has to happen elsewhere before there is more to do, in words for the user.
    pub waiting_on: Vec<String>,
    /// When to decide again although nothing was seen to change.
    pub recheck_after: Option<Duration>,
}

impl Decision {
    /// Nothing to do.
    pub fn none() -> Self {
        Self::default()
    }

    /// Asks to be decided on again after a time; the shortest one asked for counts.
    pub fn recheck(&mut self, after: Duration) {
        self.recheck_after = Some(self.recheck_after.map_or(after, |before| before.min(after)));
    }
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Makes an object, or an object's subresource (a pod's binding).
    Create {
        /// The resource.
        resource: Resource,
        /// The namespace, and for a subresource the object's name.
        name: ObjectName,
        /// The subresource.
        subresource: Option<&'static str>,
        /// The object.
        object: Value,
    },
    /// Makes an object for another one and records an event about that: `SuccessfulCreate` with the name it got, or `FailedCreate`.
    CreateFor {
        /// The owner's resource.
        owner: Resource,
        /// The owner's name.
        owner_name: ObjectName,
        /// The owner's uid.
        owner_uid: String,
        /// The resource.
        resource: Resource,
        /// The object.
        object: Value,
    },
    /// Replaces an object (or its status) by the version that was seen with some members changed; fails when it is no longer that version.
    /// Members the controller does not know stay as they are.
    Update {
        /// The resource.
        resource: Resource,
        /// The subresource.
        subresource: Option<&'static str>,
        /// The version that was seen.
        base: Encoded,
        /// What changes, as a merge patch.
        change: Value,
    },
    /// Patches an object, wherever it is by now. Preconditions are part of the patch: `metadata.uid`, `metadata.resourceVersion`.
    Patch {
        /// The resource.
        resource: Resource,
        /// The object.
        name: ObjectName,
        /// The subresource.
        subresource: Option<&'static str>,
        /// The patch's language.
        kind: PatchType,
        /// The patch.
        patch: Value,
    },
    /// Deletes an object. One that is gone already counts as success.
    Delete {
        /// The resource.
        resource: Resource,
        /// The object.
        name: ObjectName,
        /// Preconditions, propagation, grace.
        options: DeleteOptions,
    },
    /// Deletes every object of a resource in a namespace.
    DeleteCollection {
        /// The resource.
        resource: Resource,
        /// The namespace.
        namespace: String,
    },
    /// Goes on only if a namespace has no object of a resource, asking the server and not the cache.
    RequireNone {
        /// The resource.
        resource: Resource,
        /// The namespace.
        namespace: String,
    },
    /// Goes on only if an object is gone, or another has taken its name, asking the server and not the cache.
    RequireGone {
        /// The resource.
        resource: Resource,
        /// The object's name.
        name: ObjectName,
        /// The object's uid; empty for any object of the name.
        uid: String,
    },
    /// Goes on only if somebody may do something, asking the server.
    RequireAllowed {
        /// The spec of a SubjectAccessReview.
        review: Value,
    },
    /// Records an event about an object. Never fails.
    Event {
        /// The object's resource.
        resource: Resource,
        /// The object's name.
        name: ObjectName,
        /// The object's uid.
        uid: String,
        /// Normal or Warning.
        kind: EventKind,
        /// A word for programs.
        reason: &'static str,
        /// A sentence for people.
        message: String,
    },
}

/// How serious an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventKind {
    /// As expected.
    Normal,
    /// Something is wrong.
    Warning,
}

impl EventKind {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The merge patch that makes `to` of `from`; `None` when they are the same.
pub fn merge_diff(from: &Value, to: &Value) -> Option<Value> {
    match (from, to) {
        _ if from == to => None,
        (Value::Object(from), Value::Object(to)) => {
            let removed = from.keys().filter(|k| !to.contains_key(*k)).map(|k| (k.clone(), Value::Null));
            let changed = to.iter().filter_map(|(k, v)| Some((k.clone(), merge_diff(from.get(k).unwrap_or(&Value::Null), v)?)));
            Some(Value::Object(removed.chain(changed).collect::<Map<_, _>>()))
        }
        _ => Some(to.clone()),
    }
}

/// Applies a merge patch (RFC 7386).
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(name);
        } else {
            merge(members.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}
