//! A throw-away host: a user and a mount namespace of this process's own, see user_namespaces(7).

use std::fs;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::host::root::HostRoot;
use crate::model::host_error::HostError;

/// Moves this process into namespaces of its own, where its user is root and nothing that it mounts reaches the host.
/// Call it while the process has one thread only: a user namespace can't be entered by one of many.
///
/// # Errors
/// When the kernel doesn't allow it.
pub fn enter() -> Result<HostRoot, HostError> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| HostError::new("unshare", "CLONE_NEWUSER|CLONE_NEWNS", errno.into()))?;
    let write = |path: &str, text: &str| fs::write(path, text).map_err(|error| HostError::new("write", path, error));
    // A process that gave up changing its groups may map itself, and no other user.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(|errno| HostError::new("mount", "/, MS_REC|MS_PRIVATE", errno.into()))?;
    HostRoot::own()
}
