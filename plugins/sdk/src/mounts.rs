//! The host's mounts, and a list of mounts for tests.

use crate::bindings::mountgate::policy::mount_table;
use crate::{Device, Mount, is_within};

/// Questions about a mount table. `wit/0.1.0/mount-table.wit` describes each.
#[expect(missing_docs, reason = "named and described as in the WIT")]
pub trait Mounts {
    fn count(&self) -> u64;
    fn page(&self, offset: u64, limit: u32) -> Vec<Mount>;
    fn at(&self, target: &str) -> Vec<Mount>;
    fn covering(&self, path: &str) -> Option<Mount>;
    fn below(&self, path: &str, limit: u32) -> Vec<Mount>;
    fn count_below(&self, path: &str) -> u64;
    fn by_source(&self, source: &str, limit: u32) -> Vec<Mount>;
    fn count_by_source(&self, source: &str) -> u64;
    fn by_device(&self, device: Device, limit: u32) -> Vec<Mount>;
    fn by_id(&self, id: u64) -> Option<Mount>;
}

/// The mount table of the host.
#[derive(Debug)]
pub struct HostMounts;

impl Mounts for HostMounts {
    fn count(&self) -> u64 {
        mount_table::count()
    }

    fn page(&self, offset: u64, limit: u32) -> Vec<Mount> {
        mount_table::page(offset, limit)
    }

    fn at(&self, target: &str) -> Vec<Mount> {
        mount_table::at(target)
    }

    fn covering(&self, path: &str) -> Option<Mount> {
        mount_table::covering(path)
    }

    fn below(&self, path: &str, limit: u32) -> Vec<Mount> {
        mount_table::below(path, limit)
    }

    fn count_below(&self, path: &str) -> u64 {
        mount_table::count_below(path)
    }

    fn by_source(&self, source: &str, limit: u32) -> Vec<Mount> {
        mount_table::by_source(source, limit)
    }

    fn count_by_source(&self, source: &str) -> u64 {
        mount_table::count_by_source(source)
    }

    fn by_device(&self, device: Device, limit: u32) -> Vec<Mount> {
        mount_table::by_device(device, limit)
    }

    fn by_id(&self, id: u64) -> Option<Mount> {
        mount_table::by_id(id)
    }
}

/// A mount table in memory, for tests. Here the mount with the longest matching mount point covers a path. The host
/// instead follows the path like the kernel, and never finds a hidden mount.
#[derive(Debug, Default, Clone)]
pub struct MountList(pub Vec<Mount>);

impl MountList {
    fn some(&self, is_meant: impl Fn(&Mount) -> bool, limit: u32) -> Vec<Mount> {
        self.0.iter().filter(|mount| is_meant(mount)).take(limit as usize).cloned().collect()
    }
}

impl Mounts for MountList {
    fn count(&self) -> u64 {
        self.0.len() as u64
    }

    fn page(&self, offset: u64, limit: u32) -> Vec<Mount> {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.0.iter().skip(offset).take(limit as usize).cloned().collect()
    }

    fn at(&self, target: &str) -> Vec<Mount> {
        self.some(|mount| mount.target == target, u32::MAX)
    }

    fn covering(&self, path: &str) -> Option<Mount> {
        let holding = self.0.iter().filter(|mount| is_within(path, &mount.target));
        holding.max_by_key(|mount| mount.target.len()).cloned()
    }

    fn below(&self, path: &str, limit: u32) -> Vec<Mount> {
        let mut below = self.some(|mount| mount.target != path && is_within(&mount.target, path), u32::MAX);
        below.sort_by(|one, other| one.target.cmp(&other.target));
        below.truncate(limit as usize);
        below
    }

    fn count_below(&self, path: &str) -> u64 {
        self.below(path, u32::MAX).len() as u64
    }

    fn by_source(&self, source: &str, limit: u32) -> Vec<Mount> {
        self.some(|mount| mount.source == source, limit)
    }

    fn count_by_source(&self, source: &str) -> u64 {
        self.by_source(source, u32::MAX).len() as u64
    }

    fn by_device(&self, device: Device, limit: u32) -> Vec<Mount> {
        self.some(|mount| mount.device == device, limit)
    }

    fn by_id(&self, id: u64) -> Option<Mount> {
        self.0.iter().find(|mount| mount.id == id).cloned()
    }
}
