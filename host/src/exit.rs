//! The exit statuses, which scripts rely on, and what each stands for.

use crate::decision::ruling::{Decision, Ruling};
use crate::error::Error;
use crate::executor::failure::ApplyError;
use crate::gate::Ending;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done, or allowed.
    Done = 0,
    /// The host's side failed: namespace, I/O, internal.
    HostFailed = 1,
    /// Wrong usage, or a request that the host refuses by itself.
    Usage = 2,
    /// A policy denied it.
    Denied = 3,
    /// A policy failed, so it was denied; or the policy directory isn't sound.
    PolicyFailed = 4,
    /// `fuzz` found something, a case isn't as expected, or a replayed verdict is another one.
    Found = 5,
    /// The mount itself failed, as mount(8) says.
    MountFailed = 32,
}

impl ExitStatus {
    /// The table for help and manual pages.
    pub const HELP: &str = "\
Exit status:
  0   done, or allowed
  1   something failed on the host (namespace, I/O, internal)
  2   wrong usage, or a request that the host refuses by itself
  3   a policy denied it
  4   a policy failed, so the request was denied; or the policy directory has an error
  5   `fuzz`, `policy test` or `replay` found something
  32  the mount itself failed, as mount(8)";
}

impl ExitStatus {
    /// The exit status of a command that only decides.
    pub fn of_decision(decision: &Decision) -> Self {
        match decision.ruling {
            Ruling::Allow(_) => Self::Done,
            Ruling::Deny { .. } => Self::Denied,
            Ruling::Fail { .. } => Self::PolicyFailed,
        }
    }

    /// The exit status of a command that carries a request out, or tries to.
    pub fn of_ending(ending: &Ending) -> Self {
        match &ending.applied {
            None => Self::of_decision(&ending.decision),
            Some(Ok(_)) => Self::Done,
            Some(Err(ApplyError::Host(_) | ApplyError::Changed(_))) => Self::HostFailed,
            Some(Err(ApplyError::Mount(_))) => Self::MountFailed,
        }
    }

    /// The exit status of a command that stops with an error.
    pub fn of_error(error: &Error) -> Self {
        match error {
            Error::Refused(_) => Self::Usage,
            Error::Policies(_) | Error::Unsound(_) => Self::PolicyFailed,
            Error::Late { may_still_change: true, .. } => Self::MountFailed,
            Error::Host(_)
            | Error::Unaudited(_)
            | Error::Sandbox(_)
            | Error::Unsettled(_)
            | Error::Late { may_still_change: false, .. } => Self::HostFailed,
        }
    }
}
