//! A new mount of a file system of which there is only one would show what is mounted elsewhere already, and nobody has judged it by where
//! it is.

use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::execution::Execution;
use super::failure::StepError;
use super::lookup;
use crate::host::identity::Identity;
use crate::model::shared_types::{is_shared, is_the_only_one};
use crate::model::untrusted::for_people;
use crate::plan::call::call;

/// Refuses one that is mounted somewhere on the host, before its options can change anything.
pub(super) fn check_type(execution: &Execution<'_>, fstype: &str) -> Result<(), StepError> {
    if is_the_only_one(fstype) { check_any(execution, fstype) } else { Ok(()) }
}

/// As [`check_type`], for all types: what mount(8) has mounted is there before its number can be compared.
pub(super) fn check_any(execution: &Execution<'_>, fstype: &str) -> Result<(), StepError> {
    if !is_shared(fstype) {
        return Ok(());
    }
    let line = || call("fsopen", &[fstype]);
    let table = lookup::table(execution).map_err(|error| StepError::new(line(), error))?;
    let there = table.iter().find(|mount| *mount.fstype() == *fstype.as_bytes());
    there.map_or(Ok(()), |mount| Err(mounted(line(), fstype, &mount.to_text().target)))
}

/// Refuses one that was mounted meanwhile. The host's lock is held.
pub(super) fn check_mount(execution: &Execution<'_>, fstype: &str, mount: &OwnedFd) -> Result<(), StepError> {
    if !is_shared(fstype) {
        return Ok(());
    }
    let line = || call("move_mount", &[execution.plan.target()]);
    let device = Identity::of(mount.as_fd()).map_err(|error| StepError::new(line(), error))?.device;
    let table = lookup::table(execution).map_err(|error| StepError::new(line(), error))?;
    let there = table.by_device(device.major, device.minor).next();
    there.map_or(Ok(()), |mount| Err(mounted(line(), fstype, &mount.to_text().target)))
}

fn mounted(line: String, fstype: &str, target: &str) -> StepError {
    let reason = format!(
        "there is one {fstype} for the whole host, and it's mounted on {} already: bind it from there, so that what is shown is judged",
        for_people(target)
    );
    StepError::new(line, (reason, Errno::BUSY))
}
