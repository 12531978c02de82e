//! What a request is about, in the words of admission: its resource, its kind, its objects in whatever version a webhook reads.

use std::sync::Arc;

use gantry_client::Propagation;
use gantry_kinds::Kind;
use gantry_object::{GroupVersionKind, Status, Value, meta};
use serde_json::json;

use super::rules::{Rule, Seen};
use crate::admission::{Operation, Review};
use crate::call::store_resource;
use crate::subresource::scale;

/// A request as webhooks and policies see it.
pub(crate) struct Subject<'a> {
    pub(crate) review: &'a Review<'a>,
    pub(crate) operation: &'static str,
    /// The object's name; empty while it is yet to be made up.
    pub(crate) name: String,
    pub(crate) namespace: String,
}

impl<'a> Subject<'a> {
    pub(crate) fn of(review: &'a Review<'a>, object: &Value) -> Self {
        let call = review.call;
        let operation = match review.operation {
            Operation::Create => "CREATE",
            Operation::Update => "UPDATE",
            Operation::Delete => "DELETE",
            Operation::Connect => "CONNECT",
        };
        let name = if call.object.name.is_empty() { meta::name(object).to_owned() } else { call.object.name.clone() };
        let is_namespace = call.kind.plural == "namespaces" && call.kind.group.is_empty();
        let namespace = if is_namespace { name.clone() } else { call.object.namespace.clone() };
        Self { review, operation, name, namespace }
    }

    pub(crate) fn subresource(&self) -> &'a str {
        &self.review.call.subresource
    }

    /// The kind of what is sent to a resource of this kind: its own, or that of the subresource.
    pub(crate) fn gvk(&self, kind: &Kind) -> GroupVersionKind {
        kind.subresource(self.subresource()).map_or_else(|| kind.gvk(), |s| s.gvk.clone())
    }

    fn seen<'k>(&'k self, kind: &'k Kind) -> Seen<'k> {
        Seen {
            operation: self.operation,
            group: &kind.group,
            version: &kind.version,
            resource: &kind.plural,
            subresource: self.subresource(),
            namespace: &self.namespace,
        }
    }

    /// The kind as which these rules concern the request: its own, or another version of the same objects.
    pub(crate) fn matched(&self, rules: &[Rule], equivalent: bool) -> Option<Arc<Kind>> {
        let own = &self.review.call.kind;
        if rules.iter().any(|rule| rule.matches(&self.seen(own))) {
            return Some(own.clone());
        }
        if !equivalent {
            return None;
        }
        let others = self.review.server.versions_of(own);
        let others = others.iter().filter(|k| self.subresource().is_empty() || k.subresource(self.subresource()).is_some());
        let others: Vec<&Arc<Kind>> = others.collect();
        rules.iter().find_map(|rule| others.iter().find(|k| rule.matches(&self.seen(k)))).map(|k| (*k).clone())
    }

    /// Whether the labels of the request's namespace are those a selector wants. What lies in no namespace always is.
    pub(crate) fn in_namespace_of(&self, selector: &gantry_object::labels::Selector, object: &Value) -> Result<bool, Status> {
        let is_namespace = self.review.is("", "namespaces", "");
        if selector.is_empty() || self.namespace.is_empty() && !is_namespace {
            return Ok(true);
        }
        if is_namespace && matches!(self.review.operation, Operation::Create | Operation::Update) {
            return Ok(selector.matches_object(object));
        }
        let namespace = self
            .review
            .stored("namespaces", "", &self.namespace)
            .ok_or_else(|| Status::not_found(&gantry_object::GroupResource::new("", "namespaces"), &self.namespace))?;
        Ok(selector.matches_object(&namespace))
    }

    /// Whether the object, before or after, has labels that a selector wants.
    pub(crate) fn has_labels(&self, selector: &gantry_object::labels::Selector, object: &Value) -> bool {
        let fits = |object: &Value| object.is_object() && selector.matches_object(object);
        selector.is_empty() || fits(object) || fits(self.review.old)
    }

    /// Whether an object of the resource's own kind is sent, which versions may write differently.
    fn is_own_shape(&self) -> bool {
        let kind = &self.review.call.kind;
        self.subresource().is_empty() || kind.subresource(self.subresource()).is_some_and(|s| s.gvk.kind == kind.kind)
    }

    /// The object as a version of the kind writes it. A Scale stands for the object it is of.
    pub(crate) async fn shown(&self, object: &Value, kind: &Kind) -> Result<Value, Status> {
        if object.is_null() {
            return Ok(Value::Null);
        }
        let own = &self.review.call.kind;
        if self.subresource() == "scale" {
            return Ok(scale::scale_of(own, object));
        }
        if !self.is_own_shape() || kind.version == own.version && kind.group == own.group {
            return Ok(object.clone());
        }
        self.review.server.converted(object.clone(), own, kind).await
    }

    /// Takes a webhook's version of the object for the object.
    pub(crate) async fn take_back(&self, object: &mut Value, shown: Value, kind: &Kind) -> Result<(), Status> {
        let own = &self.review.call.kind;
        if self.subresource() == "scale" {
            scale::set_replicas(own, object, shown["spec"]["replicas"].as_i64().unwrap_or_default());
            return Ok(());
        }
        if !self.is_own_shape() {
            *object = shown;
            return Ok(());
        }
        let failed = |e: gantry_schema::DecodeError| Status::internal(format_args!("{} cannot be decoded: {e}", kind.kind));
        let mut shown = kind.conform(shown).map_err(failed)?.value;
        kind.apply_defaults(&mut shown);
        *object = match kind.version == own.version && kind.group == own.group {
            true => shown,
            false => self.review.server.converted(shown, kind, own).await?,
        };
        Ok(())
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.review.call.is_dry_run() || self.review.options.is_some_and(|o| !o.dry_run.is_empty())
    }

    /// The options of the request, as `meta.k8s.io/v1` has them.
    pub(crate) fn options(&self) -> Value {
        let (call, review) = (self.review.call, self.review);
        let kind = match review.operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.is_dry_run() {
            options["dryRun"] = json!(["All"]);
        }
        let Some(delete) = review.options else {
            if !call.params.field_manager.is_empty() {
                options["fieldManager"] = json!(call.params.field_manager);
            }
            options["fieldValidation"] = json!(format!("{:?}", call.field_validation));
            return options;
        };
        if let Some(seconds) = delete.grace_period_seconds {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        if let Some(preconditions) = &delete.preconditions {
            options["preconditions"] = json!(preconditions);
        }
        if let Some(orphan) = delete.orphan_dependents {
            options["orphanDependents"] = json!(orphan);
        }
        if let Some(policy) = delete.propagation_policy {
            options["propagationPolicy"] = json!(match policy {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            });
        }
        options
    }
}

impl crate::server::Server {
    /// The other versions in which the objects of a kind are served, whatever group they are in.
    pub(crate) fn versions_of(&self, kind: &Kind) -> Vec<Arc<Kind>> {
        let resource = store_resource(kind);
        let is_other = |k: &&Arc<Kind>| (&k.group, &k.version) != (&kind.group, &kind.version) && k.plural == kind.plural;
        if kind.is_custom() {
            return self.custom_versions(kind).iter().filter(is_other).cloned().collect();
        }
        self.kinds().iter().filter(|k| k.stored()).filter(is_other).filter(|k| store_resource(k) == resource).cloned().collect()
    }
}
