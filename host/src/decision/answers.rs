//! What the policies of an approved request were told. It must still be true when the request is carried out.

use std::collections::HashSet;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use super::places::places;
use crate::host::live_mounts::{snapshot, snapshot_without};
use crate::host::locks::{HostLock, Locks};
use crate::host::root::HostRoot;
use crate::model::ends::{Ends, FileKind, ResolvedPath};
use crate::model::host_error::HostError;
use crate::model::location::{Location, Place};
use crate::model::request::MountRequest;
use crate::mount_table::snapshot::Snapshot;

/// What the policies were told, and whom to ask again.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(super) host: Arc<HostRoot>,
    pub(super) locks: Arc<Locks>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) places: Vec<Place>,
}

/// Why a request can't be carried out as it was decided.
#[derive(Debug)]
pub(crate) enum Unconfirmed {
    /// The host has changed since: what has changed.
    Changed(String),
    /// The host can't be asked, or the lock can't be had.
    Host(HostError),
}

impl From<HostError> for Unconfirmed {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// The two ends as descriptors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pins<'p> {
    pub(crate) source: Option<BorrowedFd<'p>>,
    pub(crate) target: Option<BorrowedFd<'p>>,
}

impl Answers {
    /// Takes the lock of the host, and asks everything again. While the lock is held, the answers stay true as far as
    /// mountgate's own requests go.
    pub(crate) fn confirm(&self, request: &MountRequest, ends: &Ends, pins: Pins<'_>) -> Result<HostLock, Unconfirmed> {
        let lock = self.locks.hold_host()?;
        self.compare(&snapshot(&self.host), request, ends, pins)?;
        Ok(lock)
    }

    /// Takes the lock of the host, and asks again as if these mounts, which the request itself has made, weren't there.
    pub(crate) fn confirm_without(
        &self,
        request: &MountRequest,
        ends: &Ends,
        own: HashSet<u64>,
    ) -> Result<HostLock, Unconfirmed> {
        let lock = self.locks.hold_host()?;
        let now = snapshot_without(&self.host, own);
        if places(request, ends, &now)? != self.places {
            return Err(Unconfirmed::Changed("the request is seen at other places".to_owned()));
        }
        match self.snapshot.differs_from(&now)? {
            Some(question) => Err(Unconfirmed::Changed(format!("the answer to {question:?} is another one by now"))),
            None => Ok(lock),
        }
    }

    /// Compares what was said with what is said now.
    fn compare(&self, now: &Snapshot, request: &MountRequest, ends: &Ends, pins: Pins<'_>) -> Result<(), Unconfirmed> {
        let found = [(ends.found_source(), pins.source), (Some(&ends.target.found), pins.target)];
        for (found, pin) in found {
            if let (Some(found), Some(pin)) = (found, pin)
                && location_of(now, found, pin)? != found.location
            {
                return Err(Unconfirmed::Changed(format!("{} is at another place by now", found.path)));
            }
        }
        if let Some(path) = self.snapshot.leads_elsewhere(now) {
            return Err(Unconfirmed::Changed(format!("{path} leads elsewhere by now")));
        }
        // Without a change of any mount, no answer about mounts can differ.
        if self.snapshot.is_unchanged() {
            return Ok(());
        }
        if places(request, ends, now)? != self.places {
            return Err(Unconfirmed::Changed("the request would be seen at other places by now".to_owned()));
        }
        match self.snapshot.differs_from(now)? {
            Some(question) => Err(Unconfirmed::Changed(format!("the answer to {question:?} is another one by now"))),
            None => Ok(()),
        }
    }
}

/// Where an end lies. Of a block device that is mounted: the file system on it.
pub(super) fn location_of(
    snapshot: &Snapshot,
    found: &ResolvedPath,
    pin: BorrowedFd<'_>,
) -> Result<Option<Location>, HostError> {
    match (found.kind, found.device) {
        (FileKind::BlockDevice, Some(device)) => snapshot.file_system_on(device),
        _ => snapshot.locate_found(pin, &found.path),
    }
}
