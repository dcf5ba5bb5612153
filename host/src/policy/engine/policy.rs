//! A policy that is ready to judge.

use std::fmt;
use std::sync::Arc;

use super::contract_v0_1::{Outcome, Review};
use super::runner::{Notes, Runner};
use crate::model::edit::Field;
use crate::model::requester::Requester;
use crate::mount_table::snapshot::Snapshot;
use crate::policy::callers::Callers;
use crate::policy::description::Description;
use crate::policy::evaluation::Evaluation;
use crate::policy::mode::Mode;

/// A policy that is ready to judge.
pub struct Policy {
    /// Its name in the chain.
    pub name: String,
    /// What its plugin says of itself.
    pub description: Description,
    /// The codes of all denials that it may answer.
    pub denial_codes: Vec<String>,
    /// The fields that its rewrites may change.
    pub changes: Vec<Field>,
    /// Whether it's told how requests end.
    pub observes: bool,
    /// Whom it's for; for everybody, where it doesn't say.
    pub callers: Option<Callers>,
    /// Whether its verdict is followed.
    pub mode: Mode,
    /// The fields that it may change.
    pub rewrites: Vec<Field>,
    pub(super) runner: Runner,
}

impl Policy {
    /// Whether it's for a caller.
    pub(crate) fn is_for(&self, requester: &Requester) -> bool {
        self.callers.as_ref().is_none_or(|callers| callers.hold(requester))
    }

    /// Judges a request in a fresh instance.
    pub fn evaluate(&self, review: &Review, snapshot: &Arc<Snapshot>) -> Evaluation {
        self.runner.evaluate(review, snapshot)
    }

    /// What its plugin has noted since this was last called, if it's instrumented.
    pub(crate) fn take_notes(&self) -> Vec<Notes> {
        self.runner.take_notes()
    }

    /// From now on, each request is judged in a fresh instance, or in those that are kept, if its plugin is instrumented. Others never
    /// keep one.
    pub(crate) fn always_fresh(&self, is_always_fresh: bool) {
        self.runner.always_fresh(is_always_fresh);
    }

    /// Tells the plugin how a request ended, in a fresh instance.
    pub fn observe(&self, outcome: &Outcome, snapshot: &Arc<Snapshot>) -> Evaluation {
        self.runner.observe(outcome, snapshot)
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("name", &self.name).field("description", &self.description).finish()
    }
}
