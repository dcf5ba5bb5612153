//! Enters the host's mount namespace, see namespaces(7) and setns(2).

use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{chroot, fchdir};

use crate::host::namespaces::{Namespace, with_advice};
use crate::host::root::HostRoot;
use crate::model::host_error::HostError;

/// Moves the calling thread into the host's mount namespace, with the host's root.
pub(super) fn enter(host: &HostRoot) -> Result<(), HostError> {
    let failed = |call, subject: &str, errno: nix::Error| HostError::new(call, subject, errno.into());
    // A root and a working directory of the thread's own, which setns(2) asks for.
    unshare(CloneFlags::CLONE_FS).map_err(|errno| failed("unshare", "CLONE_FS", errno))?;
    match host.namespace() {
        Namespace::Own => {}
        Namespace::Other(namespace) => setns(namespace, CloneFlags::CLONE_NEWNS)
            .map_err(|errno| with_advice(failed("setns", "the host's mount namespace, CLONE_NEWNS", errno)))?,
        Namespace::Closed(error) => return Err(error.clone()),
    }
    let changed = |call, errno: rustix::io::Errno| HostError::new(call, "the host's /", errno.into());
    // The very root that paths were followed from.
    fchdir(host.root()).map_err(|errno| changed("fchdir", errno))?;
    chroot(".").map_err(|errno| changed("chroot", errno))
}
