//! What can go wrong, by whose fault it is, and with what exit status it ends.

use std::fmt;
use std::io;

use crate::executor::MountFailure;
use crate::exit::ExitStatus;
use crate::invariants::Refusals;
use crate::policy::DirectoryError;

/// Anything that stops a request before or while it's carried out. A denial isn't one: it's a decision.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is one that the host never carries out.
    #[error("the host refuses this request by itself")]
    Refused(#[from] Refusals),
    /// The policy directory isn't sound.
    #[error("the policy directory can't be used")]
    Policies(#[from] DirectoryError),
    /// The host's side failed.
    #[error("the host's side failed")]
    Host(#[from] HostError),
    /// The time for the request is up, and the kernel hasn't answered.
    #[error("the time for the request is up")]
    #[expect(missing_docs, reason = "named for what they are")]
    Late {
        #[source]
        failure: MountFailure,
        /// Whether the host may be changed yet.
        is_begun: bool,
    },
}

impl Error {
    /// The exit status that stands for it.
    pub fn exit_status(&self) -> ExitStatus {
        match self {
            Self::Refused(_) => ExitStatus::Usage,
            Self::Policies(_) => ExitStatus::PolicyFailed,
            Self::Late { is_begun: true, .. } => ExitStatus::MountFailed,
            Self::Host(_) | Self::Late { is_begun: false, .. } => ExitStatus::HostFailed,
        }
    }

    /// What to do about it, where there is something to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(refusals) => refusals.hint(),
            Self::Policies(error) => Some(error.remedy.clone()),
            Self::Host(error) => error.hint(),
            Self::Late { is_begun: true, .. } => Some("look at the host's mounts with `mountgate list`".to_owned()),
            Self::Late { is_begun: false, .. } => None,
        }
    }
}

/// A system call that failed, with what it was called on.
#[derive(Debug)]
pub struct HostError {
    call: &'static str,
    subject: String,
    error: io::Error,
}

impl HostError {
    pub(crate) fn new(call: &'static str, subject: &str, error: io::Error) -> Self {
        Self { call, subject: subject.to_owned(), error }
    }

    /// The same again, for one that is kept and raised more than once.
    pub(crate) fn again(&self) -> Self {
        let error = match self.error.raw_os_error() {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => io::Error::new(self.error.kind(), self.error.to_string()),
        };
        Self { call: self.call, subject: self.subject.clone(), error }
    }

    fn hint(&self) -> Option<String> {
        let denied = self.error.kind() == io::ErrorKind::PermissionDenied;
        let namespace = self.subject.ends_with("/ns/mnt") || self.subject.starts_with("the host's mount namespace");
        if namespace && denied {
            return Some(
                "entering the host's mount namespace needs root, CAP_SYS_ADMIN and CAP_SYS_PTRACE in the host's user \
                 namespace; in a container, share the host's PID namespace and give its root with --host-root. \
                 --sandbox runs the request without touching the host"
                    .to_owned(),
            );
        }
        if namespace && self.error.kind() == io::ErrorKind::NotFound {
            return Some("is the host's /proc there? --host-root names the folder that holds the host's /".to_owned());
        }
        None
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}): {}", self.call, self.subject, self.error)
    }
}

impl std::error::Error for HostError {}
