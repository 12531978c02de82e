//! The arithmetic of sizes.

use gantry_object::Value;
use gantry_reconcile::Object;

use super::{DESIRED_REPLICAS, MAX_REPLICAS, Rollout, status};
use crate::kinds::{Deployment, ReplicaSet};

/// How many pods there may be too many and too few. Percentages of the size: surge rounds up, unavailable down, and both may not be zero.
pub(super) fn fenceposts(deployment: &Object<Deployment>) -> (i32, i32) {
    if deployment.spec.strategy.kind == "Recreate" {
        return (0, 0);
    }
    let wanted = deployment.replicas();
    let rolling = &deployment.spec.strategy.rolling_update;
    let surge = share(&rolling.max_surge, wanted, true);
    let unavailable = share(&rolling.max_unavailable, wanted, false);
    if surge == 0 && unavailable == 0 { (0, 1.min(wanted)) } else { (surge, unavailable.min(wanted)) }
}

/// A number, or a percentage of `of`. An absent one is the default of 25%.
fn share(value: &Value, of: i32, round_up: bool) -> i32 {
    if let Some(number) = value.as_i64() {
        return i32::try_from(number).unwrap_or(i32::MAX).max(0);
    }
    let percent = value.as_str().and_then(|t| t.strip_suffix('%')).map_or(Some(25), |t| t.parse::<i64>().ok()).unwrap_or(0);
    let scaled = i64::from(of) * percent;
    let rounded = if round_up { (scaled + 99).div_euclid(100) } else { scaled.div_euclid(100) };
    i32::try_from(rounded).unwrap_or(i32::MAX).max(0)
}

fn annotated(set: &Object<ReplicaSet>, annotation: &str) -> Option<i32> {
    set.metadata.annotations.get(annotation)?.parse().ok()
}

/// Whether a set's controller has seen the set as it is now. Until then it may still act on an earlier size, and its status tells of one.
fn is_observed(set: &Object<ReplicaSet>) -> bool {
    set.status.observed_generation >= set.meta().generation
}

/// How many pods of a set are surely available and staying.
fn available(set: &Object<ReplicaSet>) -> i32 {
    if is_observed(set) { set.status.available_replicas.min(set.replicas()) } else { 0 }
}

/// How large the set of the current template may be now.
pub(super) fn new_set_size(rollout: &Rollout<'_>) -> i32 {
    let wanted = rollout.deployment.replicas();
    let now = rollout.new.as_ref().map_or(0, |s| rollout.size(s));
    if !rollout.all().all(is_observed) {
        return now;
    }
    // Pods that a set has yet to delete still count.
    let there: i32 = rollout.all().map(|s| rollout.size(s).max(s.status.replicas)).sum();
    let room = wanted + rollout.max_surge - there;
    if room <= 0 { now } else { now + room.min(wanted - now) }
}

impl Rollout<'_> {
    /// Whether the deployment's size was changed since the active sets were last sized.
    pub(super) fn is_scaling(&self) -> bool {
        let active = self.all().filter(|s| s.replicas() > 0);
        active.filter_map(|s| annotated(s, DESIRED_REPLICAS)).any(|d| d != self.deployment.replicas())
    }

    /// Brings the sets to the deployment's size without moving between templates: several active sets share the difference.
    pub(super) fn scale(&mut self) {
        let wanted = self.deployment.replicas();
        if let Some(only) = self.only_active() {
            self.resize(&only, wanted);
            return;
        }
        let active: Vec<_> = self.old.iter().filter(|s| s.replicas() > 0).cloned().collect();
        if self.is_saturated() {
            active.iter().for_each(|s| self.resize(s, 0));
        } else if self.deployment.spec.strategy.kind != "Recreate" {
            self.share_out();
        }
    }

    /// Takes back growth while some set has yet to see its size or to give up pods: there would be more than are allowed.
    pub(super) fn hold_growth(&mut self) {
        let allowed = self.deployment.replicas() + self.max_surge;
        let there: i32 = self.all().map(|s| self.size(s).max(s.status.replicas)).sum();
        if there > allowed || !self.all().all(is_observed) {
            let grown: Vec<String> = self.all().filter(|s| self.size(s) > s.replicas()).map(|s| s.name().name.clone()).collect();
            grown.iter().for_each(|name| {
                self.sizes.remove(name);
            });
        }
    }

    /// The set to size when no two are active.
    fn only_active(&self) -> Option<Object<ReplicaSet>> {
        let mut active = self.all().filter(|s| s.replicas() > 0);
        match (active.next(), active.next()) {
            (None, _) => self.new.as_ref().or(self.old.last()).cloned(),
            (Some(only), None) => Some(only.clone()),
            _ => None,
        }
    }

    /// Whether the new set alone already gives all the pods.
    fn is_saturated(&self) -> bool {
        let wanted = self.deployment.replicas();
        self.new.as_ref().is_some_and(|s| {
            s.replicas() == wanted && annotated(s, DESIRED_REPLICAS) == Some(wanted) && s.status.available_replicas == wanted
        })
    }

    /// Shares a change of size among the active sets by their sizes; what rounding leaves goes to the largest.
    fn share_out(&mut self) {
        let wanted = self.deployment.replicas();
        let mut active: Vec<_> = self.all().filter(|s| s.replicas() > 0).cloned().collect();
        let total: i32 = active.iter().map(|s| s.replicas()).sum();
        let allowed = if wanted > 0 { wanted + self.max_surge } else { 0 };
        let difference = allowed - total;
        // Largest first; of equals the newer grows first and the older shrinks first.
        active.sort_by_key(|s| s.meta().creation_timestamp);
        if difference > 0 {
            active.reverse();
        }
        active.sort_by_key(|s| std::cmp::Reverse(s.replicas()));
        let mut given = 0;
        let mut sizes: Vec<i32> = Vec::new();
        for set in &active {
            let part = self.part(set, difference, given);
            given += part;
            sizes.push(set.replicas() + part);
        }
        if let Some(largest) = sizes.first_mut() {
            *largest += difference - given;
        }
        for (set, size) in active.iter().zip(sizes) {
            self.resize(set, size);
        }
    }

    /// A set's part of a difference of which `given` has been given to others.
    fn part(&self, set: &Object<ReplicaSet>, difference: i32, given: i32) -> i32 {
        let left = difference - given;
        if difference == 0 || left == 0 {
            return 0;
        }
        let wanted = self.deployment.replicas();
        let fraction = if wanted == 0 {
            -set.replicas()
        } else {
            let before =
                annotated(set, MAX_REPLICAS).filter(|m| *m > 0).unwrap_or_else(|| status::number(self.deployment, "replicas").max(1));
            let exact = f64::from(set.replicas()) * f64::from(wanted + self.max_surge) / f64::from(before);
            exact.round() as i32 - set.replicas()
        };
        if difference > 0 { fraction.min(left) } else { fraction.max(left) }
    }

    /// A step of a rolling update: the new set grows, or old ones shrink.
    pub(super) fn roll(&mut self) {
        let Some(new) = self.new.clone() else { return };
        let wanted = self.deployment.replicas();
        let size = if new.replicas() > wanted { wanted } else { new_set_size(self) };
        if size != new.replicas() {
            self.resize(&new, size);
            return;
        }
        let least = wanted - self.max_unavailable;
        let not_yet = new.replicas() - available(&new);
        let spare = self.total_size() - least - not_yet;
        if spare > 0 && self.old.iter().any(|s| s.replicas() > 0) {
            let dropped = self.drop_unhealthy(spare);
            self.shrink_old(least, spare - dropped);
        }
    }

    /// Pods of old sets that are not available anyway go first: they hold nothing up.
    fn drop_unhealthy(&mut self, most: i32) -> i32 {
        let mut dropped = 0;
        for set in self.old.clone().iter().filter(|s| is_observed(s)) {
            let unhealthy = (set.replicas() - available(set)).max(0);
            let drop = unhealthy.min(most - dropped);
            if drop > 0 {
                dropped += drop;
                self.resize(set, set.replicas() - drop);
            }
        }
        dropped
    }

    /// Old sets shrink, oldest first, as far as enough pods stay available.
    fn shrink_old(&mut self, least: i32, most: i32) {
        let available: i32 = self.all().map(|s| available(s).min(self.size(s))).sum();
        let mut excess = (available - least).min(most);
        for set in self.old.clone() {
            let size = self.size(&set);
            let drop = size.min(excess);
            if drop > 0 {
                excess -= drop;
                self.resize(&set, size - drop);
            }
        }
    }
}
