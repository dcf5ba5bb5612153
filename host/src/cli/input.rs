//! Files that the command line names. They must be plain: a FIFO could block for ever, and a device has no end.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{Mode, OFlags};

/// The most bytes of a file.
const MAX_FILE: u64 = 256 << 20;

fn open_plain(path: &Path) -> Result<File> {
    let open = || -> Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(std::io::Error::from)?);
        ensure!(file.metadata()?.is_file(), "it isn't a plain file");
        Ok(file)
    };
    open().with_context(|| format!("{} can't be read", path.display()))
}

/// Reads a whole plain file.
pub(super) fn read_plain(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open_plain(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes);
    read.with_context(|| format!("{} can't be read", path.display()))?;
    ensure!(bytes.len() as u64 <= MAX_FILE, "{} is larger than 256 MiB", path.display());
    Ok(bytes)
}
