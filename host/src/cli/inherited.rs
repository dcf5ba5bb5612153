//! What a process inherits from its caller and what would change how a request ends: a limit of the size of files, and signals.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Puts right what was inherited, as far as this process may.
pub(super) fn put_right() {
    // Half of an audit line would be written, or none, after the mount.
    let hard = getrlimit(Resource::Fsize).maximum;
    let raised = setrlimit(Resource::Fsize, Rlimit { current: None, maximum: None });
    let _ = raised.or_else(|_| setrlimit(Resource::Fsize, Rlimit { current: hard, maximum: hard }));
    // The end of a helper must be told.
    let _ = crate::sys::expect_children();
}
