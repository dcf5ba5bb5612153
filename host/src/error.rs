//! What stops a request before or while it is carried out.

use crate::executor::failure::MountFailure;
use crate::model::hint::Hint;
use crate::model::host_error::HostError;
use crate::model::refusals::Refusals;
use crate::model::secrets::Secrets;
use crate::policy::directory::error::DirectoryError;

/// Anything that stops a request before or while it is carried out. A denial isn't an error: it's a decision.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host never carries out a request like this one.
    #[error("the host refuses this request by itself")]
    Refused(#[from] Refusals),
    /// The policy directory isn't sound.
    #[error("the policy directory can't be used")]
    Policies(#[from] DirectoryError),
    /// A file that was given isn't what it should be.
    #[error("the file can't be used")]
    Unsound(#[source] DirectoryError),
    /// What happens to the request can't be written down, and must be.
    #[error("the request can't be audited, and `[host] audit-required` says that it must be")]
    Unaudited(#[source] HostError),
    /// A system call failed.
    #[error("a system call failed on the host")]
    Host(#[from] HostError),
    /// The machine can't give what the plugins' sandbox needs.
    #[error("the plugins' sandbox can't be set up")]
    Sandbox(#[source] anyhow::Error),
    /// What the policies were told is never still true when the request could be carried out.
    #[error("the request can't be decided: {0}")]
    Unsettled(String),
    /// The time for the request is up, and the kernel hasn't answered.
    #[error("the time for the request is up")]
    #[expect(missing_docs, reason = "named for what they are")]
    Late {
        #[source]
        failure: MountFailure,
        /// Whether the host may still change.
        may_still_change: bool,
    },
}

impl Error {
    /// This error without the secrets of the request.
    pub(crate) fn masked(self, secrets: &Secrets) -> Self {
        match self {
            Self::Refused(refusals) => Self::Refused(refusals.reworded(|message| secrets.mask(message))),
            other => other,
        }
    }

    /// A short code for programs, which stays the same between versions.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Refused(refusals) => refusals.iter().map(|refusal| refusal.code).next().unwrap_or("refused"),
            Self::Policies(_) => "policies-not-sound",
            Self::Unsound(_) => "file-not-sound",
            Self::Unaudited(_) => "not-audited",
            Self::Host(_) => "host-failed",
            Self::Sandbox(_) => "sandbox-failed",
            Self::Unsettled(_) => "not-settled",
            Self::Late { .. } => "late",
        }
    }

    /// What to do about it. Each of several refusals has a hint of its own instead.
    pub fn hint(&self) -> Option<Hint> {
        match self {
            Self::Refused(_) | Self::Sandbox(_) | Self::Late { may_still_change: false, .. } => None,
            Self::Policies(error) | Self::Unsound(error) => Some(error.hint.clone()),
            Self::Unaudited(_) => Some("make room for the audit file, or correct its path".into()),
            Self::Host(error) => error.hint().cloned(),
            Self::Unsettled(_) => Some("try again when fewer requests run at once".into()),
            Self::Late { may_still_change: true, .. } => Some("look at the host's mounts with `mountgate list`".into()),
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
