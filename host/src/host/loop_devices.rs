//! Which file system is on a block device that another one shows as well, see loop(4): two loop devices may show one image, and one may show another
//! block device, or a part of it. The kernel takes them for different devices, and two file systems on one of them would destroy each
//! other.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read as _};
use std::os::fd::AsFd;

use rustix::fs::{OFlags, ResolveFlags, major, minor};
use rustix::io::Errno;

use super::foreign::is_served;
use super::open::open_below;
use super::root::HostRoot;
use super::{btrfs, open};
use crate::model::location::Device;
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
struct Storage {
    file: BackingFile,
    start: u64,
    end: u64,
}

impl Storage {
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
        let wanted = self.storage_of(device)?;
        let disk = disk_of(self.host, device);
        // Partitions of one disk are the kernel's to tell apart.
        let is_same = |other: Device| {
            Ok::<_, io::Error>(disk_of(self.host, other) != disk && self.storage_of(other)?.overlaps(&wanted))
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
        let wanted = self.storage_of(device)?;
        // The kernel itself keeps a disk and its partitions apart.
        let disk = disk_of(self.host, device);
        let mut others = self.below(device)?;
        for other in self.all()?.into_iter().filter(|other| *other != disk && self.shows_something(*other)) {
            if self.may_overlap(&wanted, device, other)? {
                others.push(other);
            }
        }
        let can_only_be_read = is_read_only(self.host, device);
        for other in others {
            for part in self.parts_within(other, &wanted)? {
                let is_harmless = can_only_be_read && is_read_only(self.host, part);
                if !is_harmless && self.is_in_use(part)? {
                    return Ok(Some(part));
                }
            }
        }
        Ok(None)
    }

    /// Whether a loop device shows some of these bytes, which are those of `device`.
    fn may_overlap(&self, wanted: &Storage, device: Device, other: Device) -> io::Result<bool> {
        match self.storage_of(other) {
            Ok(storage) => Ok(storage.overlaps(wanted)),
            // Without a node it can't be asked. Its image has the same name, at least.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let image = |device| attribute(self.host, disk_of(self.host, device), "loop/backing_file");
                if image(device).is_some() && image(device) == image(other) { Err(error) } else { Ok(false) }
            }
            Err(error) => Err(error),
        }
    }

    /// The partitions of a device that have some of these bytes, or the device itself, if none has: one that is used makes the whole
    /// device one that is in use.
    fn parts_within(&self, device: Device, wanted: &Storage) -> io::Result<Vec<Device>> {
        let mut parts = Vec::new();
        for part in partitions(self.host, device) {
            if self.storage_of(part)?.overlaps(wanted) {
                parts.push(part);
            }
        }
        Ok(if parts.is_empty() { vec![device] } else { parts })
    }

    /// All that is written in the end, by the names under which other devices have it too.
    pub(crate) fn written_by(&self, device: Device) -> Vec<BackingFile> {
        let mut written = vec![BackingFile::Device(device)];
        // One that can't be asked what it shows isn't mounted either.
        for below in self.below(device).unwrap_or_default() {
            written.extend([below, disk_of(self.host, below)].map(BackingFile::Device));
            written.extend(partitions(self.host, below).into_iter().map(BackingFile::Device));
        }
        match self.storage_of(device) {
            Ok(Storage { file: BackingFile::Device(_), .. }) | Err(_) => {}
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
            Err(_) if device.major == Device::LOOP_MAJOR && !self.shows_something(device) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The devices that a loop device, or a partition of one, shows, one below the other.
    fn below(&self, device: Device) -> io::Result<Vec<Device>> {
        let mut below = Vec::new();
        let mut shown = self.backing_of(disk_of(self.host, device))?;
        while let Some(Backing { file: BackingFile::Device(device), .. }) = shown {
            if below.len() == MAX_DEPTH {
                break;
            }
            below.push(device);
            shown = self.backing_of(disk_of(self.host, device))?;
        }
        Ok(below)
    }

    /// What is read and written in the end.
    ///
    /// # Errors
    /// When a device can't be asked what it shows.
    fn storage_of(&self, device: Device) -> io::Result<Storage> {
        // A device whose size isn't told has no end.
        let sectors = attribute(self.host, device, "size").and_then(|sectors| sectors.parse::<u64>().ok());
        let len = sectors.map_or(u64::MAX, |sectors| sectors.saturating_mul(SECTOR));
        let mut shown = Backing { file: BackingFile::Device(device), offset: 0 };
        for _ in 0..MAX_DEPTH {
            let BackingFile::Device(device) = shown.file else { break };
            let below = self.backing_of(device)?.or_else(|| partition(self.host, device));
            let Some(below) = below else { break };
            shown = Backing { offset: shown.offset.saturating_add(below.offset), ..below };
        }
        Ok(Storage { file: shown.file, start: shown.offset, end: shown.offset.saturating_add(len) })
    }

    fn shows_something(&self, device: Device) -> bool {
        device.major == Device::LOOP_MAJOR && has_attribute(self.host, device, "loop/backing_file")
    }

    /// What a loop device shows; nothing if it shows nothing, or is none.
    ///
    /// # Errors
    /// When it can't be asked.
    pub(crate) fn backing_of(&self, device: Device) -> io::Result<Option<Backing>> {
        if !self.shows_something(device) {
            return Ok(None);
        }
        // A path that is too long for sysfs can't be read.
        if let Some(given) = attribute(self.host, device, "loop/backing_file").filter(|given| self.is_served(given)) {
            let offset =
                attribute(self.host, device, "loop/offset").and_then(|offset| offset.parse().ok()).unwrap_or(0);
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
            Err(_) if !self.shows_something(device) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether a server or a daemon would have to be asked about a file.
    fn is_served(&self, path: &str) -> bool {
        let table = self.table.get_or_init(|| self.host.mount_table().ok());
        let covering = table.as_ref().and_then(|table| table.covering(path.as_bytes()));
        covering.is_some_and(|mount| is_served(&String::from_utf8_lossy(&mount.fstype())))
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
        let numbers =
            names.filter_map(|name| Device::parse(read_text(self.host, &format!("sys/block/{name}/dev"))?.as_str()));
        Ok(numbers.filter(|device| device.major == Device::LOOP_MAJOR).collect())
    }
}

/// The whole device that a partition is of.
fn partition(host: &HostRoot, device: Device) -> Option<Backing> {
    let number = |name: &str| attribute(host, device, name);
    number("partition")?;
    let offset = number("start")?.parse::<u64>().ok()?.saturating_mul(SECTOR);
    Some(Backing { file: BackingFile::Device(Device::parse(&number("../dev")?)?), offset })
}

/// The whole device that a partition is of, or the device itself.
fn disk_of(host: &HostRoot, device: Device) -> Device {
    match partition(host, device) {
        Some(Backing { file: BackingFile::Device(disk), .. }) => disk,
        _ => device,
    }
}

/// The partitions of a device.
fn partitions(host: &HostRoot, device: Device) -> Vec<Device> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let folder = format!("sys/dev/block/{device}");
    let Ok(opened) = open_below(host.root(), &folder, flags, ResolveFlags::empty()) else { return Vec::new() };
    let is_one = |name: &String| read_text(host, &format!("{folder}/{name}/partition")).is_some();
    let names = open::names_in(opened.as_fd()).into_iter().filter(is_one);
    names.filter_map(|name| Device::parse(&read_text(host, &format!("{folder}/{name}/dev"))?)).collect()
}

/// Whether nobody can write to a block device.
pub(crate) fn is_read_only(host: &HostRoot, device: Device) -> bool {
    attribute(host, device, "ro").is_some_and(|text| text == "1")
}

/// What sysfs says of a block device.
fn attribute(host: &HostRoot, device: Device, name: &str) -> Option<String> {
    read_text(host, &format!("sys/dev/block/{device}/{name}"))
}

/// The text of a file of sysfs.
fn read_text(host: &HostRoot, path: &str) -> Option<String> {
    let file = open_below(host.root(), path, OFlags::RDONLY, ResolveFlags::empty()).ok()?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned())
}

fn has_attribute(host: &HostRoot, device: Device, name: &str) -> bool {
    open_below(host.root(), format!("sys/dev/block/{device}/{name}"), OFlags::PATH, ResolveFlags::empty()).is_ok()
}

/// The node of a block device, by the kernel's name for it.
pub(crate) fn node_of(host: &HostRoot, device: Device) -> String {
    let told = attribute(host, device, "uevent").unwrap_or_default();
    let name = told.lines().find_map(|line| line.strip_prefix("DEVNAME="));
    name.map_or_else(|| format!("/dev/block/{device}"), |name| format!("/dev/{name}"))
}
