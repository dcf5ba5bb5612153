//! Where mountgate's own state lies: what decides, and what is run to decide.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::identity::unique_id;
use crate::model::host_error::HostError;
use crate::model::location::Location;
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::statmount;
use crate::mount_table::table::MountTable;

/// Something of mountgate's own.
#[derive(Debug, Clone)]
pub struct OwnPlace {
    /// The path as this process sees it, for messages.
    pub path: String,
    /// Where it is. A file system has the same number in every mount namespace.
    pub location: Location,
}

/// The program, and these paths as far as they exist.
///
/// # Errors
/// One that exists, and can't be located: then it couldn't be guarded.
pub fn own_state<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Result<Vec<OwnPlace>, HostError> {
    // A container without a /proc has no way to tell what runs.
    let program = std::fs::read_link("/proc/self/exe").ok();
    let mut own = Vec::new();
    for path in paths.into_iter().map(Path::to_owned).chain(program) {
        let place = own_place(&path);
        own.extend(place.map_err(|error| HostError::new("statx", &path.display().to_string(), error))?);
    }
    Ok(own)
}

fn own_place(path: &Path) -> io::Result<Option<OwnPlace>> {
    let there = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        there => there?,
    };
    let real = std::fs::read_link(format!("/proc/self/fd/{}", there.as_raw_fd()));
    let real = real.or_else(|_| std::fs::canonicalize(path))?.into_os_string().into_string();
    let path = real.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "its path isn't UTF-8"))?;
    let id = unique_id(there.as_fd(), c"", AtFlags::EMPTY_PATH)?;
    let location = match id.and_then(|id| statmount::paths(id, None).ok()) {
        Some((_, device, mount)) => mount.in_file_system(&path).map(|path| Location { device, path }),
        None => Snapshot::of(MountTable::read(Path::new("/proc/self/mountinfo"))?)
            .locate(&path)
            .map_err(io::Error::other)?,
    };
    match location {
        Some(location) => Ok(Some(OwnPlace { path, location })),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "nothing says on which mount it lies")),
    }
}
