//! Who may do what: the masters everything, nodes what concerns their pods, everybody what RBAC's rules say.

mod follow;
mod node;
mod rbac;

pub(crate) mod escalation;

use std::sync::Mutex;

use gantry_client::{PatchType, Verb};
use gantry_object::{GroupResource, Status};
use gantry_store::Store;

pub(crate) use follow::{Follow, Follower};
pub(crate) use rbac::Rule;

use crate::call::{Call, verb_name};
use crate::path::{self, Query, ResourcePath};
use crate::user::{MASTERS, User};

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// For what isn't a resource: the path. The rest is then empty.
    pub(crate) path: String,
}

impl Attributes {
    /// What a call wants to do.
    pub(crate) fn of(call: &Call, verb: &str) -> Self {
        let is_namespace = call.kind.plural == "namespaces" && call.kind.group.is_empty();
        let required_name = || gantry_object::fields::FieldSelector::parse(&call.params.field_selector).ok();
        let name = match call.object.name.as_str() {
            // Reading a collection down to the one object of a name is reading that object.
            "" if matches!(verb, "list" | "watch") => {
                required_name().and_then(|s| s.required_value("metadata.name").map(str::to_owned)).unwrap_or_default()
            }
            name => name.to_owned(),
        };
        Self {
            verb: verb.into(),
            group: call.kind.group.clone(),
            resource: call.kind.plural.clone(),
            subresource: call.subresource.clone(),
            namespace: if is_namespace { call.object.name.clone() } else { call.object.namespace.clone() },
            name,
            path: String::new(),
        }
    }

    /// What a request wants to do, before anything is known of its resource.
    pub(crate) fn of_request(method: &http::Method, path: &ResourcePath, query: &Query, is_watch: bool) -> Self {
        let verb = match path::verb(method, path, Some(PatchType::Json)) {
            Some(Verb::Get | Verb::List) if is_watch => "watch".to_owned(),
            Some(verb) => verb_name(verb).to_owned(),
            None => method.as_str().to_lowercase(),
        };
        let mut name = path.name.clone();
        if name.is_empty() && matches!(verb.as_str(), "list" | "watch") {
            let fields = gantry_object::fields::FieldSelector::parse(query.get("fieldSelector")).ok();
            name = fields.and_then(|f| f.required_value("metadata.name").map(str::to_owned)).unwrap_or_default();
        }
        let is_namespace = path.resource == "namespaces" && path.group.is_empty();
        Self {
            verb,
            group: path.group.clone(),
            resource: path.resource.clone(),
            subresource: path.subresource.clone(),
            namespace: if is_namespace { path.name.clone() } else { path.namespace.clone() },
            name,
            path: String::new(),
        }
    }

    /// A request for something that isn't a resource.
    pub(crate) fn path(verb: &str, path: &str) -> Self {
        Self { verb: verb.into(), path: path.into(), ..Self::default() }
    }

    fn resource_with_sub(&self) -> String {
        if self.subresource.is_empty() { self.resource.clone() } else { format!("{}/{}", self.resource, self.subresource) }
    }

    /// The refusal, in upstream's words.
    fn refusal(&self, user: &User, why: &str) -> Status {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        let who = &user.name;
        if !self.path.is_empty() {
            let message = format!("User {who:?} cannot {} path {:?}{why}", self.verb, self.path);
            return Status::forbidden(&GroupResource::new("", ""), "", &message);
        }
        let scope =
            if self.namespace.is_empty() { "at the cluster scope".into() } else { format!("in the namespace {:?}", self.namespace) };
        let message =
            format!("User {who:?} cannot {} resource {:?} in API group {:?} {scope}{why}", self.verb, self.resource_with_sub(), self.group);
        Status::forbidden(&GroupResource::new(&self.group, &self.resource), &self.name, &message)
    }
}

/// The role that says what every node may do, whoever it is bound to.
const NODE_ROLE: &str = "system:node";

/// Decides who may do what, from RBAC objects and pods as they stand in the store.
pub(crate) struct Authorizer {
    rbac: Mutex<Follower<rbac::Rbac>>,
    graph: Mutex<Follower<node::Graph>>,
}

impl Authorizer {
    pub(crate) fn new(store: &Store) -> Self {
        Self { rbac: Mutex::new(Follower::new(store)), graph: Mutex::new(Follower::new(store)) }
    }

    /// Whether the user may; the error says why not.
    pub(crate) fn check(&self, store: &Store, user: &User, what: &Attributes) -> Result<(), Status> {
        self.decide(store, user, what).map_err(|why| what.refusal(user, &why))
    }

    /// Whether the user may; otherwise the reason, which may be empty.
    pub(crate) fn decide(&self, store: &Store, user: &User, what: &Attributes) -> Result<(), String> {
        if user.is_in(MASTERS) {
            return Ok(());
        }
        let mut why = String::new();
        if let Some(node) = user.node_name() {
            let mut graph = self.graph.lock().expect("nothing panics while it holds this lock");
            match graph.current(store).decide(node, what) {
                node::Decision::Allow => return Ok(()),
                node::Decision::AsEveryNode => {
                    let mut rbac = self.rbac.lock().expect("nothing panics while it holds this lock");
                    if rbac.current(store).role_allows(NODE_ROLE, what) {
                        return Ok(());
                    }
                }
                node::Decision::NoOpinion(reason) => why = reason,
            }
        }
        let mut rbac = self.rbac.lock().expect("nothing panics while it holds this lock");
        if rbac.current(store).allows(user, what) { Ok(()) } else { Err(why) }
    }

    /// The rules of a role that a binding in a namespace refers to (empty: a binding in the whole cluster).
    pub(crate) fn rules_of_role(&self, store: &Store, kind: &str, namespace: &str, name: &str) -> Option<Vec<Rule>> {
        self.rbac.lock().expect("nothing panics while it holds this lock").current(store).rules_of_role(kind, namespace, name)
    }

    /// Every rule that holds for the user in a namespace (and in the whole cluster).
    pub(crate) fn rules(&self, store: &Store, user: &User, namespace: &str) -> Vec<Rule> {
        self.rbac.lock().expect("nothing panics while it holds this lock").current(store).rules(user, namespace)
    }
}
