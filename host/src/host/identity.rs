//! Which mount and which file a descriptor stands for, by numbers that don't depend on names.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
use rustix::io::Errno;

use crate::model::location::Device;

/// Which mount a descriptor lies on, and which file it stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    /// The 64-bit id, Linux 6.8.
    pub(crate) unique_id: Option<u64>,
    /// The id in mountinfo.
    pub(crate) id: u64,
    /// The file system's number.
    pub(crate) device: Device,
    inode: u64,
    /// Whether it's the root of the mount.
    pub(crate) is_mount_root: bool,
}

impl Identity {
    /// The identity of what a descriptor stands for. Servers, which might not answer, aren't asked.
    pub(crate) fn of(fd: BorrowedFd<'_>) -> io::Result<Self> {
        Self::at(fd, c"", AtFlags::EMPTY_PATH)
    }

    /// The identity of what a name in a folder stands for.
    pub(crate) fn at(folder: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<Self> {
        let flags = flags | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
        let stat = match statx(folder, name, flags, StatxFlags::INO | StatxFlags::MNT_ID) {
            // A user's FUSE that not even root may look into tells nothing of its files. The mount is the kernel's own.
            Err(Errno::ACCESS) => statx(folder, name, flags, StatxFlags::empty())?,
            stat => stat?,
        };
        Ok(Self {
            unique_id: unique_id(folder, name, flags)?,
            id: stat.stx_mnt_id,
            device: Device { major: stat.stx_dev_major, minor: stat.stx_dev_minor },
            inode: stat.stx_ino,
            is_mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        })
    }

    /// The identity of a mount of which only the ids are known.
    pub(crate) fn of_mount(unique_id: Option<u64>, id: u64) -> Self {
        Self { unique_id, id, device: Device { major: 0, minor: 0 }, inode: 0, is_mount_root: true }
    }

    pub(crate) fn is_same_mount(&self, other: &Self) -> bool {
        match (self.unique_id, other.unique_id) {
            (Some(one), Some(other)) => one == other,
            _ => self.id == other.id,
        }
    }

    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// The 64-bit id of the mount that something lies on, which the kernel never uses again. Linux 6.8.
pub(crate) fn unique_id(folder: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> io::Result<Option<u64>> {
    let mask = StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let stat = match statx(folder, name, flags | AtFlags::STATX_DONT_SYNC, mask) {
        // A FUSE that not even root may look into: only the id in mountinfo is told.
        Err(Errno::ACCESS) => return Ok(None),
        stat => stat?,
    };
    Ok((stat.stx_mask & STATX_MNT_ID_UNIQUE != 0).then_some(stat.stx_mnt_id))
}

/// See `include/uapi/linux/stat.h`.
const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
