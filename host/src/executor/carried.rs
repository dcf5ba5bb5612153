//! Where the kernel has carried a mount: to the peers and slaves of what it was put on, as these are at that very moment. The
//! policies have judged the places of an earlier moment. A directory that was renamed since may be seen elsewhere, and no name tells.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::execution::Execution;
use super::failure::StepError;
use super::lookup;
use crate::host::identity::Identity;
use crate::model::request::Operation;
use crate::mount_table::statmount;

/// What was mounted before something was done.
pub(super) enum Before {
    /// No mount that was there has a larger 64-bit id.
    Newest(u64),
    /// The ids in mountinfo, where the kernel has no such ids.
    Table(HashSet<u64>),
}

impl Before {
    /// The mounts that are there before something is done. `there` is any place of the host.
    pub(super) fn now(execution: &Execution<'_>, there: BorrowedFd<'_>) -> io::Result<Self> {
        // Ids only grow: that of a mount that is made now is larger than all there are.
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let newest = open_tree(there, "", flags).ok().map(|copy| Identity::of(copy.as_fd())).transpose()?;
        // statmount(2) may be missing where the ids aren't.
        match newest.and_then(|newest| newest.unique_id).filter(|id| statmount::newer(*id).is_ok()) {
            Some(id) => Ok(Self::Newest(id)),
            None => Self::table(execution),
        }
    }

    /// The mounts that are there before a new one is shown that isn't a tree.
    pub(super) fn showing(execution: &Execution<'_>, new: &Identity) -> io::Result<Self> {
        let Some(own) = new.unique_id else { return Self::table(execution) };
        // Others may have been mounted since it was made. Where the kernel doesn't tell the newest, these are looked at as well.
        match statmount::newest().or_else(|_| statmount::newer(own).map(|_| own)) {
            Ok(newest) => Ok(Self::Newest(newest.max(own))),
            Err(_) => Self::table(execution),
        }
    }

    fn table(execution: &Execution<'_>) -> io::Result<Self> {
        Ok(Self::Table(lookup::table(execution)?.iter().map(|mount| mount.id()).collect()))
    }

    pub(super) fn has(&self, identity: &Identity) -> bool {
        match (self, identity.unique_id) {
            (Self::Newest(newest), Some(id)) => id <= *newest,
            (Self::Newest(_), None) => true,
            (Self::Table(ids), _) => ids.contains(&identity.id),
        }
    }

    /// The mountinfo ids of all mounts that weren't there.
    pub(super) fn new_mounts(&self, execution: &Execution<'_>) -> io::Result<HashSet<u64>> {
        let newest = match self {
            Self::Newest(newest) => *newest,
            Self::Table(ids) => {
                let table = lookup::table(execution)?;
                return Ok(table.iter().map(|mount| mount.id()).filter(|id| !ids.contains(id)).collect());
            }
        };
        let mut new = HashSet::new();
        for id in statmount::newer(newest)? {
            match statmount::mountinfo_id(id) {
                Ok(id) => new.extend([id]),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(new)
    }
}

/// Compares all places at which a mount has appeared since with those that were judged. `own` is its id in mountinfo. If others didn't wait
/// for it, everything is asked again.
pub(super) fn check(
    execution: &Execution<'_>,
    before: &Before,
    own: u64,
    line: impl Fn() -> String,
) -> Result<(), StepError> {
    if let Some(stop) = execution.watch.must_end() {
        return Err(StepError::new(line(), stop.to_string()));
    }
    let new = before.new_mounts(execution).map_err(|error| StepError::new(line(), error))?;
    let is_overtaken = execution.is_overtaken.replace(false);
    if is_overtaken && execution.plan.request().operation == Operation::Move {
        // All that the policies asked about the mount has changed with it.
        let reason = "somebody keeps the target directory: it was given up, for others to go on";
        return Err(StepError::new(line(), (reason.to_owned(), Errno::BUSY)));
    }
    if !is_overtaken && new.iter().all(|id| *id == own) {
        return Ok(());
    }
    execution.plan.confirm_carried(own, &new, is_overtaken).map_err(|error| StepError::unconfirmed(line(), error))
}
