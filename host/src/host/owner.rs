//! Whom mountgate's own files belong to: the cache, the locks and the audit file.

use std::io;

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
