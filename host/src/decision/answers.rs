//! What the policies of an approved request were told. It must still be true when the request is carried out.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::places::{places, shown};
use crate::host::identity::Identity;
use crate::host::live_mounts::{snapshot, snapshot_of_settled_paths, snapshot_without, watched_snapshot};
use crate::host::locks::{HostLock, Locks};
use crate::host::root::HostRoot;
use crate::host::storage::storage;
use crate::model::ends::{Ends, FileKind, PinnedPath, ResolvedPath};
use crate::model::host_error::HostError;
use crate::model::location::{Location, Place, Via};
use crate::model::option_paths::is_upper_or_work;
use crate::model::options::MountOption;
use crate::model::request::{MountRequest, Operation};
use crate::mount_table::snapshot::Snapshot;

/// What the policies were told, and whom to ask again.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(super) host: Arc<HostRoot>,
    pub(super) locks: Arc<Locks>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) places: Vec<Place>,
}

/// How often the questions are asked without the lock, where the mounts change before it can be had.
const ATTEMPTS: u32 = 4;

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
    /// Asks everything again, and takes the lock of the host. While the lock is held, the answers stay true as far as
    /// mountgate's own requests go.
    ///
    /// Paths are followed before the lock is taken: a server or a daemon that doesn't answer holds up nobody else.
    pub(crate) fn confirm(&self, request: &MountRequest, ends: &Ends, pins: Pins<'_>) -> Result<HostLock, Unconfirmed> {
        let mut now = watched_snapshot(&self.host);
        for _ in 0..ATTEMPTS {
            self.compare(&now, request, ends, pins)?;
            let lock = self.locks.hold_host()?;
            if now.is_unchanged() {
                return Ok(lock);
            }
            drop(lock);
            now = watched_snapshot(&self.host);
        }
        // Others are always faster. What is asked of the mounts alone can be asked under the lock.
        self.compare(&now, request, ends, pins)?;
        let lock = self.locks.hold_host()?;
        let settled = snapshot_of_settled_paths(&self.host, &now);
        self.compare_mounts(&settled, request, ends)?;
        Ok(lock)
    }

    /// Takes the lock of the host, and asks again as if these mounts, which the request itself has made, weren't there.
    fn confirm_without(&self, request: &MountRequest, ends: &Ends, own: HashSet<u64>) -> Result<HostLock, Unconfirmed> {
        // Followed before the lock is taken, as in `confirm`.
        let followed = snapshot(&self.host);
        followed.follow_paths_of(&self.snapshot);
        let lock = self.locks.hold_host()?;
        let now = snapshot_without(&self.host, own, &followed);
        self.compare_mounts(&now, request, ends)?;
        Ok(lock)
    }

    /// Takes the lock of the host, if a mount on what is open would be seen at places only that the policies have judged: it comes back to
    /// where it was, and others may have made more of that place meanwhile, or put something else there.
    pub(crate) fn confirm_return(&self, path: &str, there: BorrowedFd<'_>) -> Result<HostLock, Unconfirmed> {
        let lock = self.locks.hold_host_to_undo()?;
        let now = snapshot(&self.host);
        let covering = Identity::of(there).map_err(|error| HostError::new("statx", path, error))?.id;
        let location = now.locate_found(there, path)?;
        let found = ResolvedPath {
            path: path.to_owned(),
            kind: FileKind::Directory,
            location: location.clone(),
            device: None,
            storage: Vec::new(),
            symlinks: Vec::new(),
            covering_mount: Some(covering),
        };
        let places = shown(&found, now.topology().map_err(HostError::clone)?, &now)?;
        now.check()?;
        let is_judged = |place: &Place| {
            self.places.iter().any(|known| (&known.path, &known.location) == (&place.path, &place.location))
        };
        if let Some(place) = places.iter().find(|place| !is_judged(place)) {
            return Err(Unconfirmed::Changed(format!("it would be seen at {} now", place.path)));
        }
        if places.is_empty() || snapshot(&self.host).locate_found(there, path)? != location {
            return Err(Unconfirmed::Changed(format!("{path} is at another place by now")));
        }
        Ok(lock)
    }

    /// Compares where the mount of a request was carried with the places that were judged. `own` is its id in mountinfo, and `new` are those of all
    /// mounts that weren't there before. If others could mount meanwhile, everything is asked again, as if the mount and what was carried
    /// weren't there.
    pub(crate) fn confirm_carried(
        &self,
        request: &MountRequest,
        ends: &Ends,
        own: u64,
        new: &HashSet<u64>,
        is_overtaken: bool,
    ) -> Result<(), Unconfirmed> {
        let now = snapshot(&self.host);
        let topology = now.topology().map_err(HostError::clone)?;
        let Some(mount) = topology.find(own) else { return Err(Unconfirmed::Changed("the mount is gone".to_owned())) };
        let is_new = |mount: &usize| new.contains(&topology.nodes()[*mount].id);
        // The kernel makes what it carries peers and slaves of the mount.
        let receivers = topology.receivers(mount);
        let carried: Vec<usize> = receivers.iter().map(|(receiver, _)| *receiver).filter(is_new).collect();
        let judged: HashSet<(&str, &Location)> =
            self.places.iter().map(|place| (place.path.as_str(), &place.location)).collect();
        for copy in &carried {
            let path = topology.paths(*copy).map(|paths| paths.target.as_str()).unwrap_or_default();
            let location = topology.mount_point(*copy).map(|(_, location)| location);
            if !location.is_some_and(|location| judged.contains(&(path, &location))) {
                return Err(Unconfirmed::Changed(format!("it was carried to {path} as well")));
            }
        }
        now.check()?;
        if !is_overtaken {
            return Ok(());
        }
        let tops = carried.into_iter().chain([mount]);
        let own = tops.flat_map(|top| topology.descendants(top).into_iter().chain([top]));
        let own = own.map(|mount| topology.nodes()[mount].id).collect();
        now.check()?;
        self.confirm_without(request, ends, own).map(drop)
    }

    /// An overlay of the host that writes where the request's overlay would write: to which folder, and where it's mounted. Until the request
    /// ends, no other one is made that would write to the same file system.
    ///
    /// What is at the other one's own name isn't known where that leads elsewhere by now, or is a relative one. Such names are
    /// others' to choose: no lock but that of the file system is held while they are followed.
    pub(crate) fn written_by_another_overlay(&self, ends: &Ends) -> Result<Option<(String, String)>, HostError> {
        let written = ends.option_paths.iter().filter(|path| is_upper_or_work(&path.option));
        let own: Vec<&Location> = written.filter_map(|path| path.found.found.location.as_ref()).collect();
        let devices: BTreeSet<String> = own.iter().map(|own| own.device.to_string()).collect();
        for device in devices {
            self.locks.hold(&format!("layers on {device}"))?;
        }
        if own.is_empty() {
            return Ok(None);
        }
        let now = snapshot(&self.host);
        let table = now.table().map_err(HostError::clone)?;
        for mount in table.iter().map(|mount| mount.to_text()).filter(|mount| mount.fstype == "overlay") {
            let options = mount.super_options.iter().map(|option| MountOption::parse(option));
            for folder in options.filter(|option| is_upper_or_work(&option.name)).filter_map(|option| option.value) {
                let Some(there) = now.locate(&folder)? else { continue };
                if own.iter().any(|own| own.is_within(&there) || there.is_within(own)) {
                    return Ok(Some((folder, mount.target)));
                }
            }
        }
        Ok(None)
    }

    /// What was judged to be brought along.
    pub(crate) fn brought_along(&self) -> HashSet<&Location> {
        let brought = self.places.iter().filter(|place| place.via == Via::BroughtAlong);
        brought.map(|place| &place.location).collect()
    }

    /// Compares what was said with what is said now.
    fn compare(&self, now: &Snapshot, request: &MountRequest, ends: &Ends, pins: Pins<'_>) -> Result<(), Unconfirmed> {
        let found = [
            (ends.source.as_ref(), pins.source, Role::of_source(request)),
            (Some(&ends.target), pins.target, Role::Place),
        ];
        let in_options = ends
            .option_paths
            .iter()
            .map(|path| (Some(&path.found), path.found.pin.as_ref().map(AsFd::as_fd), Role::Content));
        for (end, pin, role) in found.into_iter().chain(in_options) {
            if let (Some(end), Some(pin)) = (end, pin) {
                let is_there = self.host.leads_to(end.held_bytes(), pin);
                if !is_there || location_of(now, end, pin, role)? != end.found.location {
                    return Err(Unconfirmed::Changed(format!("{} is at another place by now", end.found.path)));
                }
                if role == Role::Content && end.found.kind == FileKind::BlockDevice && self.shows_more(now, end, pin)? {
                    return Err(Unconfirmed::Changed(format!("{} shows something else by now", end.found.path)));
                }
            }
        }
        if let Some(path) = self.snapshot.leads_elsewhere(now) {
            return Err(Unconfirmed::Changed(format!("{path} leads elsewhere by now")));
        }
        // Without a change of any mount, no answer about mounts can differ.
        if self.snapshot.is_unchanged() { Ok(()) } else { self.compare_mounts(now, request, ends) }
    }

    /// Whether a device has bytes that weren't judged. That its file system is there by now is what was asked for.
    fn shows_more(&self, now: &Snapshot, end: &PinnedPath, pin: BorrowedFd<'_>) -> Result<bool, HostError> {
        let storage = storage(&self.host, now, &end.found, pin)?;
        Ok(storage.iter().any(|location| location.path != "/" && !end.found.storage.contains(location)))
    }

    fn compare_mounts(&self, now: &Snapshot, request: &MountRequest, ends: &Ends) -> Result<(), Unconfirmed> {
        if places(request, ends, now)? != self.places {
            return Err(Unconfirmed::Changed("the request would be seen at other places by now".to_owned()));
        }
        match self.snapshot.differs_from(now)? {
            Some(question) => Err(Unconfirmed::Changed(format!("the answer to {question:?} is another one by now"))),
            None => Ok(()),
        }
    }
}

/// Where an end lies. Of a block device that a file system is mounted from: the file system on it.
pub(super) fn location_of(
    snapshot: &Snapshot,
    end: &PinnedPath,
    pin: BorrowedFd<'_>,
    role: Role,
) -> Result<Option<Location>, HostError> {
    match (role, end.found.kind, end.found.device) {
        (Role::Content, FileKind::BlockDevice, Some(device)) => snapshot.file_system_on(device),
        _ => {
            let held = snapshot.locate_found(pin, end.held_path())?;
            Ok(held.map(|held| held.join(&end.missing)))
        }
    }
}

/// What an end is to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A place in the tree: a target, or what is bound or moved. A device there is a file.
    Place,
    /// What a new mount shows. A device there is the file system on it.
    Content,
}

impl Role {
    /// What the source is.
    pub(super) fn of_source(request: &MountRequest) -> Self {
        if request.operation == Operation::Mount { Self::Content } else { Self::Place }
    }
}
