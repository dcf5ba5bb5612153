//! Makes a missing mount point, below the folder that was pinned.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fchmod, fstat, mkdirat, openat2};
use rustix::io::Errno;

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
    execution.commit(line)?;
    for name in missing.split('/') {
        match mkdirat(&folder, name, Mode::RWXU) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(StepError::outdated(line(), format!("{name} is there by now"))),
            Err(errno) => return Err(failed(errno)),
        }
        let made = open(&folder, name, mode);
        undos.push(Undo::RemoveDirectory { folder, name: name.to_owned() });
        folder = made.map_err(failed)?;
    }
    execution.made.set(folder).map_err(|_| StepError::new(line(), "the target was made before"))
}

/// Opens what was made. Somebody else may have put another directory there.
fn open(folder: &OwnedFd, name: &str, mode: u32) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let made = openat2(folder.as_fd(), name, flags, Mode::empty(), beneath)?;
    if fstat(&made)?.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Errno::STALE);
    }
    fchmod(&made, Mode::from_raw_mode(mode))?;
    Ok(made)
}
