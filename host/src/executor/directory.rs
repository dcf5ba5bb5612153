//! Makes a missing mount point, below the folder that was pinned.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::Errno;
use rustix::process::umask;

use super::execution::Execution;
use super::failure::StepError;
use super::undo::Undo;
use crate::plan::call::call;

/// Makes each directory that was missing. The last one is the target from then on.
pub(super) fn make(
    execution: &Execution<'_>,
    missing: &str,
    mode: u32,
    undos: &mut Vec<Undo>,
) -> Result<(), StepError> {
    let path = execution.plan.target();
    let line = || call("mkdirat", &[path, &format!("{mode:04o}")]);
    let failed = |errno: Errno| StepError::new(line(), errno);
    let mut folder = execution.target()?.try_clone_to_owned().map_err(|error| StepError::new(line(), error))?;
    execution.commit_to_make(line)?;
    for name in missing.split('/') {
        match with_all_rights(|| mkdirat(&folder, name, Mode::from_raw_mode(mode))) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(StepError::outdated(line(), format!("{name} is there by now"))),
            Err(errno) => return Err(failed(errno)),
        }
        let made = open(&folder, name);
        undos.push(Undo::RemoveDirectory { folder, name: name.to_owned() });
        folder = made.map_err(failed)?;
    }
    execution.made.set(folder).map_err(|_| StepError::new(line(), "the target was made before"))
}

/// Makes something with the very rights that it asks for. To change them afterwards could change those of another directory of
/// root's, which somebody has put there. The umask is this thread's own: it has left the others' root, see `namespace.rs`.
fn with_all_rights<T>(make: impl FnOnce() -> T) -> T {
    let before = umask(Mode::empty());
    let made = make();
    umask(before);
    made
}

/// Opens what was made. Somebody else may have put another directory there.
fn open(folder: &OwnedFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let made = openat2(folder.as_fd(), name, flags, Mode::empty(), beneath)?;
    if fstat(&made)?.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Errno::STALE);
    }
    Ok(made)
}
