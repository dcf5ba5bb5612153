//! Maps the owners of files on a mount that isn't shown yet, see mount_setattr(2), `MOUNT_ATTR_IDMAP`, Linux 5.12.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use super::failure::StepError;
use super::mount_api::explained;
use crate::model::mount_flags::IDMAPPED;
use crate::model::own_options::IdMap;
use crate::plan::call::call;
use crate::sys::{self, MountAttr, mount_setattr};

/// Maps the owners on a mount, and with `recursive` on all below it.
pub(super) fn apply(mount: &OwnedFd, recursive: bool, map: &IdMap) -> Result<(), StepError> {
    let line = || call("mount_setattr", &[if recursive { "AT_RECURSIVE" } else { "" }, &format!("idmap {map}")]);
    let namespace = namespace(map).map_err(|error| StepError::new(line(), error))?;
    let descriptor = u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX);
    let attr = MountAttr { set: IDMAPPED, userns_fd: descriptor, ..MountAttr::default() };
    mount_setattr(mount.as_fd(), recursive, &attr).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        let cause = match errno {
            Errno::INVAL if map.users().is_empty() || map.groups().is_empty() => {
                Some("both users (u:) and groups (g:) must be mapped")
            }
            Errno::INVAL => Some("this file system can't have its owners mapped"),
            Errno::PERM => Some("the owners on it are mapped already"),
            _ => None,
        };
        StepError::new(line(), explained(errno, cause.map(str::to_owned)))
    })
}

/// A user namespace with this map. It lasts as long as its descriptor, or a mount that uses it.
fn namespace(map: &IdMap) -> io::Result<OwnedFd> {
    let child = sys::child_in_user_namespace()?;
    for (name, text) in [("uid_map", map.users()), ("gid_map", map.groups())] {
        // An empty map maps nobody.
        if !text.is_empty() {
            let file = openat(&child.process, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
            File::from(file).write_all(text.as_bytes())?;
        }
    }
    Ok(openat(&child.process, "ns/user", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}
