//! The chain of policies, and the one place where a request becomes a plan.

use std::sync::Arc;

use super::answers::Answers;
use super::approved::Approved;
use super::case::Case;
use super::ends::EndFinder;
use super::progress::Progress;
use super::rounds::settle;
use super::ruling::{Decision, Ruling};
use super::trace::{Phase, TraceEntry};
use super::validation::validate;
use crate::error::Error;
use crate::host::own_state::OwnPlace;
use crate::model::refusals::Refusals;
use crate::model::rules::HostRules;
use crate::mount_table::snapshot::Snapshot;
use crate::plan::mount_plan::MountPlan;
use crate::policy::engine::contract_v0_1::Outcome;
use crate::policy::engine::policy::Policy;

/// Policies in order, and the rules that the host holds to whatever they say.
#[derive(Debug)]
pub struct Chain<'p> {
    policies: &'p [Policy],
    finder: EndFinder<'p>,
}

impl<'p> Chain<'p> {
    /// A chain of these policies. No mount may hide, change or show `own_state`.
    pub fn new(policies: &'p [Policy], rules: &'p HostRules, own_state: &'p [OwnPlace]) -> Self {
        Self { policies, finder: EndFinder { rules, own_state } }
    }

    /// Decides a request. With `all`, the validating policies after a denial are asked as well.
    ///
    /// # Errors
    /// When the host refuses the request by itself, or can't be read.
    pub fn decide(&self, case: &Case<'_>, all: bool) -> Result<Decision, Error> {
        // Without a policy, everything would be allowed.
        if !self.policies.is_empty() && !self.policies.iter().any(|policy| policy.is_for(&case.requester)) {
            let message = format!("no policy is for user {}, group {}", case.requester.uid, case.requester.gid);
            let hint = Some("add a [[policy]] without `for`, or one for this caller");
            return Err(Refusals::one("requester", message, hint).with_code("no-policy").into());
        }
        let (ends, places) = self.finder.find(case, &case.request)?;
        let (request, snapshot) = (case.request.clone(), case.snapshot.clone());
        let mut progress = Progress { request, ends, places, edits: Vec::new(), trace: Vec::new(), snapshot };
        let against = settle(self.policies, &self.finder, case, &mut progress)
            .or_else(|| validate(self.policies, case, &mut progress, all));
        progress.snapshot.check()?;
        let Progress { request, ends, places, edits, trace, snapshot } = progress;
        let final_request = request.clone();
        let (source, target) = (ends.found_source().cloned(), ends.target.found.clone());
        let option_paths = ends.found_in_options();
        let seen = places.clone();
        let asked = snapshot.clone();
        let ruling = match against {
            Some(ruling) => ruling,
            None => {
                let answers = case.host().zip(case.locks.as_ref()).map(|(host, locks)| Answers {
                    host: host.clone(),
                    locks: locks.clone(),
                    snapshot,
                    places,
                });
                let approved = Approved::new(request, ends, case.host().map(Arc::as_ref), answers);
                Ruling::Allow(Some(Box::new(MountPlan::of(approved, self.finder.rules)?)))
            }
        };
        let (request, requester) = (case.request.clone(), case.requester.clone());
        Ok(Decision {
            request,
            final_request,
            source,
            target,
            option_paths,
            places: seen,
            requester,
            edits,
            snapshot: asked,
            trace,
            ruling,
        })
    }

    /// Tells the policies that observe how a request ended, and returns what they wrote. Whatever they do changes nothing.
    pub fn observe(&self, outcome: &Outcome, after: &Arc<Snapshot>) -> Vec<TraceEntry> {
        let observe = |policy: &Policy| {
            let mut entry = TraceEntry::of(policy, Phase::Observe, None, policy.observe(outcome, after));
            if entry.failure.is_none() {
                entry.verdict = "observed";
            }
            entry
        };
        self.policies.iter().filter(|policy| policy.observes).map(observe).collect()
    }
}
