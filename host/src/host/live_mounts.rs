//! The host's mounts as its kernel tells them now.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, openat2};

use super::btrfs;
use super::identity::unique_id;
use super::locate::{End, links, walk};
use super::loop_devices::LoopDevices;
use super::root::HostRoot;
use crate::model::host_error::HostError;
use crate::model::location::{Device, Location};
use crate::model::paths::{is_within, lexical, relative};
use crate::mount_table::mount::MountText;
use crate::mount_table::node_paths::NodePaths;
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::source::{MountSource, Reached};
use crate::mount_table::statmount;
use crate::mount_table::table::MountTable;
use crate::mount_table::topology::{Details, Relations, Topology};

/// The mounts of the host, read when a question needs them.
pub fn snapshot(host: &Arc<HostRoot>) -> Snapshot {
    Snapshot::live(LiveMounts { host: host.clone(), known: Mutex::default(), watched: None })
}

/// The mounts of the host, with an eye on whether they change.
pub(crate) fn watched_snapshot(host: &Arc<HostRoot>) -> Snapshot {
    let watched = host.open_mountinfo().ok();
    Snapshot::live(LiveMounts { host: host.clone(), known: Mutex::default(), watched })
}

/// The mounts of the host now, with the paths that another snapshot has followed.
pub(crate) fn snapshot_of_settled_paths(host: &Arc<HostRoot>, other: &Snapshot) -> Snapshot {
    let live = LiveMounts { host: host.clone(), known: Mutex::default(), watched: None };
    Snapshot::with_paths_of(live, other)
}

/// The mounts of the host without some, by their mountinfo ids: as if these weren't made yet. Paths are those that another
/// snapshot has followed.
pub(crate) fn snapshot_without(host: &Arc<HostRoot>, hidden: HashSet<u64>, other: &Snapshot) -> Snapshot {
    let live = LiveMounts { host: host.clone(), known: Mutex::default(), watched: None };
    Snapshot::with_paths_of(Without { live, hidden }, other)
}

/// Mounts without some of them. Only the table is asked, in which these are left out.
struct Without {
    live: LiveMounts,
    hidden: HashSet<u64>,
}

impl MountSource for Without {
    fn table(&self) -> Result<MountTable, HostError> {
        Ok(self.live.table()?.without(&self.hidden))
    }

    fn covering(&self, _: &str) -> Option<MountText> {
        None
    }

    fn topology(&self) -> Option<Topology> {
        None
    }

    fn reach(&self, path: &str) -> Option<Reached> {
        self.live.reach(path).map(|reached| Reached { on: None, ..reached })
    }

    fn links(&self, path: &str) -> Option<Vec<String>> {
        self.live.links(path)
    }

    fn reach_found(&self, found: BorrowedFd<'_>, path: &str) -> Option<Reached> {
        self.live.reach_found(found, path).map(|reached| Reached { on: None, ..reached })
    }

    fn is_unchanged(&self) -> bool {
        false
    }

    fn known_as(&self, device: Device, topology: &Topology) -> Option<Device> {
        self.live.known_as(device, topology)
    }
}

/// Asks the kernel about the mounts of a topology, by their 64-bit ids.
struct AskedDetails {
    host: Arc<HostRoot>,
    namespace: Option<u64>,
    ids: Vec<u64>,
}

impl AskedDetails {
    fn failed(error: io::Error) -> HostError {
        HostError::new("statmount", "one of the host's mounts", error)
    }
}

impl Details for AskedDetails {
    fn relations(&self, mount: usize) -> Result<Option<Relations>, HostError> {
        let Some(id) = self.ids.get(mount) else { return Ok(None) };
        Ok(statmount::numbers(*id, self.namespace).map_err(Self::failed)?.map(|(_, relations)| relations))
    }

    fn paths(&self, mount: usize) -> Result<Option<NodePaths>, HostError> {
        let Some(id) = self.ids.get(mount) else { return Ok(None) };
        match statmount::paths(*id, self.namespace) {
            Ok((_, _, paths)) => Ok(Some(paths)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Self::failed(error)),
        }
    }

    /// From another namespace, not every kernel tells from where changes come to a mount whose master has no mount there.
    fn text(&self) -> Option<Result<Topology, HostError>> {
        self.namespace?;
        Some(self.host.mount_table().map(|table| Topology::of(&table)))
    }
}

struct LiveMounts {
    host: Arc<HostRoot>,
    /// The mounts that paths were located on, by their 64-bit ids.
    known: Mutex<HashMap<u64, (u64, Device, NodePaths)>>,
    /// The host's mountinfo, which poll(2) says has changed once it has; see proc(5).
    watched: Option<OwnedFd>,
}

/// What a real path, looked up in the kernel's caches alone, is opened with. A miss answers `EAGAIN`.
const CACHED: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::CACHED);

impl LiveMounts {
    /// Where something lies that is at a real path, or below it where `missing` isn't there.
    fn place(&self, there: BorrowedFd<'_>, path: &str, missing: &str) -> Option<Reached> {
        let real = lexical(&format!("{path}/{missing}"));
        let Some((id, device, mount)) = self.mount_of(there) else { return Some(Reached { real, on: None }) };
        // A path that was renamed or moved meanwhile may not lie on the mount any more.
        let path = mount.in_file_system(&real)?;
        Some(Reached { real, on: Some((id, Location { device, path })) })
    }

    /// The mount that something lies on, where the kernel can tell.
    fn mount_of(&self, there: BorrowedFd<'_>) -> Option<(u64, Device, NodePaths)> {
        let namespace = self.host.namespace_id().ok()?;
        let id = unique_id(there, c"", AtFlags::EMPTY_PATH).ok()??;
        let mut known = lock(&self.known);
        if let Some(known) = known.get(&id) {
            return Some(known.clone());
        }
        let found = statmount::paths(id, namespace).ok()?;
        known.insert(id, found.clone());
        Some(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MountSource for LiveMounts {
    fn table(&self) -> Result<MountTable, HostError> {
        self.host.mount_table()
    }

    /// Nothing is returned where the kernel can't tell, or would have to wait for a server.
    fn covering(&self, path: &str) -> Option<MountText> {
        let namespace = self.host.namespace_id().ok()?;
        let found = openat2(self.host.root(), relative(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), CACHED);
        let id = unique_id(found.ok()?.as_fd(), c"", AtFlags::EMPTY_PATH).ok()??;
        let record = statmount::mount(id, namespace).ok()?;
        // The path may lead elsewhere by now than where it was opened.
        is_within(path, record.target()).then(|| record.to_text())
    }

    fn topology(&self) -> Option<Topology> {
        let namespace = self.host.namespace_id().ok()?;
        let mounts = self.host.known_mounts().list(namespace).ok()?;
        let ids = mounts.iter().map(|mount| mount.id).collect();
        let mounts = mounts.into_iter().map(|mount| (mount.node, mount.relations));
        Some(Topology::new(mounts, AskedDetails { host: self.host.clone(), namespace, ids }))
    }

    fn reach(&self, path: &str) -> Option<Reached> {
        let End { there, path, missing } = walk(&self.host, path)?;
        self.place(there.as_fd(), &path, &missing)
    }

    fn links(&self, path: &str) -> Option<Vec<String>> {
        links(&self.host, path)
    }

    fn reach_found(&self, found: BorrowedFd<'_>, path: &str) -> Option<Reached> {
        self.place(found, path, "")
    }

    fn is_unchanged(&self) -> bool {
        let Some(mountinfo) = &self.watched else { return false };
        let mut fds = [PollFd::new(mountinfo, PollFlags::PRI)];
        let polled = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        polled.is_ok() && !fds[0].revents().intersects(PollFlags::PRI | PollFlags::ERR)
    }

    fn known_as(&self, device: Device, topology: &Topology) -> Option<Device> {
        let btrfs = btrfs::file_system_on(&self.host, device, topology);
        btrfs.or_else(|| LoopDevices::of(&self.host).file_system_on(device, topology).ok().flatten())
    }
}
