//! Looks mounts up by their own ids.

use std::io;
use std::os::fd::BorrowedFd;

use super::execution::Execution;
use crate::host::identity::Identity;
use crate::mount_table::mount::MountText;
use crate::mount_table::statmount;
use crate::mount_table::table::MountTable;

/// A mount as the host's kernel shows it.
pub(super) struct FoundMount {
    pub(super) identity: Identity,
    pub(super) mount: MountText,
}

pub(super) fn table(execution: &Execution<'_>) -> io::Result<MountTable> {
    execution.host.mount_table().map_err(io::Error::other)
}

/// The mount that a descriptor lies on.
pub(super) fn at(execution: &Execution<'_>, fd: BorrowedFd<'_>) -> io::Result<FoundMount> {
    let identity = Identity::of(fd)?;
    match find(execution, &identity)? {
        Some(mount) => Ok(FoundMount { identity, mount }),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "the mount isn't in the host's table")),
    }
}

/// The mount by its 64-bit id, or by its id in mountinfo on an older kernel.
pub(super) fn find(execution: &Execution<'_>, identity: &Identity) -> io::Result<Option<MountText>> {
    if let Some(id) = identity.unique_id {
        match statmount::mount(id, None) {
            Ok(record) => return Ok(Some(record.to_text())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(error),
        }
    }
    Ok(table(execution)?.by_id(identity.id).map(|mount| mount.to_text()))
}

/// A mount below another.
#[derive(Debug)]
pub(super) struct Below {
    /// Its mount point, as the kernel's bytes.
    pub(super) path: Vec<u8>,
    pub(super) identity: Identity,
    /// The mountinfo id of the mount that it's mounted on.
    pub(super) parent: u64,
}

/// A mount by its 64-bit id. One that is gone by now is no error.
fn by_unique_id(execution: &Execution<'_>, id: u64) -> io::Result<Option<Below>> {
    let (id_in_table, path, parent) = match statmount::mount(id, None) {
        Ok(record) => (record.id(), record.target().to_owned(), record.to_text().parent),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A kernel before Linux 6.13, or a mount without a source.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let id = statmount::mountinfo_id(id)?;
            let table = table(execution)?;
            let Some(mount) = table.by_id(id) else { return Ok(None) };
            (id, mount.target().into_owned(), mount.parent())
        }
        Err(error) => return Err(error),
    };
    Ok(Some(Below { path, identity: Identity::of_mount(Some(id), id_in_table), parent }))
}

/// The mount point of a mount, as the kernel's bytes; nothing if it's gone.
pub(super) fn path_of(execution: &Execution<'_>, unique_id: u64) -> io::Result<Option<Vec<u8>>> {
    Ok(by_unique_id(execution, unique_id)?.map(|mount| mount.path))
}

/// All mounts below one, in the order in which they were made, with their mount points.
pub(super) fn mounts_below(execution: &Execution<'_>, top: &Identity) -> io::Result<Vec<Below>> {
    if let Some(id) = top.unique_id {
        match statmount::below(id) {
            Ok(ids) => {
                let found: io::Result<Vec<Option<Below>>> =
                    ids.into_iter().map(|id| by_unique_id(execution, id)).collect();
                return Ok(found?.into_iter().flatten().collect());
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(error) => return Err(error),
        }
    }
    let table = table(execution)?;
    let below = table.descendants(top.id).map(|mount| Below {
        path: mount.target().into_owned(),
        identity: Identity::of_mount(None, mount.id()),
        parent: mount.parent(),
    });
    Ok(below.collect())
}
