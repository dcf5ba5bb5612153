//! What is wrong with one policy or its plugin.

use crate::model::hint::Hint;

/// What is wrong with a policy or its plugin, and what to do about it. Where the policy stands is added later.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: Hint,
    /// Whether the plugin failed, and not what it was given.
    pub(super) is_failure: bool,
}

impl Fault {
    pub(super) fn new(message: String, hint: impl Into<Hint>) -> Self {
        Self { message, hint: hint.into(), is_failure: false }
    }

    /// The plugin failed by itself.
    pub(super) fn failed(message: String, hint: impl Into<Hint>) -> Self {
        Self { is_failure: true, ..Self::new(message, hint) }
    }
}
