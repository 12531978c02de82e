//! How well a node suits a pod. Each score is brought to 0..=100 over the candidates and weighted as upstream does.

use crate::node::{Node, Offer};
use crate::pod::{Choice, Pod};

const TAINTS: i64 = 3;
const AFFINITY: i64 = 2;
const SPREAD: i64 = 2;
const MOST: i64 = 100;

/// A node that will do.
pub(crate) struct Candidate<'a> {
    pub(crate) index: usize,
    pub(crate) node: &'a Node,
    pub(crate) offer: &'a Offer,
}

/// The best of the candidates; of equals, one that differs from pod to pod.
pub(crate) fn best(pod: &Pod, choice: &Choice, candidates: &[Candidate<'_>]) -> Option<usize> {
    let each = |score: &dyn Fn(&Candidate<'_>) -> i64| candidates.iter().map(score).collect::<Vec<i64>>();
    let taints = fewer_is_better(each(&|c| bad_taints(choice, c.offer)));
    let affinity = more_is_better(each(&|c| preference(choice, c)));
    let spread = fewer_is_better(crowding(pod, candidates));
    let score = |i: usize| {
        let c = &candidates[i];
        TAINTS * taints[i] + AFFINITY * affinity[i] + SPREAD * spread[i] + free(pod, c) + balance(pod, c)
    };
    let seed = pod.uid.bytes().fold(FNV, mix);
    let rank = |i: &usize| (score(*i), candidates[*i].node.name.bytes().fold(seed, mix));
    (0..candidates.len()).max_by_key(rank).map(|i| candidates[i].index)
}

const FNV: u64 = 0xcbf2_9ce4_8422_2325;

fn mix(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

fn more_is_better(mut scores: Vec<i64>) -> Vec<i64> {
    let most = scores.iter().copied().max().unwrap_or(0);
    scores.iter_mut().for_each(|s| *s = if most > 0 { *s * MOST / most } else { 0 });
    scores
}

fn fewer_is_better(mut scores: Vec<i64>) -> Vec<i64> {
    let most = scores.iter().copied().max().unwrap_or(0);
    scores.iter_mut().for_each(|s| *s = if most > 0 { MOST - *s * MOST / most } else { MOST });
    scores
}

fn bad_taints(choice: &Choice, offer: &Offer) -> i64 {
    let soft = offer.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
    soft.filter(|t| !choice.tolerations.iter().any(|o| o.tolerates(t))).count() as i64
}

fn preference(choice: &Choice, candidate: &Candidate<'_>) -> i64 {
    let met = choice.preferred.iter().filter(|(_, term)| term.matches(&candidate.node.name, &candidate.offer.labels));
    met.map(|(weight, _)| weight).sum()
}

/// Pods of the same controller on the node and in its zone.
fn crowding(pod: &Pod, candidates: &[Candidate<'_>]) -> Vec<i64> {
    if pod.owner.is_empty() {
        return vec![0; candidates.len()];
    }
    let on = |c: &Candidate<'_>| i64::from(c.node.owners.get(&pod.owner).copied().unwrap_or(0));
    // Few zones: a list is searched faster than a map.
    let mut zones: Vec<(&str, i64)> = Vec::new();
    for c in candidates.iter().filter(|c| !c.offer.zone.is_empty()) {
        match zones.iter_mut().find(|(zone, _)| *zone == c.offer.zone) {
            Some((_, count)) => *count += on(c),
            None => zones.push((&c.offer.zone, on(c))),
        }
    }
    // A node counts twice what its zone does; with one zone there is nothing to choose between zones.
    let count = |c: &Candidate<'_>| zones.iter().find(|(zone, _)| *zone == c.offer.zone).map_or(0, |(_, count)| *count);
    let zone = |c: &Candidate<'_>| if zones.len() > 1 { count(c) } else { 0 };
    candidates.iter().map(|c| 2 * on(c) + zone(c)).collect()
}

fn share_used(pod: i64, taken: i64, all: i64) -> Option<f64> {
    (all > 0).then(|| (((taken + pod) as f64) / (all as f64)).clamp(0.0, 1.0))
}

fn shares(pod: &Pod, c: &Candidate<'_>) -> [Option<f64>; 2] {
    let all = &c.offer.allocatable;
    [share_used(pod.weight.0, c.node.weight.0, all.cpu), share_used(pod.weight.1, c.node.weight.1, all.memory)]
}

/// The share of CPU and memory that stays free, on average.
fn free(pod: &Pod, c: &Candidate<'_>) -> i64 {
    let shares = shares(pod, c);
    let known = shares.iter().flatten().count().max(1) as f64;
    (shares.iter().flatten().map(|used| 1.0 - used).sum::<f64>() / known * MOST as f64) as i64
}

/// How evenly CPU and memory are used.
fn balance(pod: &Pod, c: &Candidate<'_>) -> i64 {
    match shares(pod, c) {
        [Some(cpu), Some(memory)] => ((1.0 - (cpu - memory).abs() / 2.0) * MOST as f64) as i64,
        _ => 0,
    }
}
