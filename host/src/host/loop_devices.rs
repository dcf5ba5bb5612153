//! Which file system is on a block device that a loop device shows as well, see loop(4): two of them may show one image, and one may show
//! another block device. The kernel takes them for different devices, and two file systems on one of them would destroy each other.

use std::collections::HashSet;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, major, minor};

use super::root::HostRoot;
use crate::model::location::Device;
use crate::mount_table::topology::Topology;
use crate::sys::{self, LoopBacking};

/// The major number of loop devices, see `Documentation/admin-guide/devices.txt` of the kernel.
pub(crate) const LOOP_MAJOR: u32 = 7;
/// A loop device may show another one; so many in a row are followed.
const MAX_DEPTH: usize = 8;

/// What is read and written in the end.
#[derive(PartialEq, Eq)]
enum Storage {
    Device(Device),
    /// A file by its device and inode, or a part of it or of a device.
    Part {
        device: u64,
        inode: u64,
        offset: u64,
    },
}

/// The number under which the file system on a block device is mounted, where another device shows the same.
pub(super) fn file_system_on(host: &HostRoot, device: Device, topology: &Topology) -> Option<Device> {
    let mut seen = HashSet::new();
    let mounted = topology.nodes().iter().map(|node| node.device).filter(|device| seen.insert(*device));
    let mounted: Vec<Device> = mounted.filter(|device| device.major != 0).collect();
    if device.major != LOOP_MAJOR && mounted.iter().all(|mounted| mounted.major != LOOP_MAJOR) {
        return None;
    }
    let wanted = storage_of(host, device);
    mounted.into_iter().find(|mounted| storage_of(host, *mounted) == wanted)
}

fn storage_of(host: &HostRoot, mut device: Device) -> Storage {
    for _ in 0..MAX_DEPTH {
        match backing_of(host, device) {
            Some(shown) if shown.block_device != 0 && shown.offset == 0 => {
                device = Device { major: major(shown.block_device), minor: minor(shown.block_device) };
            }
            Some(shown) => {
                let LoopBacking { device, inode, offset, .. } = shown;
                return Storage::Part { device, inode, offset };
            }
            None => break,
        }
    }
    Storage::Device(device)
}

fn backing_of(host: &HostRoot, device: Device) -> Option<LoopBacking> {
    let is_loop = device.major == LOOP_MAJOR;
    let opened = is_loop.then(|| host.open_file(&path_of(device), OFlags::RDONLY | OFlags::NONBLOCK).ok()).flatten()?;
    sys::loop_backing(opened.as_fd()).ok().flatten()
}

/// The node of a loop device.
pub(crate) fn path_of(device: Device) -> String {
    format!("/dev/loop{}", device.minor)
}
