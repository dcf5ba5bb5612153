//! The trace of a decision: which policy said what, and when.

use serde::Serialize;

use crate::model::edit::Edit;
use crate::model::failure::Failure;
use crate::model::secrets::Secrets;
use crate::model::verdict::{Denial, Verdict};
use crate::policy::engine::policy::Policy;
use crate::policy::evaluation::{Evaluation, LogLine};
use crate::policy::mode::Mode;

/// Where a trace entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the phases of the chain, in order")]
pub enum Phase {
    Mutate,
    Invariants,
    Validate,
    Observe,
}

/// One policy's part in a decision.
#[derive(Debug, Clone, Serialize)]
pub struct TraceEntry {
    /// Its name.
    pub policy: String,
    /// When it was asked.
    pub phase: Phase,
    /// The round, where there are rounds.
    pub round: Option<u32>,
    /// `allow`, `deny`, `rewrite`, or `fail`.
    pub verdict: &'static str,
    /// The edits it asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<Edit>,
    /// Why it denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<Denial>,
    /// How it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it's only watched: its verdict isn't followed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub monitor: bool,
    /// Fuel used.
    pub fuel: u64,
    /// What it wrote.
    #[serde(skip)]
    pub log: Vec<LogLine>,
    /// How it failed, for programs.
    #[serde(skip)]
    pub failure: Option<Failure>,
    /// Whether it was refused memory, even if it went on without.
    #[serde(skip)]
    pub hit_limit: bool,
}

impl TraceEntry {
    /// What a policy answered.
    pub(super) fn of(policy: &Policy, phase: Phase, round: Option<u32>, evaluation: Evaluation) -> Self {
        let mut entry = Self {
            policy: policy.name.clone(),
            phase,
            round,
            verdict: evaluation.result.as_ref().map_or("fail", Verdict::name),
            edits: Vec::new(),
            denial: None,
            error: None,
            monitor: policy.mode == Mode::Monitor,
            fuel: evaluation.fuel,
            log: evaluation.log,
            failure: None,
            hit_limit: evaluation.hit_limit,
        };
        match evaluation.result {
            Ok(Verdict::Allow) => {}
            Ok(Verdict::Deny(denial)) => entry.denial = Some(denial),
            Ok(Verdict::Rewrite(edits)) => entry.edits = edits.iter().map(Edit::masked).collect(),
            Err(failure) => {
                entry.error = Some(failure.to_string());
                entry.failure = Some(failure);
            }
        }
        entry
    }

    /// A rewrite that the host's own rules didn't let pass.
    pub(super) fn violation(policy: &Policy, round: u32, failure: &Failure) -> Self {
        Self {
            policy: policy.name.clone(),
            phase: Phase::Invariants,
            round: Some(round),
            verdict: "fail",
            edits: Vec::new(),
            denial: None,
            error: Some(failure.to_string()),
            monitor: false,
            fuel: 0,
            log: Vec::new(),
            failure: Some(failure.clone()),
            hit_limit: false,
        }
    }

    /// This entry without these secrets.
    pub(crate) fn masked(&self, secrets: &Secrets) -> Self {
        let mut entry = self.clone();
        entry.denial = entry.denial.as_ref().map(|denial| denial.masked(secrets));
        entry.error = entry.error.as_deref().map(|error| secrets.mask(error));
        entry.edits = entry.edits.iter().map(Edit::masked).collect();
        for line in &mut entry.log {
            line.text = secrets.mask(&line.text);
        }
        entry
    }
}
