//! Admission webhooks: servers that other people run, asked whether a request may go on and what is to become of its object.
//!
//! Mutating ones are asked one after the other, validating ones side by side. Configurations of admission itself are never put to them.

mod hooks;
mod rules;
mod subject;
mod wire;

use std::collections::BTreeSet;
use std::sync::Arc;

use gantry_kinds::Kind;
use gantry_object::{Status, Value, meta};
use gantry_ports::{BoxFuture, join_all};
use gantry_schema::json_patch;
use gantry_schema::ownership::Managed;

pub(crate) use hooks::{Hook, Hooks};

use self::subject::Subject;
use super::Review;
use crate::outside::Post;
use wire::{Question, Verdict};

/// The most that is read of an answer, in bytes: more than the largest patch of the largest object.
const LARGEST_ANSWER: usize = 16 << 20;
/// The kinds of admission's own configuration. What is wrong with a webhook must be mendable.
const EXEMPT: [&str; 6] = [
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// The webhooks that may be asked about a request; `None` when there are none.
fn hooks_for(review: &Review<'_>, which: impl FnOnce(&Hooks) -> Arc<[Arc<Hook>]>) -> Option<Arc<[Arc<Hook>]>> {
    if review.call.own {
        return None;
    }
    let mut follower = review.server.hooks_follower().lock().expect("nothing panics while it holds this lock");
    let hooks = which(follower.current(review.server.store()));
    let kind = &review.call.kind;
    let exempt = || kind.group == "admissionregistration.k8s.io" && EXEMPT.contains(&kind.plural.as_str());
    (!hooks.is_empty() && !exempt()).then_some(hooks)
}

/// Why a webhook's word does not let a request go on.
enum Failure {
    /// It could not be asked, or its answer is no good.
    Call(String),
    /// It was asked and refused, or cannot be asked about such a request.
    Final(Box<Status>),
}

impl Failure {
    /// What becomes of the request.
    fn settle(self, hook: &Hook) -> Result<(), Status> {
        match self {
            Self::Final(status) => Err(*status),
            Self::Call(why) if hook.ignores_failure => {
                tracing::warn!(webhook = hook.name, why, "failed calling webhook, failing open");
                Ok(())
            }
            Self::Call(why) => Err(Status::internal(format_args!("failed calling webhook {:?}: {why}", hook.name))),
        }
    }
}

/// Asks a webhook.
async fn ask(subject: &Subject<'_>, hook: &Hook, kind: &Kind, object: &Value, old: &Value, mutating: bool) -> Result<Verdict, Failure> {
    if subject.is_dry_run() && !hook.takes_dry_runs {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Final(Box::new(Status::bad_request(why))));
    }
    let Some(version) = hook.versions.iter().find(|v| matches!(v.as_str(), "v1" | "v1beta1")) else {
        let why = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Failure::Call(format!("could not create admission objects: {why}")));
    };
    let server = subject.review.server;
    let uid = server.random().uuid();
    let body = Question { subject, uid: &uid, version, kind, object, old }.encode();
    let post = Post { callee: &hook.callee, body, timeout: hook.timeout, largest_answer: LARGEST_ANSWER };
    let begun = server.clock().monotonic();
    let answer = server.post(post).await;
    let taken = server.clock().monotonic().saturating_sub(begun);
    let rejected = answer.is_err() && !hook.ignores_failure;
    server.metrics().webhook(&hook.name, mutating, subject.operation, rejected, taken);
    let answer = answer.map_err(|e| Failure::Call(format!("failed to call webhook: {e}")))?;
    let read = wire::read(&answer, &hook.name, &uid, version, mutating);
    let mut verdict = read.map_err(|why| Failure::Call(format!("received invalid webhook response: {why}")))?;
    for warning in &verdict.warnings {
        subject.review.call.notes.warn(warning);
    }
    for (key, value) in &verdict.audit_annotations {
        tracing::debug!(webhook = hook.name, key, value, "audit annotation");
    }
    match verdict.refusal.take() {
        Some(status) => Err(Failure::Final(Box::new(status))),
        None => Ok(verdict),
    }
}

/// The kind as which a webhook is asked about a request; `None` when it is not.
fn concerns(subject: &Subject<'_>, hook: &Hook, object: &Value) -> Result<Option<Arc<Kind>>, Status> {
    let (Some(namespaces), Some(objects)) = (&hook.namespaces, &hook.objects) else { return Ok(None) };
    let in_namespace = subject.in_namespace_of(namespaces, object);
    if matches!(in_namespace, Ok(false)) || !subject.has_labels(objects, object) {
        return Ok(None);
    }
    let Some(kind) = subject.matched(&hook.rules, hook.equivalent) else { return Ok(None) };
    // A namespace that is not there matters only to those whom the request concerns.
    in_namespace?;
    Ok(conditions_hold(subject, hook)?.then_some(kind))
}

/// Whether the conditions of a webhook hold of a request.
fn conditions_hold(subject: &Subject<'_>, hook: &Hook) -> Result<bool, Status> {
    if hook.conditions.is_empty() {
        return Ok(true);
    }
    if hook.ignores_failure {
        return Ok(false);
    }
    Err(subject.review.forbidden(&subject.name, "match conditions cannot be evaluated"))
}

/// Puts a finished request to the validating webhooks, all at once.
pub(crate) async fn validate(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let Some(hooks) = hooks_for(review, |h| h.validating().clone()) else { return Ok(()) };
    let subject = Subject::of(review, object);
    let mut concerned = Vec::new();
    for hook in hooks.iter() {
        if let Some(kind) = concerns(&subject, hook, object)? {
            let (shown, old) = (subject.shown(object, &kind).await?, subject.shown(review.old, &kind).await?);
            concerned.push((hook, kind, shown, old));
        }
    }
    let asked = concerned.iter().map(|(hook, kind, object, old)| {
        let asked: BoxFuture<'_, Result<(), Status>> = Box::pin(async {
            match ask(&subject, hook, kind, object, old, false).await {
                Ok(_) => Ok(()),
                Err(failure) => failure.settle(hook),
            }
        });
        asked
    });
    join_all(asked.collect()).await.into_iter().collect()
}

/// The rounds in which mutating webhooks are asked about one request.
pub(crate) struct Mutation {
    hooks: Arc<[Arc<Hook>]>,
    /// Those that were asked and want to be asked again when the object changes.
    asked: BTreeSet<String>,
    /// Those of them after which it has changed.
    due: BTreeSet<String>,
    /// The object after the first round.
    left: Value,
}

impl Mutation {
    /// The webhooks for a request; `None` when there are none.
    pub(crate) fn of(review: &Review<'_>) -> Option<Self> {
        let hooks = hooks_for(review, |h| h.mutating().clone())?;
        Some(Self { hooks, asked: BTreeSet::new(), due: BTreeSet::new(), left: Value::Null })
    }

    /// Asks every one in order. Says whether the object was changed.
    pub(crate) async fn run(&mut self, review: &Review<'_>, object: &mut Value) -> Result<bool, Status> {
        let mut changed = false;
        for hook in self.hooks.clone().iter() {
            changed |= self.ask_one(review, hook, object).await?;
        }
        if changed {
            self.left = object.clone();
        }
        Ok(changed)
    }

    /// Asks those again that want it and have not seen the object as it is.
    pub(crate) async fn run_again(&mut self, review: &Review<'_>, object: &mut Value) -> Result<(), Status> {
        if *object != self.left {
            self.due.append(&mut self.asked);
        }
        for hook in self.hooks.clone().iter() {
            if self.due.contains(&hook.id) {
                self.ask_one(review, hook, object).await?;
            }
        }
        Ok(())
    }

    async fn ask_one(&mut self, review: &Review<'_>, hook: &Hook, object: &mut Value) -> Result<bool, Status> {
        let subject = Subject::of(review, object);
        let Some(kind) = concerns(&subject, hook, object)? else { return Ok(false) };
        let (shown, old) = (subject.shown(object, &kind).await?, subject.shown(review.old, &kind).await?);
        let changed = match ask(&subject, hook, &kind, &shown, &old, true).await {
            Ok(verdict) => patch(&subject, hook, &kind, verdict, shown, object).await,
            Err(failure) => Err(failure),
        };
        let changed = match changed {
            Ok(changed) => changed,
            Err(failure) => failure.settle(hook).map(|()| false)?,
        };
        if changed {
            self.due.append(&mut self.asked);
        }
        if hook.reinvoked {
            self.asked.insert(hook.id.clone());
        }
        Ok(changed)
    }
}

/// Does to the object what a webhook wants. Says whether that changed it.
async fn patch(
    subject: &Subject<'_>,
    hook: &Hook,
    kind: &Kind,
    verdict: Verdict,
    shown: Value,
    object: &mut Value,
) -> Result<bool, Failure> {
    let internal = |why: String| Failure::Final(Box::new(Status::internal(why)));
    if verdict.patch.is_empty() {
        return Ok(false);
    }
    let operations: Result<Vec<Value>, _> = serde_json::from_slice(&verdict.patch);
    match operations {
        Ok(operations) if operations.is_empty() => return Ok(false),
        Ok(_) => {}
        Err(e) => return Err(Failure::Call(format!("received undecodable patch in webhook response: {e}"))),
    }
    if shown.is_null() {
        let why = format!("admission webhook {:?} attempted to modify the object, which is not supported for this operation", hook.name);
        return Err(internal(why));
    }
    let patched = json_patch(shown, &verdict.patch).map_err(|e| internal(e.to_string()))?;
    if !patched.is_object() {
        return Err(internal(format!("the patch of admission webhook {:?} does not leave a JSON object", hook.name)));
    }
    let before = object.clone();
    subject.take_back(object, patched, kind).await.map_err(|status| Failure::Final(Box::new(status)))?;
    keep_identity(subject, &before, object)?;
    guard_owners(subject, &before, object);
    Ok(before != *object)
}

/// An object stays itself, whatever webhooks make of it.
fn keep_identity(subject: &Subject<'_>, before: &Value, object: &Value) -> Result<(), Failure> {
    let is_update = subject.review.operation == super::Operation::Update;
    let members: &[&str] = if is_update { &["name", "namespace", "uid"] } else { &["namespace"] };
    match members.iter().find(|member| meta::text(before, member) != meta::text(object, member)) {
        None => Ok(()),
        Some(member) => {
            let why = format!("metadata.{member} may not be changed by an admission webhook");
            Err(Failure::Final(Box::new(Status::bad_request(why))))
        }
    }
}

/// Who owns what is not for webhooks to garble: what they leave unreadable is as it was.
fn guard_owners(subject: &Subject<'_>, before: &Value, object: &mut Value) {
    let owners = |object: &Value| meta::metadata(object).and_then(|m| m.get("managedFields")).cloned();
    let (was, is) = (owners(before), owners(object));
    if was == is {
        return;
    }
    if is.as_ref().is_some_and(|is| Managed::decode(is).is_err()) {
        let metadata = meta::metadata_mut(object);
        match was {
            Some(was) => drop(metadata.insert("managedFields".into(), was)),
            None => drop(metadata.remove("managedFields")),
        }
        subject.review.call.notes.warn(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated mutating admission controller",
        );
    }
}
