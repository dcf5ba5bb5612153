//! What of the plugins' code a corpus reaches: functions, branches, and lines where there is debug information.

mod branches;
mod debug_info;
mod sources;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

pub use self::branches::Ways;
use self::branches::{At, Branches};
use self::debug_info::DebugInfo;
pub use self::sources::Sources;
use super::coverage::{Coverage, reached, reached_by};
use super::input::Input;
use super::instrument::flow::{self, Reached};
use super::instrument::{Noting, instrument};
use super::run::decide_anew;
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
    /// The ways of all its branches.
    pub branches: Ways,
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
    /// The branches of each line that has some.
    pub branches: BTreeMap<u32, Vec<BranchCoverage>>,
}

/// A branch.
#[derive(Debug)]
#[expect(missing_docs, reason = "named for what they are")]
pub struct BranchCoverage {
    /// 0 if that's unknown.
    pub column: u32,
    pub ways: Vec<WayCoverage>,
}

/// A way of a branch.
#[derive(Debug)]
pub struct WayCoverage {
    /// The file, line and column where it leads.
    pub to: Option<(String, u32, u32)>,
    /// By how many requests it was taken at least.
    pub count: u32,
}

impl BranchCoverage {
    /// How often each way was taken.
    pub fn counts(&self) -> impl Iterator<Item = u32> {
        self.ways.iter().map(|way| way.count)
    }
}

impl FileCoverage {
    /// Its branches.
    pub fn ways(&self) -> Ways {
        let mut ways = Ways::default();
        ways.add(self.branches.values().flatten().flat_map(BranchCoverage::counts));
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
            coverage.count(&reached_by(number, trial.notes(settings.to_string())));
        }
    }
    for input in inputs {
        let mut by_input = Vec::new();
        for alone in std::iter::once(None).chain((0..policies.len()).map(Some)) {
            let decision = decide_anew(edges, alone, input);
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
            branches: Ways::default(),
        };
        let mut branches = Branches::default();
        for ((start, end), hits) in hits {
            let module: &[u8] = &bytes[start..end];
            let info = DebugInfo::of(module);
            for function in flow::reached(module, &hits)? {
                branches.merge(covered.add(&function, start, &info, sources));
            }
        }
        covered.add_branches(&branches);
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
    /// Adds a function of the module that starts there. Returns its branches.
    fn add(&mut self, function: &Reached, module: usize, info: &DebugInfo, sources: &Sources) -> Branches {
        let place = info.place(function.code.start).map(|(file, line, _)| (file.to_owned(), line));
        let counted = function.branches.iter().filter(|branch| {
            let place = info.place(branch.address);
            sources.count(place.map(|(file, line, _)| (file, line)))
        });
        let mut branches = Branches::default();
        counted.for_each(|branch| branches.add(branch, module, info));
        for (address, file, line) in
            info.lines(&function.code).filter(|(_, file, line)| sources.count(Some((file, *line))))
        {
            let count = self.file(file).lines.entry(line).or_default();
            *count = (*count).max(count_at(function, address));
        }
        let ways = branches.ways();
        if sources.count(place.as_ref().map(|(file, line)| (file.as_str(), *line))) || ways.all > 0 {
            let name = info.name(function.number).unwrap_or_else(|| format!("function {}", function.number));
            self.functions.push(FunctionCoverage { name, place, count: function.count, branches: ways });
        }
        branches
    }

    /// Adds the branches of all functions.
    fn add_branches(&mut self, branches: &Branches) {
        self.branches = branches.ways();
        for (at, ways) in &branches.0 {
            let At::Source { file, line, column } = at else { continue };
            let way = |((to, _), count): (&(At, usize), &u32)| WayCoverage { to: to.in_source(), count: *count };
            let branch = BranchCoverage { column: *column, ways: ways.iter().map(way).collect() };
            self.file(file).branches.entry(*line).or_default().push(branch);
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
}

fn count_at(function: &Reached, address: u64) -> u32 {
    let after = function.counts.partition_point(|(from, _)| *from <= address);
    after.checked_sub(1).map_or(0, |at| function.counts[at].1)
}
