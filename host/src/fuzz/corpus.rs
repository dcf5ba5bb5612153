//! The inputs that reached something that none before had.

use std::collections::BTreeMap;

use fastrand::Rng;

use super::coverage::{Coverage, Feature};
use super::input::Input;

/// Inputs to change.
#[derive(Debug)]
pub(super) struct Corpus {
    random: Rng,
    entries: Vec<Entry>,
    /// The last entry of which something is the rarest.
    by_rarest: BTreeMap<Feature, usize>,
}

#[derive(Debug)]
struct Entry {
    input: Input,
    /// The feature of it that the fewest runs have reached.
    rarest: Feature,
    /// What it was the first to reach.
    new: Vec<Feature>,
    picked: u32,
    size: u64,
}

/// An input of this size costs twice what an empty one does.
const SIZE_UNIT: u64 = 200;

impl Corpus {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed ^ 0x636f_7270_7573), entries: Vec::new(), by_rarest: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn add(&mut self, input: Input, rarest: Feature, new: Vec<Feature>) {
        let size = input.size();
        self.by_rarest.insert(rarest, self.entries.len());
        self.entries.push(Entry { input, rarest, new, picked: 0, size });
    }

    /// Puts an input in the place of a larger one that reached the same first, if it reaches that `anew` as well.
    pub(super) fn make_smaller(
        &mut self,
        input: &Input,
        rarest: Feature,
        reached: &[Feature],
        anew: impl FnOnce() -> Vec<Feature>,
    ) {
        let known = self.by_rarest.get(&rarest).and_then(|at| self.entries.get_mut(*at));
        let Some(entry) = known.filter(|entry| input.size() < entry.size) else { return };
        let is_in = |reached: &[Feature]| entry.new.iter().all(|feature| reached.binary_search(feature).is_ok());
        if is_in(reached) && is_in(&anew()) {
            entry.input = input.clone();
            entry.size = input.size();
            entry.picked = 0;
        }
    }

    /// An input to be changed, and another of which parts may be taken. What reaches the rarest is picked more often, and what was
    /// picked often less.
    pub(super) fn pick(&mut self, coverage: &Coverage) -> Option<(&Input, &Input)> {
        let count = self.entries.len();
        if count == 0 {
            return None;
        }
        let cost = |entry: &Entry| {
            let often = u64::from(coverage.hits(entry.rarest)) + u64::from(entry.picked) * 4;
            often.saturating_mul(SIZE_UNIT + entry.size)
        };
        let tries = [0; 4].map(|_| self.random.usize(0..count));
        let one = tries.into_iter().min_by_key(|at| cost(&self.entries[*at])).unwrap_or(0);
        let other = self.random.usize(0..count);
        self.entries[one].picked += 1;
        Some((&self.entries[one].input, &self.entries[other].input))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::dictionary::Dictionary;
    use crate::fuzz::generate::Generator;
    use crate::fuzz::tables::Tables;

    #[test]
    fn a_smaller_input_takes_the_place_of_one_that_reached_no_more() {
        let (dictionary, tables) = (Dictionary::of(std::iter::empty()), Tables::new([]));
        let small = Generator::new(1, &dictionary, &tables).input();
        let large = (1..20).fold(small.clone(), |input, _| input.with_restriction("nosuid").1);
        let (one, two) = ((0, 0, 1), (0, 0, 2));
        let mut corpus = Corpus::new(1);
        corpus.add(large.clone(), one, vec![one, two]);
        let picked = |corpus: &mut Corpus| corpus.pick(&Coverage::default()).map(|(input, _)| input.size());
        let make_smaller = |corpus: &mut Corpus, input: &Input, rarest, reached: &[Feature], anew: &[Feature]| {
            corpus.make_smaller(input, rarest, reached, || anew.to_vec());
        };
        make_smaller(&mut corpus, &small, one, &[one], &[one]);
        make_smaller(&mut corpus, &small, two, &[one, two], &[one, two]);
        make_smaller(&mut corpus, &small, one, &[one, two], &[one]);
        assert_eq!(
            picked(&mut corpus),
            Some(large.size()),
            "it was the first to reach more, is known by something else, or reaches less anew"
        );
        make_smaller(&mut corpus, &small, one, &[(0, 0, 0), one, two], &[one, two]);
        assert_eq!(picked(&mut corpus), Some(small.size()));
        make_smaller(&mut corpus, &large, one, &[one, two], &[one, two]);
        assert_eq!(picked(&mut corpus), Some(small.size()));
    }
}
