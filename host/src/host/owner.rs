//! Whom mountgate's own files belong to: the cache, the locks and the audit file.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, fstat};
use rustix::process::{geteuid, getuid};

use crate::sys::is_secure_execution;

/// The user. With file capabilities, or a set-group-ID bit, a process runs as the user who called it: what that user has could be changed
/// by him at any time, so it's root's then.
pub(crate) fn owner() -> u32 {
    let user = geteuid();
    if is_secure_execution() && getuid() == user { 0 } else { user.as_raw() }
}

/// Whether what this process makes belongs to that user.
///
/// # Errors
/// What to do where it doesn't.
pub(crate) fn may_make() -> io::Result<()> {
    if owner() == geteuid().as_raw() {
        return Ok(());
    }
    let message =
        "it must be root's, while this program runs as its caller (capabilities(7)): make a request once as root";
    Err(io::Error::other(message))
}

/// Checks that a file belongs to that user, and that others have no access to it.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_private(file: &OwnedFd, kind: FileType) -> io::Result<()> {
    let stat = fstat(file)?;
    let wrong = |what: String| Err(io::Error::other(what));
    match stat.st_mode {
        mode if FileType::from_raw_mode(mode) != kind => wrong(format!("it isn't a {kind:?}")),
        _ if stat.st_uid != owner() => wrong(format!("it belongs to user {}, not to user {}", stat.st_uid, owner())),
        mode if mode & 0o077 != 0 => wrong(format!("others have access to it (mode {:04o})", mode & 0o7777)),
        _ => Ok(()),
    }
}
