//! Branches as their author wrote them: the copies that a compiler makes of one are one.

use std::collections::BTreeMap;

use super::debug_info::{DebugInfo, Place};
use crate::fuzz::instrument::flow::Taken;

/// Where code is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum At {
    /// In a source.
    Source { file: String, line: u32, column: u32 },
    /// In a module, which starts there, where nothing says where it's from.
    Module { start: usize, address: u64 },
    /// Behind the end of its function.
    End,
}

impl At {
    fn of(address: u64, module: usize, place: Option<Place<'_>>) -> Self {
        match place {
            Some((file, line, column)) => Self::Source { file: file.to_owned(), line, column },
            None => Self::Module { start: module, address },
        }
    }

    /// The file, line and column, if they are known.
    pub(super) fn in_source(&self) -> Option<(String, u32, u32)> {
        match self {
            Self::Source { file, line, column } => Some((file.clone(), *line, *column)),
            Self::Module { .. } | Self::End => None,
        }
    }
}

/// Of each branch how often each of its ways was taken. A way is known by where it leads; of those that lead to the same place, by its number
/// among them.
#[derive(Debug, Default)]
pub(super) struct Branches(pub(super) BTreeMap<At, BTreeMap<(At, usize), u32>>);

impl Branches {
    /// Adds a branch. A way that ends in a trap is none as long as nothing takes it: who takes it has found a fault, and that's no matter
    /// of coverage.
    pub(super) fn add(&mut self, branch: &Taken, module: usize, info: &DebugInfo) {
        let mut ways: BTreeMap<(At, usize), u32> = BTreeMap::new();
        for way in branch.ways.iter().filter(|way| !way.traps || way.count > 0) {
            // What a compiler adds by itself has no place.
            let place = way.to.iter().find_map(|address| info.place(*address));
            let to = way.to.first().map_or(At::End, |first| At::of(*first, module, place));
            let same = ways.keys().filter(|(known, _)| *known == to).count();
            ways.insert((to, same), way.count);
        }
        if ways.len() > 1 {
            let from = At::of(branch.address, module, info.place(branch.address));
            self.merge(Self(BTreeMap::from([(from, ways)])));
        }
    }

    /// Puts these beside them. A request may have taken several copies of a way: the count is that of the one taken most often.
    pub(super) fn merge(&mut self, others: Self) {
        for (at, ways) in others.0 {
            let known = self.0.entry(at).or_default();
            for (way, count) in ways {
                let most = known.entry(way).or_default();
                *most = (*most).max(count);
            }
        }
    }

    /// All ways.
    pub(super) fn ways(&self) -> Ways {
        let mut ways = Ways::default();
        ways.add(self.0.values().flat_map(BTreeMap::values).copied());
        ways
    }
}

/// How many ways there are, and how many were taken.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct Ways {
    pub taken: usize,
    pub all: usize,
}

impl Ways {
    /// Counts these as well.
    pub fn add(&mut self, counts: impl IntoIterator<Item = u32>) {
        for count in counts {
            self.all += 1;
            self.taken += usize::from(count > 0);
        }
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self { taken: self.taken + other.taken, all: self.all + other.all }
    }

    /// In percent; 100 where there is nothing.
    pub fn percent(self) -> f64 {
        if self.all == 0 { 100.0 } else { 100.0 * self.taken as f64 / self.all as f64 }
    }
}
