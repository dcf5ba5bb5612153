//! The host's mount namespace, see namespaces(7).

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, fstat, statat};

use crate::model::host_error::HostError;

/// The mount namespace that requests are carried out in.
#[derive(Debug)]
pub(crate) enum Namespace {
    /// This process is in it.
    Own,
    /// Another one, open to be entered.
    Other(OwnedFd),
    /// It can't be reached, for this reason. Deciding needs no namespace, mounting does.
    Closed(HostError),
}

/// Adds advice to a failure to open or to enter the host's mount namespace.
pub(crate) fn with_advice(error: HostError) -> HostError {
    let hint = match error.kind() {
        io::ErrorKind::PermissionDenied => Some(
            "entering the host's mount namespace needs root, CAP_SYS_ADMIN and CAP_SYS_PTRACE in the host's user \
             namespace; in a container, share the host's PID namespace and give its root with --host-root. \
             --sandbox runs the request without touching the host",
        ),
        io::ErrorKind::NotFound => {
            Some("is the host's /proc there? --host-root names the folder that holds the host's /")
        }
        _ => None,
    };
    error.with_hint(hint)
}

/// Whether two descriptors stand for the same namespace.
pub(super) fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool, HostError> {
    let stat = |fd| fstat(fd).map_err(|errno| HostError::new("fstat", "a mount namespace", errno.into()));
    let (one, other) = (stat(one)?, stat(other)?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

/// Whether this process is in the PID namespace of a process, given by that process's folder in `/proc`.
pub(super) fn shares_pid_namespace(process: BorrowedFd<'_>) -> bool {
    let theirs = statat(process, "ns/pid", AtFlags::empty());
    let ours = statat(process, "../self/ns/pid", AtFlags::empty());
    matches!((theirs, ours), (Ok(theirs), Ok(ours)) if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino))
}
