//! What of the plugins' code a corpus reaches: functions, branches, and lines where there is debug information.

mod debug_info;
mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use self::debug_info::DebugInfo;
pub use self::sources::Sources;
use super::coverage::{Coverage, reached, reached_by};
use super::input::Input;
use super::instrument::flow::{self, Reached};
use super::instrument::{Noting, instrument};
use super::judge::decide;
use super::run::chain;
use crate::gate::Gate;
use crate::policy::engine::Trial;

/// What is reached of one plugin, by all policies that it's the plugin of.
#[derive(Debug)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct PluginCoverage {
    /// Its file.
    pub plugin: PathBuf,
    pub policies: Vec<String>,
    pub functions: Vec<FunctionCoverage>,
    /// By their paths, as the debug information has them.
    pub files: BTreeMap<String, FileCoverage>,
}

/// A function.
#[derive(Debug)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct FunctionCoverage {
    pub name: String,
    /// The file and line where its code begins.
    pub place: Option<(String, u32)>,
    /// By how many requests it was called.
    pub count: u32,
    pub branches: Ways,
}

/// What is reached of a file of a plugin's source.
#[derive(Debug, Default)]
pub struct FileCoverage {
    /// Of each line that there is code for, by how many requests it was reached at least.
    pub lines: BTreeMap<u32, u32>,
    /// Of each line with branches, for each of them how often each way was taken.
    pub branches: BTreeMap<u32, Vec<Vec<u32>>>,
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

impl FileCoverage {
    /// Its branches.
    pub fn ways(&self) -> Ways {
        let mut ways = Ways::default();
        ways.add(self.branches.values().flatten().flatten().copied());
        ways
    }

    /// Its lines.
    pub fn reached(&self) -> Ways {
        let mut ways = Ways::default();
        ways.add(self.lines.values().copied());
        ways
    }
}

/// Decides every input with plugins that note what they reach, all together and each by itself, gives policies settings, which they may
/// refuse, and says what was reached of the code that counts.
///
/// # Errors
/// When a plugin can't be read.
pub fn cover(
    edges: &Gate,
    trials: &[Trial<'_>],
    inputs: &[Input],
    settings: &[(String, Value)],
    sources: &Sources,
) -> Result<Vec<PluginCoverage>> {
    let policies = edges.policies();
    let mut coverage = Coverage::default();
    // What they did with their settings.
    coverage.count(&reached(policies, None));
    for (name, settings) in settings {
        let number = policies.iter().position(|policy| policy.name == *name);
        if let Some((number, trial)) = number.and_then(|number| Some((number, trials.get(number)?))) {
            coverage.count(&reached_by(number, &trial.notes(settings.to_string())));
        }
    }
    for input in inputs {
        let mut by_input = Vec::new();
        for alone in std::iter::once(None).chain((0..policies.len()).map(Some)) {
            let decision = decide(&chain(edges, alone), input).ok();
            by_input.extend(reached(policies, decision.as_ref()));
        }
        by_input.sort_unstable();
        by_input.dedup();
        coverage.count(&by_input);
    }
    let mut plugins: BTreeMap<&Path, Vec<usize>> = BTreeMap::new();
    for (number, entry) in edges.entries().iter().enumerate() {
        plugins.entry(&entry.plugin).or_default().push(number);
    }
    let plugins = plugins.into_iter().map(|(plugin, users)| {
        let entry = &edges.entries()[users[0]];
        let bytes = entry.read_plugin()?;
        let modules = instrument(&bytes, Noting::Edges)?.modules;
        let mut hits: BTreeMap<(usize, usize), Vec<u32>> = BTreeMap::new();
        for (number, module) in modules.into_iter().enumerate() {
            let of_module = hits.entry((module.start, module.end)).or_default();
            for policy in &users {
                add(of_module, coverage.of_module(*policy, number));
            }
        }
        let names = users.iter().map(|policy| policies[*policy].name.clone()).collect();
        let mut covered = PluginCoverage {
            plugin: plugin.to_owned(),
            policies: names,
            functions: Vec::new(),
            files: BTreeMap::new(),
        };
        for ((start, end), hits) in hits {
            let module: &[u8] = &bytes[start..end];
            covered.add(&flow::reached(module, &hits)?, &DebugInfo::of(module), sources);
        }
        Ok(covered)
    });
    plugins.collect()
}

fn add(sum: &mut Vec<u32>, counts: &[u32]) {
    sum.resize(sum.len().max(counts.len()), 0);
    for (sum, count) in sum.iter_mut().zip(counts) {
        *sum = sum.saturating_add(*count);
    }
}

impl PluginCoverage {
    fn add(&mut self, functions: &[Reached], info: &DebugInfo, sources: &Sources) {
        for function in functions {
            let place = info.place(function.code.start).map(|(file, line)| (file.to_owned(), line));
            let mut branches = Ways::default();
            for branch in &function.branches {
                let place = info.place(branch.address);
                if sources.count(place) {
                    branches.add(branch.ways.iter().copied());
                    if let Some((file, line)) = place {
                        self.file(file).branches.entry(line).or_default().push(branch.ways.clone());
                    }
                }
            }
            for (address, file, line) in
                info.lines(&function.code).filter(|(_, file, line)| sources.count(Some((file, *line))))
            {
                let count = self.file(file).lines.entry(line).or_default();
                *count = (*count).max(count_at(function, address));
            }
            if sources.count(place.as_ref().map(|(file, line)| (file.as_str(), *line))) || branches.all > 0 {
                let name = info.name(function.number).unwrap_or_else(|| format!("function {}", function.number));
                self.functions.push(FunctionCoverage { name, place, count: function.count, branches });
            }
        }
    }

    fn file(&mut self, path: &str) -> &mut FileCoverage {
        self.files.entry(path.to_owned()).or_default()
    }

    /// How many of its functions were called.
    pub fn called(&self) -> Ways {
        let mut ways = Ways::default();
        ways.add(self.functions.iter().map(|function| function.count));
        ways
    }

    /// The lines of all its files.
    pub fn lines(&self) -> Ways {
        self.files.values().map(FileCoverage::reached).fold(Ways::default(), Ways::with)
    }

    /// The ways of all its branches.
    pub fn ways(&self) -> Ways {
        self.functions.iter().map(|function| function.branches).fold(Ways::default(), Ways::with)
    }
}

fn count_at(function: &Reached, address: u64) -> u32 {
    let after = function.counts.partition_point(|(from, _)| *from <= address);
    after.checked_sub(1).map_or(0, |at| function.counts[at].1)
}
