//! Whether a pod can run on a node, and why not, in upstream's words.

use std::borrow::Cow;

use crate::node::{Node, Offer};
use crate::pod::{Choice, Pod};

/// Why a node is out of the question; a node may be for several amounts at once.
pub(crate) type Reasons = Vec<Cow<'static, str>>;

/// Empty when the node will do. The first kind of hindrance counts.
pub(crate) fn reasons(pod: &Pod, choice: &Choice, node: &Node, offer: &Offer) -> Reasons {
    if offer.unschedulable && !choice.tolerations.iter().any(|t| t.covers("node.kubernetes.io/unschedulable", "", "NoSchedule")) {
        return vec!["node(s) were unschedulable".into()];
    }
    let mut hard = offer.taints.iter().filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
    if hard.any(|taint| !choice.tolerations.iter().any(|t| t.tolerates(taint))) {
        return vec!["node(s) had untolerated taint(s)".into()];
    }
    let selected = choice.selector.iter().all(|(k, v)| offer.labels.get(k) == Some(v));
    let required = choice.required.as_ref().is_none_or(|terms| terms.iter().any(|t| t.matches(&node.name, &offer.labels)));
    if !selected || !required {
        return vec!["node(s) didn't match Pod's node affinity/selector".into()];
    }
    if pod.ports.iter().any(|p| node.ports.iter().any(|q| p.clashes(q))) {
        return vec!["node(s) didn't have free ports for the requested pod ports".into()];
    }
    room(pod, node, offer)
}

fn room(pod: &Pod, node: &Node, offer: &Offer) -> Reasons {
    let mut reasons = Reasons::new();
    if node.pods.len() >= offer.max_pods {
        reasons.push("Too many pods".into());
    }
    let lacks = |asked: i64, taken: i64, all: i64| asked > 0 && asked > all - taken;
    let (asked, taken, all) = (&pod.requests, &node.taken, &offer.allocatable);
    if lacks(asked.cpu, taken.cpu, all.cpu) {
        reasons.push("Insufficient cpu".into());
    }
    if lacks(asked.memory, taken.memory, all.memory) {
        reasons.push("Insufficient memory".into());
    }
    if lacks(asked.ephemeral, taken.ephemeral, all.ephemeral) {
        reasons.push("Insufficient ephemeral-storage".into());
    }
    for (name, amount) in &asked.other {
        let of = |amounts: &crate::resources::Amounts| amounts.other.get(name).copied().unwrap_or(0);
        if lacks(*amount, of(taken), of(all)) {
            reasons.push(format!("Insufficient {name}").into());
        }
    }
    reasons
}
