//! The other names of the bytes that a mount of a block device or an image shows. See `Documentation/ABI/stable/sysfs-block` of the kernel
//! for the holders and slaves of a block device, and loop(4).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, OFlags, ResolveFlags, StatxFlags, makedev, statx};

use super::btrfs;
use super::loop_devices::{BackingFile, Bytes, LoopDevices, devices_in, disk_of, image_of, node_of, partitions};
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
        _ => return Ok(Vec::new()),
    };
    relatives.map_err(not_read)?.locations(snapshot, topology)
}

/// Where the bytes of a mounted file system are, if it's on a loop device.
///
/// # Errors
/// When the host can't be asked.
pub(crate) fn storage_of_mounted(
    host: &HostRoot,
    snapshot: &Snapshot,
    file_system: Option<&Location>,
) -> Result<Vec<Location>, HostError> {
    let Some(device) = file_system.map(|location| location.device) else { return Ok(Vec::new()) };
    let topology = snapshot.topology().map_err(HostError::clone)?;
    let on_loop = || disk_of(host, device).map(|disk| disk.major == Device::LOOP_MAJOR);
    // Other disks have the same names as their file systems, and don't have to be looked up.
    match device.major != 0 && on_loop().map_err(not_read)? {
        true => Relatives::of_device(host, device, topology).map_err(not_read)?.locations(snapshot, topology),
        false => Ok(Vec::new()),
    }
}

fn not_read(error: io::Error) -> HostError {
    HostError::new("read", "the block devices in /sys", error)
}

/// The devices that have some of the same bytes.
struct Relatives<'h> {
    host: &'h HostRoot,
    loops: LoopDevices<'h>,
    devices: Vec<Device>,
}

impl<'h> Relatives<'h> {
    /// Those of a device: what is in it, what it's in, and the loop devices that show the same.
    fn of_device(host: &'h HostRoot, device: Device, topology: &Topology) -> io::Result<Self> {
        let mut relatives = Self { host, loops: LoopDevices::of(host), devices: Vec::new() };
        if btrfs::file_system_on(host, device, topology).is_some() {
            relatives.add(btrfs::siblings(host, device));
        }
        for part in partitions(host, device)?.into_iter().chain([device]) {
            relatives.add(devices_in(host, part, "holders")?);
            relatives.add([part]);
        }
        let mut todo = vec![device];
        while let Some(device) = todo.pop() {
            let mut below = devices_in(host, device, "slaves")?;
            below.push(disk_of(host, device)?);
            match relatives.loops.backing_of(device) {
                Ok(backing) => below.extend(backing.and_then(|backing| backing.file.device())),
                // Who may not open a device can't mount it either.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(relatives),
                Err(error) => return Err(error),
            }
            below.retain(|below| !relatives.devices.contains(below));
            todo.extend(&below);
            relatives.add(below);
            relatives.check_count()?;
        }
        let bytes = relatives.loops.bytes_of(device)?;
        relatives.add_sharing(&bytes, image_of(host, disk_of(host, device)?)?.as_deref())?;
        Ok(relatives)
    }

    /// The loop devices that show an image.
    fn of_image(host: &'h HostRoot, path: &str, pin: BorrowedFd<'_>) -> io::Result<Self> {
        let mut relatives = Self { host, loops: LoopDevices::of(host), devices: Vec::new() };
        let image = match relatives.loops.is_served(path) {
            true => BackingFile::Served(path.to_owned()),
            false => file(pin)?,
        };
        relatives.add_sharing(&Bytes::of_image(image), Some(path))?;
        Ok(relatives)
    }

    fn add_sharing(&mut self, bytes: &Bytes, image: Option<&str>) -> io::Result<()> {
        for device in self.loops.sharing(bytes, image)? {
            self.add([device]);
            self.add(self.loops.parts_within(device, bytes)?);
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
            locations.extend(snapshot.locate(&node_of(self.host, *device))?);
            let own = topology.of_device(*device).next().map(|_| *device);
            let mounted = own.or_else(|| btrfs::file_system_on(self.host, *device, topology));
            locations.extend(mounted.map(|device| Location { device, path: "/".to_owned() }));
            locations.extend(self.image(*device, snapshot)?);
        }
        locations.sort();
        locations.dedup();
        Ok(locations)
    }

    /// Where the image of a loop device is, if it's still at its path.
    fn image(&self, device: Device, snapshot: &Snapshot) -> Result<Option<Location>, HostError> {
        let fail = |error| HostError::new("read", "the image of a loop device", error);
        let Some(path) = image_of(self.host, device).map_err(fail)? else { return Ok(None) };
        if self.loops.is_served(&path) {
            // Whoever serves it isn't asked.
            return Ok(self.loops.location_of(&path));
        }
        let there = open_below(self.host.root(), &path, OFlags::PATH, ResolveFlags::NO_SYMLINKS);
        let Ok(there) = there else { return Ok(None) };
        // One that may not be asked is taken for what has its name.
        let is_it = match self.loops.backing_of(device) {
            Ok(backing) => backing.is_some_and(|backing| file(there.as_fd()).is_ok_and(|file| file == backing.file)),
            Err(_) => true,
        };
        if is_it { snapshot.locate_found(there.as_fd(), &path) } else { Ok(None) }
    }
}

/// A file by its numbers. Nobody is asked who might not answer.
fn file(there: BorrowedFd<'_>) -> io::Result<BackingFile> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let stat = statx(there, c"", flags, StatxFlags::INO)?;
    Ok(BackingFile::File(makedev(stat.stx_dev_major, stat.stx_dev_minor), stat.stx_ino))
}
