//! A policy directory three times: as it is, and with plugins that note what they reach and compare.

use std::path::Path;

use clap::ValueEnum;

use crate::cli::global::Global;
use crate::error::{Error, with_causes};
use crate::fuzz::instrument::{Noting, instrument};
use crate::fuzz::run::Policies;
use crate::gate::Gate;
use crate::policy::cache::Cache;
use crate::policy::directory::open::PolicyDirectory;
use crate::policy::engine::{Engine, Rewriting, Trial};

/// What guides a search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Guide {
    /// Nothing
    Blind,
    /// Which branches of the plugins are taken
    Edges,
    /// That, and what the plugins compare
    Comparisons,
}

/// The folder of a policy directory with policies that deny what must never be allowed.
pub(super) const PROPERTIES: &str = "properties";

/// A policy directory three times, and what must hold of it.
pub(in crate::cli) struct Guides {
    engine: Engine,
    pub(in crate::cli) plain: Gate,
    edges: Option<(Engine, Gate)>,
    comparisons: Option<Gate>,
    pub(in crate::cli) properties: Option<Gate>,
}

/// The policies of a directory, to be given other settings.
pub(in crate::cli) struct Trials<'e> {
    plain: Vec<Trial<'e>>,
    edges: Vec<Trial<'e>>,
}

pub(in crate::cli) fn trials<'e>(global: &Global, engine: &'e Engine, gate: &Gate) -> anyhow::Result<Vec<Trial<'e>>> {
    let cache = global.cache();
    let trials = gate.entries().iter().map(|entry| engine.trial(entry, &cache));
    Ok(trials.collect::<Result<_, _>>().map_err(Error::Unsound)?)
}

// The number counts how often what these write has changed: what a cache has is of one of them.
const EDGES: Rewriting =
    Rewriting { name: "edges-2", rewrite: |plugin| Ok(instrument(plugin, Noting::Edges)?.component) };
const COMPARISONS: Rewriting =
    Rewriting { name: "comparisons-2", rewrite: |plugin| Ok(instrument(plugin, Noting::Comparisons)?.component) };
/// All ways in which plugins are changed to be searched.
pub(in crate::cli) const REWRITINGS: [Rewriting; 2] = [EDGES, COMPARISONS];

impl Guides {
    /// The policies as they are, and with plugins that note which edges they take, to be given other settings.
    pub(in crate::cli) fn trials(&self, global: &Global) -> anyhow::Result<Trials<'_>> {
        let edges = self.edges.as_ref().map(|(engine, gate)| trials(global, engine, gate)).transpose()?;
        Ok(Trials { plain: trials(global, &self.engine, &self.plain)?, edges: edges.unwrap_or_default() })
    }

    /// Loads a directory. A plugin that can't be changed is searched with less guidance.
    pub(in crate::cli) fn load(global: &Global, path: &Path, guide: Guide) -> anyhow::Result<Self> {
        let cache = global.cache();
        let directory = open(global, path, &cache)?;
        // A busy machine must not make a finding: only fuel ends a plugin.
        let engine = Engine::without_deadlines().map_err(Error::Sandbox)?;
        let plain = Gate::load(&engine, directory.clone(), &cache)?;
        let rewritten = |rewriting| -> anyhow::Result<Option<(Engine, Gate)>> {
            let engine = Engine::rewriting(rewriting).map_err(Error::Sandbox)?;
            let gate = Gate::load(&engine, directory.clone(), &cache)
                // The plugins as they are were loaded: it's their instrumented form that is too much.
                .inspect_err(|error| tracing::warn!("searching with less guidance: {}", with_causes(error)))
                .ok();
            // What they did with their settings is no part of the search.
            for policy in gate.iter().flat_map(Gate::policies) {
                policy.take_notes();
            }
            Ok(gate.map(|gate| (engine, gate)))
        };
        let edges = if guide == Guide::Blind { None } else { rewritten(EDGES)? };
        let comparisons = if guide == Guide::Comparisons && edges.is_some() { rewritten(COMPARISONS)? } else { None };
        let comparisons = comparisons.map(|(_, gate)| gate);
        Ok(Self { engine, plain, edges, comparisons, properties: None })
    }

    /// With what must hold of the directory, if it says so.
    pub(in crate::cli) fn with_properties(self, global: &Global, path: &Path) -> anyhow::Result<Self> {
        let stated = path.join(PROPERTIES);
        if stated.symlink_metadata().is_err() {
            return Ok(self);
        }
        let cache = global.cache();
        let engine = Engine::without_deadlines().map_err(Error::Sandbox)?;
        let properties = Some(Gate::load(&engine, open(global, &stated, &cache)?, &cache)?);
        Ok(Self { properties, ..self })
    }

    /// A directory whose plugins note what they reach, their settings included, with what makes instances of them.
    pub(in crate::cli) fn edges(global: &Global, path: &Path) -> anyhow::Result<(Engine, Gate)> {
        let cache = global.cache();
        let engine = Engine::rewriting(EDGES).map_err(Error::Sandbox)?;
        let gate = Gate::load(&engine, open(global, path, &cache)?, &cache)?;
        Ok((engine, gate))
    }

    /// What is searched. Without trials, settings stay what they are.
    pub(in crate::cli) fn policies<'p>(&'p self, trials: Option<&'p Trials<'p>>) -> Policies<'p> {
        Policies {
            plain: &self.plain,
            edges: self.edges.as_ref().map(|(_, gate)| gate),
            comparisons: self.comparisons.as_ref(),
            properties: self.properties.as_ref(),
            trials: trials.map(|trials| trials.plain.as_slice()).unwrap_or_default(),
            edge_trials: trials.map(|trials| trials.edges.as_slice()).unwrap_or_default(),
        }
    }
}

/// Opens a directory whose policies no clock ends.
fn open(global: &Global, path: &Path, cache: &Cache) -> Result<PolicyDirectory, Error> {
    let mut directory = global.open_directory(path, cache)?;
    for entry in &mut directory.policies {
        entry.limits = entry.limits.without_clock();
    }
    Ok(directory)
}
