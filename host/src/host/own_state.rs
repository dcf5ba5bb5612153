//! Where mountgate's own state lies: what decides, and what is run to decide.

use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};

use super::identity::unique_id;
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
pub fn own_state<'p>(paths: impl IntoIterator<Item = &'p Path>) -> Vec<OwnPlace> {
    let program = std::fs::read_link("/proc/self/exe").ok();
    let real_program = program.iter().filter_map(|program| own_place(program));
    paths.into_iter().filter_map(own_place).chain(real_program).collect()
}

fn own_place(path: &Path) -> Option<OwnPlace> {
    let there = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let real = std::fs::read_link(format!("/proc/self/fd/{}", there.as_raw_fd()));
    let real = real.or_else(|_| std::fs::canonicalize(path)).ok()?.into_os_string().into_string().ok()?;
    let id = unique_id(there.as_fd(), c"", AtFlags::EMPTY_PATH).ok().flatten();
    let location = match id.and_then(|id| statmount::paths(id, None).ok()) {
        Some((_, device, mount)) => Location { device, path: mount.in_file_system(&real)? },
        None => Snapshot::of(MountTable::read(Path::new("/proc/self/mountinfo")).ok()?).locate(&real).ok()??,
    };
    Some(OwnPlace { path: real, location })
}
