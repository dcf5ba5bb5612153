//! The trace of a decision: which policy said what, and when.

use std::time::Duration;

use serde::{Serialize, Serializer};

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
    #[serde(rename = "error", serialize_with = "as_text", skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// Whether it's only watched: its verdict isn't followed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub monitor: bool,
    /// Fuel used.
    pub fuel: u64,
    /// How long it took.
    #[serde(skip)]
    pub elapsed: Duration,
    /// What it wrote.
    #[serde(skip)]
    pub log: Vec<LogLine>,
    /// Whether it was refused memory, even if it went on without.
    #[serde(skip)]
    pub hit_limit: bool,
}

impl TraceEntry {
    /// What a policy answered.
    pub(super) fn of(policy: &Policy, phase: Phase, round: Option<u32>, evaluation: Evaluation) -> Self {
        let mut entry = Self {
            verdict: evaluation.result.as_ref().map_or("fail", Verdict::name),
            monitor: policy.mode == Mode::Monitor,
            fuel: evaluation.fuel,
            elapsed: evaluation.elapsed,
            log: evaluation.log,
            hit_limit: evaluation.hit_limit,
            ..Self::failed(policy, phase, round)
        };
        match evaluation.result {
            Ok(Verdict::Allow) => {}
            Ok(Verdict::Deny(denial)) => entry.denial = Some(denial),
            Ok(Verdict::Rewrite(edits)) => entry.edits = edits.iter().map(Edit::masked).collect(),
            Err(failure) => entry.failure = Some(failure),
        }
        entry
    }

    /// A rewrite that the host's own rules didn't let pass.
    pub(super) fn violation(policy: &Policy, round: u32, failure: &Failure) -> Self {
        Self { failure: Some(failure.clone()), ..Self::failed(policy, Phase::Invariants, Some(round)) }
    }

    fn failed(policy: &Policy, phase: Phase, round: Option<u32>) -> Self {
        Self {
            policy: policy.name.clone(),
            phase,
            round,
            verdict: "fail",
            edits: Vec::new(),
            denial: None,
            failure: None,
            monitor: false,
            fuel: 0,
            elapsed: Duration::ZERO,
            log: Vec::new(),
            hit_limit: false,
        }
    }

    /// This entry without these secrets.
    pub(crate) fn masked(&self, secrets: &Secrets) -> Self {
        let mut entry = self.clone();
        entry.denial = entry.denial.as_ref().map(|denial| denial.masked(secrets));
        if let Some(failure) = &mut entry.failure {
            failure.message = secrets.mask(&failure.message);
        }
        for line in &mut entry.log {
            line.text = secrets.mask(&line.text);
        }
        entry
    }
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn as_text<S: Serializer>(failure: &Option<Failure>, serializer: S) -> Result<S::Ok, S::Error> {
    match failure {
        Some(failure) => serializer.collect_str(failure),
        None => serializer.serialize_none(),
    }
}
