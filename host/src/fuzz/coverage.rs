//! What the runs so far have reached, and how often.

use std::collections::BTreeMap;

use super::instrument::notes::{self, Comparison};
use crate::decision::ruling::Decision;
use crate::policy::engine::Notes;
use crate::policy::engine::policy::Policy;

/// Something that a run reached: an edge of a policy's plugin, or how much fuel it took, by powers of two.
pub(super) type Feature = (usize, usize, usize);

/// The number that stands for a module where the feature is about fuel.
const FUEL: usize = usize::MAX;

/// How often each feature was reached.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    hits: BTreeMap<(usize, usize), Vec<u32>>,
    /// How often something was reached in instances that were asked before and then not in fresh ones.
    doubts: BTreeMap<Feature, u32>,
}

/// What of a run matters to those that follow.
pub(super) struct Counted {
    /// What the fewest runs have reached.
    pub(super) rarest: Option<Feature>,
    /// What none before has.
    pub(super) new: Vec<Feature>,
}

/// So often something new may turn out to be due to what an instance was asked before, until it's no longer believed.
const MAX_DOUBTS: u32 = 4;

impl Coverage {
    /// Whether a run in instances that were asked before has reached something that may be new.
    pub(super) fn may_be_new(&self, reached: &[Feature]) -> bool {
        let is_new = |feature: &Feature| self.doubts.get(feature).is_none_or(|doubts| *doubts < MAX_DOUBTS);
        reached.chunk_by(is_of_one_module).any(|group| {
            let hits = self.of_module(group[0].0, group[0].1);
            let unknown = |(_, _, number): &Feature| hits.get(*number).is_none_or(|hits| *hits == 0);
            group.iter().any(|feature| unknown(feature) && is_new(feature))
        })
    }

    /// Learns what the same input reached in used instances and in fresh ones.
    pub(super) fn compare(&mut self, used: &[Feature], fresh: &[Feature]) {
        for feature in used.iter().filter(|feature| fresh.binary_search(feature).is_err()) {
            if self.hits(*feature) == 0 {
                *self.doubts.entry(*feature).or_default() += 1;
            }
        }
        self.doubts.retain(|feature, _| fresh.binary_search(feature).is_err());
    }

    /// Counts what a run has reached, but for what there are doubts about.
    pub(super) fn count(&mut self, reached: &[Feature]) -> Counted {
        let (mut rarest, mut new) = (None, Vec::new());
        for group in reached.chunk_by(is_of_one_module) {
            let hits = self.hits.entry((group[0].0, group[0].1)).or_default();
            for feature @ (_, _, number) in group.iter().copied() {
                if hits.len() <= number {
                    hits.resize(number + 1, 0);
                }
                if hits[number] == 0 {
                    if self.doubts.contains_key(&feature) {
                        continue;
                    }
                    new.push(feature);
                }
                hits[number] = hits[number].saturating_add(1);
                let count = hits[number];
                if rarest.is_none_or(|(least, _)| count < least) {
                    rarest = Some((count, feature));
                }
            }
        }
        Counted { rarest: rarest.map(|(_, feature)| feature), new }
    }

    /// How often a feature was reached.
    pub(super) fn hits(&self, (policy, module, number): Feature) -> u32 {
        self.hits.get(&(policy, module)).and_then(|hits| hits.get(number)).copied().unwrap_or(0)
    }

    /// How often each edge of a module of a policy was reached. It ends with the last one that was.
    pub(super) fn of_module(&self, policy: usize, module: usize) -> &[u32] {
        self.hits.get(&(policy, module)).map(Vec::as_slice).unwrap_or_default()
    }

    /// How many edges of a policy were reached, of those that there are as far as is known.
    pub(super) fn edges(&self, policy: usize) -> usize {
        let of_policy = self.hits.iter().filter(|((owner, module), _)| *owner == policy && *module != FUEL);
        of_policy.map(|(_, hits)| hits.iter().filter(|count| **count > 0).count()).sum()
    }
}

fn is_of_one_module(one: &Feature, other: &Feature) -> bool {
    (one.0, one.1) == (other.0, other.1)
}

/// What a decision reached, in order.
pub(super) fn reached(policies: &[Policy], decision: Option<&Decision>) -> Vec<Feature> {
    let mut reached = Vec::new();
    let trace = decision.map(|decision| decision.trace.as_slice()).unwrap_or_default();
    for (number, policy) in policies.iter().enumerate() {
        add_edges(&mut reached, number, policy.take_notes());
        let of_policy = trace.iter().filter(|entry| entry.policy == policy.name);
        let bucket = |fuel: u64| usize::try_from(fuel.checked_ilog2().unwrap_or(0)).unwrap_or(0);
        let mut fuel: Vec<Feature> = of_policy.map(|entry| (number, FUEL, bucket(entry.fuel))).collect();
        fuel.sort_unstable();
        fuel.dedup();
        reached.append(&mut fuel);
    }
    reached
}

/// What a policy reached over settings, in order.
pub(super) fn reached_by(policy: usize, notes: Vec<Notes>) -> Vec<Feature> {
    let mut reached = Vec::new();
    add_edges(&mut reached, policy, notes);
    reached
}

/// What the last decision compared.
pub(super) fn compared(policies: &[Policy]) -> Vec<Comparison> {
    let notes = policies.iter().flat_map(|policy| policy.take_notes());
    let mut compared: Vec<Comparison> = notes.flat_map(|taken| notes::comparisons(&taken.list)).collect();
    compared.sort_unstable();
    compared.dedup();
    compared
}

/// How many edges are looked at at once.
const WIDTH: usize = 32;

/// Adds what a policy took, in one or more evaluations.
fn add_edges(reached: &mut Vec<Feature>, policy: usize, mut notes: Vec<Notes>) {
    notes.sort_by_key(|taken| taken.module);
    for same in notes.chunk_by_mut(|one, other| one.module == other.module) {
        let Some((first, others)) = same.split_first_mut() else { continue };
        for other in others {
            first.list.iter_mut().zip(&other.list).for_each(|(taken, also)| *taken |= also);
        }
        let edges = notes::edges(&first.list);
        // Most edges aren't taken: many are looked at at once.
        let is_untaken = |chunk: &[u8]| <[u8; WIDTH]>::try_from(chunk).is_ok_and(|chunk| chunk == [0; WIDTH]);
        for (at, chunk) in edges.chunks(WIDTH).enumerate().filter(|(_, chunk)| !is_untaken(chunk)) {
            let taken = chunk.iter().enumerate().filter(|(_, taken)| **taken != 0);
            reached.extend(taken.map(|(bit, _)| (policy, first.module, at * WIDTH + bit)));
        }
    }
}
