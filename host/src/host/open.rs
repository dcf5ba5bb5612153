//! Opens paths below the host's root.

use std::ffi::OsStr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, RawDir, ResolveFlags, openat2};
use rustix::io::{Errno, Result};

use crate::model::paths::relative;

/// How often openat2(2) is called again where it answers `EAGAIN`: it can't tell whether a `..` stays below the root while
/// anything on the machine is renamed or mounted.
const ATTEMPTS: usize = 64;
/// And so often after a pause, where somebody mounts without end.
const PATIENT_ATTEMPTS: usize = 500;
const PAUSE: Duration = Duration::from_millis(1);

/// Opens a path below a root. Magic links of proc(5) are never followed, and `more` can forbid more.
pub(super) fn open_below(
    root: BorrowedFd<'_>,
    path: impl AsRef<OsStr>,
    flags: OFlags,
    more: ResolveFlags,
) -> Result<OwnedFd> {
    let path = relative(path.as_ref());
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
    let open = || openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how);
    let mut opened = open();
    for attempt in 1..ATTEMPTS + PATIENT_ATTEMPTS {
        if opened.as_ref().err() != Some(&Errno::AGAIN) {
            break;
        }
        if attempt >= ATTEMPTS {
            std::thread::sleep(PAUSE);
        }
        opened = open();
    }
    opened
}

/// The names in a folder, but for hidden ones and those that aren't text.
pub(super) fn names_in(folder: BorrowedFd<'_>) -> Vec<String> {
    let mut buffer = Vec::with_capacity(4096);
    let mut names = Vec::new();
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    while let Some(Ok(entry)) = entries.next() {
        names.extend(entry.file_name().to_str().ok().filter(|name| !name.starts_with('.')).map(str::to_owned));
    }
    names
}
