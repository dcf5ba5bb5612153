//! Which file system is on a block device that another one shows as well, see loop(4): two loop devices may show one image, and one may show another
//! block device, or a part of it. The kernel takes them for different devices, and two file systems on one of them would destroy each
//! other.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, ErrorKind, Read as _};
use std::os::fd::AsFd;

use rustix::fs::{OFlags, ResolveFlags, major, minor};
use rustix::io::Errno;

use super::foreign::is_served;
use super::open::open_below;
use super::root::HostRoot;
use super::{btrfs, open};
use crate::model::location::{Device, Location};
use crate::mount_table::mount::Mount;
use crate::mount_table::table::MountTable;
use crate::mount_table::topology::Topology;
use crate::sys;

/// A loop device may show another one; so many in a row are followed.
const MAX_DEPTH: usize = 8;
const SECTOR: u64 = 512;

/// What a loop device shows, and from which byte on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backing {
    pub(crate) file: BackingFile,
    offset: u64,
}

/// The bytes that are read and written in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes {
    file: BackingFile,
    start: u64,
    end: u64,
}

impl Bytes {
    /// All of an image.
    pub(super) fn of_image(file: BackingFile) -> Self {
        Self { file, start: 0, end: u64::MAX }
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.file == other.file && self.start < other.end && other.start < self.end
    }
}

/// What a loop device shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum BackingFile {
    Device(Device),
    /// By its device and inode, as stat(2) has them.
    File(u64, u64),
    /// By the path that it was given, where a server or a daemon would have to be asked for more: that may take for ever.
    Served(String),
}

impl BackingFile {
    pub(super) fn device(&self) -> Option<Device> {
        if let Self::Device(device) = self { Some(*device) } else { None }
    }
}

impl fmt::Display for BackingFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => write!(f, "device {device}"),
            Self::File(device, inode) => write!(f, "inode {inode} on device {}:{}", major(*device), minor(*device)),
            Self::Served(path) => f.write_str(path),
        }
    }
}

/// The loop devices of a host.
pub(crate) struct LoopDevices<'h> {
    host: &'h HostRoot,
    /// Read where it tells whether a file is served.
    table: OnceCell<Option<MountTable>>,
}

impl<'h> LoopDevices<'h> {
    pub(crate) fn of(host: &'h HostRoot) -> Self {
        Self { host, table: OnceCell::new() }
    }

    /// The number under which the file system on a block device is mounted, where another device shows the same.
    ///
    /// # Errors
    /// When a device can't be asked what it shows.
    pub(crate) fn file_system_on(&self, device: Device, topology: &Topology) -> io::Result<Option<Device>> {
        let mut seen = HashSet::from([device]);
        let numbers = topology.nodes().iter().map(|node| node.device);
        let mounted: Vec<Device> = numbers.filter(|device| device.major != 0 && seen.insert(*device)).collect();
        let has_btrfs = topology.nodes().iter().any(|node| node.is_btrfs);
        let mut of_btrfs = if has_btrfs { btrfs::devices(self.host) } else { Vec::new() };
        of_btrfs.retain(|other| *other != device);
        if [device].iter().chain(&mounted).chain(&of_btrfs).all(|device| device.major != Device::LOOP_MAJOR) {
            return Ok(None);
        }
        let wanted = self.bytes_of(device)?;
        let disk = disk_of(self.host, device)?;
        // Partitions of one disk are the kernel's to tell apart.
        let is_same = |other: Device| {
            Ok::<_, io::Error>(disk_of(self.host, other)? != disk && self.bytes_of(other)?.overlaps(&wanted))
        };
        for other in mounted {
            if is_same(other)? {
                return Ok(Some(other));
            }
        }
        for other in of_btrfs {
            if is_same(other)?
                && let Some(mounted) = btrfs::file_system_on(self.host, other, topology)
            {
                return Ok(Some(mounted));
            }
        }
        Ok(None)
    }

    /// A device by which the same bytes are used: mounted in whatever namespace, or as a part of something else. None that can only be read, if
    /// this one can only be read too.
    ///
    /// # Errors
    /// When a device can't be asked.
    pub(crate) fn in_use_elsewhere(&self, device: Device) -> io::Result<Option<Device>> {
        let wanted = self.bytes_of(device)?;
        let mut others = self.below(device)?;
        // The kernel itself keeps a disk and its partitions apart.
        let disk = disk_of(self.host, device)?;
        for other in self.all()?.into_iter().filter(|other| *other != disk) {
            if self.shows_something(other)? && self.may_overlap(&wanted, device, other)? {
                others.push(other);
            }
        }
        let can_only_be_read = is_read_only(self.host, device);
        for other in others {
            let parts = self.parts_within(other, &wanted)?;
            // One that is used makes the whole device one that is in use.
            for part in if parts.is_empty() { vec![other] } else { parts } {
                let is_harmless = can_only_be_read && is_read_only(self.host, part);
                if !is_harmless && self.is_in_use(part)? {
                    return Ok(Some(part));
                }
            }
        }
        Ok(None)
    }

    /// Whether a loop device shows some of these bytes, which are those of `device`.
    fn may_overlap(&self, wanted: &Bytes, device: Device, other: Device) -> io::Result<bool> {
        match self.overlaps(wanted, other) {
            // Without a node it can't be asked. It shows something of the same name, at least.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let disk = disk_of(self.host, device)?;
                let names =
                    [image_of(self.host, disk)?, Some(node_of(self.host, device)), Some(node_of(self.host, disk))];
                let shown = image_of(self.host, other)?;
                if shown.is_some() && names.contains(&shown) { Err(error) } else { Ok(false) }
            }
            overlaps => overlaps,
        }
    }

    /// Whether a device shows some of these bytes.
    ///
    /// # Errors
    /// When it can't be asked.
    pub(super) fn overlaps(&self, wanted: &Bytes, other: Device) -> io::Result<bool> {
        Ok(self.bytes_of(other)?.overlaps(wanted))
    }

    /// The partitions of a device that have some of these bytes.
    pub(super) fn parts_within(&self, device: Device, wanted: &Bytes) -> io::Result<Vec<Device>> {
        let mut parts = Vec::new();
        for part in partitions(self.host, device)? {
            if self.bytes_of(part)?.overlaps(wanted) {
                parts.push(part);
            }
        }
        Ok(parts)
    }

    /// All that is written in the end, by the names under which other devices have it too.
    pub(crate) fn written_by(&self, device: Device) -> Vec<BackingFile> {
        let mut written = vec![BackingFile::Device(device)];
        // One that can't be asked what it shows isn't mounted either.
        for below in self.below(device).unwrap_or_default() {
            written.extend([below, disk_of(self.host, below).unwrap_or(below)].map(BackingFile::Device));
            written.extend(partitions(self.host, below).unwrap_or_default().into_iter().map(BackingFile::Device));
        }
        match self.bytes_of(device) {
            Ok(Bytes { file: BackingFile::Device(_), .. }) | Err(_) => {}
            Ok(storage) => written.push(storage.file),
        }
        written
    }

    /// Whether somebody has a block device for himself, see open(2) for `O_EXCL`.
    fn is_in_use(&self, device: Device) -> io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::EXCL;
        match self.host.open_file(&node_of(self.host, device), flags) {
            Ok(_) => Ok(false),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => Ok(true),
            // One that shows nothing by now isn't used.
            Err(_) if device.major == Device::LOOP_MAJOR && !self.shows_something(device)? => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The devices that a loop device, or a partition of one, shows, one below the other.
    fn below(&self, device: Device) -> io::Result<Vec<Device>> {
        let mut below = Vec::new();
        let mut shown = self.backing_of(disk_of(self.host, device)?)?;
        while let Some(Backing { file: BackingFile::Device(device), .. }) = shown {
            if below.len() == MAX_DEPTH {
                break;
            }
            below.push(device);
            shown = self.backing_of(disk_of(self.host, device)?)?;
        }
        Ok(below)
    }

    /// What is read and written in the end.
    ///
    /// # Errors
    /// When a device can't be asked what it shows.
    pub(super) fn bytes_of(&self, device: Device) -> io::Result<Bytes> {
        // A device whose size isn't told has no end.
        let sectors = attribute(self.host, device, "size")?.and_then(|sectors| sectors.parse::<u64>().ok());
        let len = sectors.map_or(u64::MAX, |sectors| sectors.saturating_mul(SECTOR));
        let mut shown = Backing { file: BackingFile::Device(device), offset: 0 };
        for _ in 0..MAX_DEPTH {
            let BackingFile::Device(device) = shown.file else { break };
            let below = match self.backing_of(device)? {
                Some(below) => Some(below),
                None => partition(self.host, device)?,
            };
            let Some(below) = below else { break };
            shown = Backing { offset: shown.offset.saturating_add(below.offset), ..below };
        }
        Ok(Bytes { file: shown.file, start: shown.offset, end: shown.offset.saturating_add(len) })
    }

    pub(super) fn shows_something(&self, device: Device) -> io::Result<bool> {
        Ok(device.major == Device::LOOP_MAJOR && has_attribute(self.host, device, "loop/backing_file")?)
    }

    /// What a loop device shows; nothing if it shows nothing, or is none.
    ///
    /// # Errors
    /// When it can't be asked.
    pub(crate) fn backing_of(&self, device: Device) -> io::Result<Option<Backing>> {
        if !self.shows_something(device)? {
            return Ok(None);
        }
        if let Some(given) = image_of(self.host, device)?.filter(|given| self.is_served(given)) {
            let offset =
                attribute(self.host, device, "loop/offset")?.and_then(|offset| offset.parse().ok()).unwrap_or(0);
            return Ok(Some(Backing { file: BackingFile::Served(given), offset }));
        }
        let asked = self.host.open_file(&node_of(self.host, device), OFlags::RDONLY | OFlags::NONBLOCK);
        match asked.and_then(|opened| sys::loop_backing(opened.as_fd())) {
            Ok(Some(shown)) => {
                let file = match shown.block_device {
                    0 => BackingFile::File(shown.device, shown.inode),
                    number => BackingFile::Device(Device { major: major(number), minor: minor(number) }),
                };
                Ok(Some(Backing { file, offset: shown.offset }))
            }
            Ok(None) => Ok(None),
            // Only one that shows nothing by now needn't be asked.
            Err(_) if !self.shows_something(device)? => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a server or a daemon would have to be asked about a file.
    pub(super) fn is_served(&self, path: &str) -> bool {
        self.covering(path).is_some_and(|mount| is_served(&String::from_utf8_lossy(&mount.fstype())))
    }

    /// The number of the file system to which a file is written that lies in an overlay, as far as its name tells.
    pub(crate) fn upper_of(&self, path: &str) -> Option<Device> {
        let mount = self.covering(path).filter(|mount| *mount.fstype() == *b"overlay")?.to_text();
        let upper = mount.super_options.iter().find_map(|option| option.strip_prefix("upperdir="))?;
        Some(self.location_of(upper)?.device)
    }

    /// As [`Self::upper_of`], of the image that a loop device shows.
    pub(crate) fn upper_of_image(&self, device: Device) -> Option<Device> {
        self.upper_of(&image_of(self.host, device).ok().flatten()?)
    }

    /// The mounted file systems whose files have other numbers than their mounts.
    pub(super) fn with_other_numbers(&self) -> Vec<Device> {
        let table = self.table.get_or_init(|| self.host.mount_table().ok());
        let mounts = table.iter().flat_map(|table| table.iter());
        let mounts = mounts.filter(|mount| matches!(&*mount.fstype(), b"btrfs" | b"overlay" | b"bcachefs"));
        let mut devices: Vec<Device> =
            mounts.map(|mount| Device { major: mount.major(), minor: mount.minor() }).collect();
        devices.sort();
        devices.dedup();
        devices
    }

    /// The location of a real path, as the mount table has it.
    pub(super) fn location_of(&self, path: &str) -> Option<Location> {
        let mount = self.covering(path)?;
        let device = Device { major: mount.major(), minor: mount.minor() };
        Some(Location { device, path: mount.paths().in_file_system(path)? })
    }

    fn covering(&self, path: &str) -> Option<Mount<'_>> {
        let table = self.table.get_or_init(|| self.host.mount_table().ok());
        table.as_ref()?.covering(path.as_bytes())
    }

    /// All that there are.
    ///
    /// # Errors
    /// When nothing tells.
    pub(crate) fn all(&self) -> io::Result<Vec<Device>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let folder = open_below(self.host.root(), "sys/block", flags, ResolveFlags::empty())?;
        let names = open::names_in(folder.as_fd()).into_iter().filter(|name| name.starts_with("loop"));
        // A name's number isn't the device's where loop devices have partitions.
        let mut devices = Vec::new();
        for name in names {
            let number = read_text(self.host, &format!("sys/block/{name}/dev"))?;
            devices.extend(number.and_then(|text| Device::parse(&text)));
        }
        devices.retain(|device| device.major == Device::LOOP_MAJOR);
        Ok(devices)
    }
}

/// The whole device that a partition is of.
fn partition(host: &HostRoot, device: Device) -> io::Result<Option<Backing>> {
    if !has_attribute(host, device, "partition")? {
        return Ok(None);
    }
    let start = attribute(host, device, "start")?.and_then(|start| start.parse::<u64>().ok());
    let disk = attribute(host, device, "../dev")?.and_then(|disk| Device::parse(&disk));
    let backing =
        |(start, disk): (u64, _)| Backing { file: BackingFile::Device(disk), offset: start.saturating_mul(SECTOR) };
    Ok(start.zip(disk).map(backing))
}

/// The whole device that a partition is of, or the device itself.
pub(super) fn disk_of(host: &HostRoot, device: Device) -> io::Result<Device> {
    Ok(match partition(host, device)? {
        Some(Backing { file: BackingFile::Device(disk), .. }) => disk,
        _ => device,
    })
}

/// The partitions of a device.
pub(super) fn partitions(host: &HostRoot, device: Device) -> io::Result<Vec<Device>> {
    let mut parts = Vec::new();
    for part in devices_in(host, device, ".")? {
        if has_attribute(host, part, "partition")? {
            parts.push(part);
        }
    }
    Ok(parts)
}

/// The devices that a folder of a device in sysfs has.
pub(super) fn devices_in(host: &HostRoot, device: Device, folder: &str) -> io::Result<Vec<Device>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let folder = format!("sys/dev/block/{device}/{folder}");
    let Some(opened) = if_there(open_below(host.root(), &folder, flags, ResolveFlags::empty()))? else {
        return Ok(Vec::new());
    };
    let mut devices = Vec::new();
    for name in open::names_in(opened.as_fd()) {
        let number = read_text(host, &format!("{folder}/{name}/dev"))?;
        devices.extend(number.and_then(|text| Device::parse(&text)));
    }
    Ok(devices)
}

/// Whether nobody can write to a block device.
pub(crate) fn is_read_only(host: &HostRoot, device: Device) -> bool {
    attribute(host, device, "ro").is_ok_and(|text| text.as_deref() == Some("1"))
}

/// The kernel's own name for the image that a loop device shows. A path that is too long for sysfs can't be read.
pub(super) fn image_of(host: &HostRoot, device: Device) -> io::Result<Option<String>> {
    attribute(host, device, "loop/backing_file").or_else(|error| match Errno::from_io_error(&error) {
        Some(Errno::NAMETOOLONG) => Ok(None),
        _ => Err(error),
    })
}

/// Whether a loop device goes with its last user, as those do that mount(8) and mountgate set up for an image.
pub(super) fn is_for_its_mount(host: &HostRoot, device: Device) -> io::Result<bool> {
    Ok(attribute(host, device, "loop/autoclear")?.as_deref() == Some("1"))
}

/// What sysfs says of a block device.
fn attribute(host: &HostRoot, device: Device, name: &str) -> io::Result<Option<String>> {
    read_text(host, &format!("sys/dev/block/{device}/{name}"))
}

/// The text of a file of sysfs.
fn read_text(host: &HostRoot, path: &str) -> io::Result<Option<String>> {
    let Some(file) = if_there(open_below(host.root(), path, OFlags::RDONLY, ResolveFlags::empty()))? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let read = std::fs::File::from(file).read_to_end(&mut bytes);
    let text = |_| String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
    if_there(read.map(text).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

fn has_attribute(host: &HostRoot, device: Device, name: &str) -> io::Result<bool> {
    let path = format!("sys/dev/block/{device}/{name}");
    Ok(if_there(open_below(host.root(), path, OFlags::PATH, ResolveFlags::empty()))?.is_some())
}

/// What was found, unless it isn't there, or not any more.
fn if_there<T>(found: rustix::io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NODEV | Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The node of a block device, by the kernel's name for it.
pub(crate) fn node_of(host: &HostRoot, device: Device) -> String {
    kernels_node(host, device).ok().flatten().unwrap_or_else(|| format!("/dev/block/{device}"))
}

/// The node that the kernel makes for a block device, if it knows the device.
pub(super) fn kernels_node(host: &HostRoot, device: Device) -> io::Result<Option<String>> {
    let told = attribute(host, device, "uevent")?.unwrap_or_default();
    Ok(told.lines().find_map(|line| line.strip_prefix("DEVNAME=")).map(|name| format!("/dev/{name}")))
}
