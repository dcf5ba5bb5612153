//! File systems whose content somebody else vouches for: a server, a daemon, or whoever made an image. Their files may say
//! that they belong to root.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, major};

use super::identity::Identity;
use crate::model::location::Device;
use crate::mount_table::statmount;
use crate::mount_table::table::MountTable;

/// Types without owners of their own, and types whose owners come from elsewhere.
const FOREIGN: [&str; 21] = [
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "exfat",
    "gfs2",
    "glusterfs",
    "hfs",
    "hfsplus",
    "iso9660",
    "lustre",
    "msdos",
    "nfs",
    "nfs4",
    "ntfs",
    "ntfs3",
    "smb3",
    "udf",
    "vboxsf",
    "vfat",
];

/// Types for which a server or a daemon is asked, which may take for ever.
const SERVED: [&str; 12] =
    ["9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "vboxsf", "virtiofs"];

/// Whether a server or a daemon is asked for what is in a file system of this type.
pub(super) fn is_served(fstype: &str) -> bool {
    fstype.starts_with("fuse") || SERVED.contains(&fstype)
}

/// The type of the file system that a path lies on, where a request could have brought that there with whatever content. The
/// file system of `/` is what this process runs from.
pub(crate) fn foreign(path: &Path) -> Option<String> {
    let open = |path: &Path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
    let Some(there) = open(path) else { return path.exists().then(|| "unknown".to_owned()) };
    foreign_below(there.as_fd(), open(Path::new("/"))?.as_fd())
}

/// As [`foreign`], of what is open, below a root whose file system is believed.
pub(super) fn foreign_below(there: BorrowedFd<'_>, root: BorrowedFd<'_>) -> Option<String> {
    let Some(found) = FileSystem::of(there) else { return Some("unknown".to_owned()) };
    let root = FileSystem::of(root);
    if found.is_mapped && !root.as_ref().is_some_and(|root| root.is_mapped) {
        return Some(format!("{} with other owners", found.fstype));
    }
    let is_image = found.is_image();
    let is_foreign = is_image || found.fstype.starts_with("fuse") || FOREIGN.contains(&found.fstype.as_str());
    if !is_foreign || root.is_some_and(|root| root.device == found.device) {
        return None;
    }
    Some(if is_image { format!("{} of an image", found.fstype) } else { found.fstype })
}

/// What is known of the file system that something lies on.
struct FileSystem {
    device: Device,
    fstype: String,
    source: String,
    /// Whether the mount shows other owners than the files have.
    is_mapped: bool,
}

impl FileSystem {
    fn of(there: BorrowedFd<'_>) -> Option<Self> {
        let identity = Identity::of(there).ok()?;
        if let Some(record) = identity.unique_id.and_then(|id| statmount::file_system(id).ok()) {
            return Some(Self {
                device: record.device(),
                fstype: record.fstype(),
                source: record.source(),
                is_mapped: record.is_mapped(),
            });
        }
        let mount = MountTable::read(Path::new("/proc/self/mountinfo")).ok()?.by_id(identity.id)?.to_text();
        Some(Self {
            device: Device { major: mount.major, minor: mount.minor },
            is_mapped: mount.options.iter().any(|option| option == "idmapped"),
            fstype: mount.fstype,
            source: mount.source,
        })
    }

    /// Whether it's in a file: on a loop device, which btrfs doesn't show by its number, or without any, as erofs can be.
    fn is_image(&self) -> bool {
        let on_loop =
            || rustix::fs::stat(self.source.as_str()).is_ok_and(|device| major(device.st_rdev) == Device::LOOP_MAJOR);
        match self.device.major {
            Device::LOOP_MAJOR => true,
            0 => self.fstype == "erofs" || self.fstype == "btrfs" && on_loop(),
            _ => false,
        }
    }
}
