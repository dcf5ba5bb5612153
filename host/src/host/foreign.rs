//! File systems whose content somebody else vouches for: a server, a daemon, or whoever made an image. Their files may say
//! that they belong to root.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::identity::{Identity, unique_id};
use crate::mount_table::mount::MountText;
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
/// The major number of loop devices, see `Documentation/admin-guide/devices.txt` of the kernel.
const LOOP_MAJOR: u32 = 7;

/// The type of the file system that a path lies on, where a request could have brought that there with whatever content. The
/// file system of `/` is what this process runs from.
pub(crate) fn foreign(path: &Path) -> Option<String> {
    let (mount, root) = (mount_of(path)?, mount_of(Path::new("/"))?);
    let is_root = (mount.major, mount.minor) == (root.major, root.minor);
    let is_foreign = mount.fstype.starts_with("fuse") || FOREIGN.contains(&mount.fstype.as_str());
    let is_image = mount.major == LOOP_MAJOR;
    (!is_root && (is_foreign || is_image))
        .then(|| if is_image { format!("{} of an image", mount.fstype) } else { mount.fstype })
}

fn mount_of(path: &Path) -> Option<MountText> {
    let there = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let id = unique_id(there.as_fd(), c"", AtFlags::EMPTY_PATH).ok().flatten();
    if let Some(record) = id.and_then(|id| statmount::mount(id, None).ok()) {
        return Some(record.to_text());
    }
    let id = Identity::of(there.as_fd()).ok()?.id;
    Some(MountTable::read(Path::new("/proc/self/mountinfo")).ok()?.by_id(id)?.to_text())
}
