//! Why a plan wasn't carried out.

use crate::model::host_error::HostError;

/// Why a plan wasn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The host couldn't be reached; nothing was run.
    #[error("the host's mount namespace can't be entered")]
    Host(#[from] HostError),
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
}

impl StepError {
    pub(super) fn new(call: String, reason: impl ToString) -> Self {
        Self { call, reason: reason.to_string() }
    }
}
