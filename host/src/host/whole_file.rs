//! Writes files that a reader sees whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, openat, renameat, unlinkat};

/// Puts a file into a folder, in place of one with the same name. A reader never sees a half-written file, not even after a
/// crash. The file is made anew under another name first, and no link is followed there.
pub(crate) fn replace(folder: impl AsFd, name: &str, mode: Mode, content: &[u8]) -> io::Result<()> {
    put(folder, name, mode, content, true)
}

/// As [`replace`], for what may be lost: it isn't waited for until it's on the disk.
pub(crate) fn replace_for_now(folder: impl AsFd, name: &str, mode: Mode, content: &[u8]) -> io::Result<()> {
    put(folder, name, mode, content, false)
}

fn put(folder: impl AsFd, name: &str, mode: Mode, content: &[u8], is_lasting: bool) -> io::Result<()> {
    let temporary = format!(".{name}.{:016x}", fastrand::u64(..));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(openat(&folder, &temporary, flags, Mode::RUSR | Mode::WUSR)?);
    let mut write = || {
        file.write_all(content)?;
        // Whatever the umask is.
        fchmod(file.as_fd(), mode)?;
        if is_lasting {
            file.sync_all()?;
        }
        Ok(renameat(&folder, &temporary, &folder, name)?)
    };
    let written: io::Result<()> = write();
    if written.is_err() {
        // What can't be completed isn't left behind.
        let _ = unlinkat(&folder, &temporary, AtFlags::empty());
    }
    written
}
