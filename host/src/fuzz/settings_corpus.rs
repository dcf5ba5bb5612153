//! The settings with which a plugin reached something that it hadn't before.

use fastrand::Rng;
use serde_json::Value;

use super::coverage::{Coverage, reached_by};
use crate::policy::engine::Trial;

/// Settings to change, of each policy.
#[derive(Debug)]
pub(super) struct SettingsCorpus {
    of: Vec<Known>,
    coverage: Coverage,
}

/// The settings of one policy.
#[derive(Debug)]
struct Known {
    own: Value,
    /// Those that were taken last.
    taken: Value,
    /// Those that reached something new, whether they were taken or not.
    kept: Vec<Value>,
}

impl SettingsCorpus {
    /// With the settings that the policies have.
    pub(super) fn new(trials: &[Trial<'_>]) -> Self {
        let own = trials.iter().map(Trial::own_settings);
        let known = own.map(|own| Known { taken: own.clone(), own, kept: Vec::new() });
        Self { of: known.collect(), coverage: Coverage::default() }
    }

    /// Settings of a policy to be changed.
    pub(super) fn pick(&self, random: &mut Rng, policy: usize) -> &Value {
        let Known { own, taken, kept } = &self.of[policy];
        match random.u8(0..8) {
            0..=1 if !kept.is_empty() => &kept[random.usize(0..kept.len())],
            2..=4 => taken,
            _ => own,
        }
    }

    /// Notes settings that the policy took.
    pub(super) fn take(&mut self, policy: usize, settings: Value) {
        self.of[policy].taken = settings;
    }

    /// Adds settings that make the plugin of a policy reach something new, and says whether they do. `noting` are the policies whose
    /// plugins note what they reach.
    pub(super) fn add(&mut self, noting: &[Trial<'_>], policy: usize, settings: &Value) -> bool {
        let Some(trial) = noting.get(policy) else { return false };
        let is_new = !self.coverage.count(&reached_by(policy, trial.notes(settings.to_string()))).new.is_empty();
        if is_new {
            self.of[policy].kept.push(settings.clone());
        }
        is_new
    }
}
