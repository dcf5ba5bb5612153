//! Decides an input and says what is wrong with the decision.

use super::growth::{COUNTS, GROWN};
use super::input::Input;
use super::oracles::{self, Extent, Oracle, Symptom};
use crate::decision::case::{Case, Resolution};
use crate::decision::chain::Chain;
use crate::decision::ruling::{Decision, Ruling};
use crate::error::Error;

/// Who decides, and what must hold of that.
pub(super) struct Judge<'j> {
    pub(super) chain: Chain<'j>,
    /// What its author states: a chain that denies what must never be allowed.
    pub(super) properties: Option<Chain<'j>>,
}

impl Judge<'_> {
    /// All that is wrong with how this input is decided, as far as is asked.
    pub(super) fn symptoms(&self, input: &Input, extent: Extent) -> Vec<Symptom> {
        let Ok(decision) = decide(&self.chain, input) else { return Vec::new() };
        let mut symptoms = self.wrong(input, &decision);
        if extent != Extent::One && symptoms.is_empty() {
            symptoms.extend(self.compared(input, &decision));
        }
        if extent == Extent::Growth {
            let grows = self.growing(input).map(|(symptom, _)| symptom);
            symptoms.extend(grows.filter(|symptom| symptom.oracle == Oracle::FuelGrows));
        }
        symptoms
    }

    /// What is wrong with a decision by itself.
    pub(super) fn wrong(&self, input: &Input, decision: &Decision) -> Vec<Symptom> {
        let mut symptoms = oracles::judge(input, decision);
        symptoms.extend(self.violated(input, decision).map(|(symptom, _)| symptom));
        symptoms
    }

    /// Whether an input gets another verdict from another process with other mount ids, or is denied with one more restriction, or
    /// allowed under another name.
    pub(super) fn repeated(&self, input: &Input) -> Vec<Symptom> {
        decide(&self.chain, input).map(|decision| self.compared(input, &decision)).unwrap_or_default()
    }

    /// One of these comparisons, another one each turn.
    pub(super) fn compared_in_turn(&self, input: &Input, decision: &Decision, turn: u64) -> Option<Symptom> {
        let pick = |count: usize| usize::try_from(turn / 2).unwrap_or(0).checked_rem(count);
        let symptom = match decision.ruling {
            _ if turn.is_multiple_of(2) => return self.differs(input, decision),
            Ruling::Allow(_) => {
                let flag = input.missing_restrictions().nth(pick(input.missing_restrictions().count())?)?;
                self.restricted(decision, std::iter::once(input.with_restriction(flag)))
            }
            Ruling::Deny { .. } => {
                let names: Vec<(&str, Input)> = input.renamed().collect();
                let one = pick(names.len())?;
                self.renamed(decision, names.into_iter().skip(one).take(1))
            }
            Ruling::Fail { .. } => None,
        };
        symptom.map(|(symptom, _)| symptom)
    }

    fn compared(&self, input: &Input, decision: &Decision) -> Vec<Symptom> {
        let restricted = self.restricted(decision, input.restricted()).map(|(symptom, _)| symptom);
        let renamed = self.renamed(decision, input.renamed()).map(|(symptom, _)| symptom);
        self.differs(input, decision).into_iter().chain(restricted).chain(renamed).collect()
    }

    fn differs(&self, input: &Input, decision: &Decision) -> Option<Symptom> {
        oracles::compare(decision, &decide(&self.chain, &input.with_other_incidentals()).ok()?)
    }

    /// Another name of an end with which a denied request is allowed, and the input with it.
    fn renamed(
        &self,
        decision: &Decision,
        mut renamed: impl Iterator<Item = (&'static str, Input)>,
    ) -> Option<(Symptom, Input)> {
        if !matches!(decision.ruling, Ruling::Deny { .. }) {
            return None;
        }
        renamed.find_map(|(end, renamed)| {
            let again = decide(&self.chain, &renamed).ok()?;
            Some((oracles::compare_renamed(decision, &again, end)?, renamed))
        })
    }

    /// What is wrong with larger and larger inputs, or with how the fuel grows with them, and the largest.
    pub(super) fn growing(&self, input: &Input) -> Option<(Symptom, Input)> {
        // A long target before thousands of mounts that come along is more than the host copies for one plugin: a limit, and no growth.
        if input.table.is_large() {
            return None;
        }
        let mut seen = GROWN.into_iter().filter_map(|(what, grow)| {
            let inputs = COUNTS.map(|count| grow(input, count));
            let [Ok(one), Ok(two), Ok(four)] = inputs.each_ref().map(|input| decide(&self.chain, input)) else {
                return None;
            };
            let grows = oracles::compare_growth([&one, &two, &four], COUNTS, what);
            let [.., largest] = inputs;
            let symptom = grows.or_else(|| self.wrong(&largest, &four).into_iter().next())?;
            Some((symptom, largest))
        });
        let first = seen.next()?;
        // What is wrong with a large one by itself hides nothing.
        let is_growth = |(symptom, _): &(Symptom, Input)| symptom.oracle == Oracle::FuelGrows;
        if is_growth(&first) { Some(first) } else { seen.find(is_growth).or(Some(first)) }
    }

    /// The first restriction that turns the decision into a denial, and the input with it.
    fn restricted(
        &self,
        decision: &Decision,
        mut restricted: impl Iterator<Item = (&'static str, Input)>,
    ) -> Option<(Symptom, Input)> {
        if !matches!(decision.ruling, Ruling::Allow(_)) {
            return None;
        }
        restricted.find_map(|(flag, restricted)| {
            let again = decide(&self.chain, &restricted).ok()?;
            Some((oracles::compare_restricted(decision, &again, flag)?, restricted))
        })
    }

    /// The property that doesn't hold of what is allowed, and that as an input.
    fn violated(&self, input: &Input, decision: &Decision) -> Option<(Symptom, Input)> {
        let properties = self.properties.as_ref()?;
        if !matches!(decision.ruling, Ruling::Allow(_)) {
            return None;
        }
        let allowed = Input {
            request: decision.final_request.clone(),
            source: decision.source.clone(),
            target: decision.target.clone(),
            option_paths: decision.option_paths.clone(),
            ..input.clone()
        };
        let judged = decide(properties, &allowed).ok()?;
        Some((oracles::property(&judged)?, allowed))
    }

    /// The input that a finding was compared with.
    pub(super) fn other(&self, input: &Input, oracle: Oracle) -> Option<Input> {
        let decision = || decide(&self.chain, input).ok();
        match oracle {
            Oracle::TwoVerdicts => Some(input.with_other_incidentals()),
            Oracle::TwoNames => self.renamed(&decision()?, input.renamed()).map(|(_, renamed)| renamed),
            Oracle::FuelGrows => self.growing(input).map(|(_, grown)| grown),
            Oracle::RestrictionDenied => {
                self.restricted(&decision()?, input.restricted()).map(|(_, restricted)| restricted)
            }
            Oracle::PropertyViolated => self.violated(input, &decision()?).map(|(_, allowed)| allowed),
            _ => None,
        }
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
            option_paths: input.option_paths.clone(),
        },
        snapshot: input.table.snapshot(),
        locks: None,
    };
    chain.decide(&case, false)
}

/// One run in so many is decided a second time with another caller and other mount ids, with one more restriction, or under another name:
/// what costs two decisions more. One that reached something new is compared with all of these.
pub(super) const REPEATED: u64 = 16;
/// One run in so many is made larger, to see how the fuel grows, and each that reached something new.
pub(super) const GROWING: u64 = 512;
