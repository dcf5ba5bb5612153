//! A name in a folder of the host's, for calls that must not follow the name twice.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags, openat};

use super::identity::Identity;

/// A name in a folder that is held open.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) folder: OwnedFd,
    pub(crate) name: CString,
    /// The whole path, for messages.
    pub(crate) path: String,
}

impl Place {
    /// Opens what the name stands for now. A symbolic link isn't followed.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(&self.folder, self.name.as_c_str(), flags, Mode::empty())?)
    }

    /// The mount and the file that the name stands for now.
    pub(crate) fn identity(&self) -> io::Result<Identity> {
        Identity::at(self.folder.as_fd(), &self.name, AtFlags::empty())
    }
}
