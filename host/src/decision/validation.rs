//! Validating policies judge the final request.

use super::case::Case;
use super::progress::Progress;
use super::ruling::Ruling;
use super::trace::{Phase, TraceEntry};
use crate::model::failure::{Failure, FailureKind};
use crate::model::verdict::Verdict;
use crate::policy::description::Kind;
use crate::policy::engine::policy::Policy;
use crate::policy::mode::Mode;

/// Asks the validating policies. The first that denies or fails ends it, unless `all` are to be asked.
pub(super) fn validate(policies: &[Policy], case: &Case<'_>, progress: &mut Progress, all: bool) -> Option<Ruling> {
    let mut review = None;
    let mut first = None;
    let is_asked = |policy: &&Policy| policy.description.kind == Kind::Validating && policy.is_for(&case.requester);
    for policy in policies.iter().filter(is_asked) {
        let review = review.get_or_insert_with(|| progress.review(case));
        let mut evaluation = policy.evaluate(review, &progress.snapshot);
        if let Ok(Verdict::Rewrite(edits)) = &evaluation.result {
            let message = format!("a validating policy answered with a rewrite of {} edits", edits.len());
            evaluation.result = Err(Failure::new(FailureKind::NotPermitted, message));
        }
        let verdict = evaluation.result.clone();
        progress.trace.push(TraceEntry::of(policy, Phase::Validate, None, evaluation));
        let policy_name = policy.name.clone();
        let ruling = match verdict {
            Err(failure) => Ruling::Fail { policy: policy_name, failure },
            Ok(Verdict::Deny(denial)) if policy.mode == Mode::Enforce => Ruling::Deny { policy: policy_name, denial },
            Ok(_) => continue,
        };
        first.get_or_insert(ruling);
        if !all {
            break;
        }
    }
    first
}
