//! Decides an input and says what is wrong with the decision.

use super::input::Input;
use super::oracles::{self, Oracle, Symptom};
use crate::decision::case::{Case, Resolution};
use crate::decision::chain::Chain;
use crate::decision::ruling::{Decision, Ruling};
use crate::error::Error;

/// All that is wrong with how this input is decided, and if `repeat` is set, in comparison with others.
pub(super) fn symptoms(chain: &Chain<'_>, input: &Input, repeat: bool) -> Vec<Symptom> {
    let Ok(decision) = decide(chain, input) else { return Vec::new() };
    let mut symptoms = oracles::judge(&decision);
    if repeat && symptoms.is_empty() {
        symptoms.extend(compared(chain, input, &decision));
    }
    symptoms
}

/// Whether an input gets another verdict from another process with other mount ids, or is denied with one more restriction.
pub(super) fn repeated(chain: &Chain<'_>, input: &Input) -> Option<Symptom> {
    let decision = decide(chain, input).ok()?;
    compared(chain, input, &decision)
}

fn compared(chain: &Chain<'_>, input: &Input, decision: &Decision) -> Option<Symptom> {
    let again = decide(chain, &input.with_other_incidentals());
    let differs = again.ok().and_then(|again| oracles::compare(decision, &again));
    differs.or_else(|| restricted(chain, input, decision).map(|(symptom, _)| symptom))
}

/// The first restriction that turns the decision into a denial, and the input with it.
fn restricted(chain: &Chain<'_>, input: &Input, decision: &Decision) -> Option<(Symptom, Input)> {
    if !matches!(decision.ruling, Ruling::Allow(_)) {
        return None;
    }
    input.restricted().find_map(|(flag, restricted)| {
        let again = decide(chain, &restricted).ok()?;
        Some((oracles::compare_restricted(decision, &again, flag)?, restricted))
    })
}

/// The input that a finding was compared with.
pub(super) fn other(chain: &Chain<'_>, input: &Input, oracle: Oracle) -> Option<Input> {
    match oracle {
        Oracle::TwoVerdicts => Some(input.with_other_incidentals()),
        Oracle::RestrictionDenied => {
            let decision = decide(chain, input).ok()?;
            restricted(chain, input, &decision).map(|(_, restricted)| restricted)
        }
        _ => None,
    }
}

/// Decides an input.
///
/// # Errors
/// What the host refuses by itself.
pub(super) fn decide(chain: &Chain<'_>, input: &Input) -> Result<Decision, Error> {
    let case = Case {
        request: input.request.clone(),
        requester: input.requester.clone(),
        resolution: Resolution::Recorded {
            source: input.source.clone(),
            target: Some(input.target.clone()),
            option_paths: Vec::new(),
        },
        snapshot: input.table.snapshot(),
        locks: None,
    };
    chain.decide(&case, false)
}

/// One run in so many is decided a second time with another caller and other mount ids, to see the same verdict, and each that reached
/// something new. Each costs up to six decisions more.
pub(super) const REPEATED: u64 = 16;
