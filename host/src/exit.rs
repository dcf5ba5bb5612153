//! The exit statuses, which scripts rely on.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitStatus {
    /// Done, or allowed.
    Done = 0,
    /// The host's side failed: namespace, I/O, internal.
    HostFailed = 1,
    /// Wrong usage, or a request that the host refuses by itself.
    Usage = 2,
    /// A policy denied it.
    Denied = 3,
    /// A policy failed, so it was denied; or the policy directory isn't sound.
    PolicyFailed = 4,
    /// `fuzz` found something.
    Found = 5,
    /// The mount itself failed, as mount(8) says.
    MountFailed = 32,
}

impl ExitStatus {
    /// The table for help and manual pages.
    pub const HELP: &str = "\
Exit status:
  0   done, or allowed
  1   the host's side failed (namespace, I/O, internal)
  2   wrong usage, or a request that the host refuses by itself
  3   a policy denied it
  4   a policy failed, so it was denied; or the policy directory isn't sound
  5   `fuzz` found something
  32  the mount itself failed, as mount(8)";
}

impl From<ExitStatus> for ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status as u8)
    }
}
