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
}

impl Coverage {
    /// Counts what a run has reached. Returns its rarest feature, and whether one is new.
    pub(super) fn count(&mut self, reached: &[Feature]) -> (Option<Feature>, bool) {
        let (mut rarest, mut is_new) = (None, false);
        for group in reached.chunk_by(|one, other| (one.0, one.1) == (other.0, other.1)) {
            let hits = self.hits.entry((group[0].0, group[0].1)).or_default();
            for feature @ (_, _, number) in group.iter().copied() {
                if hits.len() <= number {
                    hits.resize(number + 1, 0);
                }
                is_new |= hits[number] == 0;
                hits[number] = hits[number].saturating_add(1);
                let count = hits[number];
                if rarest.is_none_or(|(least, _)| count < least) {
                    rarest = Some((count, feature));
                }
            }
        }
        (rarest.map(|(_, feature)| feature), is_new)
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

/// What a decision reached.
pub(super) fn reached(policies: &[Policy], decision: Option<&Decision>) -> Vec<Feature> {
    let mut reached = Vec::new();
    for (number, policy) in policies.iter().enumerate() {
        for taken in policy.take_notes() {
            add_edges(&mut reached, number, &taken);
        }
    }
    for entry in decision.iter().flat_map(|decision| &decision.trace) {
        let Some(number) = policies.iter().position(|policy| policy.name == entry.policy) else { continue };
        let bucket = usize::try_from(entry.fuel.checked_ilog2().unwrap_or(0)).unwrap_or(0);
        reached.push((number, FUEL, bucket));
    }
    reached.sort_unstable();
    reached.dedup();
    reached
}

/// What a policy reached over settings.
pub(super) fn reached_by(policy: usize, notes: &[Notes]) -> Vec<Feature> {
    let mut reached = Vec::new();
    notes.iter().for_each(|taken| add_edges(&mut reached, policy, taken));
    reached.sort_unstable();
    reached.dedup();
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

fn add_edges(reached: &mut Vec<Feature>, policy: usize, taken: &Notes) {
    let (module, edges) = (taken.module, notes::edges(&taken.list));
    // Most edges aren't taken: eight are looked at at once.
    let (chunks, rest) = edges.as_chunks::<8>();
    for (at, chunk) in chunks.iter().enumerate().filter(|(_, chunk)| u64::from_ne_bytes(**chunk) != 0) {
        let taken = chunk.iter().enumerate().filter(|(_, taken)| **taken != 0);
        reached.extend(taken.map(|(bit, _)| (policy, module, at * 8 + bit)));
    }
    let taken = rest.iter().enumerate().filter(|(_, taken)| **taken != 0);
    reached.extend(taken.map(|(bit, _)| (policy, module, chunks.len() * 8 + bit)));
}
