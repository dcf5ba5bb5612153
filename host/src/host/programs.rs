//! Programs of the host's: mount(8), its helpers, systemd-run(1).

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::PoisonError;

use rustix::fs::Statx;

use super::foreign::foreign_below;
use super::root::{HostRoot, owner};

/// Where a host keeps the programs of util-linux and systemd.
const PROGRAM_FOLDERS: [&str; 5] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin", "/run/current-system/sw/bin"];
/// Where mount(8) looks for helpers, see its manual page.
const HELPER_FOLDERS: [&str; 4] = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];

impl HostRoot {
    /// Whether the host was *booted with* systemd, see sd_booted(3). That its programs exist isn't enough.
    pub(crate) fn is_booted_with_systemd(&self) -> bool {
        self.look_up("/run/systemd/system").is_some()
    }

    /// The path of a program of util-linux or systemd on the host. A program that others than root can write is passed
    /// over.
    pub(crate) fn program(&self, name: &str) -> Option<String> {
        PROGRAM_FOLDERS.iter().map(|folder| format!("{folder}/{name}")).find(|path| {
            self.look_up(path).is_some_and(|found| {
                let is_program = found.stx_mode & 0o170_000 == 0o100_000 && found.stx_mode & 0o111 != 0;
                is_program && (only_root_can_write(&found) || self.is_sandbox())
            })
        })
    }

    /// Whether the host has a mount helper for a file system type. It counts with any owner.
    pub(crate) fn has_helper(&self, fstype: &str) -> bool {
        let mut known = self.helpers.lock().unwrap_or_else(PoisonError::into_inner);
        *known.entry(fstype.to_owned()).or_insert_with(|| {
            HELPER_FOLDERS.iter().any(|folder| self.look_up(&format!("{folder}/mount.{fstype}")).is_some())
        })
    }

    /// Whether only root can put another file at a real path. A server or a daemon can, whatever it says of owners, and so can who owns the
    /// files where a mount shows other owners.
    pub(crate) fn only_root_can_replace(&self, path: &str) -> bool {
        let is_roots_alone = |folder: &str| {
            let found = self.find(folder).filter(|found| foreign_below(found.as_fd(), self.root()).is_none());
            found.and_then(|found| owner(&found)).is_some_and(|found| only_root_can_write(&found))
        };
        self.is_sandbox()
            || Path::new(path).ancestors().skip(1).all(|folder| folder.to_str().is_some_and(is_roots_alone))
    }
}

/// Whether root owns a file and only root can write it.
fn only_root_can_write(found: &Statx) -> bool {
    found.stx_uid == 0 && found.stx_mode & 0o022 == 0
}
