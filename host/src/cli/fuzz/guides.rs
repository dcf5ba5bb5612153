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
    pub(in crate::cli) plain: Gate,
    edges: Option<Gate>,
    comparisons: Option<Gate>,
    pub(in crate::cli) properties: Option<Gate>,
}

const EDGES: Rewriting = Rewriting { name: "edges", rewrite: |plugin| instrument(plugin, Noting::Edges) };
const COMPARISONS: Rewriting =
    Rewriting { name: "comparisons", rewrite: |plugin| instrument(plugin, Noting::Comparisons) };

impl Guides {
    /// The policies as they are, to be given other settings.
    pub(in crate::cli) fn trials<'e>(&self, global: &Global, engine: &'e Engine) -> anyhow::Result<Vec<Trial<'e>>> {
        let cache = global.cache();
        Ok(self
            .plain
            .entries()
            .iter()
            .map(|entry| engine.trial(entry, &cache))
            .collect::<Result<_, _>>()
            .map_err(Error::Unsound)?)
    }

    /// Loads a directory. A plugin that can't be changed is searched with less guidance.
    pub(in crate::cli) fn load(global: &Global, path: &Path, guide: Guide) -> anyhow::Result<Self> {
        let cache = global.cache();
        let directory = open(global, path, &cache)?;
        // A busy machine must not make a finding: only fuel ends a plugin.
        let plain = Gate::load(&Engine::without_deadlines().map_err(Error::Sandbox)?, directory.clone(), &cache)?;
        let rewritten = |rewriting| -> anyhow::Result<Option<Gate>> {
            let engine = Engine::rewriting(rewriting).map_err(Error::Sandbox)?;
            Ok(Gate::load(&engine, directory.clone(), &cache)
                // The plugins as they are were loaded: it's their instrumented form that is too much.
                .inspect_err(|error| tracing::warn!("searching with less guidance: {}", with_causes(error)))
                .ok())
        };
        let edges = if guide == Guide::Blind { None } else { rewritten(EDGES)? };
        let comparisons = if guide == Guide::Comparisons && edges.is_some() { rewritten(COMPARISONS)? } else { None };
        Ok(Self { plain, edges, comparisons, properties: None })
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

    pub(in crate::cli) fn policies<'p>(&'p self, trials: &'p [Trial<'p>]) -> Policies<'p> {
        Policies {
            plain: &self.plain,
            edges: self.edges.as_ref(),
            comparisons: self.comparisons.as_ref(),
            properties: self.properties.as_ref(),
            trials,
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
