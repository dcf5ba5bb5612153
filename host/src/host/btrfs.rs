//! Which btrfs is on a block device. A btrfs may be on several, and has a number of its own.

use std::collections::HashSet;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat};

use super::identity::Identity;
use super::open::{names_in, open_below};
use super::root::HostRoot;
use crate::model::location::Device;
use crate::mount_table::topology::Topology;
use crate::sys;

/// The number of the mounted btrfs that a block device belongs to.
pub(super) fn file_system_on(host: &HostRoot, device: Device, topology: &Topology) -> Option<Device> {
    let mut seen = HashSet::new();
    let mounted = topology.nodes().iter().enumerate().filter(|(_, node)| node.is_btrfs);
    let mut mounted = mounted.filter(|(_, node)| seen.insert(node.device)).peekable();
    mounted.peek()?;
    let wanted = uuid_of(host, device)?;
    let is_wanted = |mount: usize| uuid_of_any(host, topology, mount).is_some_and(|uuid| uuid == wanted);
    mounted.find(|(mount, _)| is_wanted(*mount)).map(|(_, node)| node.device)
}

/// The UUID of the btrfs that the kernel uses a device for.
fn uuid_of(host: &HostRoot, device: Device) -> Option<String> {
    known(host)?.find(|(_, known)| *known == device).map(|(uuid, _)| uuid)
}

/// The devices of the btrfs that the kernel uses a device for.
pub(super) fn siblings(host: &HostRoot, device: Device) -> Vec<Device> {
    uuid_of(host, device).map(|uuid| devices_with(host, &uuid)).unwrap_or_default()
}

/// The devices of the mounted btrfs with this number.
pub(super) fn devices_of(host: &HostRoot, topology: &Topology, file_system: Device) -> Vec<Device> {
    let uuid = topology.of_device(file_system).find_map(|mount| uuid_of_any(host, topology, mount));
    uuid.map(|uuid| devices_with(host, &uuid)).unwrap_or_default()
}

fn devices_with(host: &HostRoot, wanted: &str) -> Vec<Device> {
    known(host).into_iter().flatten().filter(|(uuid, _)| uuid == wanted).map(|(_, device)| device).collect()
}

/// The devices of all btrfs that the kernel uses.
pub(super) fn devices(host: &HostRoot) -> Vec<Device> {
    known(host).into_iter().flatten().map(|(_, device)| device).collect()
}

/// The devices that the kernel uses for btrfs, each with the UUID of the file system.
fn known(host: &HostRoot) -> Option<impl Iterator<Item = (String, Device)>> {
    let folder = OFlags::RDONLY | OFlags::DIRECTORY;
    let all = open_below(host.root(), "sys/fs/btrfs", folder, ResolveFlags::empty()).ok()?;
    let uuids = names_in(all.as_fd()).into_iter();
    Some(uuids.flat_map(move |uuid| {
        let path = format!("{uuid}/devices");
        let devices = openat(&all, path.as_str(), folder | OFlags::CLOEXEC, Mode::empty()).ok();
        let names = devices.as_ref().map(|devices| names_in(devices.as_fd())).unwrap_or_default();
        names.into_iter().filter_map(move |name| {
            let file =
                openat(devices.as_ref()?, format!("{name}/dev"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            let mut text = [0; 32];
            let n = rustix::io::read(file.ok()?, &mut text).ok()?;
            let device = Device::parse(std::str::from_utf8(text.get(..n)?).ok()?.trim_end())?;
            Some((uuid.clone(), device))
        })
    }))
}

/// The UUID of a mounted btrfs.
fn uuid_of_any(host: &HostRoot, topology: &Topology, mount: usize) -> Option<String> {
    uuid_of_mount(host, topology, mount).or_else(|| uuid_of_source(host, topology.nodes()[mount].id))
}

/// The UUID of a mounted btrfs, where its mount can be reached.
fn uuid_of_mount(host: &HostRoot, topology: &Topology, mount: usize) -> Option<String> {
    let path = &topology.paths(mount)?.target;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    let there = open_below(host.root(), path, flags, ResolveFlags::NO_SYMLINKS).ok()?;
    let is_it = Identity::of(there.as_fd()).is_ok_and(|identity| identity.id == topology.nodes()[mount].id);
    is_it.then(|| sys::btrfs_uuid(there.as_fd()).ok()).flatten()
}

/// The UUID of a mounted btrfs, by the device that the table names for it. The mount may be hidden below another.
fn uuid_of_source(host: &HostRoot, id: u64) -> Option<String> {
    let source = host.mount_table().ok()?.by_id(id)?.to_text().source;
    let found = host.look_up(&source)?;
    uuid_of(host, Device { major: found.stx_rdev_major, minor: found.stx_rdev_minor })
}
