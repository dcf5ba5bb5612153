//! The other names of the bytes that a mount of a block device or an image shows. See `Documentation/ABI/stable/sysfs-block` of the kernel
//! for the holders and slaves of a block device, and loop(4).

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, OFlags, ResolveFlags, StatxFlags, major, makedev, minor, statx};
use rustix::io::Errno;

use super::btrfs;
use super::loop_devices::{
    BackingFile, Bytes, LoopDevices, devices_in, disk_of, image_of, is_for_its_mount, kernels_node, partitions,
};
use super::open::open_below;
use super::root::HostRoot;
use crate::model::ends::{FileKind, ResolvedPath};
use crate::model::host_error::HostError;
use crate::model::location::{Device, Location};
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::topology::Topology;

/// So many devices are looked at.
const MAX_DEVICES: usize = 4096;

/// Where the bytes are that a mount of a device or an image shows: the kernel's nodes of all devices that have some of them, the images that
/// these show, and the file systems that are mounted from them.
///
/// # Errors
/// When the host can't be asked.
pub(crate) fn storage(
    host: &HostRoot,
    snapshot: &Snapshot,
    found: &ResolvedPath,
    pin: BorrowedFd<'_>,
) -> Result<Vec<Location>, HostError> {
    let topology = snapshot.topology().map_err(HostError::clone)?;
    let relatives = match (found.kind, found.device) {
        (FileKind::BlockDevice, Some(device)) => Relatives::of_device(host, device, topology),
        (FileKind::Regular, _) => Relatives::of_image(host, &found.path, pin),
        // A layer of an overlay, which has all rights but those that the overlay lacks.
        (FileKind::Directory, _) => return storage_of_mounted(host, snapshot, found.location.as_ref(), true),
        _ => return Ok(Vec::new()),
    };
    let mut locations = relatives.map_err(not_read)?.locations(snapshot, topology)?;
    // An image may lie in the file system of another image.
    let own = found.location.iter().filter(|_| found.kind == FileKind::Regular);
    let file_systems = locations.iter().chain(own).map(|location| location.device).collect();
    locations.extend(below(host, snapshot, file_systems, false)?);
    locations.sort();
    locations.dedup();
    Ok(locations)
}

/// Where the bytes of a mounted file system are: the images that it's in, if it's on a loop device, and those that these are in; where it is
/// being opened, because it gets a right that it lacks, the kernel's nodes of its devices too.
///
/// # Errors
/// When the host can't be asked.
pub(crate) fn storage_of_mounted(
    host: &HostRoot,
    snapshot: &Snapshot,
    file_system: Option<&Location>,
    is_opened: bool,
) -> Result<Vec<Location>, HostError> {
    let Some(device) = file_system.map(|location| location.device) else { return Ok(Vec::new()) };
    snapshot.storage_of((device, is_opened), || below(host, snapshot, vec![device], is_opened))
}

/// The images that file systems are in, whose numbers these are, and the nodes of their devices.
fn below(
    host: &HostRoot,
    snapshot: &Snapshot,
    mut todo: Vec<Device>,
    with_nodes: bool,
) -> Result<Vec<Location>, HostError> {
    let mut found = Vec::new();
    let mut seen = Vec::new();
    while let Some(file_system) = todo.pop() {
        if seen.contains(&file_system) {
            continue;
        }
        seen.push(file_system);
        for device in devices_of(host, snapshot, file_system)? {
            let disk = disk_of(host, device).map_err(not_read)?;
            if !with_nodes && disk.major != Device::LOOP_MAJOR {
                continue;
            }
            let is_told = || LoopDevices::of(host).shows_something(disk).map_err(not_read);
            if with_nodes && disk.major == Device::LOOP_MAJOR && !is_told()? {
                let unknown = io::Error::new(ErrorKind::NotFound, "sysfs doesn't tell which image it shows");
                return Err(HostError::new("look up", &format!("loop device {disk}"), unknown));
            }
            let topology = snapshot.topology().map_err(HostError::clone)?;
            let relatives = Relatives::of_device(host, device, topology).map_err(not_read)?;
            for device in &relatives.devices {
                // An image isn't the disk that it lies on.
                if with_nodes && seen.len() == 1 {
                    found.extend(relatives.node(*device, snapshot)?);
                }
                let image = relatives.image(*device, snapshot, topology)?;
                todo.extend(image.iter().map(|image| image.device));
                found.extend(image);
            }
        }
    }
    snapshot.check()?;
    found.sort();
    found.dedup();
    Ok(found)
}

/// The block devices that a mounted file system is on. A btrfs has a number of its own.
fn devices_of(host: &HostRoot, snapshot: &Snapshot, file_system: Device) -> Result<Vec<Device>, HostError> {
    if file_system.major != 0 {
        return Ok(vec![file_system]);
    }
    let topology = snapshot.topology().map_err(HostError::clone)?;
    let is_btrfs = topology.of_device(file_system).next().is_some_and(|mount| topology.nodes()[mount].is_btrfs);
    Ok(if is_btrfs { btrfs::devices_of(host, topology, file_system) } else { Vec::new() })
}

fn not_read(error: io::Error) -> HostError {
    HostError::new("look up", "the block devices of the host", error)
}

/// The devices that have some of the same bytes.
struct Relatives<'h> {
    host: &'h HostRoot,
    loops: LoopDevices<'h>,
    devices: Vec<Device>,
    /// Those of them that were set up for another mount of the same image: no devices that somebody would name.
    unnamed: Vec<Device>,
}

impl<'h> Relatives<'h> {
    fn none(host: &'h HostRoot) -> Self {
        Self { host, loops: LoopDevices::of(host), devices: Vec::new(), unnamed: Vec::new() }
    }

    /// Those of a device: what is in it, what it's in, and the loop devices that show the same.
    fn of_device(host: &'h HostRoot, device: Device, topology: &Topology) -> io::Result<Self> {
        let mut relatives = Self::none(host);
        for part in partitions(host, device)?.into_iter().chain([device]) {
            relatives.add(devices_in(host, part, "holders")?);
            relatives.add([part]);
        }
        let mut todo = vec![device];
        if btrfs::file_system_on(host, device, topology).is_some() {
            todo.extend(btrfs::siblings(host, device));
        }
        while let Some(device) = todo.pop() {
            let mut below = devices_in(host, device, "slaves")?;
            below.push(disk_of(host, device)?);
            match relatives.loops.backing_of(device) {
                Ok(backing) => below.extend(backing.and_then(|backing| backing.file.device())),
                Err(error) if cannot_be_asked(&error) => {}
                Err(error) => return Err(error),
            }
            below.retain(|below| !relatives.devices.contains(below));
            todo.extend(&below);
            relatives.add([device].into_iter().chain(below));
            relatives.check_count()?;
        }
        match relatives.loops.bytes_of(device) {
            Ok(bytes) => relatives.add_sharing(&bytes, image_of(host, disk_of(host, device)?)?.as_deref())?,
            Err(error) if cannot_be_asked(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(relatives)
    }

    /// The loop devices that show an image.
    fn of_image(host: &'h HostRoot, path: &str, pin: BorrowedFd<'_>) -> io::Result<Self> {
        let mut relatives = Self::none(host);
        let image = match relatives.loops.is_served(path) {
            true => BackingFile::Served(path.to_owned()),
            false => file(pin)?,
        };
        relatives.add_sharing(&Bytes::of_image(image), Some(path))?;
        Ok(relatives)
    }

    /// The loop devices that show these bytes, which are those of an image if that is named.
    fn add_sharing(&mut self, bytes: &Bytes, image: Option<&str>) -> io::Result<()> {
        let all = match self.loops.all() {
            // There is no sysfs, or it has no block devices.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            all => all?,
        };
        for device in all {
            if !self.loops.shows_something(device)? {
                continue;
            }
            match self.loops.overlaps(bytes, device) {
                Ok(true) => {
                    if !self.devices.contains(&device) && is_for_its_mount(self.host, device)? {
                        self.unnamed.push(device);
                    }
                    self.add([device].into_iter().chain(self.loops.parts_within(device, bytes)?));
                }
                Ok(false) => {}
                Err(error) if cannot_be_asked(&error) => {
                    // Its image has the same name, at least.
                    let is_same = image.is_some() && image_of(self.host, device)?.as_deref() == image;
                    self.add(is_same.then_some(device));
                }
                Err(error) => return Err(error),
            }
            self.check_count()?;
        }
        Ok(())
    }

    fn add(&mut self, devices: impl IntoIterator<Item = Device>) {
        for device in devices {
            if !self.devices.contains(&device) {
                self.devices.push(device);
            }
        }
    }

    fn check_count(&self) -> io::Result<()> {
        if self.devices.len() > MAX_DEVICES { Err(io::Error::other("there are too many")) } else { Ok(()) }
    }

    fn locations(&self, snapshot: &Snapshot, topology: &Topology) -> Result<Vec<Location>, HostError> {
        let mut locations = Vec::new();
        for device in &self.devices {
            locations.extend(self.node(*device, snapshot)?);
            let own = topology.of_device(*device).next().map(|_| *device);
            let mounted = own.or_else(|| btrfs::file_system_on(self.host, *device, topology));
            locations.extend(mounted.map(|device| Location { device, path: "/".to_owned() }));
            locations.extend(self.image(*device, snapshot, topology)?);
        }
        Ok(locations)
    }

    /// Where the kernel's node of a device is, if somebody would name it.
    fn node(&self, device: Device, snapshot: &Snapshot) -> Result<Option<Location>, HostError> {
        if self.unnamed.contains(&device) {
            return Ok(None);
        }
        let node = kernels_node(self.host, device).map_err(not_read)?;
        Ok(node.map(|node| snapshot.locate(&node)).transpose()?.flatten())
    }

    /// Where the image of a loop device is. If it's no longer at its path, or something hides it there, it's somewhere in its file system.
    fn image(&self, device: Device, snapshot: &Snapshot, topology: &Topology) -> Result<Vec<Location>, HostError> {
        let list = |location: Option<Location>| location.into_iter().collect();
        let Some(path) = image_of(self.host, device).map_err(not_read)? else {
            let has_one = self.loops.shows_something(device).map_err(not_read)?;
            return if has_one { Err(not_read(Errno::NAMETOOLONG.into())) } else { Ok(Vec::new()) };
        };
        if self.loops.is_served(&path) {
            // Whoever serves it isn't asked.
            return Ok(list(self.loops.location_of(&path)));
        }
        let there = match open_below(self.host.root(), &path, OFlags::PATH, ResolveFlags::NO_SYMLINKS) {
            Ok(there) => Some(there),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => None,
            Err(errno) => return Err(not_read(errno.into())),
        };
        let backing = match self.loops.backing_of(device) {
            Ok(Some(backing)) => Some(backing.file),
            Ok(None) => return Ok(Vec::new()),
            // One that may not be asked is taken for what has its name.
            Err(_) => None,
        };
        let is_it =
            |there: &OwnedFd| backing.as_ref().is_none_or(|shown| file(there.as_fd()).is_ok_and(|file| file == *shown));
        match (there.filter(is_it), &backing) {
            (Some(there), _) => Ok(list(snapshot.locate_found(there.as_fd(), &path)?)),
            (None, Some(BackingFile::File(number, _))) => {
                let device = Device { major: major(*number), minor: minor(*number) };
                // In a btrfs or an overlay, a file has another number than the mount.
                let is_mounted = device.major != 0 || topology.of_device(device).next().is_some();
                let others = if is_mounted { Vec::new() } else { self.loops.with_other_numbers() };
                Ok(others.into_iter().chain([device]).map(Location::somewhere_in).collect())
            }
            // It can't be asked, and is taken for something in the file system in which its name is.
            (None, _) => Ok(list(self.loops.location_of(&path).map(|named| Location::somewhere_in(named.device)))),
        }
    }
}

/// Whether a loop device has no node, or this process may not open it.
fn cannot_be_asked(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied)
}

/// A file by its numbers. Nobody is asked who might not answer.
fn file(there: BorrowedFd<'_>) -> io::Result<BackingFile> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(there, c"", flags, StatxFlags::INO)?;
    Ok(BackingFile::File(makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino))
}
