//! One plan that is being carried out, with the descriptors of what was approved.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::failure::StepError;
use super::watch::Watch;
use crate::decision::answers::{Pins, Unconfirmed};
use crate::host::identity::Identity;
use crate::host::locks::HostLock;
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
    /// Whether the host was asked again what the policies were told, and its lock.
    pub(super) confirmed: RefCell<Option<Option<HostLock>>>,
}

impl Execution<'_> {
    pub(super) fn source(&self) -> Result<BorrowedFd<'_>, StepError> {
        self.source.as_ref().map(AsFd::as_fd).ok_or_else(|| StepError::new("openat2".to_owned(), "no source is held"))
    }

    pub(super) fn target(&self) -> Result<BorrowedFd<'_>, StepError> {
        self.target.as_ref().map(AsFd::as_fd).ok_or_else(|| StepError::new("openat2".to_owned(), "no target is held"))
    }

    /// Every step calls this before it changes the host. It fails if the time for the request is up, or if what the policies
    /// were told isn't true any more. From here on no other request changes the host's mounts, until this one is done.
    pub(super) fn commit(&self, call: impl Fn() -> String) -> Result<(), StepError> {
        let mut confirmed = self.confirmed.borrow_mut();
        if confirmed.is_none() {
            let pins =
                Pins { source: self.source.as_ref().map(AsFd::as_fd), target: self.target.as_ref().map(AsFd::as_fd) };
            *confirmed = Some(self.plan.confirm(pins).map_err(|error| match error {
                Unconfirmed::Changed(what) => StepError::outdated(call(), what),
                Unconfirmed::Host(error) => StepError::new(call(), error),
            })?);
        }
        match self.watch.commit() {
            true => Ok(()),
            false => Err(StepError::new(call(), "the time for the request is up")),
        }
    }

    /// As [`Self::commit`], for a step that may have to wait for a disk, a server or a program: others needn't wait for it.
    pub(super) fn commit_to_wait(&self, call: impl Fn() -> String) -> Result<(), StepError> {
        self.commit(call)?;
        if let Some(lock) = self.confirmed.borrow_mut().as_mut() {
            lock.take();
        }
        Ok(())
    }
}
