//! Approves and signs the certificates by which nodes are known, and clears away old requests.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use gantry_object::{ObjectName, Timestamp, Value};
use gantry_reconcile::{Action, Controller, Decision, DeleteOptions, Key, Kind, Object, Preconditions, Read, View, itself};
use serde_json::json;

use crate::kinds::{CertificateSigningRequest as Csr, Node, condition};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";
const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";

/// What a request asks to be certified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The common name.
    pub common_name: String,
    /// The organizations.
    pub organizations: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// IP addresses, in text.
    pub ip_addresses: Vec<String>,
    /// Mail addresses and URIs, which no node has.
    pub others: Vec<String>,
}

/// The certificate authority.
pub trait Signer: Send + Sync + 'static {
    /// Reads a request in PEM; `None` when it isn't one or its own signature does not hold.
    fn subject(&self, request: &str) -> Option<Subject>;

    /// Signs a request in PEM for these usages; gives the certificate in PEM.
    ///
    /// # Errors
    /// Why it could not be signed, in words for the request's status.
    fn sign(&self, request: &str, signer_name: &str, usages: &[String], lifetime: Option<Duration>) -> Result<String, String>;
}

/// The certificate controller.
pub struct Certificates {
    signer: Arc<dyn Signer>,
}

impl Certificates {
    /// Signs with an authority.
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Self { signer }
    }
}

impl Controller for Certificates {
    fn name(&self) -> &'static str {
        "certificate-controller"
    }

    fn reads(&self) -> Vec<Read> {
        // A node that appears may complete a waiting request, which looks again by itself.
        vec![Read::of::<Csr>(itself), Read::of::<Node>(|_, _, _, _| {})]
    }

    fn owns(&self) -> &'static [&'static str] {
        &[
            "certificatesigningrequests/approval of node signers",
            "certificatesigningrequests/status of node signers",
            "old certificatesigningrequests",
        ]
    }

    fn decide(&self, key: &Key, view: &View, now: Timestamp) -> Decision {
        let Some(csr) = view.get::<Csr>("", &key.name.name) else { return Decision::none() };
        let mut decision = Decision::none();
        let is = |kind| condition(&csr.status.conditions, kind).is_some();
        let ours = matches!(csr.spec.signer_name.as_str(), CLIENT | SERVING);
        if !is("Approved") && !is("Denied") && ours {
            self.judge(&csr, view, now, &mut decision);
        } else if is("Approved") && !is("Denied") && !is("Failed") && csr.status.certificate.is_empty() && ours {
            decision.actions.push(self.sign(&csr, now));
        }
        if decision.actions.is_empty() {
            clean(&csr, now, &mut decision);
        }
        decision
    }
}

fn pem_of(csr: &Csr) -> Option<String> {
    String::from_utf8(BASE64.decode(&csr.spec.request).ok()?).ok()
}

enum Verdict {
    Approve(Vec<Action>, &'static str),
    Deny(&'static str),
    Wait(&'static str),
}

impl Certificates {
    fn judge(&self, csr: &Object<Csr>, view: &View, now: Timestamp, decision: &mut Decision) {
        let subject = pem_of(csr).and_then(|pem| self.signer.subject(&pem));
        let verdict = match subject {
            None => Verdict::Deny("The request is not a certificate request."),
            Some(subject) if csr.spec.signer_name == CLIENT => judge_client(csr, &subject),
            Some(subject) => judge_serving(csr, &subject, view),
        };
        match verdict {
            Verdict::Approve(before, message) => {
                decision.actions = before;
                decision.actions.push(conclude(csr, "approval", "Approved", "AutoApproved", message, now));
            }
            Verdict::Deny(message) => decision.actions.push(conclude(csr, "approval", "Denied", "AutoDenied", message, now)),
            Verdict::Wait(reason) => {
                decision.waiting_on.push(reason.into());
                decision.recheck(Duration::from_secs(2));
            }
        }
    }

    fn sign(&self, csr: &Object<Csr>, now: Timestamp) -> Action {
        let lifetime = csr.spec.expiration_seconds.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
        let pem = pem_of(csr).ok_or_else(|| "the request is not PEM".to_owned());
        match pem.and_then(|pem| self.signer.sign(&pem, &csr.spec.signer_name, &csr.spec.usages, lifetime)) {
            Ok(certificate) => {
                let change = json!({"status": {"certificate": BASE64.encode(certificate)}});
                Action::Update { resource: Csr::RESOURCE, subresource: Some("status"), base: csr.encoded().clone(), change }
            }
            Err(why) => conclude(csr, "status", "Failed", "SignerValidationFailure", &why, now),
        }
    }
}

/// Whether a subject is a node's: `system:node:NAME` of `system:nodes`.
fn is_node(subject: &Subject) -> bool {
    subject.organizations == [NODES] && subject.common_name.strip_prefix(NODE).is_some_and(|n| !n.is_empty())
}

fn usages_are(csr: &Csr, required: &[&str]) -> bool {
    let allowed = |u: &String| required.contains(&u.as_str()) || u == "key encipherment";
    required.iter().all(|r| csr.spec.usages.iter().any(|u| u == r)) && csr.spec.usages.iter().all(allowed)
}

/// A node's first certificate, or its next one: the server is asked whether the requester may have it.
fn judge_client(csr: &Object<Csr>, subject: &Subject) -> Verdict {
    if !is_node(subject) {
        return Verdict::Deny("The subject is not a node's.");
    }
    let named = !subject.dns_names.is_empty() || !subject.ip_addresses.is_empty() || !subject.others.is_empty();
    if named || !usages_are(csr, &["digital signature", "client auth"]) {
        return Verdict::Deny("Names and usages are not those of a node's client certificate.");
    }
    let own = csr.spec.username == subject.common_name;
    let (subresource, message) = if own {
        ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.")
    } else {
        ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.")
    };
    let attributes = json!({"group": Csr::RESOURCE.group, "resource": Csr::RESOURCE.plural, "subresource": subresource, "verb": "create", "version": "*"});
    let mut review = json!({"user": csr.spec.username, "groups": csr.spec.groups, "uid": csr.spec.uid, "resourceAttributes": attributes});
    if csr.spec.extra.is_object() {
        review["extra"] = csr.spec.extra.clone();
    }
    Verdict::Approve(vec![Action::RequireAllowed { review }], message)
}

/// A node's serving certificate: asked for by the node itself, for addresses that are its own.
fn judge_serving(csr: &Object<Csr>, subject: &Subject, view: &View) -> Verdict {
    if !is_node(subject) || csr.spec.username != subject.common_name || !csr.spec.groups.iter().any(|g| g == NODES) {
        return Verdict::Deny("The requester is not the node that the subject names.");
    }
    let names: Vec<&String> = subject.dns_names.iter().chain(&subject.ip_addresses).collect();
    if names.is_empty() || !subject.others.is_empty() || !usages_are(csr, &["digital signature", "server auth"]) {
        return Verdict::Deny("Names and usages are not those of a node's serving certificate.");
    }
    let Some(node) = view.get::<Node>("", &subject.common_name[NODE.len()..]) else {
        return Verdict::Wait("the node to be registered");
    };
    if node.status.addresses.is_empty() {
        return Verdict::Wait("the node to say its addresses");
    }
    let is_own = |name: &&&String| node.status.addresses.iter().any(|a| a.address == ***name) || node.meta().name == ***name;
    if names.iter().all(|name| is_own(&name)) {
        Verdict::Approve(Vec::new(), "Auto approving kubelet serving certificate for the node's own addresses.")
    } else {
        Verdict::Wait("the node to have the addresses that are asked for")
    }
}

fn conclude(csr: &Object<Csr>, subresource: &'static str, kind: &str, reason: &str, message: &str, now: Timestamp) -> Action {
    let mut conditions = csr.value()["status"].get("conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let time = now.rfc3339();
    conditions.push(json!({
        "type": kind, "status": "True", "reason": reason, "message": message, "lastUpdateTime": time, "lastTransitionTime": time,
    }));
    let change = json!({"status": {"conditions": conditions}});
    Action::Update { resource: Csr::RESOURCE, subresource: Some(subresource), base: csr.encoded().clone(), change }
}

/// Requests are kept an hour after they were decided, a day when nobody decides.
fn clean(csr: &Object<Csr>, now: Timestamp, decision: &mut Decision) {
    let decided = csr.status.conditions.iter().filter_map(|c| c.last_transition_time).max();
    let (since, hours) = match decided {
        Some(at) => (at, 1),
        None => (csr.meta().creation_timestamp.unwrap_or(now), 24),
    };
    let kept = Duration::from_secs(hours * 3600);
    match kept.checked_sub(now.since(since)).filter(|left| !left.is_zero()) {
        Some(left) => decision.recheck(left),
        None => {
            let preconditions = Some(Preconditions { uid: Some(csr.meta().uid.clone()), ..Preconditions::default() });
            let options = DeleteOptions { preconditions, ..DeleteOptions::default() };
            let name = ObjectName::cluster(&csr.meta().name);
            decision.actions.push(Action::Delete { resource: Csr::RESOURCE, name, options });
        }
    }
}

#[cfg(test)]
mod tests;
