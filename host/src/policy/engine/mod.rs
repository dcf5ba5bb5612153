//! Runs plugins: a narrow wrapper over wasmtime that gives each evaluation a fresh instance with bounds.

mod abandoned;
pub(crate) mod bindings;
mod bounds;
pub(crate) mod clock;
mod closed_wasi;
pub(crate) mod compiler;
mod contract_check;
pub mod contract_v0_1;
mod functions;
mod imports;
pub mod inspection;
mod kept;
mod messages;
mod meter;
pub mod policy;
mod runner;
mod runtime;
mod wasi;
mod wasmtime_config;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use wasmtime::component::Component;

use self::clock::Clock;
pub(crate) use self::compiler::Rewriting;
pub(crate) use self::contract_check::NOTES;
use self::policy::Policy;
pub(crate) use self::runner::Notes;
use self::runner::Runner;
use self::runtime::Runtime;
use super::cache::Cache;
use super::description::{Introduction, Kind};
use super::directory::entry::PolicyEntry;
use super::directory::error::DirectoryError;
use super::directory::open::PolicyDirectory;
use super::directory::record::Record;
use super::fault::Fault;

/// What makes instances of plugins.
pub struct Engine {
    runtime: Runtime,
}

impl Engine {
    /// An engine for many evaluations. A thread of its own ends those that run past their deadlines.
    ///
    /// # Errors
    /// When the machine can't give what the sandbox needs, e.g. address space.
    pub fn new() -> anyhow::Result<Self> {
        let engine = Self::without_deadlines()?;
        engine.clock().start()?;
        Ok(engine)
    }

    /// An engine for many evaluations, none of which has a deadline: only fuel ends them, at the same instruction on every
    /// machine.
    ///
    /// # Errors
    /// When the machine can't give what the sandbox needs, e.g. address space.
    pub fn without_deadlines() -> anyhow::Result<Self> {
        Ok(Self { runtime: Runtime::new(true)? })
    }

    /// An engine for one request. Its deadlines hold while the caller ticks its clock.
    ///
    /// # Errors
    /// When the machine can't give what the sandbox needs, e.g. address space.
    pub(crate) fn for_one_request() -> anyhow::Result<Self> {
        Ok(Self { runtime: Runtime::new(false)? })
    }

    /// An engine for one request, which is the last one of this process: its instances may stay until the process ends.
    ///
    /// # Errors
    /// As [`Self::for_one_request`].
    pub(crate) fn for_the_last_request() -> anyhow::Result<Self> {
        Ok(Self { runtime: Runtime::of_the_last_request()? })
    }

    /// An engine as [`Self::without_deadlines`] makes it, which changes plugins before it compiles them.
    ///
    /// # Errors
    /// As that.
    pub(crate) fn rewriting(rewriting: Rewriting) -> anyhow::Result<Self> {
        Ok(Self { runtime: Runtime::rewriting(rewriting)? })
    }

    /// Its clock.
    pub(crate) fn clock(&self) -> Clock {
        Clock::of(&self.runtime.engine)
    }

    /// Makes the policies of a directory ready: compiles or loads their plugins, checks what they import against what they
    /// are granted, and has every plugin check its settings. The cache keeps what is compiled.
    ///
    /// # Errors
    /// The first policy that can't be used, with its line in `policies.toml` and a hint.
    pub fn load(&self, directory: &mut PolicyDirectory, cache: &Cache) -> Result<Vec<Policy>, DirectoryError> {
        // What changed code makes of its settings is for this engine alone.
        if self.runtime.is_rewriting() {
            return self.policies(directory, cache, &mut Record::default());
        }
        let mut record = std::mem::take(&mut directory.record);
        let policies = self.policies(directory, cache, &mut record)?;
        cache.save_record(&directory.path, &record);
        Ok(policies)
    }

    /// A policy that is to be given other settings.
    ///
    /// # Errors
    /// When its plugin can't be used.
    pub(crate) fn trial(&self, entry: &PolicyEntry, cache: &Cache) -> Result<Trial<'_>, DirectoryError> {
        let component = self.runtime.component(entry, cache).map_err(|fault| entry.error(fault))?;
        // The cache keeps no schema.
        let policy = self.policy(&component, entry, &mut Record::default()).map_err(|fault| entry.error(fault))?;
        Ok(Trial { engine: self, component, entry: entry.clone(), schema: policy.description.settings_schema })
    }

    fn policies(
        &self,
        directory: &PolicyDirectory,
        cache: &Cache,
        record: &mut Record,
    ) -> Result<Vec<Policy>, DirectoryError> {
        let mut components: HashMap<&str, Component> = HashMap::new();
        let mut policies = Vec::with_capacity(directory.policies.len());
        for entry in &directory.policies {
            let load = || self.runtime.component(entry, cache);
            let component = match components.entry(&entry.digest) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(load().map_err(|fault| entry.error(fault))?),
            };
            policies.push(self.policy(component, entry, record).map_err(|fault| entry.error(fault))?);
        }
        let keys: Vec<String> = directory.policies.iter().map(PolicyEntry::key).collect();
        record.keep_policies(&keys);
        Ok(policies)
    }

    fn policy(&self, component: &Component, entry: &PolicyEntry, record: &mut Record) -> Result<Policy, Fault> {
        let runner = Runner::new(&self.runtime, component, entry)?;
        let key = entry.key();
        let introduction = match record.introduction(&key) {
            Some(introduction) => introduction.clone(),
            None => {
                let introduction = runner.introduce()?;
                record.note_introduction(key, &introduction);
                introduction
            }
        };
        let Introduction { description, prepared, denial_codes, changes, observes } = introduction;
        if description.kind == Kind::Validating && !entry.rewrites.is_empty() {
            let message = format!("{} is validating and can't rewrite", description.name);
            return Err(Fault::new(message, "take its `rewrites` away"));
        }
        Ok(Policy {
            name: entry.name.clone(),
            description,
            denial_codes,
            changes,
            observes,
            callers: entry.callers.clone(),
            mode: entry.mode,
            rewrites: entry.rewrites.clone(),
            runner: runner.prepared(prepared),
        })
    }
}

/// A policy that is given other settings than its own.
pub struct Trial<'e> {
    engine: &'e Engine,
    component: Component,
    entry: PolicyEntry,
    schema: String,
}

/// What a plugin makes of settings.
pub(crate) enum Tried {
    /// It can judge by them.
    Ready(Box<Policy>),
    /// It doesn't take them.
    Refused,
    /// It failed.
    Failed(String),
}

impl Trial<'_> {
    /// Gives it these settings, a JSON object.
    pub(crate) fn with(&self, settings: String) -> Tried {
        let entry = PolicyEntry { settings, ..self.entry.clone() };
        match self.engine.policy(&self.component, &entry, &mut Record::default()) {
            Ok(policy) => Tried::Ready(Box::new(policy)),
            Err(fault) if fault.is_failure => Tried::Failed(fault.message),
            Err(_) => Tried::Refused,
        }
    }

    /// What its plugin notes over these settings, if it's instrumented.
    pub(crate) fn notes(&self, settings: String) -> Vec<Notes> {
        let entry = PolicyEntry { settings, ..self.entry.clone() };
        let Ok(runner) = Runner::new(&self.engine.runtime, &self.component, &entry) else { return Vec::new() };
        // Whether it takes them is asked elsewhere.
        let _ = runner.introduce();
        runner.take_notes()
    }

    /// The schema of its settings.
    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    /// Its own settings.
    pub(crate) fn own_settings(&self) -> serde_json::Value {
        serde_json::from_str(&self.entry.settings).unwrap_or_default()
    }
}
