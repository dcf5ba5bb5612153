//! Mutating policies are asked in rounds until a round changes nothing.

use super::case::Case;
use super::edit_rules::check_edits;
use super::ends::EndFinder;
use super::progress::Progress;
use super::ruling::Ruling;
use super::trace::{Phase, TraceEntry};
use crate::error::with_causes;
use crate::model::edit::{Edit, OwnedEdit};
use crate::model::failure::{Failure, FailureKind};
use crate::model::verdict::Verdict;
use crate::policy::description::Kind;
use crate::policy::engine::policy::Policy;
use crate::policy::mode::Mode;

/// How many rounds mutating policies get to settle.
const MAX_ROUNDS: u32 = 8;

/// Asks the mutating policies. Returns a ruling only where the decision ends here.
pub(super) fn settle(
    policies: &[Policy],
    finder: &EndFinder<'_>,
    case: &Case<'_>,
    progress: &mut Progress,
) -> Option<Ruling> {
    let mutating =
        || policies.iter().filter(|policy| policy.description.kind == Kind::Mutating && policy.is_for(&case.requester));
    let mut unsettled: Vec<&Policy> = Vec::new();
    for round in 1..=MAX_ROUNDS {
        let mut review = None;
        let mut changed = Vec::new();
        for policy in mutating() {
            let ready = review.get_or_insert_with(|| progress.review(case));
            let evaluation = policy.evaluate(ready, &progress.snapshot);
            let verdict = evaluation.result.clone();
            progress.trace.push(TraceEntry::of(policy, Phase::Mutate, Some(round), evaluation));
            match verdict {
                Err(failure) => return Some(Ruling::Fail { policy: policy.name.clone(), failure }),
                _ if policy.mode == Mode::Monitor => {}
                Ok(Verdict::Allow) => {}
                Ok(Verdict::Deny(denial)) => return Some(Ruling::Deny { policy: policy.name.clone(), denial }),
                Ok(Verdict::Rewrite(edits)) => match rewrite(finder, case, progress, policy, edits) {
                    Err(failure) => {
                        progress.trace.push(TraceEntry::violation(policy, round, &failure));
                        return Some(Ruling::Fail { policy: policy.name.clone(), failure });
                    }
                    Ok(true) => {
                        changed.push(policy);
                        review = None;
                    }
                    Ok(false) => {}
                },
            }
        }
        if changed.is_empty() {
            return None;
        }
        unsettled = changed;
    }
    let names: Vec<&str> = unsettled.iter().map(|policy| policy.name.as_str()).collect();
    let last: Vec<String> = progress.edits.iter().rev().take(4).map(|owned| owned.edit.to_string()).collect();
    let failure = Failure::new(
        FailureKind::NotConverged,
        format!(
            "the request still changed in round {MAX_ROUNDS}, the last one: {} changed it, at the end with {}",
            names.join(", "),
            last.join(" ")
        ),
    );
    for policy in &unsettled {
        progress.trace.push(TraceEntry::violation(policy, MAX_ROUNDS, &failure));
    }
    // The first of them stands for all: they are named in the message.
    Some(Ruling::Fail { policy: names.first().copied().unwrap_or_default().to_owned(), failure })
}

/// Carries out a policy's edits on the request. Says whether they changed anything.
fn rewrite(
    finder: &EndFinder<'_>,
    case: &Case<'_>,
    progress: &mut Progress,
    policy: &Policy,
    edits: Vec<Edit>,
) -> Result<bool, Failure> {
    let mut request = progress.request.clone();
    let mut effective = Vec::new();
    for edit in &edits {
        let before = request.clone();
        edit.apply(&mut request);
        if request != before {
            effective.push(OwnedEdit { policy: policy.name.clone(), edit: edit.clone() });
        }
    }
    check_edits(&policy.rewrites, &edits, &progress.request, &request)?;
    if request == progress.request {
        return Ok(false);
    }
    finder.find_changed(case, &request, progress).map_err(|error| {
        let message = format!("it made a request that can't be carried out: {}", with_causes(&error));
        Failure::new(FailureKind::HostRefused, message)
    })?;
    progress.request = request;
    progress.edits.append(&mut effective);
    Ok(true)
}
