//! One plan that is being carried out, with the descriptors of what was approved.

use std::cell::{Cell, OnceCell, RefCell};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::failure::StepError;
use super::mount_api::attach;
use super::watch::Watch;
use crate::decision::answers::Pins;
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
    /// The target, where it was made.
    pub(super) made: OnceCell<OwnedFd>,
    /// What is to be unmounted.
    pub(super) to_unmount: Option<Identity>,
    pub(super) watch: &'p Watch,
    /// Whether the host was asked again what the policies were told, and its lock.
    pub(super) confirmed: RefCell<Option<Option<HostLock>>>,
    /// Whether a mount took so long to be put where it belongs that others didn't wait for it.
    pub(super) is_overtaken: Cell<bool>,
}

impl Execution<'_> {
    pub(super) fn source(&self) -> Result<BorrowedFd<'_>, StepError> {
        self.source.as_ref().map(AsFd::as_fd).ok_or_else(|| StepError::new("openat2".to_owned(), "no source is held"))
    }

    pub(super) fn target(&self) -> Result<BorrowedFd<'_>, StepError> {
        let target = self.made.get().or(self.target.as_ref());
        target.map(AsFd::as_fd).ok_or_else(|| StepError::new("openat2".to_owned(), "no target is held"))
    }

    /// Every step calls this before it changes the host. It fails if the time for the request is up, or if what the policies
    /// were told isn't true any more. From here on no other request changes the host's mounts, until this one is done.
    pub(super) fn commit(&self, call: impl Fn() -> String) -> Result<(), StepError> {
        let mut confirmed = self.confirmed.borrow_mut();
        if confirmed.is_none() {
            let pins =
                Pins { source: self.source.as_ref().map(AsFd::as_fd), target: self.target.as_ref().map(AsFd::as_fd) };
            *confirmed = Some(self.plan.confirm(pins).map_err(|error| StepError::unconfirmed(call(), error))?);
        }
        self.watch.commit().map_err(|stop| StepError::new(call(), stop.to_string()))
    }

    /// What gives the lock of the host back, if it's held.
    pub(super) fn give_back(&self) -> Option<impl FnOnce() + Send + use<>> {
        self.confirmed.borrow().iter().flatten().next().map(HostLock::give_back)
    }

    /// Puts a mount on what a descriptor stands for. The kernel waits for whoever holds the directory, which any process that may read it
    /// can do for as long as it likes; so others get the lock of the host meanwhile, and `carried::check` asks everything again.
    pub(super) fn attach(
        &self,
        give_back: Option<impl FnOnce() + Send + 'static>,
        mount: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
    ) -> rustix::io::Result<()> {
        let (result, is_held) = self.watch.attach(|| give_back.into_iter().for_each(|f| f()), || attach(mount, target));
        if !is_held {
            self.is_overtaken.set(true);
            // What is gone needn't be given back once more.
            *self.confirmed.borrow_mut() = Some(None);
        }
        result
    }

    /// As [`Self::commit`], for a step that may have to wait for a disk, a server or a program: others needn't wait for it.
    pub(super) fn commit_to_wait(&self, call: impl Fn() -> String) -> Result<(), StepError> {
        self.commit(call)?;
        if let Some(lock) = self.confirmed.borrow_mut().as_mut() {
            lock.take();
        }
        Ok(())
    }

    /// As [`Self::commit`], for a step that may have to wait, where others follow: before the next one everything is asked again.
    pub(super) fn commit_to_make(&self, call: impl Fn() -> String) -> Result<(), StepError> {
        self.commit(call)?;
        *self.confirmed.borrow_mut() = None;
        Ok(())
    }
}
