//! Revisions: their numbers, and which are kept.

use gantry_reconcile::{Action, Kind, Object};
use serde_json::json;

use super::{NOT_COPIED, REVISION, REVISION_HISTORY, Rollout, delete_set};
use crate::kinds::{Annotations, Deployment, ReplicaSet};

fn revision(annotations: &Annotations) -> i64 {
    annotations.get(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}

impl Rollout<'_> {
    /// The number of the current template's revision: above all others.
    pub(super) fn next_revision(&self) -> i64 {
        self.old.iter().map(|s| revision(&s.metadata.annotations)).max().unwrap_or(0) + 1
    }

    /// The annotations a set of the current template should have: the deployment's, its revision, and for a new one the sizes.
    pub(super) fn set_annotations(&self, existing: Option<&Object<ReplicaSet>>, number: i64) -> Annotations {
        let mut annotations = existing.map(|s| s.metadata.annotations.clone()).unwrap_or_default();
        let copied = self.deployment.metadata.annotations.iter().filter(|(k, _)| !NOT_COPIED.contains(&k.as_str()));
        annotations.extend(copied.map(|(k, v)| (k.clone(), v.clone())));
        let before = revision(&annotations);
        if before < number {
            annotations.insert(REVISION.into(), number.to_string());
            if before > 0 {
                let history = annotations.get(REVISION_HISTORY).filter(|h| !h.is_empty());
                let history = history.map_or_else(|| before.to_string(), |h| format!("{h},{before}"));
                annotations.insert(REVISION_HISTORY.into(), history);
            }
        }
        if existing.is_none() {
            annotations.extend(self.size_annotations());
        }
        annotations
    }

    /// Brings the revision and what a set copies from its deployment up to date, before anything else is done.
    pub(super) fn history_actions(&self) -> Vec<Action> {
        let Some(new) = &self.new else { return Vec::new() };
        let mut actions = Vec::new();
        let annotations = self.set_annotations(Some(new), self.next_revision());
        let min_ready = self.deployment.spec.min_ready_seconds;
        if annotations != new.metadata.annotations || min_ready != new.spec.min_ready_seconds {
            let change = json!({"metadata": {"annotations": annotations}, "spec": {"minReadySeconds": min_ready}});
            actions.push(Action::Update { resource: ReplicaSet::RESOURCE, subresource: None, base: new.encoded().clone(), change });
        }
        let number = revision(&annotations).to_string();
        if self.deployment.metadata.annotations.get(REVISION) != Some(&number) {
            let change = json!({"metadata": {"annotations": {REVISION: number}}});
            let base = self.deployment.encoded().clone();
            actions.push(Action::Update { resource: Deployment::RESOURCE, subresource: None, base, change });
        }
        actions
    }

    /// Deletes old sets without pods, the lowest revisions first, down to the number that is kept.
    pub(super) fn cleanup(&self) -> Vec<Action> {
        let Some(kept) = self.deployment.spec.revision_history_limit.and_then(|l| usize::try_from(l).ok()) else { return Vec::new() };
        let mut alive: Vec<&Object<ReplicaSet>> = self.old.iter().filter(|s| !s.meta().is_deleting()).collect();
        alive.sort_by_key(|s| revision(&s.metadata.annotations));
        let excess = alive.len().saturating_sub(kept);
        let idle =
            |s: &&&Object<ReplicaSet>| s.status.replicas == 0 && s.replicas() == 0 && s.meta().generation <= s.status.observed_generation;
        alive.iter().take(excess).filter(idle).map(|s| delete_set(s)).collect()
    }
}
