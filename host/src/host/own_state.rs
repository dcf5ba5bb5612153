//! Where mountgate's own state lies: what decides, and what is run to decide.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::identity::unique_id;
use super::links;
use crate::model::host_error::HostError;
use crate::model::location::Location;
use crate::mount_table::snapshot::Snapshot;
use crate::mount_table::statmount;
use crate::mount_table::table::MountTable;
use crate::sys::started_as;

/// Something of mountgate's own.
#[derive(Debug, Clone)]
pub struct OwnPlace {
    /// The path as this process sees it, for messages.
    pub path: String,
    /// Where it is. A file system has the same number in every mount namespace.
    pub location: Location,
}

/// The program, these paths as far as they exist, and the symbolic links that lead to them: in the place of a link, something else would be
/// found.
///
/// # Errors
/// One that exists, and can't be located: then it couldn't be guarded.
pub fn own_state<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Result<Vec<OwnPlace>, HostError> {
    // A container without a /proc has no way to tell what runs. The next request comes through the name by which this one came.
    let program = std::fs::read_link("/proc/self/exe").ok();
    let started_as = started_as().filter(|name| program.as_ref() != Some(name));
    let mut own = Vec::new();
    for path in paths.into_iter().map(Path::to_owned).chain(program).chain(started_as) {
        let failed = |error| HostError::new("statx", &path.display().to_string(), error);
        own.extend(own_place(&path, OFlags::empty()).map_err(failed)?);
        let (_, links) = links::on_the_way(&path).map_err(failed)?;
        // Nothing is mounted in proc(5).
        for link in links.iter().filter(|link| !link.starts_with("/proc")) {
            own.extend(own_place(link, OFlags::NOFOLLOW).map_err(failed)?);
        }
    }
    Ok(own)
}

fn own_place(path: &Path, flags: OFlags) -> io::Result<Option<OwnPlace>> {
    let there = match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC | flags, Mode::empty()) {
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
