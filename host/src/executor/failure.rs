//! Why a plan wasn't carried out.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use crate::decision::answers::Unconfirmed;
use crate::model::host_error::HostError;

/// Why a plan wasn't carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The host couldn't be entered or asked. It is as it was.
    #[error("the host can't be entered or asked")]
    Host(#[from] HostError),
    /// What the policies were told isn't true any more: what has changed. The host is as it was.
    #[error("the host has changed since the request was decided: {0}")]
    Changed(String),
    /// The mount itself failed.
    #[error(transparent)]
    Mount(#[from] MountFailure),
}

impl ApplyError {
    /// A short code for programs, which stays the same between versions.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Host(_) => "host-failed",
            Self::Changed(_) => "changed",
            Self::Mount(failure) => failure.code,
        }
    }

    /// The kernel's number for it, see errno(3).
    pub fn errno(&self) -> Option<i32> {
        if let Self::Mount(failure) = self { failure.errno } else { None }
    }
}

/// A step that failed, and what became of those before it.
#[derive(Debug, thiserror::Error)]
#[error("`{step}` failed: {reason}")]
pub struct MountFailure {
    /// The call or the command as it was run, secrets masked.
    pub step: String,
    /// What the host said, secrets masked.
    pub reason: String,
    /// A short code for programs.
    pub code: &'static str,
    /// The kernel's number for it.
    pub errno: Option<i32>,
    /// What was done to take earlier steps back, one line each.
    pub undone: Vec<String>,
}

/// Why a request has to end before it's done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stop {
    #[error("it took longer than {0:?}")]
    Late(Duration),
    #[error("a signal told mountgate to end")]
    Signal,
}

/// A call that failed, and why.
#[derive(Debug)]
pub(super) struct StepError {
    pub(super) call: String,
    pub(super) reason: String,
    pub(super) code: &'static str,
    pub(super) errno: Option<i32>,
    /// Why the request isn't carried out as it was decided.
    pub(super) unconfirmed: Option<Box<Unconfirmed>>,
}

impl StepError {
    pub(super) fn new(call: String, reason: impl Into<Reason>) -> Self {
        let Reason { text, errno } = reason.into();
        Self { call, reason: text, code: errno.map_or("failed", code_of), errno, unconfirmed: None }
    }

    /// What the policies were told isn't true any more.
    pub(super) fn outdated(call: String, what: String) -> Self {
        Self::unconfirmed(call, Unconfirmed::Changed(what))
    }

    /// What was asked again has changed, or the host can't be asked.
    pub(super) fn unconfirmed(call: String, error: Unconfirmed) -> Self {
        let (reason, code) = match &error {
            Unconfirmed::Changed(what) => (what.clone(), "changed"),
            Unconfirmed::Host(error) => (error.to_string(), "host-failed"),
        };
        Self { call, reason, code, errno: None, unconfirmed: Some(Box::new(error)) }
    }

    /// This error with a code of its own.
    pub(super) fn with_code(self, code: &'static str) -> Self {
        Self { code, ..self }
    }
}

/// Why a call failed, with the kernel's number where it is the kernel's answer.
pub(super) struct Reason {
    text: String,
    errno: Option<i32>,
}

impl From<String> for Reason {
    fn from(text: String) -> Self {
        Self { text, errno: None }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Self {
        Self { text: error.to_string(), errno: error.raw_os_error() }
    }
}

impl From<Errno> for Reason {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<HostError> for Reason {
    fn from(error: HostError) -> Self {
        error.to_string().into()
    }
}

impl From<(String, Errno)> for Reason {
    fn from((text, errno): (String, Errno)) -> Self {
        Self { text, errno: Some(errno.raw_os_error()) }
    }
}

fn code_of(errno: i32) -> &'static str {
    match Errno::from_raw_os_error(errno) {
        Errno::BUSY => "busy",
        Errno::PERM | Errno::ACCESS => "not-permitted",
        Errno::NOENT => "not-found",
        Errno::NOSPC => "no-space",
        Errno::ROFS => "read-only",
        Errno::NODEV => "unknown-type",
        Errno::NOTBLK => "no-block-device",
        Errno::NOTDIR => "not-a-directory",
        Errno::INVAL => "invalid",
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => "no-resources",
        _ => "failed",
    }
}
