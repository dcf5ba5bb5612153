//! One plan that is being carried out, with the descriptors of what was approved.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::failure::StepError;
use super::watch::Watch;
use crate::host::identity::Identity;
use crate::host::root::HostRoot;
use crate::plan::mount_plan::MountPlan;

/// One plan that is being carried out.
pub(super) struct Execution<'p> {
    pub(super) host: &'p HostRoot,
    pub(super) plan: &'p MountPlan,
    pub(super) source: Option<OwnedFd>,
    pub(super) target: Option<OwnedFd>,
    /// What is to be unmounted.
    pub(super) to_unmount: Option<Identity>,
    pub(super) watch: &'p Watch,
}

impl Execution<'_> {
    pub(super) fn source(&self) -> Result<BorrowedFd<'_>, StepError> {
        self.source.as_ref().map(AsFd::as_fd).ok_or_else(|| StepError::new("openat2".to_owned(), "no source is held"))
    }

    pub(super) fn target(&self) -> Result<BorrowedFd<'_>, StepError> {
        self.target.as_ref().map(AsFd::as_fd).ok_or_else(|| StepError::new("openat2".to_owned(), "no target is held"))
    }

    /// Every step calls this before it changes the host. It fails if the time for the request is up.
    pub(super) fn commit(&self, call: impl FnOnce() -> String) -> Result<(), StepError> {
        match self.watch.commit() {
            true => Ok(()),
            false => Err(StepError::new(call(), "the time for the request is up")),
        }
    }
}
