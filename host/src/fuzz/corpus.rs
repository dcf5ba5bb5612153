//! The inputs that reached something that none before had.

use fastrand::Rng;

use super::coverage::{Coverage, Feature};
use super::input::Input;

/// Inputs to change.
#[derive(Debug)]
pub(super) struct Corpus {
    random: Rng,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    input: Input,
    /// The feature of it that the fewest runs have reached.
    rarest: Feature,
    picked: u32,
    size: u64,
}

/// An input of this size costs twice what an empty one does.
const SIZE_UNIT: u64 = 200;

impl Corpus {
    pub(super) fn new(seed: u64) -> Self {
        Self { random: Rng::with_seed(seed ^ 0x636f_7270_7573), entries: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn add(&mut self, input: Input, rarest: Feature) {
        let size = input.size();
        self.entries.push(Entry { input, rarest, picked: 0, size });
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
