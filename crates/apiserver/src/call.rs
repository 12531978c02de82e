//! A request after its envelope is taken off, and what it came to before it is put into one.

use std::sync::Arc;

use bytes::Bytes;
use gantry_client::{DeleteOptions, Params, Verb};
use gantry_kinds::Kind;
use gantry_object::{Encoded, GroupResource, ObjectName, Revision, Status, Value};
use gantry_store::Key;

use crate::user::User;

/// The encoding of a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Media {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

/// What becomes of fields that the schema doesn't know, or that are given twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// One request, whichever way it came.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) user: User,
    pub(crate) verb: Verb,
    pub(crate) kind: Arc<Kind>,
    pub(crate) subresource: String,
    pub(crate) object: ObjectName,
    pub(crate) params: Params,
    pub(crate) field_validation: FieldValidation,
    pub(crate) media: Media,
    pub(crate) body: Bytes,
    /// Who writes when the parameters don't say: the program, as it calls itself.
    pub(crate) agent: String,
    /// Delete options given in the query instead of the body.
    pub(crate) query_options: Option<DeleteOptions>,
    /// Whether this server acts on its own account, within what somebody else was admitted to: then nobody outside is asked.
    pub(crate) own: bool,
    /// What the caller is to be warned of, beside what its verb finds.
    pub(crate) notes: Notes,
}

/// Warnings that admission gathers. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes(Arc<std::sync::Mutex<Vec<String>>>);

impl Notes {
    /// Adds a warning, once.
    pub(crate) fn warn(&self, text: &str) {
        let mut texts = self.0.lock().expect("nothing panics while it holds this lock");
        if !texts.iter().any(|t| t == text) {
            texts.push(text.into());
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("nothing panics while it holds this lock"))
    }
}

/// What a request came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A stored object.
    Object { object: Encoded, created: bool },
    /// A collection.
    List(Collection),
    /// An object that isn't stored: a review, a scale, a token, or the outcome of a dry run.
    Transient { value: Value, created: bool },
    /// A Status.
    Status(Box<Status>),
}

/// Objects of one kind at one revision.
#[derive(Debug, Default)]
pub(crate) struct Collection {
    pub(crate) items: Vec<Encoded>,
    pub(crate) revision: Revision,
    pub(crate) continue_token: Option<String>,
    pub(crate) remaining: Option<usize>,
}

/// An answer with the warnings that go beside it.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) warnings: Vec<String>,
}

impl Call {
    /// The verb as RBAC names it.
    pub(crate) fn verb_name(&self) -> &'static str {
        verb_name(self.verb)
    }

    /// The resource it is about, as error messages name it.
    pub(crate) fn resource(&self) -> GroupResource {
        GroupResource::new(&self.kind.group, &self.kind.plural)
    }

    /// The store's key of the object.
    pub(crate) fn key(&self) -> Key {
        self.key_of(&self.object.namespace, &self.object.name)
    }

    /// The store's key of another object of the same kind.
    pub(crate) fn key_of(&self, namespace: &str, name: &str) -> Key {
        Key::new(store_resource(&self.kind), namespace, name)
    }

    /// The field manager who writes.
    pub(crate) fn manager(&self) -> &str {
        if self.params.field_manager.is_empty() { &self.agent } else { &self.params.field_manager }
    }

    /// The warnings gathered since this was last called.
    pub(crate) fn take_warnings(&self) -> Vec<String> {
        self.notes.take()
    }

    /// Whether nothing may be changed.
    pub(crate) fn is_dry_run(&self) -> bool {
        !self.params.dry_run.is_empty()
    }

    /// The error for an object that isn't there.
    pub(crate) fn not_found(&self) -> Status {
        Status::not_found(&self.resource(), &self.object.name)
    }
}

/// The store's name for a kind's objects: that of the kind they are stored as.
pub(crate) fn store_resource(kind: &Kind) -> Arc<str> {
    // Only events.k8s.io Events are stored as another kind, under the same plural name.
    let group = kind.storage.as_ref().map_or(kind.group.as_str(), |gvk| &gvk.group);
    GroupResource::new(group, &kind.plural).to_string().into()
}

/// A verb as RBAC names it.
pub(crate) fn verb_name(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "get",
        Verb::List => "list",
        Verb::Create => "create",
        Verb::Update => "update",
        Verb::Patch(_) => "patch",
        Verb::Delete => "delete",
        Verb::DeleteCollection => "deletecollection",
    }
}
