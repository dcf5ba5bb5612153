//! Why a plan wasn't carried out.

use crate::model::host_error::HostError;

/// Why a plan wasn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The host couldn't be reached; nothing was run.
    #[error("the host's mount namespace can't be entered")]
    Host(#[from] HostError),
    /// What the policies were told isn't true any more: what has changed. The host is as it was.
    #[error("the host has changed since the request was decided: {0}")]
    Changed(String),
    /// The mount itself failed.
    #[error(transparent)]
    Mount(#[from] MountFailure),
}

/// A step that failed, and what became of those before it.
#[derive(Debug, thiserror::Error)]
#[error("`{step}` failed: {reason}")]
pub struct MountFailure {
    /// The call or the command as it was run, secrets masked.
    pub step: String,
    /// What the host said, secrets masked.
    pub reason: String,
    /// What was done to take earlier steps back, one line each.
    pub undone: Vec<String>,
}

/// A call that failed, and why.
#[derive(Debug)]
pub(super) struct StepError {
    pub(super) call: String,
    pub(super) reason: String,
    /// Whether the host has changed since the request was decided, so that it can be decided again.
    pub(super) is_outdated: bool,
}

impl StepError {
    pub(super) fn new(call: String, reason: impl ToString) -> Self {
        Self { call, reason: reason.to_string(), is_outdated: false }
    }

    /// What the policies were told isn't true any more.
    pub(super) fn outdated(call: String, what: String) -> Self {
        Self { call, reason: what, is_outdated: true }
    }
}
