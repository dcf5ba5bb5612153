//! File systems whose content somebody else vouches for: a server, a daemon, or whoever made an image. Their files may say
//! that they belong to root.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::identity::{Identity, unique_id};
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
/// The major number of loop devices, see `Documentation/admin-guide/devices.txt` of the kernel.
const LOOP_MAJOR: u32 = 7;

/// The type of the file system that a path lies on, where a request could have brought that there with whatever content. The
/// file system of `/` is what this process runs from.
pub(crate) fn foreign(path: &Path) -> Option<String> {
    let Some((device, fstype)) = file_system_of(path) else {
        return path.exists().then(|| "unknown".to_owned());
    };
    let is_image = device.major == LOOP_MAJOR;
    let is_foreign = is_image || fstype.starts_with("fuse") || FOREIGN.contains(&fstype.as_str());
    if !is_foreign || file_system_of(Path::new("/")).is_some_and(|(root, _)| root == device) {
        return None;
    }
    Some(if is_image { format!("{fstype} of an image") } else { fstype })
}

fn file_system_of(path: &Path) -> Option<(Device, String)> {
    let id = unique_id(CWD, &CString::new(path.as_os_str().as_bytes()).ok()?, AtFlags::empty()).ok().flatten();
    if let Some(found) = id.and_then(|id| statmount::file_system(id).ok()) {
        return Some(found);
    }
    let there = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let id = Identity::of(there.as_fd()).ok()?.id;
    let mount = MountTable::read(Path::new("/proc/self/mountinfo")).ok()?.by_id(id)?.to_text();
    Some((Device { major: mount.major, minor: mount.minor }, mount.fstype))
}
